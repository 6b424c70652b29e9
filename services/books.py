"""The books that a home of a rebuilt network begins with.

``init`` verifies an archive against the old genesis and puts both into the home, beside the state it came to; where the
stores are emptied later (``resync``), the next start makes them anew from there.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.cards import GenesisError
from ledger.checkpoints import Checkpoint
from ledger.contract import Contracts
from ledger.genesis import Genesis, load_genesis
from services.archive_file import ArchiveFile
from services.archive_reading import take_over
from services.logs import get_logger
from store.errors import fail
from store.files import DIRECTORY_MODE, OsFiles
from store.home import Home, copy_durably

ARCHIVE_NAME: Final = "books.archive"
GENESIS_NAME: Final = "genesis.json"
STORES: Final = ("state", "blocks")

_log = get_logger("books")


class BooksIncomplete(GenesisError):
    """An archive was given without the genesis it is verified against, or the other way round."""


@dataclass(frozen=True, slots=True)
class Books:
    """What the network before left: an archive, and the genesis file it is verified against."""

    archive: Path
    old_genesis: Path
    checkpoint: Checkpoint | None = None
    """Of the network before, accepted by who reads the books; None for those in a home, which were read before."""

    @classmethod
    def of_home(cls, home: Home) -> Books:
        """Those that lie in a home."""
        return cls(home.predecessor / ARCHIVE_NAME, home.predecessor / GENESIS_NAME)

    @classmethod
    def given(cls, archive: Path | None, old_genesis: Path | None) -> Books | None:
        """From the options of a command.

        Raises:
            BooksIncomplete: one without the other.
        """
        if archive is None and old_genesis is None:
            return None
        if archive is None or old_genesis is None:
            raise BooksIncomplete(
                "an archive is verified against the genesis of its own network",
                "Give both: the archive, and that genesis with --old-genesis FILE.",
            )
        return cls(archive, old_genesis)

    def make_stores(self, genesis: Genesis, target: Path, contracts: Contracts) -> None:
        """Verify everything, and make the stores that a home of this genesis begins with in ``target``, which is made.

        Raises:
            GenesisError: archive, old genesis and genesis do not belong together, or one of them is wrong.
            StoreError, OSError: the disk refuses.
        """
        before = genesis.predecessor
        old_genesis = load_genesis(self.old_genesis.read_bytes(), None if before is None else before.chain_id)
        archive = ArchiveFile(self.archive)
        target.mkdir(mode=DIRECTORY_MODE)
        take_over(archive, old_genesis, genesis, target, contracts, checkpoint=self.checkpoint)

    def keep(self, home: Home) -> None:
        """Copy both into the home, durably: stores that are emptied later are filled from them.

        Raises:
            OSError: as the file system.
        """
        home.predecessor.mkdir(mode=DIRECTORY_MODE)
        kept = Books.of_home(home)
        for source, target in ((self.archive, kept.archive), (self.old_genesis, kept.old_genesis)):
            copy_durably(source, target)


def move_stores(source: Path, home: Home) -> None:
    """Put stores in the place of a home's empty ones; the state last, so that a crash before it leaves that empty.

    Raises:
        OSError: as the file system.
    """
    for name in reversed(STORES):
        place = home.path / name
        if not any(place.iterdir()):
            (source / name).rename(place)  # over the empty one: at no moment is there none
    OsFiles().sync_directory(home.path)


def ensure_books(home: Home, genesis: Genesis, contracts: Contracts) -> None:
    """Before the stores are opened: make them from the archive in the home, where it has one and they are empty.

    Raises:
        GenesisError: what lies in the home does not belong together.
        StoreError: the disk refuses.
    """
    books = Books.of_home(home)
    if genesis.predecessor is None or not books.archive.exists() or any(home.state.iterdir()):
        return
    _log.info("the state is made anew from the books of the network before", archive=str(books.archive))
    room = home.path / f".books.new-{os.getpid()}"
    try:
        with home.lock():
            shutil.rmtree(room, ignore_errors=True)
            books.make_stores(genesis, room, contracts)
            move_stores(room, home)
    except OSError as error:
        fail(error, "fill", home.path)
    finally:
        shutil.rmtree(room, ignore_errors=True)
