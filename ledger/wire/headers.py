"""Headers and justifications."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.types import Certificate, Header, Justification
from crypto.hashing import TAG_HEADER, TAG_JUSTIFICATION, tagged
from ledger.wire.checks import DIGEST, exact, exact_or_empty, parse_canonical
from ledger.wire.votes import decode_certificate, encode_certificate
from lossbook.v1 import block_pb2


def make_justification(parent: Certificate | None, nullifications: Sequence[Certificate]) -> Justification:
    """Encode why a header may build on its parent."""
    raw = block_pb2.Justification(
        parent=encode_certificate(parent) if parent else None,
        nullifications=[encode_certificate(n) for n in nullifications],
    ).SerializeToString(deterministic=True)
    return Justification(parent, tuple(nullifications), tagged(TAG_JUSTIFICATION, raw), raw)


def decode_justification(raw: bytes) -> Justification:
    """Read a justification; its certificates are not checked yet.

    Raises:
        WireError: does not parse, is not in canonical form, or a certificate in it is impossible.
    """
    m = parse_canonical(block_pb2.Justification, raw)
    return Justification(
        parent=decode_certificate(m.parent) if m.HasField("parent") else None,
        nullifications=tuple([decode_certificate(n) for n in m.nullifications]),
        digest=tagged(TAG_JUSTIFICATION, raw),
        raw=raw,
    )


def encode_header(
    *,
    version: int,
    chain_id: bytes,
    epoch: int,
    height: int,
    view: int,
    parent_view: int,
    parent_digest: bytes,
    payload_root: bytes,
    justification_digest: bytes,
    timestamp_ms: int,
    state_height: int,
    state_root: bytes,
    receipts_root: bytes,
    valset_hash: bytes,
    next_valset_hash: bytes = b"",
    state_scheme: int,
) -> Header:
    """Make a header, its exact bytes and digest."""
    raw = block_pb2.Header(
        version=version,
        chain_id=chain_id,
        epoch=epoch,
        height=height,
        view=view,
        parent_view=parent_view,
        parent_digest=parent_digest,
        payload_root=payload_root,
        justification_digest=justification_digest,
        timestamp_ms=timestamp_ms,
        state_height=state_height,
        state_root=state_root,
        receipts_root=receipts_root,
        valset_hash=valset_hash,
        next_valset_hash=next_valset_hash,
        state_scheme=state_scheme,
    ).SerializeToString(deterministic=True)
    return decode_header(raw)


def decode_header(raw: bytes) -> Header:
    """Read a header.

    Raises:
        WireError: does not parse, is not in canonical form, or a digest or root of wrong length.
    """
    m = parse_canonical(block_pb2.Header, raw)
    what = "Header"
    return Header(
        version=m.version,
        chain_id=exact(what, "chain_id", m.chain_id, DIGEST),
        epoch=m.epoch,
        height=m.height,
        view=m.view,
        parent_view=m.parent_view,
        parent_digest=exact(what, "parent_digest", m.parent_digest, DIGEST),
        payload_root=exact(what, "payload_root", m.payload_root, DIGEST),
        justification_digest=exact(what, "justification_digest", m.justification_digest, DIGEST),
        timestamp_ms=m.timestamp_ms,
        state_height=m.state_height,
        state_root=exact(what, "state_root", m.state_root, DIGEST),
        receipts_root=exact(what, "receipts_root", m.receipts_root, DIGEST),
        valset_hash=exact(what, "valset_hash", m.valset_hash, DIGEST),
        next_valset_hash=exact_or_empty(what, "next_valset_hash", m.next_valset_hash, DIGEST),
        state_scheme=m.state_scheme,
        digest=tagged(TAG_HEADER, raw),
        raw=raw,
    )
