"""Bytes of an archive's head, both ways: shape only, and all that hostile bytes raise is ``WireError``."""

from __future__ import annotations

from typing import Final

from consensus.types import Header
from ledger.archive import ArchiveHead
from ledger.proof_types import HeaderProof
from ledger.wire.checks import DIGEST, WireError, exact, parse_canonical
from ledger.wire.headers import decode_header
from ledger.wire.proofs import PROOF_BYTES_MAX, decode_header_proof, encode_header_proof
from lossbook.v1 import snapshot_pb2

HEAD_BYTES_MAX: Final = PROOF_BYTES_MAX
"""A proof of one header with all hand-overs is most of it."""


def encode_archive_head(
    *,
    chain_id: bytes,
    last: HeaderProof,
    state_header: Header | None,
    log_root: bytes,
    leaf_count: int,
    receipts_tree_root: bytes,
    receipt_count: int,
) -> ArchiveHead:
    """Make a head and its exact bytes."""
    raw = snapshot_pb2.ArchiveHead(
        chain_id=chain_id,
        last=encode_header_proof(last),
        state_header=state_header.raw if state_header is not None else b"",
        log_root=log_root,
        leaf_count=leaf_count,
        receipts_tree_root=receipts_tree_root,
        receipt_count=receipt_count,
    ).SerializeToString(deterministic=True)
    return ArchiveHead(
        chain_id=chain_id,
        last=last,
        state_header=state_header,
        log_root=log_root,
        leaf_count=leaf_count,
        receipts_tree_root=receipts_tree_root,
        receipt_count=receipt_count,
        raw=raw,
    )


def decode_archive_head(raw: bytes) -> ArchiveHead:
    """Read a head; nothing in it is checked yet.

    Raises:
        WireError: too large, does not parse, or is not in canonical form.
    """
    what = "ArchiveHead"
    if len(raw) > HEAD_BYTES_MAX:
        raise WireError(what, f"{len(raw)} bytes, at most {HEAD_BYTES_MAX} are read")
    m = parse_canonical(snapshot_pb2.ArchiveHead, raw)
    return ArchiveHead(
        chain_id=exact(what, "chain_id", m.chain_id, DIGEST),
        last=decode_header_proof(m.last),
        state_header=decode_header(m.state_header) if m.state_header else None,
        log_root=exact(what, "log_root", m.log_root, DIGEST),
        leaf_count=m.leaf_count,
        receipts_tree_root=exact(what, "receipts_tree_root", m.receipts_tree_root, DIGEST),
        receipt_count=m.receipt_count,
        raw=raw,
    )
