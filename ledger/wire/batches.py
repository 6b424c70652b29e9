"""Batches and acknowledgements."""

from __future__ import annotations

from collections.abc import Sequence

from crypto.hashing import TAG_BATCH, tagged
from crypto.merkle import root as merkle_root
from ledger.types import BATCH_BYTES_MAX, BATCH_ENVELOPES_MAX, Ack, Batch, BatchHeader
from ledger.wire.checks import DIGEST, SIGNATURE, WireError, exact, parse, parse_canonical
from lossbook.v1 import block_pb2


def encode_batch_header(
    *,
    chain_id: bytes,
    epoch: int,
    origin: str,
    incarnation: int,
    sequence: int,
    previous: bytes,
    envelopes: Sequence[bytes],
    attachment_root: bytes,
) -> bytes:
    """The signed link of an origin's chain."""
    return block_pb2.BatchHeader(
        chain_id=chain_id,
        epoch=epoch,
        origin=origin,
        incarnation=incarnation,
        sequence=sequence,
        previous=previous,
        count=len(envelopes),
        envelope_bytes=sum(map(len, envelopes)),
        attachment_root=attachment_root,
        envelope_root=merkle_root(envelopes),
    ).SerializeToString(deterministic=True)


def decode_batch_header(raw: bytes) -> BatchHeader:
    """Read a batch header.

    Raises:
        WireError: does not parse, is not in canonical form, or a field of impossible length.
    """
    m = parse_canonical(block_pb2.BatchHeader, raw)
    return BatchHeader(
        chain_id=exact("BatchHeader", "chain_id", m.chain_id, DIGEST),
        epoch=m.epoch,
        origin=m.origin,
        incarnation=m.incarnation,
        sequence=m.sequence,
        previous=exact("BatchHeader", "previous", m.previous, DIGEST),
        count=m.count,
        envelope_bytes=m.envelope_bytes,
        attachment_root=exact("BatchHeader", "attachment_root", m.attachment_root, DIGEST),
        envelope_root=exact("BatchHeader", "envelope_root", m.envelope_root, DIGEST),
        digest=tagged(TAG_BATCH, raw),
        raw=raw,
    )


def encode_batch(header: bytes, signature: bytes, envelopes: Sequence[bytes]) -> bytes:
    """The message that is pushed, stored and fetched."""
    return block_pb2.Batch(header=header, signature=signature, envelopes=envelopes).SerializeToString(
        deterministic=True
    )


def decode_batch(raw: bytes) -> Batch:
    """Read a batch; counts and sizes agree with its header, the envelope root is not checked yet.

    Raises:
        WireError: does not parse, oversize, or header and envelopes disagree in number or size.
    """
    if len(raw) > BATCH_BYTES_MAX + (1 << 16):
        raise WireError("Batch", f"{len(raw)} bytes, at most {BATCH_BYTES_MAX} of envelopes are allowed")
    m = parse(block_pb2.Batch, raw)
    header = decode_batch_header(m.header)
    envelopes = tuple(m.envelopes)
    if not 1 <= len(envelopes) <= BATCH_ENVELOPES_MAX or header.count != len(envelopes):
        raise WireError("Batch", f"{len(envelopes)} envelopes, its header says {header.count}")
    if header.envelope_bytes != sum(map(len, envelopes)) or header.envelope_bytes > BATCH_BYTES_MAX:
        raise WireError("Batch", f"its header says {header.envelope_bytes} bytes of envelopes")
    return Batch(header, exact("Batch", "signature", m.signature, SIGNATURE), envelopes, raw)


def encode_ack(ack: Ack) -> block_pb2.Ack:
    """The message of an acknowledgement."""
    return block_pb2.Ack(
        kind=ack.kind,  # type: ignore[arg-type]  # an open enum on the wire
        epoch=ack.epoch,
        acker=ack.acker,
        origin=ack.origin,
        incarnation=ack.incarnation,
        sequence=ack.sequence,
        digest=ack.digest,
        signature=ack.signature,
    )


def decode_ack(m: block_pb2.Ack) -> Ack:
    """Read an acknowledgement; its signature is not checked yet.

    Raises:
        WireError: a field of impossible length.
    """
    return Ack(
        m.kind,
        m.epoch,
        m.acker,
        m.origin,
        m.incarnation,
        m.sequence,
        exact("Ack", "digest", m.digest, DIGEST),
        exact("Ack", "signature", m.signature, SIGNATURE),
    )
