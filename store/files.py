"""The few file-system operations the vote log needs, so that a simulator can fail each of them.

Left out on purpose: reading in parts (a log is read once, at start, and is bounded), appending without an offset (the
log knows where it writes), and locks (the home directory has one).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

FILE_MODE = 0o600  #: a log shows how an insurer votes before others may know
DIRECTORY_MODE = 0o700


class OpenFile(Protocol):
    """A file open for writing. Every method raises OSError."""

    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of ``data`` at ``offset`` (bytes); on an error a part of it may be there."""

    def truncate(self, size: int) -> None:
        """Cut or extend the file to ``size`` bytes."""

    def datasync(self) -> None:
        """Return once contents and length are on stable storage."""

    def close(self) -> None:
        """Give the file back; nothing is synced by it."""


class Files(Protocol):
    """A file system. Every method raises OSError."""

    def is_directory(self, path: Path) -> bool:
        """Whether there is a directory of this name."""

    def names(self, directory: Path) -> list[str]:
        """Names in a directory, sorted."""

    def make_directory(self, path: Path) -> None:
        """Make one directory; its parent must be there."""

    def read(self, path: Path) -> bytes:
        """The whole file."""

    def open(self, path: Path, *, create: bool = False) -> OpenFile:
        """Open for writing; with ``create`` the file must be new."""

    def rename(self, old: Path, new: Path) -> None:
        """Atomically; durable after ``sync_directory``."""

    def remove(self, path: Path) -> None:
        """Remove a file; durable after ``sync_directory``."""

    def sync_directory(self, path: Path) -> None:
        """Return once names made, renamed and removed in ``path`` are on stable storage."""


class OsFile:
    """``OpenFile`` on a descriptor of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write_at(self, offset: int, data: bytes) -> None:
        """Repeat short writes: a signal or a nearly full disk causes them."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view = view[written:]
            offset += written

    def truncate(self, size: int) -> None:
        """See ``OpenFile``."""
        os.ftruncate(self._descriptor, size)

    def datasync(self) -> None:
        """``fdatasync``: it also writes the length where that changed (POSIX), but no times."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """See ``OpenFile``; twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class OsFiles:
    """``Files`` of the operating system."""

    def is_directory(self, path: Path) -> bool:
        """See ``Files``."""
        return path.is_dir()

    def names(self, directory: Path) -> list[str]:
        """See ``Files``."""
        return sorted(os.listdir(directory))  # noqa: PTH208 - names, not paths

    def make_directory(self, path: Path) -> None:
        """Readable by the owner only."""
        path.mkdir(mode=DIRECTORY_MODE)

    def read(self, path: Path) -> bytes:
        """See ``Files``."""
        return path.read_bytes()

    def open(self, path: Path, *, create: bool = False) -> OsFile:
        """Readable by the owner only."""
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return OsFile(os.open(path, flags, FILE_MODE))

    def rename(self, old: Path, new: Path) -> None:
        """See ``Files``."""
        old.rename(new)

    def remove(self, path: Path) -> None:
        """See ``Files``."""
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        """See ``Files``."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
