"""Bytes of snapshots, both ways: shape only, and all that hostile bytes raise is ``WireError``."""

from __future__ import annotations

from typing import Final

from consensus.types import Header, Justification
from ledger.proof_types import HeaderProof
from ledger.snapshot import ANCESTORS_MAX, Chunk, LeafChunk, Manifest, ReceiptChunk
from ledger.types import Payload
from ledger.wire.blocks import decode_payload
from ledger.wire.checks import DIGEST, WireError, exact, parse_canonical
from ledger.wire.headers import decode_header, decode_justification
from ledger.wire.proofs import decode_header_proof, encode_header_proof
from lossbook.v1 import peer_pb2, snapshot_pb2

MANIFEST_BYTES_MAX: Final = 2 << 20
"""A certified header has some kilobytes, a thousand headers below it 300 KB; many skipped views stay below this."""


def encode_manifest(
    *,
    header: HeaderProof,
    ancestors: tuple[Header, ...],
    justification: Justification,
    payload: Payload,
    log_root: bytes,
    leaf_count: int,
    receipts_tree_root: bytes,
    receipt_count: int,
) -> Manifest:
    """Make a manifest and its exact bytes."""
    raw = snapshot_pb2.SnapshotManifest(
        header=encode_header_proof(header),
        ancestors=[ancestor.raw for ancestor in ancestors],
        justification=justification.raw,
        payload=payload.raw,
        log_root=log_root,
        leaf_count=leaf_count,
        receipts_tree_root=receipts_tree_root,
        receipt_count=receipt_count,
    ).SerializeToString(deterministic=True)
    return Manifest(
        header=header,
        ancestors=ancestors,
        justification=justification,
        payload=payload,
        log_root=log_root,
        leaf_count=leaf_count,
        receipts_tree_root=receipts_tree_root,
        receipt_count=receipt_count,
        raw=raw,
    )


def decode_manifest(raw: bytes) -> Manifest:
    """Read a manifest; nothing in it is checked yet.

    Raises:
        WireError: too large, does not parse, or is not in canonical form.
    """
    what = "SnapshotManifest"
    if len(raw) > MANIFEST_BYTES_MAX:
        raise WireError(what, f"{len(raw)} bytes, at most {MANIFEST_BYTES_MAX} are read")
    m = parse_canonical(snapshot_pb2.SnapshotManifest, raw)
    if not 1 <= len(m.ancestors) <= ANCESTORS_MAX:
        raise WireError(what, f"{len(m.ancestors)} ancestors; 1 to {ANCESTORS_MAX} are read")
    return Manifest(
        header=decode_header_proof(m.header),
        ancestors=tuple([decode_header(ancestor) for ancestor in m.ancestors]),
        justification=decode_justification(m.justification),
        payload=decode_payload(m.payload),
        log_root=exact(what, "log_root", m.log_root, DIGEST),
        leaf_count=m.leaf_count,
        receipts_tree_root=exact(what, "receipts_tree_root", m.receipts_tree_root, DIGEST),
        receipt_count=m.receipt_count,
        raw=raw,
    )


def encode_chunk(chunk: Chunk) -> peer_pb2.GetSnapshotChunksResponse:
    """The message of a chunk."""
    if isinstance(chunk, LeafChunk):
        leaves = snapshot_pb2.LeafChunk(
            first=chunk.first, leaves=chunk.leaves, inside=chunk.inside, bits=chunk.bits, twig_path=chunk.twig_path
        )
        return peer_pb2.GetSnapshotChunksResponse(leaves=leaves)
    receipts = snapshot_pb2.ReceiptChunk(first=chunk.first, receipts=chunk.receipts, path=chunk.path)
    return peer_pb2.GetSnapshotChunksResponse(receipts=receipts)


def decode_chunk(m: peer_pb2.GetSnapshotChunksResponse) -> Chunk:
    """Read a chunk; nothing in it is checked yet.

    Raises:
        WireError: it holds neither leaves nor receipts.
    """
    match m.WhichOneof("chunk"):
        case "leaves":
            c = m.leaves
            return LeafChunk(c.first, tuple(c.leaves), tuple(c.inside), c.bits, tuple(c.twig_path))
        case "receipts":
            r = m.receipts
            return ReceiptChunk(r.first, tuple(r.receipts), tuple(r.path))
        case _:
            raise WireError("GetSnapshotChunksResponse", "holds neither leaves nor receipts")
