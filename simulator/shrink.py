"""The shortest plan that still fails in the same way: what a person reads, and what is kept as a regression.

Faults go by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE
Transactions on Software Engineering, 2002): halves first, then smaller parts, as long as the same oracle objects. Then
liars and changes of the set go, weather and load become ordinary where that changes nothing, and the time of the attack
is cut. Each node and link draws from randomness of its own, so that what is left goes on as before as far as it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from simulator.network import FAIR, Weather
from simulator.node import Pace
from simulator.plan import Fault, Load, Plan
from simulator.run import run_plan

RUNS_MAX = 150
EVENTS_MAX = 1_000_000
"""Of all these runs together: some two minutes of processor time on a busy machine. Counted in events, so that the same
failure always shrinks alike."""


class Shrinker:
    """Tries plans as long as its runs last.

    Args:
        fails: whether a plan fails in the way that is looked for.
    """

    def __init__(self, fails: Callable[[Plan], bool], runs_max: int = RUNS_MAX) -> None:
        self._fails = fails
        self.left = runs_max

    def shrink(self, plan: Plan) -> Plan:
        """A plan that fails, too, and of which no single part can go; or the best found when the runs are used up."""
        before = None
        while plan != before and self.left > 0:
            before = plan
            plan = self._faults(plan)
            for simpler in _simpler(plan):
                if self._still(simpler):
                    plan = simpler
            plan = self._horizon(plan)
        return plan

    def _still(self, plan: Plan) -> bool:
        if self.left <= 0:
            return False
        self.left -= 1
        return self._fails(plan)

    def _faults(self, plan: Plan) -> Plan:
        """ddmin over the faults."""
        parts = 2
        while plan.faults:
            size = -(-len(plan.faults) // parts)
            for kept in _without(plan.faults, size):
                smaller = msgspec.structs.replace(plan, faults=kept)
                if self._still(smaller):
                    plan, parts = smaller, max(2, parts - 1)
                    break
            else:
                if size == 1:
                    break
                parts = min(len(plan.faults), 2 * parts)
        return plan

    def _horizon(self, plan: Plan) -> Plan:
        """The shortest attack, to a tenth."""
        least = max((fault.at_ms for fault in plan.faults), default=0) + 1
        while least < plan.safety_ms * 9 // 10 and self.left > 0:
            shorter = msgspec.structs.replace(plan, safety_ms=(least + plan.safety_ms) // 2)
            if not self._still(shorter):
                break
            plan = shorter
        return plan


def _without(faults: Sequence[Fault], size: int) -> Iterator[tuple[Fault, ...]]:
    for at in range(0, len(faults), size):
        yield (*faults[:at], *faults[at + size :])


def _simpler(plan: Plan) -> Iterator[Plan]:
    """One thing less at a time."""
    for liar in plan.liars:
        yield msgspec.structs.replace(plan, liars=tuple(each for each in plan.liars if each is not liar))
    for change in plan.changes:
        yield msgspec.structs.replace(plan, changes=tuple(each for each in plan.changes if each is not change))
    if plan.later:
        yield msgspec.structs.replace(plan, later=())
    for name in Weather.__struct_fields__:
        if getattr(plan.weather, name) != getattr(FAIR, name):
            weather = msgspec.structs.replace(plan.weather, **{name: getattr(FAIR, name)})
            yield msgspec.structs.replace(plan, weather=weather)
    for name in Pace.__struct_fields__:
        if getattr(plan.pacing, name) != getattr(Pace(), name):
            pacing = msgspec.structs.replace(plan.pacing, **{name: getattr(Pace(), name)})
            yield msgspec.structs.replace(plan, pacing=pacing)
    calm = Load(every_ms=plan.load.every_ms, brief_permille=0, again_permille=0)
    if plan.load != calm:
        yield msgspec.structs.replace(plan, load=calm)


def shrink(plan: Plan, oracle: str, runs_max: int = RUNS_MAX, events_max: int = EVENTS_MAX) -> Plan:
    """The shortest plan found that makes the same oracle object, within so many runs and events."""
    events = 0

    def fails(candidate: Plan) -> bool:
        nonlocal events
        if events >= events_max:
            return False
        outcome = run_plan(candidate)
        events += outcome.events
        return outcome.failure is not None and outcome.failure.oracle == oracle

    return Shrinker(fails, runs_max).shrink(plan)
