"""The state contracts see, and its commitment block by block.

Contracts read and write typed records through ``StateView``. ``State`` keeps a block's writes in memory (an overlay
with a rollback journal), and at the end of the block turns them into one leaf a key, in key order, appends those to
the operations log (``ledger/state_log.py``) and hands the driver the rows to store:

    mark = state.mark()            before an operation
    state.put(...), delete(...)    during it
    state.rollback(mark)           if it failed
    writes = state.commit(...)     at the end of the block
    store.commit(writes)           by the driver; blocks may be stored a few at a time, in order

Values lie in the store, in log order; memory holds a key -> leaf index dictionary, the recent records, decoded, and
sorted keys of those tables that were iterated at least once.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar, cast

import msgspec
from sortedcontainers import SortedList

from crypto.hashing import ZERO_DIGEST
from crypto.merkle import root_of_hashes
from ledger import receipts_range
from ledger.commitment import (
    KEY_BYTES_MAX,
    PUT,
    TWIG_BITS,
    VALUE_BYTES_MAX,
    StateProof,
    leaf_hash,
)
from ledger.invariant import invariant
from ledger.ports import BlockWrites, CorruptStore, HeightRecord, StateStore
from ledger.receipts_range import GROUP, ReceiptProof, ReceiptsRange
from ledger.state_log import RECENT_HEIGHTS, PinnedLog, ProofUnavailable, StateLog, decode_stored

R = TypeVar("R", bound=msgspec.Struct)

RECORDS_CACHED: Final = 16_384
"""Records of one cache generation (two are kept): about 10 MB each at 300 bytes a record with its objects."""

BLOCKS_UNSAVED_MAX: Final = 64
"""Blocks that may be committed here and not yet stored: their rows wait in memory, so the driver stores them soon."""

_encode = msgspec.msgpack.Encoder().encode


class Table(Generic[R]):
    """A named set of records of one type; its prefix byte comes first in every key of the committed state."""

    __slots__ = ("decode", "name", "prefix", "record")

    def __init__(self, prefix: int, record: type[R], name: str = "") -> None:
        if not 0 <= prefix <= 255:
            raise ValueError(f"a table's prefix is one byte, not {prefix}")
        self.prefix = bytes((prefix,))
        self.record = record
        self.name = name or record.__name__
        self.decode: Callable[[bytes], R] = msgspec.msgpack.Decoder(record).decode

    def encode(self, record: R) -> bytes:
        """The committed bytes of a record: a msgpack array of its fields, in order of declaration."""
        return _encode(record)

    def __repr__(self) -> str:
        return f"Table({self.name}, prefix={self.prefix.hex()})"


class StateView(Protocol):
    """What contract code may do to the state. Records are frozen: to change one, put its successor."""

    def get(self, table: Table[R], key: bytes) -> R | None:
        """The record, this block's earlier writes included; None if there is none."""

    def put(self, table: Table[R], key: bytes, record: R) -> None:
        """Write the record. A put of an equal record is a write too."""

    def delete(self, table: Table[R], key: bytes) -> None:
        """Remove the record; nothing happens if there is none."""

    def iterate(self, table: Table[R], prefix: bytes = b"") -> Iterator[tuple[bytes, R]]:
        """(key, record) of the keys that start with ``prefix``, in byte order, this block's writes included.

        A live cursor: each step gives the least key above the last one, so writing meanwhile is well defined.
        """


class _Unset:
    """Stands for: the open block has not touched the key."""


_UNSET: Final = _Unset()


class State:
    """The state at the last executed height, with the open block on top."""

    def __init__(self, store: StateStore) -> None:
        """An empty or loaded state; use ``State.open``."""
        self._store = store
        self._log = StateLog(self._read_leaf, self._read_leaves)
        self._receipts = ReceiptsRange(self._read_receipts)
        self._head: HeightRecord | None = None
        self._overlay: dict[bytes, msgspec.Struct | None] = {}  # None: deleted
        self._journal: list[tuple[bytes, msgspec.Struct | _Unset | None]] = []
        self._sorted: dict[bytes, SortedList] = {}  # by table: committed keys and the open block's new ones
        self._fresh: list[bytes] = []  # what the open block added to the sorted keys
        self._recent: dict[bytes, msgspec.Struct] = {}
        self._older: dict[bytes, msgspec.Struct] = {}
        self._unsaved: list[BlockWrites] = []

    @classmethod
    def open(cls, store: StateStore) -> "State":
        """Rebuild memory from the log, about 3 microseconds a leaf; CorruptStore if roots do not come out as stored."""
        state = cls(store)
        executed = store.executed_height()
        if executed is not None:
            state._load(state._expect(executed), store.base_height())
        return state

    @classmethod
    def open_at(cls, store: StateStore, record: HeightRecord) -> "State":
        """The state of a snapshot whose rows are in the store, which does not count them as executed yet.

        Everything is hashed and indexed again; CorruptStore if the roots of ``record`` do not come out.
        """
        state = cls(store)
        state._rehash(record)
        state._load(record, record.height)
        return state

    # ------------------------------------------------------------ where it stands

    @property
    def head(self) -> HeightRecord | None:
        """The last executed height with its roots; None before genesis."""
        return self._head

    @property
    def height(self) -> int:
        """The last executed height; -1 before genesis."""
        return -1 if self._head is None else self._head.height

    def height_record(self, height: int) -> HeightRecord | None:
        """Roots and counts of an executed height; None above the head, or if pruned."""
        for writes in reversed(self._unsaved):
            if writes.record.height == height:
                return writes.record
        return self._store.height_record(height)

    # ------------------------------------------------------------ StateView

    def get(self, table: Table[R], key: bytes) -> R | None:
        """See StateView."""
        full = table.prefix + key
        record = self._overlay.get(full, _UNSET)
        if not isinstance(record, _Unset):
            return cast("R | None", record)
        return self._committed(table, full)

    def put(self, table: Table[R], key: bytes, record: R) -> None:
        """See StateView; a key above KEY_BYTES_MAX breaks an invariant, for contracts bound their keys."""
        full = table.prefix + key
        invariant(len(full) <= KEY_BYTES_MAX, f"a key of {table.name} has {len(full)} bytes")
        self._write(full, record)
        ordered = self._sorted.get(table.prefix)
        if ordered is not None and full not in self._log.index and full not in ordered:
            ordered.add(full)
            self._fresh.append(full)

    def delete(self, table: Table[R], key: bytes) -> None:
        """See StateView."""
        full = table.prefix + key
        if full in self._overlay or full in self._log.index:
            self._write(full, None)

    def iterate(self, table: Table[R], prefix: bytes = b"") -> Iterator[tuple[bytes, R]]:
        """See StateView. The first iteration of a table sorts its keys, once."""
        ordered = self._sorted.get(table.prefix)
        if ordered is None:
            ordered = self._sort(table.prefix)
        start, inclusive = table.prefix + prefix, True
        while True:
            full = next(ordered.irange(start, None, (inclusive, True)), None)
            if full is None or not full.startswith(table.prefix + prefix):
                return
            record = self.get(table, full[1:])
            if record is not None:  # deleted in this block, or added and rolled back
                yield full[1:], record
            start, inclusive = full, False

    # ------------------------------------------------------------ the open block

    def mark(self) -> int:
        """A point to roll back to; valid until the block ends or an earlier mark is rolled back to."""
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Undo every write since the mark."""
        invariant(0 <= mark <= len(self._journal), f"rollback to {mark} of {len(self._journal)} writes")
        overlay, journal = self._overlay, self._journal
        while len(journal) > mark:
            full, before = journal.pop()
            if isinstance(before, _Unset):
                del overlay[full]
            else:
                overlay[full] = before

    def discard(self) -> None:
        """Undo the whole open block."""
        self.rollback(0)

    def commit(
        self, height: int, timestamp_ms: int, receipts: Sequence[bytes], block_digest: bytes = ZERO_DIGEST
    ) -> BlockWrites:
        """Close the block: its writes become leaves, the receipts join their range, the roots move on.

        Heights follow each other without a gap, genesis (0) first. Store the result before serving from it to others.
        """
        invariant(height == self.height + 1, f"height {height} was executed after {self.height}")
        self._drop_saved()
        invariant(len(self._unsaved) < BLOCKS_UNSAVED_MAX, f"{BLOCKS_UNSAVED_MAX} executed blocks are not stored yet")
        first_leaf, first_receipt = self._log.count, self._receipts.count
        leaves, twigs = self._log.append(height, self._encoded())
        groups = self._receipts.extend(receipts)
        record = HeightRecord(
            height=height,
            state_root=self._log.root(),
            receipts_root=self._receipts.root(),
            leaf_count=self._log.count,
            receipt_count=self._receipts.count,
            timestamp_ms=timestamp_ms,
            block_digest=block_digest,
        )
        writes = BlockWrites(record, first_leaf, leaves, twigs, first_receipt, list(receipts), groups)
        self._unsaved.append(writes)
        self._head = record
        self._settle()
        return writes

    # ------------------------------------------------------------ proofs and raw reads

    def prove(self, table: Table[R], key: bytes, at_height: int, value_at: int | None = None) -> StateProof:
        """Proof, under the state root of ``at_height``, of the record's bytes at ``value_at`` (default: the same).

        ``at_height`` is at most RECENT_HEIGHTS below the head. ProofUnavailable says why not.
        """
        return self._log.prove(table.prefix + key, at_height, self.height, value_at)

    def prove_receipt(self, position: int, at_height: int) -> ReceiptProof:
        """Proof of a receipt under the receipts root of an executed height; ProofUnavailable if it came later."""
        record = self.height_record(at_height)
        if record is None or not 0 <= position < record.receipt_count:
            raise ProofUnavailable(f"receipt {position} is not among those of height {at_height}", "ask again later")
        return self._receipts.prove(position, record.receipt_count)

    def pin(self, height: int) -> PinnedLog:
        """The log as of a height, provable however far the state moves on; ProofUnavailable as in ``prove``."""
        return self._log.pin(height, self.height)

    def receipts_tree_root(self, count: int) -> bytes:
        """Root of the tree over the first ``count`` receipts, from which the receipts root is made."""
        return self._receipts.tree_root(count)

    def receipts_path(self, start: int, stop: int, count: int) -> tuple[bytes, ...]:
        """Range path of receipts start <= position < stop among the first ``count``; IndexError outside."""
        return self._receipts.prove_range(start, stop, count)

    def receipt_blobs(self, start: int, stop: int) -> Iterator[bytes]:
        """Receipts start <= position < stop, in order; all of them are in the range."""
        return self._read_receipts(start, stop)

    def receipt_blob(self, position: int) -> bytes:
        """Bytes of one receipt; IndexError outside the range."""
        if not 0 <= position < self._receipts.count:
            raise IndexError(f"receipt {position} is outside the range of {self._receipts.count}")
        return next(self._read_receipts(position, position + 1))

    def committed_bytes(self, table: Table[R], key: bytes) -> bytes | None:
        """The record's committed bytes at the head, the open block left out; None if there is none."""
        index = self._log.index.get(table.prefix + key)
        return None if index is None else self._value(index, table.prefix + key)

    def committed_after(
        self, table: Table[R], prefix: bytes = b"", after: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """(key, committed bytes) of keys that start with ``prefix`` and lie above ``after``, in byte order.

        For listings: nothing is decoded, the open block is left out. Not to be kept over a change of the state.
        """
        ordered = self._sorted.get(table.prefix)
        if ordered is None:
            ordered = self._sort(table.prefix)
        exclusive = after is not None and after >= prefix
        start = table.prefix + (after if exclusive and after is not None else prefix)
        for full in ordered.irange(start, None, (not exclusive, True)):
            if not full.startswith(table.prefix + prefix):
                return
            index = self._log.index.get(full)
            if index is not None:
                yield full[1:], self._value(index, full)

    # ------------------------------------------------------------ inside

    def _write(self, full: bytes, record: msgspec.Struct | None) -> None:
        self._journal.append((full, self._overlay.get(full, _UNSET)))
        self._overlay[full] = record

    def _committed(self, table: Table[R], full: bytes) -> R | None:
        record = self._recent.get(full)
        if record is None:
            record = self._older.get(full)
            if record is None:
                index = self._log.index.get(full)
                if index is None:
                    return None
                try:
                    record = table.decode(self._value(index, full))
                except msgspec.MsgspecError as error:
                    raise CorruptStore(f"leaf {index} is no record of {table.name}: {error}") from error
            self._remember(full, record)
        return cast("R", record)

    def _remember(self, full: bytes, record: msgspec.Struct) -> None:
        self._recent[full] = record
        if len(self._recent) >= RECORDS_CACHED:
            self._older, self._recent = self._recent, {}

    def _value(self, index: int, full: bytes) -> bytes:
        leaf = decode_stored(self._read_leaf(index), index)
        if leaf.key != full:
            raise CorruptStore(f"leaf {index} belongs to another key")
        return leaf.value

    def _sort(self, prefix: bytes) -> SortedList:
        ordered = SortedList(full for full in self._log.index if full[:1] == prefix)
        self._sorted[prefix] = ordered
        for full in self._overlay:
            if full[:1] == prefix and full not in self._log.index:
                ordered.add(full)
                self._fresh.append(full)
        return ordered

    def _encoded(self) -> list[tuple[bytes, bytes | None]]:
        """The open block's writes, one a key, in key order; removals of keys that were not there drop out."""
        index = self._log.index
        writes: list[tuple[bytes, bytes | None]] = []
        for full, record in sorted(self._overlay.items(), key=_first):
            if record is not None:
                value = _encode(record)
                invariant(len(value) <= VALUE_BYTES_MAX, f"a record of {len(value)} bytes under {full.hex()}")
                writes.append((full, value))
            elif full in index:
                writes.append((full, None))
        return writes

    def _settle(self) -> None:
        """After the leaves are made: the overlay becomes the cache, sorted keys become the committed ones."""
        for full, record in self._overlay.items():
            if record is not None:
                self._remember(full, record)
                continue
            self._recent.pop(full, None)
            self._older.pop(full, None)
            ordered = self._sorted.get(full[:1])
            if ordered is not None:
                ordered.discard(full)
        for full in self._fresh:
            if full not in self._log.index:
                self._sorted[full[:1]].discard(full)
        self._overlay.clear()
        self._journal.clear()
        self._fresh.clear()

    # ------------------------------------------------------------ rows, stored or not yet

    def _drop_saved(self) -> None:
        saved = self._store.executed_height()
        if saved is not None:
            self._unsaved = [writes for writes in self._unsaved if writes.record.height > saved]

    def _read_leaf(self, index: int) -> bytes:
        for writes in self._unsaved:
            if 0 <= index - writes.first_leaf < len(writes.leaves):
                return writes.leaves[index - writes.first_leaf]
        return self._store.leaf(index)

    def _read_leaves(self, start: int, stop: int) -> Iterator[bytes]:
        stored = self._unsaved[0].first_leaf if self._unsaved else stop
        if start < stored:
            yield from self._store.leaves(start, min(stop, stored))
        for index in range(max(start, stored), stop):
            yield self._read_leaf(index)

    def _read_receipts(self, start: int, stop: int) -> Iterator[bytes]:
        stored = self._unsaved[0].first_receipt if self._unsaved else stop
        if start < stored:
            yield from self._store.receipt_blobs(start, min(stop, stored))
        for writes in self._unsaved:
            first = writes.first_receipt
            yield from writes.receipts[max(start - first, 0) : max(stop - first, 0)]

    # ------------------------------------------------------------ opening

    def _load(self, head: HeightRecord, base: int) -> None:
        """Load all but the recent heights at once; replay those, so that they leave behind what proofs need.

        Heights below ``base`` were not executed here, so they cannot be replayed one by one.
        """
        start = max(head.height - RECENT_HEIGHTS, base)
        if start > 0:
            loaded = head if start == head.height else self._expect(start)
            roots = list(islice(self._store.twig_roots(), loaded.leaf_count >> TWIG_BITS))
            self._log.load(self._store.leaves(0, loaded.leaf_count), roots, loaded.leaf_count)
            self._check(loaded)
        for height in range(start + 1 if start > 0 else 0, head.height + 1):
            record = self._expect(height)
            stored = list(self._store.leaves(self._log.count, record.leaf_count))
            first = self._log.count
            again, _ = self._log.append(height, [_as_write(leaf, first + at) for at, leaf in enumerate(stored)])
            if again != stored:
                raise CorruptStore(f"the leaves of height {height} are not in the form they are written in")
            self._check(record)
        self._head = head
        groups = list(islice(self._store.receipt_groups(), head.receipt_count // GROUP))
        self._receipts.load(groups, list(self._store.receipt_blobs(len(groups) * GROUP, head.receipt_count)))
        if self._receipts.count != head.receipt_count or self._receipts.root() != head.receipts_root:
            raise CorruptStore("the receipts do not lead to the stored root")

    def _rehash(self, record: HeightRecord) -> None:
        """The stored roots of filled twigs and groups are those of the leaves and receipts that lie here."""
        store = self._store
        for twig, root in enumerate(islice(store.twig_roots(), record.leaf_count >> TWIG_BITS)):
            leaves = store.leaves(twig << TWIG_BITS, (twig + 1) << TWIG_BITS)
            if root_of_hashes([leaf_hash(leaf) for leaf in leaves]) != root:
                raise CorruptStore(f"the leaves of twig {twig} do not hash to its stored root")
        for group, root in enumerate(islice(store.receipt_groups(), record.receipt_count // GROUP)):
            receipts = store.receipt_blobs(group * GROUP, (group + 1) * GROUP)
            if root_of_hashes([receipts_range.leaf_hash(receipt) for receipt in receipts]) != root:
                raise CorruptStore(f"the receipts of group {group} do not hash to its stored root")

    def _expect(self, height: int) -> HeightRecord:
        record = self._store.height_record(height)
        if record is None:
            raise CorruptStore(f"the record of height {height} is missing")
        return record

    def _check(self, record: HeightRecord) -> None:
        if (self._log.count, self._log.root()) != (record.leaf_count, record.state_root):
            raise CorruptStore(f"the leaves do not lead to the root stored for height {record.height}")


def _as_write(data: bytes, index: int) -> tuple[bytes, bytes | None]:
    leaf = decode_stored(data, index)
    return leaf.key, leaf.value if leaf.kind == PUT else None


def _first(item: tuple[bytes, object]) -> bytes:
    return item[0]
