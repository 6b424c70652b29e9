"""The state store on LevelDB (plyvel): rows in the order they are made, one atomic batch a block.

    "L" index u64      leaf bytes                      "R" position u64   receipt bytes
    "T" twig u64       leaf root of a filled twig      "G" group u64      root of a filled group of receipts
    "H" height u64     HeightRecord, msgpack           "M" name           "schema", "executed", "base", "import"

Big-endian numbers keep rows of one kind in order, so that almost all writes append; nothing is ever overwritten but
"M" rows, and rows of a snapshot by their equals. "base" is the height of the last snapshot that was installed, "import"
the ImportProgress of one that is coming in. No compression: records are short, and random where they are long.
Checksums are verified on every read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ledger.commitment import TWIG_BITS
from ledger.invariant import invariant
from ledger.ports import (
    BlockWrites,
    CorruptStore,
    HeightRecord,
    ImportProgress,
    ImportRows,
    StoreError,
    WrongSchema,
)
from ledger.receipts_range import GROUP_BITS
from store.errors import CorruptBlocks
from store.level import Level

SCHEMA: Final = 1
"""Raised whenever a row's meaning changes."""

WRITE_BUFFER_BYTES: Final = 16 << 20
"""Rows gathered in memory before a file is written; four times LevelDB's default, for a quarter of the compactions."""

BLOCK_CACHE_BYTES: Final = 16 << 20
"""Recently read disk blocks; decoded records are cached above this."""

_SCHEMA_KEY: Final = b"Mschema"
_EXECUTED_KEY: Final = b"Mexecuted"
_BASE_KEY: Final = b"Mbase"
_IMPORT_KEY: Final = b"Mimport"

_DROPPED_AT_ONCE: Final = 4096
"""Rows of a given-up snapshot removed in one write."""

_encode_record = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(HeightRecord).decode
_decode_progress = msgspec.msgpack.Decoder(ImportProgress).decode


class LevelStateStore:
    """StateStore in one LevelDB directory. Not for use by two processes at once, and not thread-safe."""

    def __init__(self, path: Path | str) -> None:
        """Open or create; StoreInUse, WrongSchema, CorruptStore, or StoreFailed where the disk refuses."""
        self._path = str(path)
        try:
            self._db = Level(Path(path), WRITE_BUFFER_BYTES, BLOCK_CACHE_BYTES)
        except CorruptBlocks as error:
            raise self._corrupt(error) from error
        self._executed: int | None = None
        try:
            self._check_schema()
            executed = self._get(_EXECUTED_KEY)
            self._executed = None if executed is None else int.from_bytes(executed, "big")
        except StoreError:
            self._db.close()
            raise

    # ------------------------------------------------------------ StateStore

    def executed_height(self) -> int | None:
        """See StateStore."""
        return self._executed

    def base_height(self) -> int:
        """See StateStore."""
        return int.from_bytes(self._get(_BASE_KEY) or b"", "big")

    def height_record(self, height: int) -> HeightRecord | None:
        """See StateStore."""
        row = self._get(_key(b"H", height)) if height >= 0 else None
        if row is None:
            return None
        try:
            record = _decode_record(row)
        except msgspec.MsgspecError as error:
            raise CorruptStore(f"the record of height {height} is unreadable: {error}", self._path) from error
        if record.height != height:
            raise CorruptStore(f"the record of height {height} is another height's", self._path)
        return record

    def leaf(self, index: int) -> bytes:
        """See StateStore."""
        return self._row(b"L", index)

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        """See StateStore."""
        return self._rows(b"L", start, stop)

    def twig_roots(self) -> Iterator[bytes]:
        """See StateStore."""
        return self._rows(b"T", 0, None)

    def receipt_blob(self, position: int) -> bytes:
        """See StateStore."""
        return self._row(b"R", position)

    def receipt_blobs(self, start: int, stop: int) -> Iterator[bytes]:
        """See StateStore."""
        return self._rows(b"R", start, stop)

    def receipt_groups(self) -> Iterator[bytes]:
        """See StateStore."""
        return self._rows(b"G", 0, None)

    def commit(self, writes: BlockWrites, *, sync: bool = False) -> None:
        """See StateStore. StoreFailed if the disk is full or refuses: nothing of the block was written, nor is
        anything later until the store is reopened.
        """
        height = writes.record.height
        invariant(height == (-1 if self._executed is None else self._executed) + 1, "blocks are stored in order")
        rows = _rows_of(writes)
        rows[_key(b"H", height)] = _encode_record(writes.record)
        rows[_EXECUTED_KEY] = height.to_bytes(8, "big")
        self._db.write(rows, sync=sync)
        self._executed = height

    def close(self) -> None:
        """See StateStore."""
        self._db.close()

    # ------------------------------------------------------------ ImportStore

    def import_progress(self) -> ImportProgress | None:
        """See ImportStore."""
        row = self._get(_IMPORT_KEY)
        if row is None:
            return None
        try:
            return _decode_progress(row)
        except msgspec.MsgspecError as error:
            raise CorruptStore(f"the progress of a snapshot is unreadable: {error}", self._path) from error

    def import_rows(self, rows: ImportRows) -> None:
        """See ImportStore. StoreFailed as in ``commit``."""
        self._db.write({**_rows_of(rows), _IMPORT_KEY: _encode_record(rows.progress)}, sync=True)

    def install(self, genesis: HeightRecord, record: HeightRecord) -> None:
        """See ImportStore."""
        rows: dict[bytes, bytes | None] = {_key(b"H", each.height): _encode_record(each) for each in (genesis, record)}
        rows[_EXECUTED_KEY] = rows[_BASE_KEY] = record.height.to_bytes(8, "big")
        rows[_IMPORT_KEY] = None
        self._db.write(rows, sync=True)
        self._executed = record.height

    def drop_import(self) -> None:
        """See ImportStore."""
        head = self.height_record(self._executed) if self._executed is not None else None
        leaves, receipts = (head.leaf_count, head.receipt_count) if head is not None else (0, 0)
        firsts = ((b"L", leaves), (b"T", leaves >> TWIG_BITS), (b"R", receipts), (b"G", receipts >> GROUP_BITS))
        for kind, first in firsts:
            doomed: dict[bytes, bytes | None] = {}
            for key, _ in self._db.rows(_key(kind, first), bytes((kind[0] + 1,))):
                doomed[key] = None
                if len(doomed) == _DROPPED_AT_ONCE:
                    self._db.write(doomed, sync=False)
                    doomed.clear()
            self._db.write(doomed, sync=False)
        self._db.write({_IMPORT_KEY: None}, sync=True)

    # ------------------------------------------------------------ inside

    def _check_schema(self) -> None:
        found = self._get(_SCHEMA_KEY)
        if found is None:
            if next(self._db.rows(b"", b"\xff"), None) is not None:
                raise WrongSchema(self._path, "none", SCHEMA)
            self._db.write({_SCHEMA_KEY: str(SCHEMA).encode()}, sync=True)
        elif found != str(SCHEMA).encode():
            raise WrongSchema(self._path, found.decode(errors="replace"), SCHEMA)

    def _get(self, key: bytes) -> bytes | None:
        try:
            return self._db.get(key)
        except CorruptBlocks as error:
            raise self._corrupt(error) from error

    def _row(self, kind: bytes, number: int) -> bytes:
        row = self._get(_key(kind, number)) if number >= 0 else None
        if row is None:
            raise CorruptStore(f"row {kind.decode()} {number} is missing", self._path)
        return row

    def _rows(self, kind: bytes, start: int, stop: int | None) -> Iterator[bytes]:
        """Consecutive rows; with ``stop`` none may be missing, without it they end where they end."""
        last = _key(kind, stop) if stop is not None else bytes((kind[0] + 1,))
        number = start
        try:
            for key, row in self._db.rows(_key(kind, start), last):
                if key != kind + number.to_bytes(8, "big"):
                    raise CorruptStore(f"row {kind.decode()} {number} is missing", self._path)
                yield row
                number += 1
        except CorruptBlocks as error:
            raise self._corrupt(error) from error
        if stop is not None and number < stop:
            raise CorruptStore(f"row {kind.decode()} {number} is missing", self._path)

    def _corrupt(self, error: CorruptBlocks) -> CorruptStore:
        return CorruptStore(error.what, self._path)


def _rows_of(writes: BlockWrites | ImportRows) -> dict[bytes, bytes | None]:
    rows: dict[bytes, bytes | None] = {
        b"L" + at.to_bytes(8, "big"): leaf for at, leaf in enumerate(writes.leaves, writes.first_leaf)
    }
    rows.update((_key(b"R", at), receipt) for at, receipt in enumerate(writes.receipts, writes.first_receipt))
    rows.update((_key(b"T", twig), root) for twig, root in writes.twigs)
    rows.update((_key(b"G", group), root) for group, root in writes.receipt_groups)
    return rows


def _key(kind: bytes, number: int) -> bytes:
    return kind + number.to_bytes(8, "big")
