"""A state store that forgets: for tests, the simulator and offline replays. Same promises as ``store/state.py``."""

from collections.abc import Iterator
from random import Random

from ledger.commitment import TWIG_BITS
from ledger.invariant import invariant
from ledger.ports import BlockWrites, CorruptStore, HeightRecord, ImportProgress, ImportRows
from ledger.receipts_range import GROUP_BITS


class MemoryStateStore:
    """ImportStore in lists. Reopening is ``State.open`` on the same object."""

    def __init__(self) -> None:
        self._leaves: list[bytes] = []
        self._twigs: list[bytes] = []
        self._receipts: list[bytes] = []
        self._groups: list[bytes] = []
        self._records: list[HeightRecord | None] = []  # None: between genesis and a snapshot
        self._base = 0
        self._progress: ImportProgress | None = None
        self._synced = 0  #: heights that no crash takes

    def crash(self, random: Random) -> None:
        """Lose a random number of the newest unsynced blocks, whole ones, as LevelDB's log does in a power cut."""
        del self._records[random.randint(self._synced, len(self._records)) :]
        self._synced = len(self._records)
        if self._progress is None:
            self.drop_import()

    def executed_height(self) -> int | None:
        """See StateStore."""
        return len(self._records) - 1 if self._records else None

    def base_height(self) -> int:
        """See StateStore."""
        return self._base

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
        self._put(writes)
        self._records.append(writes.record)
        if sync:
            self._synced = len(self._records)

    def close(self) -> None:
        """See StateStore."""

    # ------------------------------------------------------------ ImportStore

    def import_progress(self) -> ImportProgress | None:
        """See ImportStore."""
        return self._progress

    def import_rows(self, rows: ImportRows) -> None:
        """See ImportStore."""
        self._put(rows)
        self._progress = rows.progress

    def install(self, genesis: HeightRecord, record: HeightRecord) -> None:
        """See ImportStore."""
        between = [None] * (record.height + 1 - len(self._records))
        self._records.extend(between)
        self._records[genesis.height], self._records[record.height] = genesis, record
        self._base, self._progress = record.height, None
        self._synced = len(self._records)

    def drop_import(self) -> None:
        """See ImportStore."""
        head = self._records[-1] if self._records else None
        leaves, receipts = (head.leaf_count, head.receipt_count) if head is not None else (0, 0)
        del self._leaves[leaves:], self._twigs[leaves >> TWIG_BITS :]
        del self._receipts[receipts:], self._groups[receipts >> GROUP_BITS :]
        self._progress = None

    def _put(self, writes: BlockWrites | ImportRows) -> None:
        """Rows of a block may lie here already, of a snapshot: the same ones."""
        numbered = [
            (self._leaves, list(enumerate(writes.leaves, writes.first_leaf)), "leaves"),
            (self._twigs, writes.twigs, "twigs"),
            (self._receipts, list(enumerate(writes.receipts, writes.first_receipt)), "receipts"),
            (self._groups, writes.receipt_groups, "groups of receipts"),
        ]
        for held, rows, what in numbered:
            if rows:
                first = rows[0][0]
                invariant(first <= len(held), f"{what} follow the stored ones")
                held[first : first + len(rows)] = [row for _, row in rows]


def _row(rows: list[bytes], at: int, what: str) -> bytes:
    if not 0 <= at < len(rows):
        raise CorruptStore(f"{what} {at} is missing")
    return rows[at]
