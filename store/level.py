"""plyvel with this project's settings and errors: checksums on, no compression, no second try after a failed write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

import plyvel

from store.errors import CorruptBlocks, FailureKind, StoreError, StoreFailed, StoreInUse, fail
from store.files import DIRECTORY_MODE

P = ParamSpec("P")
T = TypeVar("T")
DATA_FILES = (".ldb", ".sst", ".log")
BLOOM_BITS = 10  #: one miss in a hundred reads the disk


class Level:
    """One LevelDB directory; keys and values are bytes."""

    def __init__(self, path: Path, write_buffer_bytes: int, cache_bytes: int) -> None:
        """Open or create, for the owner only.

        Raises:
            StoreInUse, CorruptBlocks, StoreFailed.
        """
        require_current(path)
        try:
            path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            fail(error, "create", path)
        self.path = path
        self._poisoned = False
        self._db = self._guarded(
            plyvel.DB,
            str(path),
            create_if_missing=True,
            paranoid_checks=True,
            compression=None,
            write_buffer_size=write_buffer_bytes,
            max_file_size=write_buffer_bytes,
            lru_cache_size=cache_bytes,
            bloom_filter_bits=BLOOM_BITS,
        )

    def get(self, key: bytes, *, cache: bool = True) -> bytes | None:
        """The value, its checksum verified."""
        value: bytes | None = self._guarded(self._db.get, key, verify_checksums=True, fill_cache=cache)
        return value

    def rows(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Rows start <= key < stop; large scans do not wash out the cache."""
        with self._db.iterator(
            start=start, stop=stop, reverse=reverse, verify_checksums=True, fill_cache=False
        ) as iterator:
            while (row := self._guarded(next, iterator, None)) is not None:
                yield row

    def write(self, rows: Mapping[bytes, bytes | None], *, sync: bool) -> None:
        """All rows at once; None deletes. After a failure nothing more is written: the log may end in half a record."""
        self.require_writable()
        batch = self._db.write_batch(sync=sync)
        for key, value in rows.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._guarded(batch.write)
        except StoreError:
            self._poisoned = True
            raise

    def require_writable(self) -> None:
        """Raise StoreFailed if an earlier write failed."""
        if self._poisoned:
            raise StoreFailed(FailureKind.POISONED, "write", self.path)

    def close(self) -> None:
        """Release the directory."""
        self._db.close()

    def _guarded(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except plyvel.Error as error:
            raise _translated(self.path, error) from error


def require_current(path: Path) -> None:
    """LevelDB takes a directory without its file CURRENT for a new one, and deletes what lies there.

    Raises:
        CorruptBlocks: there is data, and no CURRENT. (A creation that was interrupted has no data yet.)
    """
    if not (path / "CURRENT").exists() and any(file.suffix in DATA_FILES for file in path.glob("*")):
        raise CorruptBlocks(path, "the file CURRENT is missing")


def _words(error: Exception) -> str:
    """plyvel hands LevelDB's text over as bytes."""
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(error)


def _translated(path: Path, error: Exception) -> StoreError:
    text = _words(error)
    if isinstance(error, plyvel.CorruptionError) or "Corruption" in text:
        return CorruptBlocks(path, text)
    if "error: lock " in text:  # LevelDB's words; "lock" alone is also in "blocks"
        return StoreInUse(str(path))
    if "No space left" in text or "too large" in text:
        return StoreFailed(FailureKind.DISK_FULL, "write", path, text)
    if "Input/output error" in text:
        return StoreFailed(FailureKind.INPUT_OUTPUT, "write", path, text)
    return StoreFailed(FailureKind.OTHER, "access", path, text)
