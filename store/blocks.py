"""The block store: batches, proposals, final heights and acknowledged positions, in two LevelDB directories.

``journal`` holds every write under its arrival number, so that nothing is ever compacted against anything else (ADR
0013: a third of the processor time that random keys take)::

    "a" arrival u64     kind (1 byte) and fields:
                        "b" digest 32, batch              "p" digest 32, proposal
                        "f" height u64, digest 32, certificate or nothing
                        "o" incarnation u64, sequence u64, digest 32, origin
                        "x" digest 32: this batch is dropped
    "m" name            "schema", "chain" (genesis digest)

``index`` is derived from it: written after the journal, never synced, brought up to date from the journal at start, and
built anew if it cannot be read::

    "b" digest          arrival u64                       "p" digest       arrival u64
    "h" height u64      digest 32, arrival u64            "o" origin 00 incarnation u64 sequence u64   digest 32
    "w"                 watermark: first arrival that is not indexed, u64

One synced write to the journal per turn. Integers are big-endian.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ledger.block_port import (
    BatchDrop,
    BatchWrite,
    BlockWrite,
    FinalizedWrite,
    Position,
    PositionWrite,
    ProposalWrite,
)
from ledger.invariant import invariant
from store.errors import ContradictoryWrite, CorruptBlocks, StoreError, WrongNetwork, WrongSchema, fail
from store.level import Level

SCHEMA = 1
JOURNAL_BUFFER_BYTES = 16 << 20  #: about a hundred full batches gathered in memory before a file is written
INDEX_BUFFER_BYTES = 1 << 20  #: rows of some fifty bytes
CACHE_BYTES = 4 << 20  #: index blocks; batches are read once and bypass it
REINDEX_ROWS = 256  #: journal rows indexed in one write: bounds memory at start

Rows = dict[bytes, bytes | None]  #: index rows to write; None deletes

_END = b"\xff"  #: above every key


class LevelBlockStore:
    """``BlockStore`` on disk. One process at a time; not thread-safe."""

    def __init__(self, path: Path, chain_id: bytes) -> None:
        """Open or create.

        Raises:
            WrongNetwork: blocks of another network.
            WrongSchema: another version's layout.
            StoreInUse, CorruptBlocks, StoreFailed: see ``store.errors``.
        """
        invariant(len(chain_id) == 32, "a chain id is 32 bytes")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._journal = Level(path / "journal", JOURNAL_BUFFER_BYTES, CACHE_BYTES)
        try:
            self._check(chain_id)
            self._next = self._end_of_journal()
            self._index = self._open_index()
        except StoreError:
            self._journal.close()
            raise
        self._finalized = self._highest()

    # -- reading ---------------------------------------------------------------------------

    def batch(self, digest: bytes) -> bytes | None:
        """See ``BlockStore``."""
        return self._value(b"b", digest)

    def has_batch(self, digest: bytes) -> bool:
        """See ``BlockStore``."""
        return self._index.get(b"b" + digest) is not None

    def proposal(self, digest: bytes) -> bytes | None:
        """See ``BlockStore``."""
        return self._value(b"p", digest)

    def has_proposal(self, digest: bytes) -> bool:
        """See ``BlockStore``."""
        return self._index.get(b"p" + digest) is not None

    def finalized_height(self) -> int | None:
        """See ``BlockStore``."""
        return self._finalized

    def digest_at(self, height: int) -> bytes | None:
        """See ``BlockStore``."""
        row = self._index.get(b"h" + _u64(height))
        return row[:32] if row is not None else None

    def finalization(self, height: int) -> bytes | None:
        """See ``BlockStore``."""
        row = self._index.get(b"h" + _u64(height))
        if row is None:
            return None
        entry = self._entry(row[32:])
        if entry[:41] != b"f" + _u64(height) + row[:32]:
            raise CorruptBlocks(self._path, f"the entry of height {height} is another one")
        return entry[41:] or None

    def finalized(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """See ``BlockStore``."""
        for key, row in self._index.rows(b"h" + _u64(first), b"h" + _u64(last + 1)):
            yield int.from_bytes(key[1:]), row[:32]

    def acknowledged(self, origin: str, incarnation: int, sequence: int) -> bytes | None:
        """See ``BlockStore``."""
        return self._index.get(_position_key(origin, incarnation, sequence))

    def last_acknowledged(self, origin: str) -> Position | None:
        """See ``BlockStore``."""
        prefix = _origin_prefix(origin)
        for key, digest in self._index.rows(prefix, prefix[:-1] + b"\x01", reverse=True):
            return _position(prefix, key, digest)
        return None

    def acknowledged_from(self, origin: str, incarnation: int, sequence: int) -> Iterator[Position]:
        """See ``BlockStore``."""
        prefix = _origin_prefix(origin)
        stop = prefix + _u64(incarnation) + _END * 9
        for key, digest in self._index.rows(_position_key(origin, incarnation, sequence), stop):
            yield _position(prefix, key, digest)

    # -- writing ---------------------------------------------------------------------------

    def commit(self, writes: Sequence[BlockWrite], *, sync: bool = True) -> None:
        """See ``BlockStore``."""
        self._journal.require_writable()
        self._index.require_writable()
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        rows: Rows = {}
        for write in writes:
            if not self._is_news(write, rows):
                continue
            if isinstance(write, BatchDrop):
                deletes.append(b"a" + self._row(b"b" + write.digest, rows))
            arrival, entry = self._next + len(puts), _encode(write)
            puts.append((b"a" + _u64(arrival), entry))
            _index_entry(entry, arrival, rows)
        if not puts:
            return
        self._journal.write(puts, deletes, sync=sync)
        self._next += len(puts)
        _write_index(self._index, rows, self._next)
        for write in writes:
            if isinstance(write, FinalizedWrite) and (self._finalized is None or write.height > self._finalized):
                self._finalized = write.height

    def close(self) -> None:
        """See ``BlockStore``."""
        self._journal.close()
        self._index.close()

    # -- inside ----------------------------------------------------------------------------

    def _row(self, key: bytes, rows: Rows) -> bytes:
        """An index row as it will be after ``rows``; empty if there is none."""
        row = rows[key] if key in rows else self._index.get(key)
        return row or b""

    def _is_news(self, write: BlockWrite, rows: Rows) -> bool:
        """Whether it changes anything.

        Raises:
            ContradictoryWrite: it contradicts what is stored, or an earlier write of this turn.
        """
        if isinstance(write, BatchWrite):
            return not self._row(b"b" + write.digest, rows)
        if isinstance(write, ProposalWrite):
            return not self._row(b"p" + write.digest, rows)
        if isinstance(write, BatchDrop):
            return bool(self._row(b"b" + write.digest, rows))
        if isinstance(write, PositionWrite):
            stored = self._row(_position_key(write.origin, write.incarnation, write.sequence), rows)
            what = f"position ({write.origin}, {write.incarnation}, {write.sequence})"
        else:
            stored = self._row(b"h" + _u64(write.height), rows)[:32]
            what = f"height {write.height}"
        if stored and stored != write.digest:
            raise ContradictoryWrite(what, stored, write.digest)
        if isinstance(write, FinalizedWrite) and stored and write.certificate:
            return self.finalization(write.height) is None
        return not stored

    def _value(self, kind: bytes, digest: bytes) -> bytes | None:
        arrival = self._index.get(kind + digest)
        if arrival is None:
            return None
        entry = self._entry(arrival)
        if entry[:33] != kind + digest:
            raise CorruptBlocks(self._path, f"the entry of {digest.hex()} is another one")
        return entry[33:]

    def _entry(self, arrival: bytes) -> bytes:
        entry = self._journal.get(b"a" + arrival, cache=False)
        if entry is None:
            raise CorruptBlocks(self._path, f"entry {int.from_bytes(arrival)} is missing")
        return entry

    def _check(self, chain_id: bytes) -> None:
        schema, chain = self._journal.get(b"mschema"), self._journal.get(b"mchain")
        if schema is None and chain is None and next(self._journal.rows(b"", _END), None) is None:
            self._journal.write([(b"mschema", b"%d" % SCHEMA), (b"mchain", chain_id)], sync=True)
        elif schema != b"%d" % SCHEMA:
            raise WrongSchema(str(self._path), (schema or b"none").decode(errors="replace"), SCHEMA)
        elif chain != chain_id:
            raise WrongNetwork(self._path, chain_id, chain or b"")

    def _end_of_journal(self) -> int:
        for key, _ in self._journal.rows(b"a", b"b", reverse=True):
            return int.from_bytes(key[1:]) + 1
        return 0

    def _highest(self) -> int | None:
        for key, _ in self._index.rows(b"h", b"i", reverse=True):
            return int.from_bytes(key[1:])
        return None

    def _open_index(self) -> Level:
        """Bring the index up to date; make it anew if it is damaged, or ahead of a journal that lost its end."""
        try:
            return self._caught_up()
        except CorruptBlocks:
            drop_index(self._path)
            return self._caught_up()

    def _caught_up(self) -> Level:
        index = Level(self._path / "index", INDEX_BUFFER_BYTES, CACHE_BYTES)
        try:
            if _watermark(index) > self._next:
                raise CorruptBlocks(index.path, "it knows more than the journal")
            rows: Rows = {}
            start = b"a" + _u64(_watermark(index))
            for count, (key, entry) in enumerate(self._journal.rows(start, b"b"), 1):
                arrival = int.from_bytes(key[1:])
                _index_entry(entry, arrival, rows)
                if count % REINDEX_ROWS == 0:
                    _write_index(index, rows, arrival + 1)
                    rows = {}
            _write_index(index, rows, self._next)
        except StoreError:
            index.close()
            raise
        return index


def drop_index(path: Path) -> None:
    """Remove the derived index of a block store that is not open; opening makes it anew.

    Raises:
        StoreFailed: a file could not be removed.
    """
    try:
        shutil.rmtree(path / "index")
    except FileNotFoundError:
        return
    except OSError as error:
        fail(error, "remove", path / "index")


def _watermark(index: Level) -> int:
    return int.from_bytes(index.get(b"w") or b"")


def _write_index(index: Level, rows: Rows, watermark: int) -> None:
    puts = [(key, row) for key, row in rows.items() if row is not None]
    deletes = [key for key, row in rows.items() if row is None]
    index.write([*puts, (b"w", _u64(watermark))], deletes, sync=False)


def _encode(write: BlockWrite) -> bytes:
    """A journal entry."""
    if isinstance(write, BatchWrite):
        return b"b" + _digest(write.digest) + write.raw
    if isinstance(write, ProposalWrite):
        return b"p" + _digest(write.digest) + write.raw
    if isinstance(write, FinalizedWrite):
        return b"f" + _u64(write.height) + _digest(write.digest) + write.certificate
    if isinstance(write, PositionWrite):
        position = _u64(write.incarnation) + _u64(write.sequence)
        return b"o" + position + _digest(write.digest) + write.origin.encode()
    return b"x" + _digest(write.digest)


def _index_entry(entry: bytes, arrival: int, rows: Rows) -> None:
    """The index rows of a journal entry; None deletes."""
    kind = entry[:1]
    if kind in (b"b", b"p"):
        rows[entry[:33]] = _u64(arrival)
    elif kind == b"f":
        rows[b"h" + entry[1:9]] = entry[9:41] + _u64(arrival)
    elif kind == b"o":
        rows[b"o" + entry[49:] + b"\x00" + entry[1:17]] = entry[17:49]
    else:
        rows[b"b" + entry[1:33]] = None


def _origin_prefix(origin: str) -> bytes:
    return b"o" + origin.encode() + b"\x00"


def _position_key(origin: str, incarnation: int, sequence: int) -> bytes:
    return _origin_prefix(origin) + _u64(incarnation) + _u64(sequence)


def _position(prefix: bytes, key: bytes, digest: bytes) -> Position:
    numbers = key[len(prefix) :]
    return Position(int.from_bytes(numbers[:8]), int.from_bytes(numbers[8:]), digest)


def _digest(digest: bytes) -> bytes:
    invariant(len(digest) == 32, "a digest is 32 bytes")
    return digest


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "big")
