"""What ``node resync`` does: what is damaged is set aside, never deleted, and made anew.

Votes and blocks are judged apart. A vote log that is whole stays: it is the one thing that nobody else can give back,
and a node that lost it signs nothing until views have passed; were more than f nodes to lose theirs at once, the
network would stand still. A damaged one goes, and the marker makes the node ask what it signed before it votes.
Blocks and state stay where only the log is damaged; where the log is whole, they are what the operator is here for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ledger.ports import StoreError
from store.backup import set_aside
from store.blocks import LevelBlockStore
from store.errors import VoteLogDamaged, VoteLogMissing
from store.home import Home, HomeKind, open_home
from store.state import LevelStateStore
from store.votelog import VoteLog

REBUILT: Final = ("blocks", "state", "index")
"""Stores that the other members' blocks fill again. ``sealed`` is not among them: nobody else may hold its content."""

PLACES_MAX: Final = 1000
"""Earlier set-asides that are kept beside each other."""


def resync_node(home: Path) -> list[Path]:
    """Set the vote log aside if it is damaged; blocks, state and index if they are, or if the log is whole.

    Returns:
        Where lies now what was set aside.

    Raises:
        HomeMissing, HomeInUse, WrongOwner, WrongNetwork, StoreFailed: see store.
    """
    found = open_home(home, HomeKind.NODE)
    with found.lock():
        votes_whole, stores_open = _votes_are_whole(found), _stores_open(found)
    kept: list[Path] = []
    if not votes_whole:
        votes = set_aside(found, "node resync")
        kept += [votes] if votes is not None else []
    if votes_whole or not stores_open:
        kept += _set_stores_aside(found)
    return kept


def _votes_are_whole(home: Home) -> bool:
    try:
        VoteLog.open(home.votes, home.chain_id, home.organisation).close()
    except (VoteLogDamaged, VoteLogMissing):
        return False
    return True


def _stores_open(home: Home) -> bool:
    """Whether blocks and state open; damage deeper inside shows when it is read, and then the vote log is whole."""
    try:
        LevelBlockStore(home.blocks, home.chain_id).close()
        LevelStateStore(home.state).close()
    except StoreError:
        return False
    return True


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
