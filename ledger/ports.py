"""What the ledger asks of the disk: the state-side port.

The store is dumb on purpose: it keeps rows under sequential numbers and makes one block's rows appear at once.
What the rows mean, and whether they agree with each other, is judged by ``ledger.state`` when it opens.
Left out: lookup by key (the state keeps a key -> leaf index in memory; values lie in the order of the log, which
costs LevelDB a third of what random keys cost) and lookup of receipts by envelope id (the replay record, itself a
record of the state, holds the receipt's position).
"""

from collections.abc import Iterator
from typing import Protocol

import msgspec


class StoreError(Exception):
    """The store cannot serve; the text says what to do. Not a fault of any peer."""


class CorruptStore(StoreError):
    """Bytes on disk are not what was written there. The node must not sign on top of them."""

    def __init__(self, what: str, path: str = "") -> None:
        super().__init__(
            f"the state store{path and ' '}{path} is corrupt: {what}. Nothing may be signed on top of it: "
            "run `lossbook node resync` to rebuild it from the other members' blocks"
        )
        self.what = what
        self.path = path


class StoreInUse(StoreError):
    """Another process has the directory open."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is in use by another process: stop that one first (two processes on one home would sign twice)"
        )
        self.path = path


class WrongSchema(StoreError):
    """The store was written by another version of the software."""

    def __init__(self, path: str, found: str, expected: int) -> None:
        super().__init__(
            f"{path} has storage schema {found}, this version reads {expected}: run the version that wrote it, "
            "or `lossbook node resync` to rebuild it"
        )
        self.path = path
        self.found = found
        self.expected = expected


class HeightRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is kept of every executed height."""

    height: int
    """Executed block height; genesis is 0."""
    state_root: bytes
    """Root of the state commitment after this block, 32 bytes."""
    receipts_root: bytes
    """Root of the receipts range after this block, 32 bytes."""
    leaf_count: int
    """Leaves of the operations log after this block."""
    receipt_count: int
    """Receipts after this block."""
    timestamp_ms: int
    """Block time, milliseconds since the epoch."""
    block_digest: bytes
    """Digest of the executed header, 32 bytes; compared with the block store at start."""


class BlockWrites(msgspec.Struct, frozen=True, gc=False):
    """All rows one executed block adds; they appear on disk together or not at all."""

    record: HeightRecord
    first_leaf: int
    """Index of ``leaves[0]`` in the operations log."""
    leaves: list[bytes]
    """Leaf bytes (layout: ledger/commitment.py), in key order, one a key."""
    twigs: list[tuple[int, bytes]]
    """(twig number, leaf root) of the twigs this block filled."""
    first_receipt: int
    """Position of ``receipts[0]``."""
    receipts: list[bytes]
    """Receipt blobs, one an envelope, in execution order."""
    receipt_groups: list[tuple[int, bytes]]
    """(group number, root) of the groups of receipts this block filled."""


class ImportProgress(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How far a snapshot has come in; stored with the rows it counts."""

    manifest: bytes
    """Of the snapshot that is fetched, serialized; what it says was verified before it was stored."""
    leaves: int
    """Leaves of the log that are here, from the first one."""
    receipts: int
    """Receipts that are here, from the first one."""


class ImportRows(msgspec.Struct, frozen=True, gc=False):
    """Rows of a snapshot, proved before they are stored; as in ``BlockWrites``, but without a height of their own."""

    progress: ImportProgress
    """What is here once these rows are."""
    first_leaf: int
    leaves: list[bytes]
    twigs: list[tuple[int, bytes]]
    first_receipt: int
    receipts: list[bytes]
    receipt_groups: list[tuple[int, bytes]]


class StateStore(Protocol):
    """Rows of the state. Every reader raises CorruptStore for a row that should be there and is not."""

    def executed_height(self) -> int | None:
        """Height of the last committed block; None in a new store."""

    def base_height(self) -> int:
        """Height of the last snapshot that was installed; 0 where everything since genesis was executed here."""

    def height_record(self, height: int) -> HeightRecord | None:
        """The record of an executed height; None if it was not executed here, or was pruned."""

    def leaf(self, index: int) -> bytes:
        """Bytes of one leaf of the operations log."""

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        """Leaves start <= index < stop, in order."""

    def twig_roots(self) -> Iterator[bytes]:
        """Leaf roots of all filled twigs, from twig 0."""

    def receipt_blob(self, position: int) -> bytes:
        """Bytes of one receipt."""

    def receipt_blobs(self, start: int, stop: int) -> Iterator[bytes]:
        """Receipts start <= position < stop, in order."""

    def receipt_groups(self) -> Iterator[bytes]:
        """Roots of all filled groups of receipts, from group 0."""

    def commit(self, writes: BlockWrites, *, sync: bool = False) -> None:
        """Make one block's rows and its executed height appear atomically; with ``sync``, on disk before returning."""

    def close(self) -> None:
        """Release the directory."""


class ImportStore(StateStore, Protocol):
    """A state store that also takes a snapshot.

    The log and the receipts only ever grow, so what comes in lies above what is executed, in the places where execution
    would put it. Until ``install`` the store is what it was; rows above the executed height count for nothing.
    """

    def import_progress(self) -> ImportProgress | None:
        """What has come in; None where no snapshot was begun, or it was installed."""

    def import_rows(self, rows: ImportRows) -> None:
        """Store the next rows and their progress at once, on disk before returning: progress never claims what a power
        cut took."""

    def install(self, genesis: HeightRecord, record: HeightRecord) -> None:
        """Make the snapshot's height the executed one, on disk before returning. All its rows are here, and checked.

        ``genesis`` is the record of height 0, which follows from the genesis file.
        """

    def drop_import(self) -> None:
        """Forget what has come in of a snapshot."""
