"""``replica resync``: sets the stores of a stopped replica aside, so that it follows again from the genesis.

For stores that are damaged, or after a divergence that turned out to be this replica's own fault. Nothing is deleted:
what was set aside stays for inquiry. Settings, keys and genesis stay where they are, and so does the word about
distrusted sources only if the index can still be read; otherwise a liar is found out again at its first lie.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ledger.genesis import WrongNetwork
from replica.index import Index
from replica.sources import Distrust
from store.errors import StoreError, fail
from store.files import DIRECTORY_MODE, OsFiles
from store.home import Home, HomeKind, open_home, write_durably

STORES: Final = ("blocks", "state", "index")
REASON_NAME: Final = "REASON"


def resync(path: Path, reason: str) -> Path:
    """Set the stores aside; where they lie now.

    Args:
        path: home of the replica; it must not run.
        reason: why, for whoever looks at what was set aside.

    Raises:
        HomeMissing: no replica's home.
        HomeInUse: the replica runs.
        StoreFailed: the file system refused; running it again finishes the work.
    """
    home = open_home(path, HomeKind.REPLICA)
    with home.lock():
        kept = _free_name(home)
        distrusted = _distrusted(home)
        try:
            kept.mkdir(mode=DIRECTORY_MODE)
            write_durably(kept / REASON_NAME, reason.encode() + b"\n")
            for name in STORES:
                if (home.path / name).exists():
                    (home.path / name).rename(kept / name)
                (home.path / name).mkdir(mode=DIRECTORY_MODE)
            OsFiles().sync_directory(home.path)
        except OSError as error:
            fail(error, "set aside", home.path)
        if distrusted:
            index = Index(home.index, home.chain_id)
            for record in distrusted:
                index.distrust(record)
            index.close()
    return kept


def _distrusted(home: Home) -> list[Distrust]:
    try:
        index = Index(home.index, home.chain_id)
    except (StoreError, WrongNetwork):
        return []
    try:
        return list(index.distrusted())
    except StoreError:
        return []
    finally:
        index.close()


def _free_name(home: Home) -> Path:
    number = 1
    while (name := home.path / f"stores.set-aside-{number}").exists():
        number += 1
    return name
