"""The block store: batches, proposals and final heights, in one LevelDB.

::

    "A" arrival u64      digest 32, batch or proposal
    "b" digest           arrival of a batch, u64           "p" digest     arrival of a proposal, u64
    "w" digest           nothing: a batch that waits for a final block to list it
    "h" height u64       digest of the final block         "c" height u64   its own Finalization, where one is held
    "m" name             "schema", "chain" (genesis digest), "first" (lowest height held whole, u64; absent: 1)

Integers are big-endian. Batches lie under rising numbers, **below** every other key: a file of new rows then overlaps
old files only where those hold short rows, so LevelDB's compaction does not write old batches again (ADR 0013 has the
measured cost of this and of other orders).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ledger.block_port import (
    BatchWrite,
    BlockWrite,
    FinalizedWrite,
    FirstHeightWrite,
    ProposalWrite,
)
from ledger.genesis import WrongNetwork
from ledger.invariant import invariant
from store.errors import ContradictoryWrite, CorruptBlocks, StoreError, WrongSchema
from store.level import Level

SCHEMA = 1
WRITE_BUFFER_BYTES = 16 << 20  #: about a hundred full batches gathered in memory before a file is written
CACHE_BYTES = 8 << 20  #: short rows; batches are read once and bypass it
DIGEST_BYTES = 32

_END = b"\xff"  #: above every key
_FIRST = b"mfirst"


class LevelBlockStore:
    """``BlockStore`` on disk. One process; reads may run beside one ``commit`` in another thread."""

    def __init__(self, path: Path, chain_id: bytes) -> None:
        """Open or create.

        Raises:
            WrongNetwork: blocks of another network.
            WrongSchema: another version's layout.
            StoreInUse, CorruptBlocks, StoreFailed: see ``store.errors``.
        """
        invariant(len(chain_id) == DIGEST_BYTES, "a chain id is 32 bytes")
        self._path = path
        self._level = Level(path, WRITE_BUFFER_BYTES, CACHE_BYTES)
        try:
            self._check(chain_id)
            self._next_arrival = self._above(b"A", b"B")
            self._next_height = self._above(b"h", b"i")
        except (StoreError, WrongNetwork):
            self._level.close()
            raise

    # -- reading ---------------------------------------------------------------------------

    def batch(self, digest: bytes) -> bytes | None:
        """See ``BlockStore``."""
        return self._value(b"b", digest)

    def has_batch(self, digest: bytes) -> bool:
        """See ``BlockStore``."""
        return self._level.get(b"b" + digest) is not None

    def waiting(self) -> Iterator[bytes]:
        """See ``BlockStore``."""
        return (key[1:] for key, _ in self._level.rows(b"w", b"x"))

    def proposal(self, digest: bytes) -> bytes | None:
        """See ``BlockStore``."""
        return self._value(b"p", digest)

    def has_proposal(self, digest: bytes) -> bool:
        """See ``BlockStore``."""
        return self._level.get(b"p" + digest) is not None

    def finalized_height(self) -> int | None:
        """See ``BlockStore``."""
        return self._next_height - 1 if self._next_height else None

    def first_height(self) -> int:
        """See ``BlockStore``."""
        row = self._level.get(_FIRST)
        return 1 if row is None else int.from_bytes(row, "big")

    def digest_at(self, height: int) -> bytes | None:
        """See ``BlockStore``."""
        return self._level.get(b"h" + _u64(height))

    def finalization(self, height: int) -> bytes | None:
        """See ``BlockStore``."""
        return self._level.get(b"c" + _u64(height))

    def finalized(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """See ``BlockStore``."""
        for key, digest in self._level.rows(b"h" + _u64(first), b"h" + _u64(last + 1)):
            yield int.from_bytes(key[1:], "big"), digest

    # -- writing ---------------------------------------------------------------------------

    def commit(self, writes: Sequence[BlockWrite], *, sync: bool = True) -> None:
        """See ``BlockStore``."""
        self._level.require_writable()
        turn = _TurnOfWrites(self._level, self._next_arrival)
        for write in writes:
            turn.add(write)
        if not turn.rows:
            return
        self._level.write(turn.rows, sync=sync)
        self._next_arrival = turn.next_arrival
        self._next_height = max(self._next_height, turn.next_height)

    def close(self) -> None:
        """See ``BlockStore``."""
        self._level.close()

    # -- inside ----------------------------------------------------------------------------

    def _value(self, kind: bytes, digest: bytes) -> bytes | None:
        arrival = self._level.get(kind + digest)
        if arrival is None:
            return None
        row = self._level.get(b"A" + arrival, cache=False)
        if row is None or not row.startswith(digest):
            raise CorruptBlocks(self._path, f"the row of {digest.hex()} is missing or another one")
        return row[DIGEST_BYTES:]

    def _check(self, chain_id: bytes) -> None:
        schema, chain = self._level.get(b"mschema"), self._level.get(b"mchain")
        if schema is None and chain is None and next(self._level.rows(b"", _END), None) is None:
            self._level.write({b"mschema": b"%d" % SCHEMA, b"mchain": chain_id}, sync=True)
        elif schema != b"%d" % SCHEMA:
            raise WrongSchema(str(self._path), (schema or b"none").decode(errors="replace"), SCHEMA)
        elif chain != chain_id:
            raise WrongNetwork(chain_id, chain or b"", str(self._path))

    def _above(self, kind: bytes, next_kind: bytes) -> int:
        """One more than the highest number of a kind of rows; 0 if there are none."""
        for key, _ in self._level.rows(kind, next_kind, reverse=True):
            return int.from_bytes(key[1:], "big") + 1
        return 0


class _TurnOfWrites:
    """Rows of one commit; a later write sees what an earlier one of the same turn decided."""

    def __init__(self, level: Level, next_arrival: int) -> None:
        self.rows: dict[bytes, bytes | None] = {}  #: None deletes
        self.next_arrival = next_arrival
        self.next_height = 0
        self._level = level

    def add(self, write: BlockWrite) -> None:
        """Add the rows of a write that changes anything.

        Raises:
            ContradictoryWrite: it contradicts what is stored, or an earlier write of this turn.
        """
        digest = write.digest
        invariant(len(digest) == DIGEST_BYTES, "a digest is 32 bytes")
        if isinstance(write, BatchWrite):
            if self._add_value(b"b" + digest, digest + write.raw):
                self.rows[b"w" + digest] = b""
        elif isinstance(write, ProposalWrite):
            self._add_value(b"p" + digest, digest + write.raw)
        elif isinstance(write, FinalizedWrite):
            self._decide(b"h" + _u64(write.height), digest, f"height {write.height}")
            self.next_height = max(self.next_height, write.height + 1)
            for listed in write.batches:
                if self._row(b"w" + listed) is not None:
                    self.rows[b"w" + listed] = None
            if write.certificate and self._row(b"c" + _u64(write.height)) is None:
                self.rows[b"c" + _u64(write.height)] = write.certificate
        elif isinstance(write, FirstHeightWrite):
            self.rows[_FIRST] = _u64(write.height)
        elif (arrival := self._row(b"b" + digest)) is not None:
            self.rows[b"A" + arrival] = None
            self.rows[b"b" + digest] = None
            self.rows[b"w" + digest] = None

    def _add_value(self, key: bytes, value: bytes) -> bool:
        """Whether it is new."""
        new = self._row(key) is None
        if new:
            self.rows[b"A" + _u64(self.next_arrival)] = value
            self.rows[key] = _u64(self.next_arrival)
            self.next_arrival += 1
        return new

    def _decide(self, key: bytes, digest: bytes, what: str) -> None:
        stored = self._row(key)
        if stored is None:
            self.rows[key] = digest
        elif stored != digest:
            raise ContradictoryWrite(what, stored, digest)

    def _row(self, key: bytes) -> bytes | None:
        return self.rows[key] if key in self.rows else self._level.get(key)


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "big")
