"""Where the receipt of an envelope lies: the ``index`` store of a node.

    "e" envelope id    position of the receipt that says what became of it, u64
    "n"                receipts indexed so far, u64
    "m" name           "schema", "chain"

Replay records of the state are dropped once block time has passed an envelope's ``not_after``. A node that looked only
there would tell a client who comes back later that its executed envelope EXPIRED. So every receipt is indexed.

Derived from the state and never synced: it may be behind after a crash, or ahead of a state that lost its unsynced end.
``catch_up`` makes it right at start; an index that cannot be read is made anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from ledger.codes import Code
from ledger.types import Receipt
from ledger.wire import decode_receipt
from store.errors import CorruptBlocks, fail
from store.level import Level

SCHEMA: Final = b"1"
WRITE_BUFFER_BYTES: Final = 4 << 20  #: rows of forty bytes
CACHE_BYTES: Final = 4 << 20  #: misses are answered by the bloom filter
CATCH_UP_ROWS: Final = 4096  #: receipts indexed in one write at start

UNTIMELY: Final = frozenset({Code.EXPIRED, Code.NOT_AFTER_TOO_FAR})
"""An id so refused is not remembered by execution: the envelope may have been executed before, or be later."""

ReceiptBlobs = Callable[[int, int], Iterator[bytes]]
"""Receipts start <= position < stop of the state, in order."""


class ReceiptIndex:
    """One process at a time; not thread-safe."""

    def __init__(self, path: Path, chain_id: bytes) -> None:
        """Open or create; one that is damaged, or another network's, is made anew.

        Raises:
            StoreInUse, StoreFailed: see ``store.errors``.
        """
        try:
            self._level = _open(path, chain_id)
        except CorruptBlocks:
            try:
                shutil.rmtree(path)
            except OSError as error:
                fail(error, "remove", path)
            self._level = _open(path, chain_id)
        self._count = int.from_bytes(self._level.get(b"n") or b"", "big")

    def catch_up(self, count: int, blobs: ReceiptBlobs) -> int:
        """Index what is missing of the state's ``count`` receipts; how many that were.

        Raises:
            StoreError: the disk refuses.
        """
        start = self._count = min(self._count, count)
        while self._count < count:
            stop = min(self._count + CATCH_UP_ROWS, count)
            self.add(decode_receipt(raw) for raw in blobs(self._count, stop))
            if self._count < stop:
                raise LookupError(f"the state has {count} receipts and gave {self._count}")
        return count - start

    def add(self, receipts: Iterable[Receipt]) -> None:
        """Index the next receipts of the range, in order; those indexed before are passed over.

        Raises:
            StoreFailed: the disk refuses.
        """
        rows: dict[bytes, bytes | None] = {}
        count = self._count
        for receipt in receipts:
            if receipt.position != count:
                continue
            count += 1
            key, code = b"e" + receipt.envelope_id, receipt.code
            if code == Code.REPLAYED or (code in UNTIMELY and (key in rows or self._level.get(key) is not None)):
                continue  # listed again: the earlier receipt stands
            rows[key] = receipt.position.to_bytes(8, "big")
        if count > self._count:
            rows[b"n"] = count.to_bytes(8, "big")
            self._level.write(rows, sync=False)
            self._count = count

    def position(self, envelope_id: bytes) -> int | None:
        """Place of the receipt that says what became of an envelope; None if it was never listed here."""
        row = self._level.get(b"e" + envelope_id)
        position = None if row is None else int.from_bytes(row, "big")
        return position if position is not None and position < self._count else None

    def close(self) -> None:
        """Release the directory."""
        self._level.close()


def _open(path: Path, chain_id: bytes) -> Level:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    level = Level(path, WRITE_BUFFER_BYTES, CACHE_BYTES)
    wanted = {b"mschema": SCHEMA, b"mchain": chain_id}
    found = {key: level.get(key) for key in wanted}
    if all(value is None for value in found.values()):
        level.write(dict(wanted), sync=True)
    elif found != wanted:
        level.close()
        raise CorruptBlocks(path, "it was made for another network or by another version")
    return level
