"""Taking a snapshot in: rows in order, then one switch.

    Importer   says what is missing, and turns proved chunks into rows of the state store, next to what is executed
    install    once all are there: the state is built from them alone, its roots compared, and then, in one synced
               write, the snapshot's height becomes the executed one

What the store executed itself is the beginning of every later log, so a node that was away fetches only the rest. A
crash at any point leaves the store as it was, with as many proved rows as had been written; the fetch goes on there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from crypto.mmr import Mmr
from ledger.commitment import TWIG_BITS, TWIG_LEAVES, leaf_hash
from ledger.ports import HeightRecord, ImportProgress, ImportRows, ImportStore
from ledger.receipts_range import GROUP, GROUP_BITS
from ledger.receipts_range import leaf_hash as receipt_hash
from ledger.snapshot import CertifiedState
from ledger.state import State


class Log(enum.IntEnum):
    """The two things that grow; numbers as in ``peer.proto``."""

    LEAVES = 1
    RECEIPTS = 2


class Importer:
    """What has come in of a snapshot, and the rows of what comes next.

    Args:
        store: rows are read back from it, never written: the caller stores what ``take`` returns, in order.
        snapshot: the one that is fetched.
        anew: what came in before is of another history: everything above what is executed is taken again, over it.
    """

    def __init__(self, store: ImportStore, snapshot: CertifiedState, *, anew: bool = False) -> None:
        self.snapshot = snapshot
        executed = store.executed_height()
        head = store.height_record(executed) if executed is not None else None
        progress = (None if anew else store.import_progress()) or ImportProgress(b"", 0, 0)
        leaves = max(progress.leaves, head.leaf_count if head is not None else 0)
        receipts = max(progress.receipts, head.receipt_count if head is not None else 0)
        self.held = {Log.LEAVES: leaves, Log.RECEIPTS: receipts}
        """What is here from the first one on, by log; may be more than the snapshot has."""
        self._twig = Mmr([leaf_hash(leaf) for leaf in store.leaves(leaves - leaves % TWIG_LEAVES, leaves)])
        self._group = Mmr([receipt_hash(blob) for blob in store.receipt_blobs(receipts - receipts % GROUP, receipts)])

    @property
    def wanted(self) -> dict[Log, int]:
        """What the snapshot has, by log."""
        record = self.snapshot.record
        return {Log.LEAVES: record.leaf_count, Log.RECEIPTS: record.receipt_count}

    @property
    def complete(self) -> bool:
        """Everything is here, or among the rows that were returned."""
        return all(self.held[log] >= count for log, count in self.wanted.items())

    def take(self, log: Log, items: Sequence[bytes], hashes: Sequence[bytes]) -> ImportRows:
        """Rows of the next items of a log, which were proved; ``hashes`` are theirs. They are of one twig or group."""
        first = self.held[log]
        self.held[log] = first + len(items)
        progress = ImportProgress(self.snapshot.manifest, self.held[Log.LEAVES], self.held[Log.RECEIPTS])
        if log is Log.LEAVES:
            self._twig.extend(hashes)
            twigs: list[tuple[int, bytes]] = []
            if self._twig.size == TWIG_LEAVES:
                twigs.append((first >> TWIG_BITS, self._twig.root()))
                self._twig = Mmr()
            return ImportRows(progress, first, list(items), twigs, self.held[Log.RECEIPTS], [], [])
        self._group.extend(hashes)
        groups: list[tuple[int, bytes]] = []
        if self._group.size == GROUP:
            groups.append((first >> GROUP_BITS, self._group.root()))
            self._group = Mmr()
        return ImportRows(progress, self.held[Log.LEAVES], [], [], first, list(items), groups)

    def retarget(self) -> ImportRows:
        """No new rows, but the progress under this snapshot: it is the one to install."""
        leaves, receipts = self.held[Log.LEAVES], self.held[Log.RECEIPTS]
        return ImportRows(ImportProgress(self.snapshot.manifest, leaves, receipts), leaves, [], [], receipts, [], [])


def is_complete(progress: ImportProgress, snapshot: CertifiedState) -> bool:
    """Whether all rows of the snapshot have come in."""
    record = snapshot.record
    return progress.leaves >= record.leaf_count and progress.receipts >= record.receipt_count


def install(
    store: ImportStore, snapshot: CertifiedState, genesis: HeightRecord, first: Callable[[], None] = lambda: None
) -> State:
    """Make the snapshot the state of this store, and open it; twice the time of an ordinary opening.

    Args:
        genesis: record of height 0.
        first: done between the check and the switch: what must be on disk before the state counts.

    Raises:
        CorruptStore: the rows do not lead to the snapshot's roots; nothing was changed.
        StoreError: the disk refuses.
    """
    state = State.open_at(store, snapshot.record)
    first()
    store.install(genesis, snapshot.record)
    return state
