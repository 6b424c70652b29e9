"""A disk that can be full: of one validator, while everything else goes on.

With the right to mount, its home lies on a small file system in memory, which is made no larger than what lies on it:
writes fail with ENOSPC. Without it, the process may make no file longer (RLIMIT_FSIZE), so every append fails with
EFBIG: the same place in the code, another errno. Either way the way back is the operator's: make room, start the node
again.
"""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from typing import Final, Protocol

from chaos import kernel

ROOM_BYTES: Final = 4 << 30
"""While it is not to be full; memory is taken as it is written."""
TRIES: Final = 100
"""The daemon writes on while its disk shrinks."""


class Disk(Protocol):
    """One validator's."""

    name: str
    """What kind it is, for the document."""

    def fill(self, pid: int) -> None:
        """No write succeeds any more; ``pid`` is the process that writes there."""

    def empty(self) -> None:
        """There is room again, for a process that is started from now on."""

    def close(self) -> None:
        """Leave what lies on it where it is, on the ordinary disk."""


class LimitedDisk:
    """Stands in for a full disk where mounting is not permitted."""

    name = "file size limit"

    def fill(self, pid: int) -> None:
        """See Disk."""
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def empty(self) -> None:
        """The limit went with the process."""

    def close(self) -> None:
        """Nothing was moved."""


class SmallDisk:
    """A file system of its own, mounted over a folder whose content moves onto it.

    Raises:
        OSError: mounting is not permitted here.
    """

    name = "small file system"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        aside = self._aside()
        folder.rename(aside)
        folder.mkdir(mode=0o700)
        kernel.mount_memory(folder, ROOM_BYTES)
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        shutil.rmtree(aside)

    def fill(self, pid: int) -> None:
        """See Disk."""
        for _ in range(TRIES):
            known = os.statvfs(self._folder)
            try:
                kernel.resize_memory(self._folder, (known.f_blocks - known.f_bfree) * known.f_frsize)
            except OSError:
                continue  # it grew meanwhile
            return

    def empty(self) -> None:
        """See Disk."""
        kernel.resize_memory(self._folder, ROOM_BYTES)

    def close(self) -> None:
        """See Disk."""
        aside = self._aside()
        shutil.copytree(self._folder, aside)
        kernel.unmount(self._folder)
        self._folder.rmdir()
        aside.rename(self._folder)

    def _aside(self) -> Path:
        return self._folder.with_name(f"{self._folder.name}.aside")
