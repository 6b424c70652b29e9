"""Shrinking leaves what a failure needs, and nothing else."""

from __future__ import annotations

import msgspec
import pytest

import simulator.shrink
from simulator.network import FAIR, Weather
from simulator.node import Pace
from simulator.plan import Fault, Load, Plan
from simulator.run import Failure, Outcome
from simulator.shrink import Shrinker, shrink

FAULTS = tuple(Fault(at_ms=at * 100, kind=kind, node=at % 4) for at, kind in enumerate(("crash", "cut", "jump") * 5))
PLAN = Plan(
    seed=1,
    n=4,
    safety_ms=5_000,
    weather=Weather(drop_permille=100, split=True),
    load=Load(),
    pacing=Pace(sync_ms=4),
    liars=(),
    faults=FAULTS,
)


def test_only_the_faults_that_matter_are_left() -> None:
    needed = {FAULTS[3], FAULTS[11]}

    def fails(plan: Plan) -> bool:
        return needed <= set(plan.faults) and plan.weather.split

    shrunk = Shrinker(fails).shrink(PLAN)
    assert set(shrunk.faults) == needed
    assert shrunk.weather == msgspec.structs.replace(FAIR, split=True)
    assert shrunk.pacing == Pace()
    assert FAULTS[11].at_ms < shrunk.safety_ms < 1_500


def test_it_ends_when_the_events_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Plan] = []

    def run(plan: Plan) -> Outcome:
        tried.append(plan)
        failure = Failure("I6", "", 1)
        return Outcome(plan, failure, "", 100, 1, 0.0, 0, 0, {}, {})

    monkeypatch.setattr(simulator.shrink, "run_plan", run)
    shrink(PLAN, "I6", events_max=450)
    assert len(tried) == 5


def test_it_ends_when_the_runs_are_used_up() -> None:
    tried: list[Plan] = []

    def fails(plan: Plan) -> bool:
        tried.append(plan)
        return True

    Shrinker(fails, runs_max=7).shrink(PLAN)
    assert len(tried) == 7
