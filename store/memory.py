"""A state store that forgets: for tests, the simulator and offline replays. Same promises as ``store/state.py``."""

from collections.abc import Iterator

from ledger.invariant import invariant
from ledger.ports import BlockWrites, CorruptStore, HeightRecord


class MemoryStateStore:
    """StateStore in lists. Reopening is ``State.open`` on the same object."""

    def __init__(self) -> None:
        self._leaves: list[bytes] = []
        self._twigs: list[bytes] = []
        self._receipts: list[bytes] = []
        self._groups: list[bytes] = []
        self._records: list[HeightRecord] = []

    def executed_height(self) -> int | None:
        """See StateStore."""
        return self._records[-1].height if self._records else None

    def height_record(self, height: int) -> HeightRecord | None:
        """See StateStore."""
        return self._records[height] if 0 <= height < len(self._records) else None

    def leaf(self, index: int) -> bytes:
        """See StateStore."""
        return _row(self._leaves, index, "leaf")

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        """See StateStore."""
        return (self.leaf(index) for index in range(start, stop))

    def twig_roots(self) -> Iterator[bytes]:
        """See StateStore."""
        return iter(self._twigs)

    def receipt_blob(self, position: int) -> bytes:
        """See StateStore."""
        return _row(self._receipts, position, "receipt")

    def receipt_blobs(self, start: int, stop: int) -> Iterator[bytes]:
        """See StateStore."""
        return (self.receipt_blob(position) for position in range(start, stop))

    def receipt_groups(self) -> Iterator[bytes]:
        """See StateStore."""
        return iter(self._groups)

    def commit(self, writes: BlockWrites, *, sync: bool = False) -> None:
        """See StateStore."""
        invariant(writes.record.height == len(self._records), "blocks are stored in order")
        invariant(writes.first_leaf == len(self._leaves), "a block's leaves follow the stored ones")
        invariant(writes.first_receipt == len(self._receipts), "a block's receipts follow the stored ones")
        self._leaves += writes.leaves
        self._twigs += [root for _, root in writes.twigs]
        self._receipts += writes.receipts
        self._groups += [root for _, root in writes.receipt_groups]
        self._records.append(writes.record)

    def close(self) -> None:
        """See StateStore."""


def _row(rows: list[bytes], at: int, what: str) -> bytes:
    if not 0 <= at < len(rows):
        raise CorruptStore(f"{what} {at} is missing")
    return rows[at]
