"""A store's directory as it is, for reading: LevelDB and the vote log both write when they are opened.

LevelDB's tables are never changed once they are written, so links to them do; what it may change or remove on opening
(its log of recent writes, its manifest) is copied. The copy needs as much room as the newest writes: some 20 MB.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from store.files import DIRECTORY_MODE

_TABLES: Final = (".ldb", ".sst")
_LOCK: Final = "LOCK"  #: of LevelDB; the home's own lock keeps others out


def copy_for_reading(source: Path, target: Path) -> None:
    """Make ``target``, which may be opened, changed and deleted while ``source`` stays as it is.

    The caller holds the home's lock.

    Raises:
        OSError: as the file system.
    """
    target.mkdir(mode=DIRECTORY_MODE)
    for path in source.iterdir():
        if path.suffix in _TABLES:
            (target / path.name).symlink_to(path.resolve())
        elif path.is_file() and path.name != _LOCK:
            shutil.copyfile(path, target / path.name)
