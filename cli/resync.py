"""What ``node resync`` and ``replica resync`` do: stores are set aside, never deleted, and fetched anew."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from store.backup import set_aside
from store.home import Home, HomeKind, open_home

REBUILT: Final = ("blocks", "state", "index")
"""Stores that the other members' blocks fill again. ``sealed`` is not among them: nobody else may hold its content."""

PLACES_MAX: Final = 1000
"""Earlier set-asides that are kept beside each other."""


def resync_node(home: Path) -> list[Path]:
    """Set vote log, blocks, state and index aside; a marker makes the node ask what it signed before it votes.

    Raises:
        HomeMissing, HomeInUse, StoreFailed: see store.
    """
    found = open_home(home, HomeKind.NODE)
    votes = set_aside(found, "node resync")
    return ([votes] if votes is not None else []) + _set_stores_aside(found)


def resync_replica(home: Path) -> list[Path]:
    """Set blocks, state and index aside; errors as ``resync_node``."""
    return _set_stores_aside(open_home(home, HomeKind.REPLICA))


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
