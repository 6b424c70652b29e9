"""The gate: every planted fault is found by its seeds, and the same seeds find nothing in the product as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from simulator.mutants import consensus_rules, ledger_rules, membership_rules
from simulator.mutants.planting import Mutant, planted
from simulator.plan import Plan, draw
from simulator.run import Outcome, run_plan

VALIDATORS: Final = 4
MUTANTS: tuple[Mutant, ...] = consensus_rules.MUTANTS + ledger_rules.MUTANTS + membership_rules.MUTANTS


class UnknownMutant(Exception):
    """There is no mutant of this name.

    Attributes:
        name: as it was given.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no mutant {name!r}: `lossbook sim mutants --list` names them")
        self.name = name


class Verdict(msgspec.Struct, frozen=True):
    """What became of one mutant; names as in the command's JSON."""

    name: str
    rule: str
    killed: bool
    seed: int | None = None
    """The one that found it."""
    validators: int | None = None
    oracle: str | None = None
    text: str | None = None
    events: int = 0
    """Until it was found, over all its seeds."""


class HonestFailure(msgspec.Struct, frozen=True):
    """A seed of a mutant that fails without the mutant."""

    name: str
    seed: int
    validators: int
    oracle: str
    text: str


def plans(mutant: Mutant) -> Iterator[Plan]:
    """What its seeds draw, or its script says."""
    for seed in mutant.seeds:
        yield mutant.script(seed) if mutant.script is not None else draw(seed, VALIDATORS, mutant.liars)


def named(names: Iterable[str]) -> list[Mutant]:
    """The mutants of these names, all if there are none.

    Raises:
        UnknownMutant: one of them does not exist.
    """
    known = {mutant.name: mutant for mutant in MUTANTS}
    for name in names:
        if name not in known:
            raise UnknownMutant(name)
    return [known[name] for name in names] or list(MUTANTS)


def hunt(mutant: Mutant) -> Verdict:
    """Plant it, and run its seeds until one finds it."""
    events = 0
    for plan in plans(mutant):
        with planted(mutant):
            outcome = run_plan(plan)
        events += outcome.events
        if outcome.failure is not None:
            found = outcome.failure
            return Verdict(mutant.name, mutant.rule, True, plan.seed, plan.n, found.oracle, found.text, events)
    return Verdict(mutant.name, mutant.rule, False, events=events)


def honest(mutant: Mutant, verdict: Verdict) -> list[HonestFailure]:
    """The seeds that were needed, on the product as it is."""
    needed = mutant.seeds.index(verdict.seed) + 1 if verdict.seed is not None else len(mutant.seeds)
    outcomes: list[Outcome] = [run_plan(plan) for plan in islice(plans(mutant), needed)]
    return [
        HonestFailure(mutant.name, each.plan.seed, each.plan.n, each.failure.oracle, each.failure.text)
        for each in outcomes
        if each.failure is not None
    ]
