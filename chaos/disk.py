"""A disk that can be full: of one validator, while everything else goes on.

With the right to mount, its home lies on a small file system in memory, which a file fills to the last byte: writes
fail with ENOSPC. Without it, the process may make no file longer (RLIMIT_FSIZE), so every append fails with EFBIG: the
same place in the code, another errno. Either way the way back is the operator's: make room, start the node again.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """One validator's."""

    name: str
    """What kind it is, for the document."""

    def fill(self, pid: int) -> None:
        """No write succeeds any more; ``pid`` is the process that writes there."""

    def empty(self) -> None:
        """There is room again, for a process that is started from now on."""


class LimitedDisk:
    """Stands in for a full disk where mounting is not permitted."""

    name = "file size limit"

    def fill(self, pid: int) -> None:
        """See Disk."""
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def empty(self) -> None:
        """The limit went with the process."""


class SmallDisk:
    """A file system of its own.

    Args:
        root: where it is mounted.
    """

    name = "small file system"

    def __init__(self, root: Path) -> None:
        self._filler = root / "filler"

    def fill(self, pid: int) -> None:
        """See Disk: write until nothing more fits."""
        block = bytes(1 << 16)
        try:
            with self._filler.open("ab", buffering=0) as file:
                while True:
                    written = file.write(block)
                    if written < len(block):  # the last page that was free
                        block = bytes(1)
        except OSError:
            return

    def empty(self) -> None:
        """See Disk."""
        self._filler.unlink(missing_ok=True)
