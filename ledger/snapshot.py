"""Snapshots: the state at one height, in chunks, each proved against a certified root before anybody stores it.

A snapshot of height h is all leaves of the operations log and all receipts up to h: in commitment scheme 1 nothing is
compacted, so whoever has these has what a node that executed every block has, but the blocks. What execution and voting
read (replay ids with the positions of their receipts, batch heads, parameters, ...) are records of that log, rebuilt
by opening it and never sent by themselves.

    manifest   a final header whose state_height is h, with its Finalization and justification, and the hand-overs from
               the genesis' epoch to its own; the headers from h up to its parent, linked by their digests; what the
               block of h lists; the log root, the root of the tree of receipts and both counts, which give the header's
               roots
    chunk      leaves of one twig, or receipts of one group, with their range path (crypto/merkle.py)

Log and receipts only grow, so a leaf proved under one certified root is the leaf of that place for ever: chunks under
different manifests go together, and a fetch that was interrupted goes on under the newest one (docs/adr/0019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from consensus.types import Header, Justification
from crypto import merkle
from crypto.hashing import DIGEST_BYTES
from crypto.keys import verify_many
from ledger import receipts_range
from ledger.commitment import (
    BITMAP_BYTES,
    COUNT_MAX,
    SCHEME,
    TWIG_BITS,
    TWIG_LEAVES,
    leaf_hash,
    state_root,
    twig_hash,
    twigs_of,
)
from ledger.known_epochs import KnownEpochs
from ledger.ports import HeightRecord
from ledger.proof_errors import ProofError
from ledger.proof_types import HandOver, HeaderProof
from ledger.proofs import verify_header_proof
from ledger.receipts_range import GROUP_BITS, receipts_root
from ledger.types import Payload
from ledger.wellformed import VerifyMany

ANCESTORS_MAX: Final = 1024
"""Headers between the snapshot's height and the one that certifies it: above the largest K a network may have."""


class SnapshotError(Exception):
    """What a peer served is not part of a certified snapshot.

    Attributes:
        part: which part, e.g. ``leaves from 4096``.
        problem: what is wrong with it.
    """

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(f"snapshot, {part}: {problem}")
        self.part = part
        self.problem = problem


# -- values ------------------------------------------------------------------------------------


class StatedLogs(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The logs from which the roots that a header carries are said to be made."""

    log_root: bytes
    """Of the operations log."""
    leaf_count: int
    receipts_tree_root: bytes
    receipt_count: int

    def problem(self, certified: Header) -> str | None:
        """Why they are not those of this header; None if they are."""
        if certified.state_scheme != SCHEME:
            return f"state scheme {certified.state_scheme} is not known to this software"
        if not (1 <= self.leaf_count <= COUNT_MAX and 0 <= self.receipt_count <= COUNT_MAX):
            return "a count is outside the limits"
        if state_root(self.log_root, self.leaf_count) != certified.state_root:
            return f"log root and count do not give the state root of header {certified.height}"
        if receipts_root(self.receipts_tree_root, self.receipt_count) != certified.receipts_root:
            return f"root and count of the receipts do not give the root of header {certified.height}"
        return None

    def record(self, certified: Header, left_by: Header, block_digest: bytes) -> HeightRecord:
        """What a state store keeps of the height, where there is no ``problem``.

        Args:
            left_by: header of the block that left the state.
            block_digest: its digest; zeros for a genesis.
        """
        return HeightRecord(
            height=left_by.height,
            state_root=certified.state_root,
            receipts_root=certified.receipts_root,
            leaf_count=self.leaf_count,
            receipt_count=self.receipt_count,
            timestamp_ms=left_by.timestamp_ms,
            block_digest=block_digest,
        )


class Manifest(StatedLogs, frozen=True, gc=False, kw_only=True):
    """What a snapshot is said to be of; nothing in it is checked yet."""

    header: HeaderProof
    """Its subject carries the snapshot's roots."""
    ancestors: tuple[Header, ...]
    """Headers from the snapshot's height on, ascending; the last is the parent of ``header.subject``."""
    justification: Justification
    """Of ``ancestors[0]``."""
    payload: Payload
    """Of ``ancestors[0]``."""
    raw: bytes
    """Serialized, canonical."""


class CertifiedState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The state of a height, certified by a final header: chunks are proved against this."""

    record: HeightRecord
    """What the state store keeps of the height."""
    log_root: bytes
    receipts_tree_root: bytes
    manifest: bytes
    """What was verified, serialized."""

    @property
    def height(self) -> int:
        """Height of the state."""
        return self.record.height


class Snapshot(CertifiedState, frozen=True, gc=False, kw_only=True):
    """A manifest that was verified."""

    header: Header
    """Block of that height; execution goes on after it."""
    justification: Justification
    payload: Payload
    certified: Header
    """The final header whose roots these are."""
    hand_overs: tuple[HandOver, ...]
    """Out of every epoch before that of ``certified``, from the genesis' on; the last may lie above ``header``."""
    known: KnownEpochs
    """The network's epochs up to that of ``certified``."""


class LeafChunk(msgspec.Struct, frozen=True, gc=False):
    """Consecutive leaves of one twig."""

    first: int
    """Place of the first one in the log."""
    leaves: tuple[bytes, ...]
    inside: tuple[bytes, ...]
    """Range path inside the twig; empty for a whole twig."""
    bits: bytes
    """The twig's 256 bytes of activity bits at the snapshot's height."""
    twig_path: tuple[bytes, ...]
    """Audit path from the twig's hash to the log root."""


class ReceiptChunk(msgspec.Struct, frozen=True, gc=False):
    """Consecutive receipts of one group."""

    first: int
    """Position of the first one."""
    receipts: tuple[bytes, ...]
    path: tuple[bytes, ...]
    """Range path in the tree of all receipts."""


Chunk = LeafChunk | ReceiptChunk

# -- checks ------------------------------------------------------------------------------------


def verify_manifest(
    manifest: Manifest, known: KnownEpochs, verify: VerifyMany = verify_many, seen: KnownEpochs | None = None
) -> Snapshot:
    """The snapshot that the manifest shows to be certified on this network; SnapshotError otherwise.

    Costs the signatures of a header proof: some 2 Q of them, and as many for every epoch that is not known yet.

    Args:
        known: the genesis; or what this very row of hand-overs, or the beginning of it, was found to lead to before.
            Of other hand-overs into these epochs only the blocks are compared: those would be kept without a proof.
        seen: epochs the verifier has been in itself; a manifest that tells another history of them, or
            lets one go on after its end, is refused.
    """
    certified = manifest.header.subject
    try:
        if seen is not None:
            seen.follow(manifest.header.hand_overs)[0].start_for(certified)
        known, _ = verify_header_proof(manifest.header, known, verify)
    except ProofError as error:
        raise SnapshotError("manifest", str(error)) from error
    header = _first_ancestor(manifest, known.starts[known.first_epoch].genesis.height)
    if manifest.justification.digest != header.justification_digest:
        raise SnapshotError("manifest", "the justification is not the one its header commits to")
    if manifest.payload.root != header.payload_root:
        raise SnapshotError("manifest", "the payload is not the one its header commits to")
    problem = manifest.problem(certified)
    if problem is not None:
        raise SnapshotError("manifest", problem)
    return Snapshot(
        record=manifest.record(certified, header, header.digest),
        header=header,
        justification=manifest.justification,
        payload=manifest.payload,
        certified=certified,
        log_root=manifest.log_root,
        receipts_tree_root=manifest.receipts_tree_root,
        hand_overs=manifest.header.hand_overs,
        known=known,
        manifest=manifest.raw,
    )


def _first_ancestor(manifest: Manifest, genesis_height: int) -> Header:
    """The header of the snapshot's height, which the certified one holds on to by digests alone."""
    child = manifest.header.subject
    if child.state_height <= genesis_height:
        raise SnapshotError("manifest", "it is of the genesis, which everybody has")
    if len(manifest.ancestors) != child.height - child.state_height or len(manifest.ancestors) > ANCESTORS_MAX:
        raise SnapshotError("manifest", f"{len(manifest.ancestors)} headers below the certified one")
    for ancestor in reversed(manifest.ancestors):
        if ancestor.digest != child.parent_digest or ancestor.height != child.height - 1:
            raise SnapshotError("manifest", f"header {ancestor.height} is not the parent of header {child.height}")
        child = ancestor
    return child


def verify_leaves(chunk: LeafChunk, snapshot: CertifiedState) -> list[bytes]:
    """The hashes of the chunk's leaves, which are those of the snapshot in these places; SnapshotError otherwise."""
    part, count = f"leaves from {chunk.first}", snapshot.record.leaf_count
    twig = chunk.first >> TWIG_BITS
    start = twig << TWIG_BITS
    size = min(TWIG_LEAVES, count - start)
    if not chunk.leaves or not start <= chunk.first < chunk.first + len(chunk.leaves) <= start + size:
        raise SnapshotError(part, "they are none, or not all of one twig of the log")
    if len(chunk.bits) != BITMAP_BYTES or not _digests(chunk.inside) or not _digests(chunk.twig_path):
        raise SnapshotError(part, "a part of the proof has a wrong length")
    hashes = [leaf_hash(leaf) for leaf in chunk.leaves]
    leaf_root = merkle.root_of_range(hashes, chunk.first - start, size, chunk.inside)
    if leaf_root is None:
        raise SnapshotError(part, "the path inside the twig has a wrong length")
    log_root = merkle.root_of_path(twig_hash(leaf_root, chunk.bits), twig, twigs_of(count), chunk.twig_path)
    if log_root != snapshot.log_root:
        raise SnapshotError(part, f"they do not lead to the log root certified for height {snapshot.height}")
    return hashes


def verify_receipts(chunk: ReceiptChunk, snapshot: CertifiedState) -> list[bytes]:
    """The hashes of the chunk's receipts, which are those of the snapshot in these places; SnapshotError otherwise."""
    part, stop = f"receipts from {chunk.first}", chunk.first + len(chunk.receipts)
    if not chunk.receipts or chunk.first < 0 or (stop - 1) >> GROUP_BITS != chunk.first >> GROUP_BITS:
        raise SnapshotError(part, "they are none, or not all of one group")
    if not _digests(chunk.path):
        raise SnapshotError(part, "a part of the proof has a wrong length")
    hashes = [receipts_range.leaf_hash(receipt) for receipt in chunk.receipts]
    tree_root = merkle.root_of_range(hashes, chunk.first, snapshot.record.receipt_count, chunk.path)
    if tree_root is None:
        raise SnapshotError(part, "they lie outside the range, or the path has a wrong length")
    if tree_root != snapshot.receipts_tree_root:
        raise SnapshotError(part, f"they do not lead to the root certified for height {snapshot.height}")
    return hashes


def _digests(path: Sequence[bytes]) -> bool:
    return len(path) <= 2 * merkle.PATH_LENGTH_MAX and all(len(digest) == DIGEST_BYTES for digest in path)
