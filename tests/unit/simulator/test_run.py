"""Seeds run to a verdict, twice the same, and in any process the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from itertools import count

import pytest

from simulator.campaign import Report, run_seed, run_seeds
from simulator.plan import Plan, draw
from simulator.run import run_plan

pytestmark = pytest.mark.slow

ONE_RUN = "from simulator.plan import draw; from simulator.run import run_plan; print(run_plan(draw(3, 4)).effects)"


@pytest.mark.parametrize(("n", "seed"), [(4, 1), (4, 2), (4, 3), (7, 1), (10, 1)])
def test_a_seed_holds_every_invariant_and_repeats_itself(n: int, seed: int) -> None:
    outcomes = run_seed(seed, n)
    report = Report()
    report.add(outcomes)
    assert not report.failures
    assert len({outcome.effects for outcome in outcomes}) == 1
    assert report.finalized_blocks > 8
    assert report.oracle_checks > 1_000


def test_runs_are_equal_under_other_hash_seeds() -> None:
    effects = {
        subprocess.run(
            [sys.executable, "-c", ONE_RUN],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert effects == {run_plan(draw(3, 4)).effects + "\n"}


def test_a_plan_survives_its_json() -> None:
    plan = draw(5, 7)
    assert Plan.from_json(plan.to_json()) == plan


def test_plans_of_other_seeds_differ() -> None:
    assert len({draw(seed, 4).to_json() for seed in range(50)}) == 50


def test_an_interrupt_of_everybody_ends_no_worker_in_the_middle_and_all_when_the_runs_are_let_go() -> None:
    runs = run_seeds(((seed, 4) for seed in count(1)), jobs=2, runs=1)
    assert next(runs)[0] == 1
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
    assert next(runs)[0] == 2
    runs.close()
    assert not any(worker.is_alive() for worker in workers)
