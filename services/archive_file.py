"""The file of an archive: frames one after another, a digest of all of them at the end.

    "lossbook archive 1\\n"
    frame      kind u8 | length u32 | content; integers big-endian
               1 head (ArchiveHead), then 2 chunk (GetSnapshotChunksResponse) ..., then 3 block (Block) ...
    the end    kind 0 | length 32 | SHA-256 of every byte before this frame

The digest finds a copy that was cut off or damaged before anything is made of it. That the contents are true is proved
by themselves (``ledger.archive``).
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from ledger.archive import ArchiveError

MAGIC: Final = b"lossbook archive 1\n"
FRAME_BYTES_MAX: Final = 128 << 20
"""A block at the largest limits a network may have, with room for what stands around its batches."""
_FRAME: Final = struct.Struct(">BI")


class Frame(enum.IntEnum):
    """Kinds of frames."""

    END = 0
    HEAD = 1
    CHUNK = 2
    BLOCK = 3


class ArchiveWriter:
    """Writes frames to a new file; ``finish`` makes it whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._put(MAGIC)

    def write(self, kind: Frame, content: bytes) -> None:
        """The next frame."""
        self._put(_FRAME.pack(kind, len(content)) + content)

    def finish(self) -> bytes:
        """The end; the digest of the archive."""
        digest = self._digest.digest()
        self._put(_FRAME.pack(Frame.END, len(digest)) + digest)
        return digest

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


class ArchiveFile:
    """An archive that is whole; its frames, as often as they are asked for."""

    def __init__(self, path: Path) -> None:
        """Read it once and compare its digest.

        Raises:
            ArchiveError: it is no archive, or not all of one.
            OSError: as the file system.
        """
        self._path = path
        for _ in self.frames():
            pass

    def frames(self) -> Iterator[tuple[Frame, bytes]]:
        """Kind and content of every frame but the last; ArchiveError where the file is not what was written."""
        with _Reading(self._path) as reading:
            if reading.take(len(MAGIC)) != MAGIC:
                raise ArchiveError("file", f"{self._path} is no archive of this version")
            while True:
                before = reading.digest()
                kind, length = _FRAME.unpack(reading.take(_FRAME.size))
                if length > FRAME_BYTES_MAX or kind not in list(Frame):
                    raise ArchiveError("file", f"{self._path} holds a frame of kind {kind} and {length} bytes")
                content = reading.take(length)
                if kind == Frame.END:
                    if content != before or not reading.at_end():
                        raise ArchiveError("file", f"{self._path} is damaged: its digest is another one")
                    return
                yield Frame(kind), content


class _Reading:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def take(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise ArchiveError("file", f"{self._path} ends too early: it was cut off")
        self._digest.update(data)
        return data

    def digest(self) -> bytes:
        return self._digest.digest()

    def at_end(self) -> bool:
        return not self._file.read(1)
