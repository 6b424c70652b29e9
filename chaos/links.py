"""Directed links between the machines of a network, and what faults make of them. Pure.

Endpoints are the validators' organisations and ``CLIENTS``, all clients together. A fabric (``proxy``, ``ethernet``)
carries bytes according to the conditions that hold at the moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

CLIENTS: Final = "clients"

Link = tuple[str, str]
"""(from, to)."""


class Condition(msgspec.Struct, frozen=True):
    """How one directed link is."""

    cut: bool = False
    """Nothing gets through."""
    loss: float = 0.0
    """Share of packets lost."""
    delay_ms: int = 0
    """Added to each packet's way."""

    def with_(self, other: Condition) -> Condition:
        """Both at a time."""
        return Condition(self.cut or other.cut, 1 - (1 - self.loss) * (1 - other.loss), self.delay_ms + other.delay_ms)


GOOD: Final = Condition()


class Bad(msgspec.Struct, frozen=True):
    """A condition on some links: those from any of ``sources`` to any of ``targets``."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    condition: Condition


def conditions(endpoints: Sequence[str], bad: Iterable[Bad]) -> Mapping[Link, Condition]:
    """The condition of every link that is not good."""
    found: dict[Link, Condition] = {}
    known = set(endpoints)
    for each in bad:
        for source in known.intersection(each.sources):
            for target in known.intersection(each.targets) - {source}:
                found[source, target] = found.get((source, target), GOOD).with_(each.condition)
    return found


def partition(*groups: Sequence[str]) -> tuple[Bad, ...]:
    """No group hears another."""
    cut = Condition(cut=True)
    return tuple(Bad(tuple(group), tuple(other), cut) for group in groups for other in groups if group is not other)


def everywhere(endpoints: Sequence[str], condition: Condition) -> tuple[Bad, ...]:
    """On all links alike."""
    return (Bad(tuple(endpoints), tuple(endpoints), condition),)
