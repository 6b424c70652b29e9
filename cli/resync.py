"""What ``node resync`` does: what is damaged is set aside, never deleted, and made anew.

A damaged vote log alone costs the votes only: blocks and state stay, and the marker makes the node ask what it signed
before it votes. Where the log is good the stores are the trouble: then everything goes, the votes too, because a log
speaks of blocks that would no longer be there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ledger.ports import StoreError
from store.backup import set_aside
from store.errors import VoteLogDamaged, VoteLogMissing
from store.home import Home, HomeKind, open_all, open_home

REBUILT: Final = ("blocks", "state", "index")
"""Stores that the other members' blocks fill again. ``sealed`` is not among them: nobody else may hold its content."""

PLACES_MAX: Final = 1000
"""Earlier set-asides that are kept beside each other."""


def resync_node(home: Path) -> list[Path]:
    """Set the vote log aside, and blocks, state and index unless only the log is damaged; a marker makes the node ask
    what it signed before it votes.

    Raises:
        HomeMissing, HomeInUse, StoreFailed: see store.
    """
    found = open_home(home, HomeKind.NODE)
    votes_only = _only_votes_are_damaged(found)
    votes = set_aside(found, "node resync")
    kept = [votes] if votes is not None else []
    return kept if votes_only else kept + _set_stores_aside(found)


def _only_votes_are_damaged(home: Home) -> bool:
    try:
        open_all(home).close()
    except (VoteLogDamaged, VoteLogMissing):
        return True  # it is opened last: blocks and state open
    except StoreError:
        return False
    return False


def _set_stores_aside(home: Home) -> list[Path]:
    kept: list[Path] = []
    with home.lock():
        number = next(at for at in range(1, PLACES_MAX) if not any(_aside(home, name, at).exists() for name in REBUILT))
        for name in REBUILT:
            store = home.path / name
            if store.exists() and any(store.iterdir()):
                store.rename(_aside(home, name, number))
                kept.append(_aside(home, name, number))
            store.mkdir(mode=0o700, exist_ok=True)
    return kept


def _aside(home: Home, name: str, number: int) -> Path:
    return home.path / f"{name}.aside-{number}"
