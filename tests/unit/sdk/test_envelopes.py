"""Envelopes built, signed and co-signed; the file they travel in refuses whatever was altered."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import keyfile
from crypto.keys import SigningKey
from ledger import operations as ops
from ledger.codes import Code
from ledger.organisations import Role
from ledger.wellformed import well_formed
from ledger.wire import decode_envelope
from lossbook_sdk.envelopes import DRAFT_BYTES_MAX, Draft, build, build_and_sign
from lossbook_sdk.errors import BadInput
from lossbook_sdk.passphrase import Passphrases
from lossbook_sdk.wallet import Wallet
from tests.support.insurers import FIRST, key_of, market_genesis

CHAIN = bytes(range(32))
FIRST_KEY, SECOND_KEY, STRANGER = key_of("first"), key_of("second"), key_of("stranger")
CLOSE = ops.ClaimClose(bytes(16), 1)


def body(*keys: SigningKey, operations: int = 1) -> bytes:
    return build(
        chain_id=CHAIN,
        organisation="alpha",
        signer_keys=[key.public for key in keys],
        operations=[CLOSE] * operations,
        not_after_ms=1_000,
        salt=bytes(16),
    )


def test_signed_envelope_is_well_formed() -> None:
    signed = build_and_sign(
        chain_id=CHAIN, organisation="alpha", keys=[FIRST_KEY, SECOND_KEY], operations=[CLOSE], not_after_ms=5
    )
    envelope = decode_envelope(signed.raw)
    assert well_formed(envelope, CHAIN) is Code.OK
    assert (envelope.id, envelope.not_after_ms, envelope.operations) == (signed.id, 5, (CLOSE,))


def test_equal_content_has_different_ids() -> None:
    made = [
        build_and_sign(chain_id=CHAIN, organisation="alpha", keys=[FIRST_KEY], operations=[CLOSE]) for _ in range(2)
    ]
    assert made[0].id != made[1].id


@pytest.mark.parametrize("operations", [0, 1001])
def test_number_of_operations_is_bounded(operations: int) -> None:
    with pytest.raises(BadInput, match=f"not {operations}"):
        body(FIRST_KEY, operations=operations)


def test_a_thousand_operations_fit() -> None:
    assert len(Draft(body(FIRST_KEY, operations=1000)).envelope.operations) == 1000


def test_signers_are_one_to_sixteen_and_different() -> None:
    with pytest.raises(BadInput, match="different signer keys"):
        body()
    with pytest.raises(BadInput, match="different signer keys"):
        body(FIRST_KEY, FIRST_KEY)
    with pytest.raises(BadInput, match="17"):
        body(*(key_of("signer", str(at)) for at in range(17)))


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="cannot be written"):
        build(
            chain_id=CHAIN,
            organisation="alpha",
            signer_keys=[FIRST_KEY.public],
            operations=[ops.ClaimAssess(bytes(16), 1, 1 << 70)],
        )


def test_draft_goes_from_signer_to_signer() -> None:
    draft = Draft(body(FIRST_KEY, SECOND_KEY))
    assert draft.missing == (FIRST_KEY.public, SECOND_KEY.public)
    draft.sign(SECOND_KEY)
    passed_on = Draft.decode(draft.encode())
    assert passed_on.missing == (FIRST_KEY.public,)
    with pytest.raises(BadInput, match="1 of 2 signatures are missing"):
        passed_on.signed()
    passed_on.sign(FIRST_KEY)
    signed = passed_on.signed()
    assert signed.id == draft.id
    assert well_formed(decode_envelope(signed.raw), CHAIN) is Code.OK


def test_stranger_cannot_sign() -> None:
    draft = Draft(body(FIRST_KEY))
    with pytest.raises(BadInput, match="not among the signer keys"):
        draft.sign(STRANGER)


def test_altered_body_is_refused() -> None:
    draft = Draft(body(FIRST_KEY))
    draft.sign(FIRST_KEY)
    file = msgspec.json.decode(draft.encode())
    file["body"] = file["body"].replace(b"alpha".hex(), b"aleph".hex())
    with pytest.raises(BadInput, match="not over this body"):
        Draft.decode(msgspec.json.encode(file))


@given(raw=st.binary(max_size=200))
def test_arbitrary_bytes_are_no_draft(raw: bytes) -> None:
    with pytest.raises(BadInput):
        Draft.decode(raw)


@given(body_bytes=st.binary(max_size=100))
def test_arbitrary_bodies_are_no_envelope(body_bytes: bytes) -> None:
    file = {"format": "lossbook-envelope-1", "body": body_bytes.hex(), "signatures": {}}
    with pytest.raises(BadInput):
        Draft.decode(msgspec.json.encode(file))


def test_oversize_and_foreign_files_are_refused() -> None:
    with pytest.raises(BadInput, match="no envelope"):
        Draft.decode(b" " * (DRAFT_BYTES_MAX + 1))
    file = msgspec.json.decode(Draft(body(FIRST_KEY)).encode()) | {"format": "other"}
    with pytest.raises(BadInput, match="format"):
        Draft.decode(msgspec.json.encode(file))


# -- wallet --------------------------------------------------------------------------------------


def _wallet(folder: Path) -> Wallet:
    keyfile.save(folder / "plain.key", FIRST.desks["underwriter"], "role", None, unsafe_plaintext=True)
    keyfile.save(folder / "locked.key", SECOND_KEY, "role", "secret", cost=keyfile.KdfCost(1, 1 << 20))
    (folder / "pass").write_text("secret")
    (folder / "pass").chmod(0o600)
    passphrases = Passphrases(environment={"LOSSBOOK_PASSPHRASE_FILE": str(folder / "pass")})
    return Wallet({"plain": folder / "plain.key", "locked": folder / "locked.key"}, passphrases)


def test_keys_by_label_and_by_file(tmp_path: Path) -> None:
    wallet = _wallet(tmp_path)
    assert wallet.key("locked").public == SECOND_KEY.public
    assert wallet.key(str(tmp_path / "plain.key")).public == FIRST.desks["underwriter"].public
    assert wallet.labels == ("plain", "locked")


def test_one_pair_of_eyes_is_not_two(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="named twice"):
        _wallet(tmp_path).keys(["plain", str(tmp_path / "plain.key")])


def test_unknown_key_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        _wallet(tmp_path).key("nobody")
    assert "plain, locked" in caught.value.advice


def test_key_for_a_role_is_found_without_a_passphrase(tmp_path: Path) -> None:
    wallet = _wallet(tmp_path)
    genesis = market_genesis()
    assert wallet.with_role(Role.UNDERWRITER, genesis.organisation(FIRST.id)) == "plain"
    assert wallet.with_role(Role.FINANCE, genesis.organisation(FIRST.id)) is None
    assert wallet.with_role(Role.UNDERWRITER, genesis.organisation("nobody")) is None
