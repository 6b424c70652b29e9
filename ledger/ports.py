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


class StateStore(Protocol):
    """Rows of the state. Every reader raises CorruptStore for a row that should be there and is not."""

    def executed_height(self) -> int | None:
        """Height of the last committed block; None in a new store."""

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
