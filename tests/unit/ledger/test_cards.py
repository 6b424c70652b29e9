"""Cards: every altered, foreign or malformed card is refused with its reason."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from crypto.hashing import TAG_CARD
from crypto.tls import make_authority
from ledger.cards import (
    BadCardSignature,
    Card,
    CardBody,
    CardError,
    RoleKey,
    card_from_file,
    check_card,
    decode_card,
    encode_card,
    sign_card,
)
from ledger.organisations import Kind, Role
from tests.support.insurers import FIRST, INSURERS, MARKET, SUPERVISOR, Organisation, key_of


@pytest.mark.parametrize("organisation", MARKET, ids=lambda o: o.id)
def test_a_card_reads_back_from_its_file(organisation: Organisation) -> None:
    card = organisation.card()
    again = decode_card(encode_card(card))
    assert again == card
    assert again.is_validator == (organisation.kind == "insurer")
    assert again.kind == (Kind.INSURER if again.is_validator else Kind.SUPERVISOR)


def test_the_same_card_has_the_same_bytes() -> None:
    assert encode_card(FIRST.card()) == encode_card(FIRST.card())


def test_layout_may_change_but_the_signed_text_may_not() -> None:
    card = FIRST.card()
    squeezed = msgspec.json.format(encode_card(card), indent=-1)
    assert decode_card(squeezed) == card
    with pytest.raises(BadCardSignature):
        card_from_file(replace(card.file(), card=card.text + " "))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("insurer-1 Insurance", "insurer-1 Assurance"),
        ("127.0.0.1:4000", "127.0.0.1:4999"),
        ('"underwriter"', '"admin"'),
    ],
)
def test_invalid_once_altered(old: str, new: str) -> None:
    card = FIRST.card()
    text = card.text.replace(old, new, 1)
    assert text != card.text
    with pytest.raises(BadCardSignature) as caught:
        card_from_file(replace(card.file(), card=text))
    assert caught.value.organisation == FIRST.id
    assert caught.value.advice


def test_invalid_when_signed_by_another_key() -> None:
    card = FIRST.card()
    signature = INSURERS[1].ledger_key.sign(TAG_CARD + b"\x00" + card.text.encode())
    with pytest.raises(BadCardSignature):
        check_card(Card(card.body, card.text, signature, card.possession))


def test_invalid_with_another_validators_consensus_key() -> None:
    """Rogue key: the thief signs its card, but cannot prove that it holds the key."""
    other = INSURERS[1].consensus_key
    assert other is not None
    body = FIRST.body(consensus_key=other.public.hex())
    with pytest.raises(BadCardSignature, match="holds the consensus key"):
        sign_card(body, FIRST.ledger_key, FIRST.consensus_key)


def test_invalid_when_a_signature_is_presented_as_the_proof_of_possession() -> None:
    body = FIRST.body(consensus_key=FIRST.ledger_key.public.hex())
    with pytest.raises(CardError, match="twice"):
        sign_card(body, FIRST.ledger_key, FIRST.ledger_key)


def test_invalid_without_the_proof_of_possession_and_with_a_needless_one() -> None:
    with pytest.raises(CardError, match="go together"):
        sign_card(FIRST.body(), FIRST.ledger_key)
    with pytest.raises(CardError, match="go together"):
        sign_card(SUPERVISOR.body(), SUPERVISOR.ledger_key, key_of("x"))


def foreign_certificate() -> str:
    return make_authority(INSURERS[1].ledger_key, FIRST.id, datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)).decode()


def one_key(**changes: object) -> tuple[RoleKey, ...]:
    fields: dict[str, object] = {"public": key_of("a").public.hex(), "roles": ("finance",), "label": "desk 1"}
    return (RoleKey(**(fields | changes)),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "x"}, "id"),
        ({"id": "Insurer"}, "id"),
        ({"id": "-insurer"}, "id"),
        ({"id": "i" * 33}, "id"),
        ({"id": "insurer-1\n"}, "id"),
        ({"id": "insürer"}, "id"),
        ({"kind": "bank"}, "kind"),
        ({"kind": "INSURER"}, "kind"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"ledger_key": "00"}, "public key"),
        ({"ledger_key": FIRST.ledger_key.public.hex().upper()}, "public key"),
        ({"consensus_key": "zz" * 32}, "public key"),
        ({"peer_address": ""}, "peer_address"),
        ({"peer_address": "localhost"}, "host:port"),
        ({"peer_address": "host:0"}, "host:port"),
        ({"peer_address": "host:65536"}, "host:port"),
        ({"public_address": "ho st:1"}, "host:port"),
        ({"public_address": ":1"}, "host:port"),
        ({"ca_certificate": ""}, "certificate"),
        ({"ca_certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "certificate"),
        ({"ca_certificate": foreign_certificate()}, "certificate"),
        ({"keys": one_key(public="12")}, "signing key"),
        ({"keys": one_key(roles=())}, "roles"),
        ({"keys": one_key(roles=("finance", "finance"))}, "roles"),
        ({"keys": one_key(roles=("god",))}, "role"),
        ({"keys": one_key(label="a\tb")}, "label"),
        ({"keys": one_key() + one_key(roles=("admin",))}, "twice"),
        ({"keys": one_key(public=FIRST.ledger_key.public.hex())}, "twice"),
        ({"keys": tuple(one_key(public=f"{i:064x}")[0] for i in range(257))}, "256"),
    ],
)
def test_invalid_cards_are_named_with_their_problem(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(CardError, match=problem):
        FIRST.card(**changes)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"card": 5, "signature": ""}',
        b'{"card": "{}", "signature": ""}',
        b'{"card": "", "signature": "zz"}',
        b'{"card": "", "signature": "", "extra": 1}',
        b'{"card": "", "signature": "", "signature": ""}',
        b" " * 200_000,
    ],
)
def test_invalid_card_files(raw: bytes) -> None:
    with pytest.raises(CardError):
        decode_card(raw)


def test_a_field_that_this_version_does_not_know_is_refused() -> None:
    card = FIRST.card()
    text = card.text[:-1] + ',"may_print_money":"yes"}'
    with pytest.raises(CardError, match="parse"):
        card_from_file(replace(card.file(), card=text))


@pytest.mark.parametrize("name", ["card", "signature", "possession"])
def test_invalid_with_a_name_twice_in_the_file(name: str) -> None:
    raw = encode_card(FIRST.card())
    written = f'"{name}": '.encode()
    assert raw.count(written) == 1
    with pytest.raises(CardError, match=f"'{name}' stands twice"):
        decode_card(raw.replace(written, written + b'"", ' + written))


@pytest.mark.parametrize(("name", "value"), [("id", '"insurer-2"'), ("peer_address", '""'), ("roles", "[]")])
def test_invalid_with_a_name_twice_on_the_card(name: str, value: str) -> None:
    """Though the organisation has signed it: others could read another card in it."""
    card = FIRST.card()
    text = card.text.replace(f'"{name}":', f'"{name}":{value},"{name}":', 1)
    signed = FIRST.ledger_key.sign(TAG_CARD + b"\x00" + text.encode()).hex()
    with pytest.raises(CardError, match=f"'{name}' stands twice"):
        card_from_file(replace(card.file(), card=text, signature=signed))


@pytest.mark.parametrize("change", [str.upper, lambda text: text + " ", lambda text: f"{text[:2]} {text[2:]}"])
@pytest.mark.parametrize("name", ["signature", "possession"])
def test_invalid_signature_in_another_form(name: str, change: Callable[[str], str]) -> None:
    file = FIRST.card().file()
    assert card_from_file(file) == FIRST.card()
    with pytest.raises(CardError, match=f"{name} is not hexadecimal in lower case"):
        card_from_file(replace(file, **{name: change(getattr(file, name))}))


def test_role_bits_are_the_sum_of_the_roles() -> None:
    assert one_key(roles=("finance", "admin"))[0].role_bits() == Role.FINANCE | Role.ADMIN


@pytest.mark.parametrize("kind", Kind)
def test_kinds_have_slugs(kind: Kind) -> None:
    assert Kind.from_slug(kind.slug) is kind


def test_organisations_that_run_no_validator_need_no_addresses() -> None:
    body = msgspec.structs.replace(SUPERVISOR.body(), public_address="")
    assert isinstance(sign_card(body, SUPERVISOR.ledger_key).body, CardBody)
