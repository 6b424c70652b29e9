"""Genesis: the same file whoever assembles it; every bad one refused; the records of height 0."""

from __future__ import annotations

import json
from hashlib import sha256

import msgspec
import pytest

from ledger.cards import BadCardSignature, CardError, GenesisError, RoleKey
from ledger.commitment import TWIG_LEAVES
from ledger.epochs import valset_hash
from ledger.genesis import DuplicateInGenesis, Permissions, WrongNetwork, assemble, load_genesis
from ledger.genesis_header import genesis_header, genesis_header_of
from ledger.organisations import KEYS, ORGANISATIONS, Kind, Role, find_key, find_organisation
from ledger.parameters import CurrencyRule, Parameters, parameters_at
from tests.support.insurers import (
    FIRST,
    GENESIS_TIME_MS,
    INSURERS,
    MARKET,
    SUPERVISOR,
    Ledger,
    Organisation,
    make_genesis,
    market_genesis,
)


def market_file(**changes: object) -> dict[str, object]:
    file: dict[str, object] = json.loads(market_genesis().raw)
    return file | changes


PARAMETERS: dict[str, object] = json.loads(market_genesis().raw)["parameters"]


def as_bytes(file: object) -> bytes:
    return json.dumps(file).encode()


def test_the_order_in_which_cards_come_does_not_matter() -> None:
    cards = [organisation.card() for organisation in MARKET]
    one = assemble(cards, name="m", time_ms=GENESIS_TIME_MS)
    assert one == assemble(reversed(cards), name="m", time_ms=GENESIS_TIME_MS)
    assert load_genesis(one).chain_id == sha256(b"lossbook/v1/genesis\x00" + one).digest()


def test_every_byte_of_the_file_is_part_of_the_chain_id() -> None:
    genesis = market_genesis()
    assert load_genesis(genesis.raw + b"\n").chain_id != genesis.chain_id


def test_validators_stand_in_ascending_order_of_their_ids() -> None:
    names = ["z9", "a-b", "a1", "ab"]
    genesis = make_genesis([Organisation(name, "insurer") for name in names])
    assert [card.id for card in genesis.validators] == ["a-b", "a1", "ab", "z9"]


def test_the_validator_set_of_epoch_0() -> None:
    genesis = market_genesis()
    validators = genesis.validator_set()
    assert (validators.epoch, validators.n, validators.quorum) == (0, 4, 3)
    assert [member.id for member in validators.members] == [insurer.id for insurer in INSURERS]
    preimage = b"lossbook/v1/valset\x00" + bytes(8) + b"\x00\x00\x00\x04"
    for insurer in INSURERS:
        assert insurer.consensus_key is not None
        preimage += bytes([len(insurer.id)]) + insurer.id.encode() + insurer.consensus_key.public
    assert validators.hash == sha256(preimage).digest()
    assert valset_hash(1, validators.members) != validators.hash


def test_by_default_every_member_may_read_and_subscribe_and_no_stranger() -> None:
    genesis = market_genesis()
    assert all(genesis.may_read(o.id) and genesis.may_subscribe(o.id) for o in MARKET)
    assert not genesis.may_read("stranger")
    assert not genesis.may_subscribe("stranger")
    assert genesis.organisation("stranger") is None


def test_permissions_can_be_narrower() -> None:
    cards = [organisation.card() for organisation in MARKET]
    raw = assemble(cards, name="m", time_ms=1, permissions=Permissions(("supervisor",), ()))
    genesis = load_genesis(raw)
    assert genesis.may_read("supervisor")
    assert not genesis.may_subscribe("supervisor")
    assert not genesis.may_read(FIRST.id)


def test_the_state_of_height_0_holds_parameters_organisations_and_keys() -> None:
    ledger = Ledger(make_genesis(parameters=Parameters({"JPY": CurrencyRule(0, 9)}, k_max=7)))
    assert parameters_at(ledger.state, 1, 0).k_max == 7
    supervisor = find_organisation(ledger.state, "supervisor")
    assert supervisor is not None
    assert (supervisor.kind, supervisor.key_count) == (Kind.SUPERVISOR, len(SUPERVISOR.desks))
    key = find_key(ledger.state, FIRST.desks["finance"].public)
    assert key is not None
    assert (key.organisation, key.roles) == (FIRST.id, Role.FINANCE)
    assert len(list(ledger.state.iterate(ORGANISATIONS))) == 5
    assert len(list(ledger.state.iterate(KEYS))) == 5 * len(FIRST.desks)


def test_the_genesis_header_follows_from_the_file() -> None:
    """Whatever the number of twigs the records fill; the state that a node builds has the same root."""
    names = [f"member-{at}" for at in range(9)]
    keys = {
        name: tuple(RoleKey(sha256(f"{name}/{at}".encode()).hexdigest(), ("auditor",)) for at in range(256))
        for name in names
    }
    members = [Organisation(name, "insurer") for name in names]
    cards = [member.card(keys=keys[member.id]) for member in members]
    counts = []
    for genesis in (market_genesis(), load_genesis(assemble(cards, name="m", time_ms=7))):
        head = Ledger(genesis).state.head
        assert head is not None
        counts.append(head.leaf_count)
        built = genesis_header(
            time_ms=genesis.time_ms,
            state_root=head.state_root,
            receipts_root=head.receipts_root,
            valset_hash=genesis.validator_set().hash,
            scheme=1,
        )
        assert genesis_header_of(genesis) == built
    assert counts[0] < TWIG_LEAVES < counts[1]


# -- refused -----------------------------------------------------------------------------------


def test_invalid_for_whoever_expects_another_network() -> None:
    genesis = market_genesis()
    assert load_genesis(genesis.raw, genesis.chain_id) == genesis
    with pytest.raises(WrongNetwork) as caught:
        load_genesis(genesis.raw, bytes(32))
    assert caught.value.found == genesis.chain_id
    assert caught.value.advice


def test_invalid_with_a_card_that_was_altered() -> None:
    raw = market_genesis().raw.replace(b"127.0.0.1:4000", b"10.66.6.66:400", 1)
    with pytest.raises(BadCardSignature) as caught:
        load_genesis(raw)
    assert caught.value.organisation == "insurer-1"


def test_invalid_with_one_id_twice() -> None:
    cards = [organisation.card() for organisation in MARKET]
    impostor = Organisation("other", "insurer")
    impostor.id = "insurer-1"
    with pytest.raises(DuplicateInGenesis, match="id insurer-1"):
        assemble([*cards, impostor.card()], name="m", time_ms=1)
    with pytest.raises(DuplicateInGenesis, match="id insurer-1"):
        assemble([*cards, FIRST.card(name="Other")], name="m", time_ms=1)


@pytest.mark.parametrize("field", ["signing", "consensus-as-signing"])
def test_invalid_with_one_key_on_two_cards(field: str) -> None:
    assert FIRST.consensus_key is not None
    public = FIRST.desks["finance"].public if field == "signing" else FIRST.consensus_key.public
    stolen = msgspec.structs.replace(SUPERVISOR.body().keys[0], public=public.hex())
    cards = [FIRST.card(), SUPERVISOR.card(keys=(stolen,))]
    with pytest.raises(DuplicateInGenesis) as caught:
        assemble(cards, name="m", time_ms=1)
    assert caught.value.organisations == ("insurer-1", "supervisor")


def test_invalid_without_a_validator() -> None:
    with pytest.raises(GenesisError, match="0 validators"):
        assemble([SUPERVISOR.card()], name="m", time_ms=1)
    with pytest.raises(GenesisError, match="0 validators"):
        assemble([], name="m", time_ms=1)


def test_invalid_with_cards_out_of_order() -> None:
    file = market_file()
    cards = file["cards"]
    assert isinstance(cards, list)
    with pytest.raises(GenesisError, match="ascending"):
        load_genesis(as_bytes(file | {"cards": cards[::-1]}))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": "other"}, "format"),
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"time_ms": -1}, "time"),
        ({"time_ms": 1 << 60}, "time"),
        ({"time_ms": 1.5}, "not a genesis file"),
        ({"parameters": PARAMETERS | {"k_max": 0}}, "k_max: 0 is outside"),
        ({"parameters": PARAMETERS | {"unknown": 0}}, "not a genesis file .*unknown field `unknown`"),
        ({"parameters": {}}, "parameter currencies, verification, .*, state_scheme is missing"),
        ({"parameters": None}, "not a genesis file"),
        ({"parameters": PARAMETERS | {"currencies": {"EUR": {"minor_digits": 2}}}}, "four_eyes_minor"),
        ({"permissions": {"read": [], "subscribe": [], "write": []}}, "unknown field `write`"),
        ({"permissions": {"read": ["nobody"], "subscribe": []}}, "nobody"),
        ({"permissions": {"read": [], "subscribe": ["insurer-1", "insurer-1"]}}, "twice"),
        ({"cards": [{}]}, "missing required field `card`"),
        ({"cards": [{"card": "", "signature": "", "extra": ""}]}, "unknown field `extra`"),
        ({"cards": "none"}, "not a genesis file"),
        ({"extra": 1}, "not a genesis file"),
    ],
)
def test_invalid_files_name_their_problem(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(GenesisError, match=problem) as caught:
        load_genesis(as_bytes(market_file(**changes)))
    assert caught.value.advice


@pytest.mark.parametrize("name", Parameters.__struct_fields__)
def test_invalid_without_a_parameter_so_that_no_version_fills_it_in(name: str) -> None:
    parameters = {other: value for other, value in PARAMETERS.items() if other != name}
    with pytest.raises(GenesisError, match=f"parameter {name} is missing") as caught:
        load_genesis(as_bytes(market_file(parameters=parameters)))
    assert "assemble" in caught.value.advice


def test_assembling_writes_every_parameter_also_the_defaults() -> None:
    raw = assemble([organisation.card() for organisation in MARKET], name="m", time_ms=1)
    assert list(json.loads(raw)["parameters"]) == list(Parameters.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", '"test-market"'),
        ("k_max", "20"),
        ("USD", '{"minor_digits": 2, "four_eyes_minor": 10000000}'),
        ("minor_digits", "2"),
        ("subscribe", "[]"),
        ("signature", '""'),
        ("format", '"lossbook-genesis-1"'),
    ],
)
def test_invalid_with_a_name_twice_in_one_object(name: str, value: str) -> None:
    """Also with one value both times: readers that differ on which counts must not exist."""
    written = f'"{name}": '.encode()
    raw = market_genesis().raw
    assert written in raw
    with pytest.raises(GenesisError, match=f"'{name}' stands twice in one object"):
        load_genesis(raw.replace(written, written + value.encode() + b", " + written, 1))


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff\xfe", b"{", b"null", as_bytes({})])
def test_invalid_bytes(raw: bytes) -> None:
    with pytest.raises(GenesisError, match="not a genesis file"):
        load_genesis(raw)


def test_errors_of_cards_are_errors_of_the_genesis() -> None:
    assert issubclass(CardError, GenesisError)


def test_an_empty_card_inside_a_genesis_is_a_card_error() -> None:
    with pytest.raises(CardError):
        load_genesis(as_bytes(market_file(cards=[{"card": "{}", "signature": "", "possession": ""}])))
