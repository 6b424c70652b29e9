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
from crypto.hashing import TAG_BATCH, TAG_ENVELOPE_SIGNATURE, TAG_STATEMENT, tagged
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
    made,
    receipt_proof,
    record_proof,
    refused,
    signed,
    with_longer_key,
    with_unknown_field,
)
from tests.unit.protocol.stranger import Refused
from tests.vectors.small_network import CLAIM_1, TIME_MS, seeded_key

THIRD = sha256(b"third").digest()
ONE = tagged(TAG_STATEMENT, b"one")

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


def in_forged_range(
    position: int,
    own_position: int,
    count: int,
    siblings: int,
    sides: str,
    form: Callable[[bytes], bytes] = lambda raw: raw,
) -> bytes:
    """A receipt under a root that a quorum signed, made by climbing a path whose siblings lie on these sides."""
    receipt = wire.encode_receipt(
        envelope_id=OTHER, height=1, index=0, position=own_position, block_time_ms=TIME_MS, code=0, operation_codes=[0]
    )
    receipt = replace(receipt, raw=form(receipt.raw))
    root = receipts_range.leaf_hash(receipt.raw)
    for side in sides:
        root = merkle.node_hash(root, OTHER) if side == "r" else merkle.node_hash(OTHER, root)
    header = signed((altered(5, receipts_root=receipts_range.receipts_root(root, count)), justification(5)))
    path = receipts_range.ReceiptProof(position, count, (OTHER,) * siblings)
    return file_of(ReceiptProof(header, receipt, path))


def index_of_2_to_the_32(raw: bytes) -> bytes:
    """Index 0 for who keeps the low 32 bits."""
    assert raw[34:37] == b"\x10\x01\x28"  # height 1; index and position are 0 and left out
    return raw[:36] + b"\x18\x80\x80\x80\x80\x10" + raw[36:]


RANGES: dict[str, Callable[[], bytes]] = {
    "another position than its own": lambda: in_forged_range(1, 2, 4, 2, "lr"),
    "a path too long": lambda: in_forged_range(0, 0, 1, 1, "l"),
    "a path too short": lambda: in_forged_range(0, 0, 4, 1, "r"),
    "more than 2^48 receipts": lambda: in_forged_range(0, 0, (1 << 48) + 1, 49, "r" * 49),
    "a position outside": lambda: in_forged_range(2, 2, 2, 1, "r"),
    "an unknown field": lambda: in_forged_range(0, 0, 1, 0, "", with_unknown_field),
    "a number longer than it must be": lambda: in_forged_range(0, 0, 1, 0, "", with_longer_key),
    "a default that is written": lambda: in_forged_range(0, 0, 1, 0, "", lambda raw: raw + b"\x40\x00"),
    "codes one by one": lambda: in_forged_range(0, 0, 1, 0, "", lambda raw: raw[:-3] + b"\x38\x00"),
    "an index above 32 bits": lambda: in_forged_range(0, 0, 1, 0, "", index_of_2_to_the_32),
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


def same(raw: bytes) -> bytes:
    return raw


def listed(
    raw: bytes,
    *,
    chain_id: bytes | None = None,
    batch_form: Callable[[bytes], bytes] = same,
    payload_form: Callable[[bytes], bytes] = same,
    digests: Callable[[bytes], Sequence[bytes]] = lambda digest: (OTHER, digest, THIRD),
    shown: Callable[[bytes], Sequence[bytes]] | None = None,
    statements: Sequence[bytes] = (),
    shown_statements: Sequence[bytes] | None = None,
) -> bytes:
    """The second of two envelopes in a batch, the second of three batches, that a block of a lying quorum lists.

    Args:
        raw: the envelope.
        chain_id: of the batch.
        batch_form, payload_form: rewrite what is hashed, and what is shown.
        digests: what the header commits to, given the batch's digest.
        shown: the payload in the proof, where it is another one.
        statements, shown_statements: beside the batches, likewise.
    """
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
    batch = batch_form(batch)
    listed_digests = digests(tagged(TAG_BATCH, batch))
    leaves = [merkle.leaf_hash(digest) for digest in listed_digests]
    leaves += [tagged(TAG_STATEMENT, statement) for statement in statements]
    header = signed((altered(2, payload_root=merkle.root_of_hashes(leaves)), justification(2)))
    payload = wire.encode_payload(
        listed_digests if shown is None else shown(tagged(TAG_BATCH, batch)),
        statements if shown_statements is None else shown_statements,
    )
    message = proof_pb2.Proof(chain_id=made().genesis.chain_id)
    proof = message.envelope
    proof.header.CopyFrom(encode_header_proof(header))
    proof.envelope, proof.batch_header = raw, batch
    proof.in_batch.CopyFrom(proof_pb2.MerklePath(index=1, size=2, siblings=merkle.proof(envelopes, 1)))
    proof.payload = payload_form(payload.raw)
    return message.SerializeToString(deterministic=True)


def many(count: int) -> list[bytes]:
    return [sha256(at.to_bytes(2, "big")).digest() for at in range(count)]


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
    "a batch header with an unknown field": lambda: listed(envelope(), batch_form=with_unknown_field),
    "a batch header with a length longer than it must be": lambda: listed(envelope(), batch_form=with_longer_key),
    "a batch header that writes a default": lambda: listed(
        envelope(), batch_form=lambda raw: raw[:34] + b"\x10\x00" + raw[34:]
    ),
    "a batch header whose previous has 31 bytes": lambda: listed(
        envelope(), batch_form=lambda raw: raw.replace(b"\x32\x20" + bytes(32), b"\x32\x1f" + bytes(31))
    ),
    "a batch that is not listed": lambda: listed(envelope(), digests=lambda _: (OTHER, THIRD)),
    "a batch listed twice": lambda: listed(envelope(), digests=lambda digest: (digest, OTHER, digest)),
    "another batch listed twice": lambda: listed(envelope(), digests=lambda digest: (digest, OTHER, OTHER)),
    "257 batches": lambda: listed(envelope(), digests=lambda digest: (digest, *many(256))),
    "a digest of 31 bytes": lambda: listed(envelope(), digests=lambda digest: (digest, bytes(31))),
    "no batches": lambda: listed(envelope(), digests=lambda _: ()),
    "a payload without the last batch": lambda: listed(envelope(), shown=lambda digest: (OTHER, digest)),
    "a payload with a batch more": lambda: listed(envelope(), shown=lambda digest: (OTHER, digest, THIRD, *many(1))),
    "a payload in another order": lambda: listed(envelope(), shown=lambda digest: (digest, OTHER, THIRD)),
    "a payload whose last batch is repeated": lambda: listed(
        envelope(), shown=lambda digest: (OTHER, digest, THIRD, THIRD)
    ),
    "a payload without its statement": lambda: listed(envelope(), statements=[b"one"], shown_statements=()),
    "a payload with a statement more": lambda: listed(envelope(), shown_statements=[b"one"]),
    "statements in another order": lambda: listed(
        envelope(), statements=[b"one", b"two"], shown_statements=[b"two", b"one"]
    ),
    "a statement twice": lambda: listed(envelope(), statements=[b"one", b"one"]),
    "65 statements": lambda: listed(envelope(), statements=many(65)),
    "too many bytes of statements": lambda: listed(envelope(), statements=[bytes(262_144), bytes(262_145)]),
    "a statement shown as a batch": lambda: listed(
        envelope(), statements=[b"one"], shown_statements=(), shown=lambda digest: (OTHER, digest, THIRD, ONE)
    ),
    "a batch shown as a statement": lambda: listed(
        envelope(), shown=lambda digest: (OTHER, digest), shown_statements=[THIRD]
    ),
    "a payload with an unknown field": lambda: listed(envelope(), payload_form=with_unknown_field),
    "a payload with a length longer than it must be": lambda: listed(envelope(), payload_form=with_longer_key),
    "another payload": lambda: file_of(replace(envelope_proof(), payload=made().blocks[0].payload)),
    "no payload": lambda: file_of(replace(envelope_proof(), payload=wire.encode_payload(()))),
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
    accepted(listed(envelope(), digests=lambda digest: (*many(255), digest)))
    accepted(listed(envelope(), digests=lambda digest: (digest,)))
    accepted(listed(envelope(), statements=[b"one", b"two"]))
    accepted(listed(envelope(), statements=many(64)))
    accepted(listed(envelope(), statements=[bytes(262_144), bytes(262_143) + b"1"]))


@pytest.mark.parametrize("form", [with_unknown_field, with_longer_key, lambda raw: raw[-66:] + raw[:-66]])
def test_envelopes_may_come_in_any_form(form: Callable[[bytes], bytes]) -> None:
    """Clients write them in any language; what they signed is the body, byte for byte."""
    raw = form(envelope())
    accepted(listed(raw))
    assert wire.decode_envelope(raw).id == wire.decode_envelope(envelope()).id
    body = wire.encode_envelope_body(
        chain_id=made().genesis.chain_id,
        organisation="alpha",
        signer_keys=[seeded_key("alpha", "desk-1").public],
        not_after_ms=TIME_MS,
        salt=bytes(16),
        operations=[ops.ClaimClose(CLAIM_1, 0)],
    )
    other = with_unknown_field(body)
    signature = seeded_key("alpha", "desk-1").sign(TAG_ENVELOPE_SIGNATURE + other)
    accepted(listed(wire.encode_envelope(other, [signature])))
    refused(listed(wire.encode_envelope(body, [signature])))


# ---------------------------------------------------------------- forms


def rewritten(change: Callable[[proof_pb2.Proof], object]) -> bytes:
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
    "peaks": lambda raw: rewritten(lambda message: message.receipt.MergeFromString(b"\x32\x20" + bytes(32))),
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
