"""The state store on LevelDB (plyvel): rows in the order they are made, one atomic batch a block.

    "L" index u64      leaf bytes                      "R" position u64   receipt bytes
    "T" twig u64       leaf root of a filled twig      "G" group u64      root of a filled group of receipts
    "H" height u64     HeightRecord, msgpack           "M" name           "schema", "executed"

Big-endian numbers keep rows of one kind in order, so that almost all writes append; nothing is ever overwritten but
"executed". No compression: records are short, and random where they are long. Checksums are verified on every read.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import msgspec
import plyvel

from ledger.invariant import invariant
from ledger.ports import BlockWrites, CorruptStore, HeightRecord, StoreError, StoreInUse, WrongSchema

SCHEMA: Final = 1
"""Raised whenever a row's meaning changes."""

WRITE_BUFFER_BYTES: Final = 16 << 20
"""Rows gathered in memory before a file is written; four times LevelDB's default, for a quarter of the compactions."""

BLOCK_CACHE_BYTES: Final = 16 << 20
"""Recently read disk blocks; decoded records are cached above this."""

_SCHEMA_KEY: Final = b"Mschema"
_EXECUTED_KEY: Final = b"Mexecuted"

_encode_record = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(HeightRecord).decode

P = ParamSpec("P")
T = TypeVar("T")


class LevelStateStore:
    """StateStore in one LevelDB directory. Not for use by two processes at once, and not thread-safe."""

    def __init__(self, path: Path | str) -> None:
        """Open or create; StoreInUse, WrongSchema, CorruptStore, or StoreError where the disk refuses."""
        self._path = str(path)
        self._db = self._guard(_open, self._path)
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
        """See StateStore. StoreError if the disk is full or refuses; then nothing of the block was written."""
        height = writes.record.height
        invariant(height == (-1 if self._executed is None else self._executed) + 1, "blocks are stored in order")
        batch = self._db.write_batch(transaction=True, sync=sync)
        put = batch.put
        for index, leaf in enumerate(writes.leaves, writes.first_leaf):
            put(b"L" + index.to_bytes(8, "big"), leaf)
        for position, receipt in enumerate(writes.receipts, writes.first_receipt):
            put(b"R" + position.to_bytes(8, "big"), receipt)
        for twig, root in writes.twigs:
            put(_key(b"T", twig), root)
        for group, root in writes.receipt_groups:
            put(_key(b"G", group), root)
        put(_key(b"H", height), _encode_record(writes.record))
        put(_EXECUTED_KEY, height.to_bytes(8, "big"))
        self._guard(batch.write)
        self._executed = height

    def close(self) -> None:
        """See StateStore."""
        self._db.close()

    # ------------------------------------------------------------ inside

    def _check_schema(self) -> None:
        found = self._get(_SCHEMA_KEY)
        if found is None:
            with self._db.iterator(include_value=False) as keys:
                if next(keys, None) is not None:
                    raise WrongSchema(self._path, "none", SCHEMA)
            self._guard(self._db.put, _SCHEMA_KEY, str(SCHEMA).encode(), sync=True)
        elif found != str(SCHEMA).encode():
            raise WrongSchema(self._path, found.decode(errors="replace"), SCHEMA)

    def _get(self, key: bytes) -> bytes | None:
        found: bytes | None = self._guard(self._db.get, key, verify_checksums=True)
        return found

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
            with self._db.iterator(start=_key(kind, start), stop=last, verify_checksums=True) as rows:
                for key, row in rows:
                    if key != kind + number.to_bytes(8, "big"):
                        break
                    yield row
                    number += 1
                else:
                    if stop is None:
                        return
        except plyvel.Error as error:
            raise self._translated(error) from error
        if number != stop:
            raise CorruptStore(f"row {kind.decode()} {number} is missing", self._path)

    def _guard(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except plyvel.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> StoreError:
        text = str(error)
        if isinstance(error, plyvel.CorruptionError) or "Corruption" in text:
            return CorruptStore(text, self._path)
        if "lock" in text:
            return StoreInUse(self._path)
        return StoreError(f"{self._path}: {text}. Check the disk's space, permissions and health, then start again")


def _open(path: str) -> plyvel.DB:
    return plyvel.DB(
        path,
        create_if_missing=True,
        paranoid_checks=True,
        compression=None,
        write_buffer_size=WRITE_BUFFER_BYTES,
        lru_cache_size=BLOCK_CACHE_BYTES,
    )


def _key(kind: bytes, number: int) -> bytes:
    return kind + number.to_bytes(8, "big")
