"""Bytes of proofs, both ways. Like ``ledger.wire``: shape only, and all that hostile bytes raise is ``WireError``.

A proof file is read strictly: it must be exactly the bytes its content is written as, without unknown fields,
so that no byte of a file can be changed without the file being refused.

State proof, scheme 1 (integers unsigned, big-endian):

    count u64 | boundary u64 | leaf proof of the subject | u8: 1 and the leaf proof of the successor, or 0
    leaf proof   index u64 | leaf length u32 | leaf | u8 n | n x 32 path | 256 bits | u8 m | m x 32 twig path
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from crypto.merkle import PATH_LENGTH_MAX
from ledger.commitment import BITMAP_BYTES, KEY_BYTES_MAX, VALUE_BYTES_MAX, LeafProof, StateProof
from ledger.epochs import VALIDATORS_MAX, Seat
from ledger.proof_types import EnvelopeProof, HandOver, HeaderProof, MerklePath, Proof, ReceiptProof, RecordProof
from ledger.receipts_range import ReceiptProof as RangeProof
from ledger.types import JustifiedHeader
from ledger.wire import batches, blocks, envelopes, receipts, votes
from ledger.wire.checks import DIGEST, WireError, exact_or_empty, parse_canonical
from lossbook.v1 import block_pb2, proof_pb2

PROOF_BYTES_MAX: Final = 8 << 20
"""A proof has some kilobytes; a long chain of headers with many skipped views stays below this."""

HEADERS_MAX: Final = 1024
"""Headers between the proved one and the certificate: above the largest K a network may have."""

ORGANISATION_BYTES_MAX: Final = 32  #: ids are 2 to 32 characters of ASCII

LEAF_BYTES_MAX: Final = 64 + KEY_BYTES_MAX + VALUE_BYTES_MAX

_COUNTS: Final = struct.Struct(">QQ")
_LEAF_HEAD: Final = struct.Struct(">QI")

# -- the file ----------------------------------------------------------------------------------


def encode_proof(proof: Proof) -> bytes:
    """The bytes of a proof file."""
    message = proof_pb2.Proof(chain_id=proof.chain_id)
    subject = proof.subject
    if isinstance(subject, RecordProof):
        message.record.CopyFrom(encode_record_proof(subject))
    elif isinstance(subject, ReceiptProof):
        message.receipt.CopyFrom(encode_receipt_proof(subject))
    else:
        message.envelope.CopyFrom(encode_envelope_proof(subject))
    return message.SerializeToString(deterministic=True)


def decode_proof(raw: bytes) -> Proof:
    """Read a proof file; nothing in it is checked yet.

    Raises:
        WireError: too large, does not parse, or is not in canonical form.
    """
    if len(raw) > PROOF_BYTES_MAX:
        raise WireError("Proof", f"{len(raw)} bytes, at most {PROOF_BYTES_MAX} are read")
    m = parse_canonical(proof_pb2.Proof, raw)
    field = m.WhichOneof("subject")
    if field is None:
        raise WireError("Proof", "holds neither a record nor a receipt nor an envelope")
    if len(m.chain_id) != DIGEST:
        raise WireError("Proof", f"chain_id has {len(m.chain_id)} bytes, not {DIGEST}")
    return Proof(m.chain_id, _SUBJECTS[field](getattr(m, field)))


# -- headers -----------------------------------------------------------------------------------


def encode_header_proof(proof: HeaderProof) -> proof_pb2.HeaderProof:
    """The message of a header proof."""
    return proof_pb2.HeaderProof(
        headers=[blocks.encode_justified_header(one) for one in proof.headers],
        finalization=votes.encode_certificate(proof.finalization),
        hand_overs=[encode_hand_over(each) for each in proof.hand_overs],
    )


def decode_header_proof(m: proof_pb2.HeaderProof) -> HeaderProof:
    """Read a header proof.

    Raises:
        WireError: a part does not parse, or there are no or too many headers.
    """
    return HeaderProof(
        _decode_headers("HeaderProof", m.headers),
        votes.decode_certificate(m.finalization),
        tuple([decode_hand_over(each) for each in m.hand_overs]),
    )


def encode_hand_over(each: HandOver) -> proof_pb2.HandOver:
    """The message of a hand-over."""
    return proof_pb2.HandOver(
        headers=[blocks.encode_justified_header(one) for one in each.headers],
        finalization=votes.encode_certificate(each.finalization),
        members=[
            proof_pb2.EpochMember(organisation=seat.organisation, consensus_key=seat.consensus_key)
            for seat in each.members
        ],
    )


def decode_hand_over(m: proof_pb2.HandOver) -> HandOver:
    """Read a hand-over; WireError as ``decode_header_proof``, and for members that cannot be."""
    if not 1 <= len(m.members) <= VALIDATORS_MAX:
        raise WireError("HandOver", f"{len(m.members)} members; 1 to {VALIDATORS_MAX} are read")
    return HandOver(
        _decode_headers("HandOver", m.headers),
        votes.decode_certificate(m.finalization),
        tuple([_decode_member(each) for each in m.members]),
    )


def _decode_member(m: proof_pb2.EpochMember) -> Seat:
    if not 1 <= len(m.organisation.encode()) <= ORGANISATION_BYTES_MAX:
        raise WireError("EpochMember", "an organisation id of an impossible length")
    return Seat(m.organisation, exact_or_empty("EpochMember", "consensus_key", m.consensus_key, DIGEST))


def _decode_headers(what: str, headers: Sequence[block_pb2.JustifiedHeader]) -> tuple[JustifiedHeader, ...]:
    if not 1 <= len(headers) <= HEADERS_MAX:
        raise WireError(what, f"{len(headers)} headers; 1 to {HEADERS_MAX} are read")
    return tuple([blocks.decode_justified_header(one) for one in headers])


# -- the three subjects ------------------------------------------------------------------------


def encode_record_proof(proof: RecordProof) -> proof_pb2.RecordProof:
    """The message of a record proof."""
    return proof_pb2.RecordProof(
        header=encode_header_proof(proof.header),
        key=proof.key,
        value=proof.value,
        state=proof_pb2.StateProof(scheme=proof.state.scheme, proof=encode_state_proof(proof.state)),
    )


def decode_record_proof(m: proof_pb2.RecordProof) -> RecordProof:
    """Read a record proof; WireError as ``decode_proof``."""
    return RecordProof(decode_header_proof(m.header), m.key, m.value, decode_state_proof(m.state.scheme, m.state.proof))


def encode_receipt_proof(proof: ReceiptProof) -> proof_pb2.ReceiptProof:
    """The message of a receipt proof."""
    return proof_pb2.ReceiptProof(
        header=encode_header_proof(proof.header),
        receipt=proof.receipt.raw,
        position=proof.path.position,
        count=proof.path.count,
        siblings=proof.path.path,
    )


def decode_receipt_proof(m: proof_pb2.ReceiptProof) -> ReceiptProof:
    """Read a receipt proof; WireError as ``decode_proof``."""
    return ReceiptProof(
        decode_header_proof(m.header),
        receipts.decode_receipt(m.receipt),
        RangeProof(m.position, m.count, _digests("ReceiptProof", m.siblings)),
    )


def encode_envelope_proof(proof: EnvelopeProof) -> proof_pb2.EnvelopeProof:
    """The message of an envelope proof."""
    return proof_pb2.EnvelopeProof(
        header=encode_header_proof(proof.header),
        envelope=proof.envelope.raw,
        in_batch=_encode_path(proof.in_batch),
        batch_header=proof.batch_header.raw,
        payload=proof.payload.raw,
    )


def decode_envelope_proof(m: proof_pb2.EnvelopeProof) -> EnvelopeProof:
    """Read an envelope proof; WireError as ``decode_proof``."""
    return EnvelopeProof(
        decode_header_proof(m.header),
        envelopes.decode_envelope(m.envelope),
        _decode_path(m.in_batch),
        batches.decode_batch_header(m.batch_header),
        blocks.decode_payload(m.payload),
    )


_SUBJECTS: Final[dict[str, Any]] = {
    "record": decode_record_proof,
    "receipt": decode_receipt_proof,
    "envelope": decode_envelope_proof,
}


def _encode_path(path: MerklePath) -> proof_pb2.MerklePath:
    return proof_pb2.MerklePath(index=path.index, size=path.size, siblings=path.siblings)


def _decode_path(m: proof_pb2.MerklePath) -> MerklePath:
    return MerklePath(m.index, m.size, _digests("MerklePath", m.siblings))


def _digests(what: str, digests: Sequence[bytes]) -> tuple[bytes, ...]:
    if len(digests) > PATH_LENGTH_MAX or any(len(digest) != DIGEST for digest in digests):
        raise WireError(what, f"a path is longer than {PATH_LENGTH_MAX} or a digest has not {DIGEST} bytes")
    return tuple(digests)


# -- state proof, scheme 1 ---------------------------------------------------------------------


def encode_state_proof(proof: StateProof) -> bytes:
    """Bytes of a scheme 1 state proof, as in the module's text."""
    successor = b"\x00" if proof.successor is None else b"\x01" + _encode_leaf_proof(proof.successor)
    return _COUNTS.pack(proof.count, proof.boundary) + _encode_leaf_proof(proof.subject) + successor


def decode_state_proof(scheme: int, raw: bytes) -> StateProof:
    """Read a state proof.

    Raises:
        WireError: another scheme than 1, or not exactly this layout.
    """
    if scheme != 1:
        raise WireError("StateProof", f"scheme {scheme} is not known to this version")
    reader = _Reader(raw)
    count, boundary = reader.unpack(_COUNTS)
    subject = _decode_leaf_proof(reader)
    (more,) = reader.take(1)
    if more not in (0, 1):
        raise WireError("StateProof", "its successor flag is neither 0 nor 1")
    successor = _decode_leaf_proof(reader) if more else None
    reader.end()
    return StateProof(scheme=scheme, count=count, boundary=boundary, subject=subject, successor=successor)


def _encode_leaf_proof(proof: LeafProof) -> bytes:
    return b"".join(
        (
            _LEAF_HEAD.pack(proof.index, len(proof.leaf)),
            proof.leaf,
            bytes((len(proof.path),)),
            *proof.path,
            proof.bits,
            bytes((len(proof.twig_path),)),
            *proof.twig_path,
        )
    )


def _decode_leaf_proof(reader: _Reader) -> LeafProof:
    index, length = reader.unpack(_LEAF_HEAD)
    if length > LEAF_BYTES_MAX:
        raise WireError("StateProof", f"a leaf of {length} bytes")
    leaf = reader.take(length)
    path = reader.digests()
    bits = reader.take(BITMAP_BYTES)
    return LeafProof(index, leaf, path, bits, reader.digests())


class _Reader:
    """Takes bytes from the front; a WireError where they end too soon."""

    __slots__ = ("_at", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._raw):
            raise WireError("StateProof", "ends too soon")
        taken, self._at = self._raw[self._at : end], end
        return taken

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size))

    def digests(self) -> tuple[bytes, ...]:
        (count,) = self.take(1)
        if count > PATH_LENGTH_MAX:
            raise WireError("StateProof", f"a path of {count}")
        return tuple(self.take(DIGEST) for _ in range(count))

    def end(self) -> None:
        if self._at != len(self._raw):
            raise WireError("StateProof", "goes on after its end")
