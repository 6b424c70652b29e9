"""A file system in memory that forgets what was not synced, and fails on demand: for the simulator and the tests.

It keeps two versions of everything: what programs see, and what the disk holds. ``crash`` throws the first away and
leaves what a power cut may leave:

* of a file's unsynced writes a random subset of sectors, the last of them perhaps cut at any byte (the power fails
  once, so no other sector is torn); a length that was extended may have arrived without the bytes (they read as zero);
* of a directory's unsynced names a random prefix (file systems journal names in order).

Faults are planted by ``fail_at`` (an error at the n-th operation), ``crash_at`` (``SimulatedCrash`` before the n-th)
and ``capacity_bytes`` (disk full; a part of the write may have gone in).
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECTOR_BYTES = 512


class SimulatedCrash(BaseException):
    """The machine stops here; not an Exception, so that no handler of the product lives through it."""


@dataclass(slots=True)
class _Write:
    """An unsynced change: bytes at an offset, or (``data`` None) a new length."""

    offset: int
    data: bytes | None


@dataclass(slots=True)
class _Inode:
    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[_Write] = field(default_factory=list)


@dataclass(slots=True)
class _Directory:
    seen: dict[str, _Inode | None] = field(default_factory=dict)  #: None is a directory
    durable: dict[str, _Inode | None] = field(default_factory=dict)
    unsynced: list[tuple[str, str, _Inode | None]] = field(default_factory=list)  #: (operation, name, what)


class FaultyFiles:
    """``Files`` in memory. Pure: randomness comes from the ``Random`` given to ``crash``."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.operations = 0  #: changing operations so far; the n of ``crash_at`` and ``fail_at``
        self.counts: Counter[str] = Counter()  #: by name of the operation
        self._directories: dict[Path, _Directory] = {}
        self._crash_at: int | None = None
        self._fail_at: dict[int, int] = {}
        self._generation = 0

    # -- faults ----------------------------------------------------------------------------

    def crash_at(self, operation: int | None) -> None:
        """Raise ``SimulatedCrash`` instead of the operation with this number."""
        self._crash_at = operation

    def fail_at(self, operation: int, number: int) -> None:
        """Let the operation with this number fail with errno ``number``."""
        self._fail_at[operation] = number

    def mend(self) -> None:
        """Room again, and nothing planned any more."""
        self.capacity_bytes = self._crash_at = None
        self._fail_at.clear()

    def crash(self, random: Random) -> None:
        """Cut the power: open files are gone, and only what the disk got is left."""
        self._generation += 1
        self._crash_at = None
        self._fail_at.clear()
        for directory in list(self._directories.values()):
            kept = random.randint(0, len(directory.unsynced))
            for change in directory.unsynced[:kept]:
                _apply_name(directory.durable, change)
            directory.unsynced.clear()
            directory.seen = dict(directory.durable)
            for inode in directory.seen.values():
                if inode is not None:
                    _lose(inode, random)
        self._forget_unreachable()

    # -- Files -----------------------------------------------------------------------------

    def is_directory(self, path: Path) -> bool:
        """See ``store.files``."""
        return path in self._directories

    def names(self, directory: Path) -> list[str]:
        """See ``store.files``."""
        return sorted(self._directory(directory).seen)

    def make_directory(self, path: Path) -> None:
        """A parent that was never made counts as a root that lasts."""
        self._step("make_directory")
        parent = self._directories.setdefault(path.parent, _Directory())
        if path in self._directories:
            raise _error(errno.EEXIST, path)
        self._directories[path] = _Directory()
        self._change(parent, ("put", path.name, None))

    def read(self, path: Path) -> bytes:
        """See ``store.files``."""
        return bytes(self._inode(path).seen)

    def open(self, path: Path, *, create: bool = False) -> FaultyFile:
        """See ``store.files``."""
        directory = self._directory(path.parent)
        if create:
            self._step("create")
            if path.name in directory.seen:
                raise _error(errno.EEXIST, path)
            self._change(directory, ("put", path.name, _Inode()))
        return FaultyFile(self, self._inode(path), self._generation)

    def rename(self, old: Path, new: Path) -> None:
        """See ``store.files``; of files within one directory."""
        self._step("rename")
        inode = self._inode(old)
        if old.parent != new.parent:
            raise _error(errno.EXDEV, new)
        directory = self._directory(old.parent)
        directory.unsynced.append(("rename", f"{old.name}/{new.name}", inode))
        _apply_name(directory.seen, directory.unsynced[-1])

    def remove(self, path: Path) -> None:
        """See ``store.files``."""
        self._step("remove")
        self._inode(path)
        self._change(self._directory(path.parent), ("remove", path.name, None))

    def sync_directory(self, path: Path) -> None:
        """See ``store.files``."""
        self._step("sync_directory")
        directory = self._directory(path)
        directory.durable = dict(directory.seen)
        directory.unsynced.clear()

    # -- for tests -------------------------------------------------------------------------

    def flip(self, path: Path, offset: int, mask: int = 1) -> None:
        """Damage one byte behind everybody's back, on disk and in memory."""
        inode = self._inode(path)
        for contents in (inode.seen, inode.durable):
            if offset < len(contents):
                contents[offset] ^= mask

    def used_bytes(self) -> int:
        """Length of all files together."""
        inodes = [inode for d in self._directories.values() for inode in d.seen.values() if inode is not None]
        return sum(len(inode.seen) for inode in inodes)

    # -- inside ----------------------------------------------------------------------------

    def step(self, name: str, generation: int) -> None:
        """Count an operation on an open file, and fail where that was asked for."""
        if generation != self._generation:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._step(name)

    def room(self) -> int | None:
        """Bytes that still fit; None without a limit."""
        return None if self.capacity_bytes is None else max(0, self.capacity_bytes - self.used_bytes())

    def _step(self, name: str) -> None:
        self.operations += 1
        self.counts[name] += 1
        if self.operations == self._crash_at:
            raise SimulatedCrash
        number = self._fail_at.pop(self.operations, None)
        if number is not None:
            raise OSError(number, os.strerror(number))

    def _change(self, directory: _Directory, change: tuple[str, str, _Inode | None]) -> None:
        directory.unsynced.append(change)
        _apply_name(directory.seen, change)

    def _directory(self, path: Path) -> _Directory:
        if path not in self._directories:
            raise _error(errno.ENOENT, path)
        return self._directories[path]

    def _inode(self, path: Path) -> _Inode:
        inode = self._directory(path.parent).seen.get(path.name)
        if inode is None:
            raise _error(errno.ENOENT, path)
        return inode

    def _forget_unreachable(self) -> None:
        for path in sorted(self._directories):
            parent = self._directories.get(path.parent)
            if parent is not None and path.name not in parent.seen:
                del self._directories[path]


class FaultyFile:
    """``OpenFile`` of a ``FaultyFiles``."""

    def __init__(self, files: FaultyFiles, inode: _Inode, generation: int) -> None:
        self._files = files
        self._inode = inode
        self._generation = generation

    def write_at(self, offset: int, data: bytes) -> None:
        """See ``store.files``; on a full disk what fits goes in before the error."""
        self._files.step("write_at", self._generation)
        growth = max(0, offset + len(data) - len(self._inode.seen))
        room = self._files.room()
        if room is not None and growth > room:
            fitting = data[: len(data) - (growth - room)]
            self._apply(_Write(offset, fitting))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._apply(_Write(offset, data))

    def truncate(self, size: int) -> None:
        """See ``store.files``."""
        self._files.step("truncate", self._generation)
        self._apply(_Write(size, None))

    def datasync(self) -> None:
        """See ``store.files``; a failed one forgets what was to be written, as Linux does: the next will succeed."""
        try:
            self._files.step("datasync", self._generation)
        except OSError:
            self._inode.unsynced.clear()
            raise
        for write in self._inode.unsynced:
            _apply_write(self._inode.durable, write)
        self._inode.unsynced.clear()

    def close(self) -> None:
        """See ``store.files``."""

    def _apply(self, write: _Write) -> None:
        self._inode.unsynced.append(write)
        _apply_write(self._inode.seen, write)


def _apply_name(names: dict[str, _Inode | None], change: tuple[str, str, _Inode | None]) -> None:
    operation, name, what = change
    if operation == "put":
        names[name] = what
    elif operation == "remove":
        names.pop(name, None)
    else:
        old, new = name.split("/")
        names.pop(old, None)
        names[new] = what


def _apply_write(contents: bytearray, write: _Write) -> None:
    if write.data is None:
        del contents[write.offset :]
        contents.extend(bytes(write.offset - len(contents)))
        return
    if len(contents) < write.offset:
        contents.extend(bytes(write.offset - len(contents)))
    contents[write.offset : write.offset + len(write.data)] = write.data


def _lose(inode: _Inode, random: Random) -> None:
    """Let a random part of the unsynced writes reach the disk, by sectors.

    The power fails once: one sector at most is torn, the last that was being written.
    """
    survivors: list[_Write] = []
    for write in inode.unsynced:
        pieces = [write] if write.data is None else list(_sectors(write))
        survivors += [piece for piece in pieces if random.random() < 0.5]
        if write.data is not None and random.random() < 0.3:  # the length arrived, the bytes did not
            survivors.append(_Write(write.offset + len(write.data), b""))
    if survivors and survivors[-1].data and random.random() < 0.5:
        offset, data = survivors[-1].offset, survivors[-1].data
        survivors[-1] = _Write(offset, data[: random.randint(0, len(data))])
    for piece in survivors:
        _apply_write(inode.durable, piece)
    inode.unsynced.clear()
    inode.seen = bytearray(inode.durable)


def _sectors(write: _Write) -> list[_Write]:
    data = write.data or b""
    pieces: list[_Write] = []
    at = 0
    while at < len(data):
        step = SECTOR_BYTES - (write.offset + at) % SECTOR_BYTES
        pieces.append(_Write(write.offset + at, data[at : at + step]))
        at += step
    return pieces


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
