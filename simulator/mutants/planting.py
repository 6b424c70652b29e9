"""Planting a fault: a function of the product replaced while a block runs, and put back.

The product has no switch for any of this: it knows nothing of mutants, and only who can import the simulator and the
product in one process can plant one. A mutant whose target was renamed or removed is refused, not passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

import msgspec

from simulator.plan import Plan

Patch = tuple[type | ModuleType, str, Callable[[Any], Any]]
"""(class or module, attribute, from the original function to the faulty one)."""

SEEDS_MORE: Final = 12


class Mutant(msgspec.Struct, frozen=True):
    """One rule taken out."""

    name: str
    rule: str
    """What says that the rule must hold: a rule of docs/consensus.md, or a page and its section."""
    patches: tuple[Patch, ...]
    seeds: tuple[int, ...]
    """Seeds that have to find it, tried in this order: the first did when it was added, and any change of the product
    changes what a seed brings about."""
    liars: tuple[str, ...] = ()
    """Which kinds of Byzantine nodes the plan chooses from; none: honest nodes alone find it."""
    script: Callable[[int], Plan] | None = None
    """The plan of a seed, where drawn plans seldom bring about what the rule is for (``simulator.mutants.scripts``)."""


def seeds(*first: int) -> tuple[int, ...]:
    """Those that found it, then others."""
    return tuple(dict.fromkeys((*first, *range(1, SEEDS_MORE + 1))))


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The product with one rule less."""
    replaced: list[tuple[type | ModuleType, str, Any]] = []
    try:
        for owner, attribute, make in mutant.patches:
            original = owner.__dict__[attribute]
            replaced.append((owner, attribute, original))
            setattr(owner, attribute, make(original))
        yield
    finally:
        for owner, attribute, original in reversed(replaced):
            setattr(owner, attribute, original)
