"""Liars about records, receipts and envelopes, and files in another form: the product and the stranger refuse the same.

Every lie differs from something both accept in the one respect that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from contracts.records import CLAIMS
from crypto import merkle
from crypto.hashing import TAG_ENVELOPE_SIGNATURE
from ledger import commitment, receipts_range, wire
from ledger import operations as ops
from ledger import proof_building as building
from ledger.commitment import BITMAP_BYTES, LeafProof, StateProof, encode_leaf, leaf_hash, state_root, twig_hash
from ledger.proof_types import ReceiptProof
from ledger.wire.proofs import decode_state_proof, encode_header_proof, encode_state_proof
from lossbook.v1 import proof_pb2
from tests.unit.protocol import stranger
from tests.unit.protocol.liars import (
    OTHER,
    accepted,
    altered,
    envelope_proof,
    file_of,
    justification,
    known,
    made,
    receipt_proof,
    record_proof,
    refused,
    signed,
)
from tests.unit.protocol.stranger import Refused
from tests.vectors.small_network import CLAIM_1, TIME_MS, seeded_key

# ---------------------------------------------------------------- records

LEAVES = {
    "a put": encode_leaf(1, 1, 0, b"a", b"old"),
    "its successor": encode_leaf(1, 2, 1, b"a", b"new"),
    "another key": encode_leaf(1, 2, 1, b"b", b"new"),
    "no previous": encode_leaf(1, 2, 0, b"a", b"new"),
    "no later height": encode_leaf(1, 1, 1, b"a", b"new"),
    "removal": encode_leaf(2, 2, 1, b"a", b""),
    "removal of nothing": encode_leaf(2, 2, 0, b"a", b""),
    "removal with a value": encode_leaf(2, 2, 1, b"a", b"new"),
    "move": encode_leaf(3, 2, 1, b"a", b"new"),
    "no key": encode_leaf(1, 2, 1, b"", b"new"),
    "long key": encode_leaf(1, 2, 1, b"a" * 513, b"new"),
    "trailing byte": encode_leaf(1, 2, 1, b"a", b"new") + b"!",
    "cut": encode_leaf(1, 2, 1, b"a", b"new")[:-1],
    "stub": b"\x01",
    "successor of itself": encode_leaf(1, 2, 15, b"a", b"new"),
}
PLACES = {name: at for at, name in enumerate(LEAVES)}


def forged(subject: str, successor: str | None, active: Sequence[str] = (), **changes: int) -> tuple[bytes, bytes]:
    """(state proof, root) of a log that holds all of LEAVES in one twig, with these active."""
    hashes = [leaf_hash(leaf) for leaf in LEAVES.values()]
    bits = sum(1 << PLACES[name] for name in active).to_bytes(BITMAP_BYTES, "little")

    def leaf(name: str) -> LeafProof:
        path = merkle.path_from_nodes(PLACES[name], len(hashes), merkle.lookup_in(merkle.levels_of(hashes)))
        return LeafProof(PLACES[name], LEAVES[name], path, bits, ())

    fields: dict[str, Any] = {"scheme": 1, "count": len(hashes), "boundary": 0} | changes
    proof = StateProof(**fields, subject=leaf(subject), successor=leaf(successor) if successor else None)
    root = state_root(twig_hash(merkle.root_of_hashes(hashes), bits), len(hashes))
    return encode_state_proof(proof), root


STATES: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "active with a successor": lambda: forged("a put", "its successor", ["a put"]),
    "not active, no successor": lambda: forged("a put", None),
    "a removal as value": lambda: forged("removal", None, ["removal"]),
    "a move as value": lambda: forged("move", None, ["move"]),
    "a boundary": lambda: forged("a put", None, ["a put"], boundary=1),
    "another count": lambda: forged("a put", None, ["a put"], count=len(LEAVES) + 1),
    "no leaves": lambda: forged("a put", None, ["a put"], count=0),
    "successor before it": lambda: forged("successor of itself", "a put"),
    **{
        f"successor: {name}": lambda name=name: forged("a put", name)  # type: ignore[misc]
        for name in LEAVES
        if name not in ("a put", "its successor", "removal")
    },
    **{
        f"subject: {name}": lambda name=name: forged(name, None, [name])  # type: ignore[misc]
        for name in ("no key", "long key", "trailing byte", "cut", "stub")
    },
}


@pytest.mark.parametrize("lie", STATES)
def test_invalid_state_proof(lie: str) -> None:
    raw, root = STATES[lie]()
    with pytest.raises(commitment.ProofError):
        commitment.verify(decode_state_proof(1, raw), root)
    with pytest.raises(Refused):
        stranger.check_state_proof(raw, root)


@pytest.mark.parametrize(
    ("successor", "active", "superseded_at"), [(None, ["a put"], None), ("its successor", [], 2), ("removal", [], 2)]
)
def test_the_same_log_without_lies(successor: str | None, active: list[str], superseded_at: int | None) -> None:
    raw, root = forged("a put", successor, active)
    assert commitment.verify(decode_state_proof(1, raw), root).superseded_at == superseded_at
    assert stranger.check_state_proof(raw, root).superseded_at == superseded_at


@pytest.mark.parametrize("change", [lambda raw: raw + b"\x00", lambda raw: raw[:-1], lambda raw: raw[:-1] + b"\x02"])
def test_invalid_form_of_a_state_proof(change: Callable[[bytes], bytes]) -> None:
    raw, root = forged("a put", None, ["a put"])
    with pytest.raises(wire.WireError):
        decode_state_proof(1, change(raw))
    with pytest.raises(Refused):
        stranger.check_state_proof(change(raw), root)


def test_invalid_value_of_an_earlier_height() -> None:
    """A proof of the state after block 4 that shows what the claim was after block 2."""
    state = made().state.prove(CLAIMS, CLAIM_1, at_height=4, value_at=2)
    old = commitment.verify(state, made().blocks[4].header.state_root)
    refused(file_of(replace(record_proof(), value=old.value, state=state)))


def test_invalid_other_key_or_value() -> None:
    refused(file_of(replace(record_proof(), value=record_proof().value[:-1] + b"\x01")))
    refused(file_of(replace(record_proof(), key=record_proof().key[:-1] + b"\x01")))
    message = proof_pb2.Proof.FromString(file_of(record_proof()))
    message.record.state.scheme = 2
    refused(message.SerializeToString(deterministic=True))


# ---------------------------------------------------------------- receipts


def test_invalid_receipt() -> None:
    refused(file_of(replace(receipt_proof(), header=building.header_proof(made(), 1))))
    refused(file_of(replace(receipt_proof(), receipt=receipt_proof(3).receipt)))
    other_position = replace(receipt_proof().receipt, raw=receipt_proof().receipt.raw.replace(b"\x20\x02", b"\x20\x03"))
    refused(file_of(replace(receipt_proof(), receipt=other_position)))
    path = receipt_proof().path
    refused(file_of(replace(receipt_proof(), path=replace(path, count=path.count + 1))))
    accepted(file_of(receipt_proof(3)))


def in_forged_range(position: int, own_position: int, count: int, siblings: int, sides: str) -> bytes:
    """A receipt under a root that a quorum signed, made by climbing a path whose siblings lie on these sides."""
    receipt = wire.encode_receipt(
        envelope_id=OTHER, height=1, index=0, position=own_position, block_time_ms=TIME_MS, code=0, operation_codes=[0]
    )
    root = receipts_range.leaf_hash(receipt.raw)
    for side in sides:
        root = merkle.node_hash(root, OTHER) if side == "r" else merkle.node_hash(OTHER, root)
    header = signed((altered(5, receipts_root=receipts_range.receipts_root(root, count)), justification(5)))
    path = receipts_range.ReceiptProof(position, count, (OTHER,) * siblings)
    return file_of(ReceiptProof(header, receipt, path))


RANGES: dict[str, Callable[[], bytes]] = {
    "another position than its own": lambda: in_forged_range(1, 2, 4, 2, "lr"),
    "a path too long": lambda: in_forged_range(0, 0, 1, 1, "l"),
    "a path too short": lambda: in_forged_range(0, 0, 4, 1, "r"),
    "more than 2^48 receipts": lambda: in_forged_range(0, 0, (1 << 48) + 1, 49, "r" * 49),
    "a position outside": lambda: in_forged_range(2, 2, 2, 1, "r"),
}


@pytest.mark.parametrize("lie", RANGES)
def test_invalid_range(lie: str) -> None:
    refused(RANGES[lie]())


def test_forged_ranges_without_lies() -> None:
    accepted(in_forged_range(1, 1, 4, 2, "lr"))
    accepted(in_forged_range(0, 0, 1, 0, ""))
    accepted(in_forged_range(0, 0, 1 << 48, 48, "r" * 48))


# ---------------------------------------------------------------- envelopes that a quorum listed


def envelope(
    *,
    chain_id: bytes | None = None,
    desks: Sequence[str] = ("desk-1",),
    signing: Sequence[str] | None = None,
    salt: bytes = bytes(16),
    operations: int = 1,
    claim_id: bytes = CLAIM_1,
) -> bytes:
    body = wire.encode_envelope_body(
        chain_id=made().genesis.chain_id if chain_id is None else chain_id,
        organisation="alpha",
        signer_keys=[seeded_key("alpha", desk).public for desk in desks],
        not_after_ms=TIME_MS,
        salt=salt,
        operations=[ops.ClaimClose(claim_id, 0)] * operations,
    )
    keys = [seeded_key("alpha", desk) for desk in (desks if signing is None else signing)]
    return wire.encode_envelope(body, [key.sign(TAG_ENVELOPE_SIGNATURE + body) for key in keys])


def listed(raw: bytes, *, chain_id: bytes | None = None, size: int | None = None) -> bytes:
    """The second of two envelopes in a batch, the first of three batches, that a block of a lying quorum lists."""
    envelopes = [envelope(), raw]
    batch = wire.encode_batch_header(
        chain_id=made().genesis.chain_id if chain_id is None else chain_id,
        epoch=0,
        origin="alpha",
        incarnation=1,
        sequence=9,
        previous=bytes(32),
        envelopes=envelopes,
        attachment_root=merkle.EMPTY_ROOT,
    )
    digests = [wire.decode_batch_header(batch).digest, OTHER, sha256(b"third").digest()]
    header = signed((altered(2, payload_root=merkle.root(digests)), justification(2)))
    message = proof_pb2.Proof(chain_id=made().genesis.chain_id)
    proof = message.envelope
    proof.header.CopyFrom(encode_header_proof(header))
    proof.envelope, proof.batch_header = raw, batch
    proof.in_batch.CopyFrom(proof_pb2.MerklePath(index=1, size=2, siblings=merkle.proof(envelopes, 1)))
    proof.in_payload.CopyFrom(proof_pb2.MerklePath(index=0, size=size or 3, siblings=merkle.proof(digests, 0)))
    return message.SerializeToString(deterministic=True)


ENVELOPES: dict[str, Callable[[], bytes]] = {
    "another chain": lambda: listed(envelope(chain_id=OTHER)),
    "a signature stripped": lambda: listed(envelope(desks=("desk-1", "desk-2"), signing=("desk-1",))),
    "a signature too many": lambda: listed(envelope(signing=("desk-1", "desk-2"))),
    "signed by another": lambda: listed(envelope(signing=("desk-2",))),
    "signatures exchanged": lambda: listed(envelope(desks=("desk-1", "desk-2"), signing=("desk-2", "desk-1"))),
    "one key twice": lambda: listed(envelope(desks=("desk-1", "desk-1"))),
    "no signer": lambda: listed(envelope(desks=())),
    "a short salt": lambda: listed(envelope(salt=bytes(15))),
    "no operations": lambda: listed(envelope(operations=0)),
    "1001 operations": lambda: listed(envelope(operations=1001)),
    "more than 1 MiB": lambda: listed(envelope(operations=1000, claim_id=bytes(1_040))),
    "17 signers": lambda: listed(envelope(desks=[f"desk-{at}" for at in range(17)])),
    "a batch of another chain": lambda: listed(envelope(), chain_id=OTHER),
    "not the least size": lambda: listed(envelope(), size=4),
    "another size of the batch": lambda: file_of(
        replace(envelope_proof(2), in_batch=replace(envelope_proof(2).in_batch, index=1, size=2))
    ),
    "another envelope": lambda: file_of(replace(envelope_proof(), envelope=envelope_proof(3).envelope)),
    "another block": lambda: file_of(replace(envelope_proof(), header=building.header_proof(made(), 1))),
    "another place in the batch": lambda: file_of(
        replace(envelope_proof(), in_batch=replace(envelope_proof().in_batch, index=0))
    ),
}


@pytest.mark.parametrize("lie", ENVELOPES)
def test_invalid_envelope(lie: str) -> None:
    refused(ENVELOPES[lie]())


def test_well_formed_envelopes() -> None:
    accepted(listed(envelope()))
    accepted(listed(envelope(desks=("desk-1", "desk-2"))))
    accepted(listed(envelope(operations=1000)))
    accepted(listed(envelope(operations=1000, claim_id=bytes(1_030))))
    accepted(listed(envelope(desks=[f"desk-{at}" for at in range(16)])))
    accepted(file_of(envelope_proof(2)))


def test_nothing_is_said_about_the_place_in_the_payload() -> None:
    """The last of three batches has the same path as the second of two, and no header says how many there are."""
    last = envelope_proof(4)
    assert (last.in_payload.index, last.in_payload.size) == (2, 3)
    other = replace(last, in_payload=replace(last.in_payload, index=1, size=2))
    assert stranger.verify(file_of(last), known()) == stranger.verify(file_of(other), known())


def test_invalid_payload_of_more_than_256_batches() -> None:
    """Any place far out has the path of a near one: (2^40, 2^40 + 1) that of (1, 2). The page bounds what is read."""
    last = envelope_proof(4)
    far = replace(last, in_payload=replace(last.in_payload, index=1 << 40, size=(1 << 40) + 1))
    with pytest.raises(Refused, match="impossible size"):
        stranger.verify(file_of(far), known())


# ---------------------------------------------------------------- forms


def rewritten(change: Callable[[proof_pb2.Proof], None]) -> bytes:
    message = proof_pb2.Proof.FromString(file_of(receipt_proof()))
    change(message)
    return message.SerializeToString(deterministic=True)


def with_index_0_written() -> bytes:
    """The envelope of block 1 is at index 0 of a batch of one: field 1 of its path is absent, and now is not."""
    block = made().blocks[0]
    raw = file_of(building.envelope_proof(made(), 1, block.payload, block.batches, 0))
    inner = proof_pb2.Proof.FromString(raw).envelope.SerializeToString(deterministic=True)
    assert raw.endswith(inner)
    assert inner.count(b"\x1a\x02\x10\x01") == 1
    inner = inner.replace(b"\x1a\x02\x10\x01", b"\x1a\x04\x08\x00\x10\x01")
    assert proof_pb2.EnvelopeProof.FromString(inner).in_batch.size == 1
    return raw[:34] + b"\x22" + bytes((len(inner) & 127 | 128, len(inner) >> 7)) + inner


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "peaks": lambda raw: rewritten(lambda message: message.receipt.peaks.append(bytes(32))),
    "no subject": lambda raw: raw[:34],
    "no header": lambda raw: rewritten(lambda message: message.receipt.ClearField("header")),
    "no finalization": lambda raw: rewritten(lambda message: message.receipt.header.ClearField("finalization")),
    "no headers": lambda raw: rewritten(lambda message: message.receipt.header.ClearField("headers")),
    "an unknown field": lambda raw: raw + b"\x78\x01",
    "field number 0": lambda raw: raw + b"\x00\x01",
    "a group": lambda raw: raw + b"\x7b\x7c",
    "a default that is written": lambda raw: with_index_0_written(),
    "a number longer than it must be": lambda raw: raw.replace(b"\x0a\x20", b"\x0a\xa0\x00", 1),
    "a second subject": lambda raw: raw + b"\x22\x00",
    "the chain id twice": lambda raw: raw[:34] + raw,
    "fields out of order": lambda raw: raw[34:] + raw[:34],
    "too large": lambda raw: raw + bytes(8 << 20),
}


@pytest.mark.parametrize("form", FORMS)
def test_invalid_form(form: str) -> None:
    refused(FORMS[form](file_of(receipt_proof())))
