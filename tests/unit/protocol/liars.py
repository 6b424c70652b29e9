"""What liars need: the proofs of the vectors with a part exchanged, and headers that a quorum signed all the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from hashlib import sha256

import pytest

from consensus.types import Header, Justification, VoteKind
from contracts.records import CLAIMS
from crypto.hashing import TAG_HEADER, TAG_JUSTIFICATION, tagged
from ledger import proof_building as building
from ledger import proof_errors, proofs, wire
from ledger.proof_types import EnvelopeProof, HeaderProof, Proof, ReceiptProof, RecordProof
from ledger.types import JustifiedHeader
from ledger.wire.proofs import encode_proof
from tests.unit.protocol import stranger
from tests.unit.protocol.stranger import Refused
from tests.vectors.small_network import CLAIM_1, Network, build

Subject = RecordProof | ReceiptProof | EnvelopeProof
QUORUM = (0, 1, 2)
OTHER = sha256(b"other").digest()


@cache
def made() -> Network:
    return build()


@cache
def known() -> stranger.Network:
    return stranger.read_network(made().genesis.raw)


def file_of(subject: Subject) -> bytes:
    return encode_proof(Proof(made().genesis.chain_id, subject))


def accepted(raw: bytes) -> None:
    assert proofs.verify_bytes(raw, made().genesis).signatures
    assert stranger.verify(raw, known())


def refused(raw: bytes) -> None:
    with pytest.raises(proof_errors.ProofError):
        proofs.verify_bytes(raw, made().genesis)
    with pytest.raises(Refused):
        stranger.verify(raw, known())


def record_proof() -> RecordProof:
    return building.record_proof(made(), made().state, CLAIMS, CLAIM_1)


def receipt_proof(position: int = 2) -> ReceiptProof:
    return building.receipt_proof(made(), made().state, position)


def envelope_proof(index: int = 1) -> EnvelopeProof:
    block = made().blocks[1]
    return building.envelope_proof(made(), 2, block.payload, block.batches, index)


def first_envelope_proof() -> EnvelopeProof:
    """The envelope of block 1, whose parent is the genesis."""
    block = made().blocks[0]
    return building.envelope_proof(made(), 1, block.payload, block.batches, 0)


def altered(of_height: int, /, **changes: object) -> Header:
    header = made().blocks[of_height - 1].header
    names = [name for name in Header.__dataclass_fields__ if name not in ("raw", "digest")]
    return wire.encode_header(**{name: getattr(header, name) for name in names} | changes)


def signed(*headers: tuple[Header, Justification]) -> HeaderProof:
    last = headers[-1][0]
    return HeaderProof(
        tuple(JustifiedHeader(*one) for one in headers), made().of_block(VoteKind.FINALIZE, last, QUORUM)
    )


def with_unknown_field(raw: bytes) -> bytes:
    """The same content to every reader of proto3, in other bytes: field 127 is nobody's."""
    return raw + b"\xf8\x07\x01"


def with_longer_key(raw: bytes) -> bytes:
    """The same content in other bytes: the number of the first field takes two bytes instead of one."""
    return bytes((raw[0] | 0x80, 0)) + raw[1:]


def rewritten_header(of_height: int, form: Callable[[bytes], bytes], /, **changes: object) -> Header:
    """A header in another form, with the digest of its bytes."""
    header = altered(of_height, **changes)
    raw = form(header.raw)
    return dataclasses.replace(header, raw=raw, digest=tagged(TAG_HEADER, raw))


def rewritten_justification(raw: bytes) -> Justification:
    """Any bytes as a justification, with their digest."""
    return Justification(None, (), tagged(TAG_JUSTIFICATION, raw), raw)


def justification(height: int) -> Justification:
    return made().blocks[height - 1].justification
