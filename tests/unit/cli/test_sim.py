"""``lossbook sim``: figures as JSON and for people, replays, and what is no range."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from simulator.campaign import GOVERNED_AT, plan_of, run_seed
from simulator.mutants.gate import named
from simulator.mutants.planting import planted
from simulator.plan import Plan
from simulator.run import Outcome, run_plan
from simulator.spread import WorkerLost
from tests.support.commands import lossbook

KEYS = {
    "seeds",
    "events",
    "simulated_s",
    "cpu_s",
    "finalized_blocks",
    "faults",
    "oracle_checks",
    "failures",
    "coverage",
}


def test_run_reports_figures_as_json() -> None:
    report = json.loads(lossbook("sim", "run", "--seeds", "1..2", "--json").stdout)
    assert report.keys() >= KEYS
    assert report["seeds"] == 2
    assert report["failures"] == []
    assert report["finalized_blocks"] > 0
    assert report["faults"]


def test_run_reports_figures_for_people() -> None:
    text = lossbook("sim", "run", "--seeds", "3", "--once").stdout
    assert "final blocks" in text
    assert "oracle checks" in text


def test_replay_tells_every_step() -> None:
    text = lossbook("sim", "replay", "2", "--trace").stdout
    assert "starts, life 1" in text
    assert "as final" in text
    assert "No oracle objects." in text


def test_replay_is_the_run_of_that_seed() -> None:
    first, second = (json.loads(lossbook("sim", "replay", "2", "--json").stdout) for _ in range(2))
    assert first == second
    assert first["failure"] is None


def test_a_seed_that_fails_is_told_minimised_shown_and_kept(tmp_path: Path) -> None:
    [fault] = named(["quorum-off-by-one"])
    with planted(fault):
        # As `make sim` does it, but for the number of seeds; in this process, where the fault is.
        words = ("--from", "1", "--seeds", "1", "--brief", "--coverage-required", "--keep", tmp_path, "--jobs", "1")
        said = lossbook("sim", "soak", *words, code=1).stderr
        [path] = tmp_path.iterdir()
        kept = Plan.from_json(path.read_bytes())
        failure = run_plan(kept).failure
        assert failure is not None
        assert f"seed 1 breaks {failure.oracle}" in said
    assert "lossbook sim replay 1 --validators 4 --brief --trace" in said
    assert f"lossbook sim replay --plan {path} --trace" in said
    shown = next(line for line in said.splitlines() if line.startswith("  {"))
    assert Plan.from_json(shown.encode()) == kept
    assert kept.safety_ms < plan_of(1, 4).safety_ms
    assert kept.faults == ()
    assert lossbook("sim", "replay", "--plan", path).exit_code == 0, "it fails without the planted fault, too"


def test_a_soak_that_loses_a_worker_reports_what_it_has_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(*_: object, **__: object) -> Iterator[tuple[int, list[Outcome]]]:
        yield 7, run_seed(7, 4, 1)
        raise WorkerLost

    monkeypatch.setattr("simulator.campaign.run_seeds", one)
    ended = lossbook("sim", "soak", "--from", "7", "--json", code=1)
    assert json.loads(ended.stdout)["seeds"] == 1
    assert "a worker process was killed" in ended.stderr
    assert "go on with --from 8" in ended.stderr


def test_a_brief_seed_is_the_same_attack_in_half_the_time() -> None:
    whole, short = plan_of(3, 4), json.loads(lossbook("sim", "replay", "3", "--brief", "--json").stdout)
    assert short["failure"] is None
    plan = msgspec.convert(short["plan"], Plan)
    assert plan.safety_ms == whole.safety_ms // 2
    assert [(each.kind, each.node, each.for_ms, each.at_ms) for each in plan.faults] == [
        (each.kind, each.node, each.for_ms, each.at_ms // 2) for each in whole.faults
    ]
    assert msgspec.structs.replace(plan, safety_ms=whole.safety_ms, faults=whole.faults) == whole
    assert plan_of(GOVERNED_AT, 4, short=True) == plan_of(GOVERNED_AT, 4), "one change of the set waits for the other"


def test_invalid_a_kept_plan_is_as_long_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(plan_of(2, 4).to_json())
    assert "--brief" in lossbook("sim", "replay", "--plan", path, "--brief", code=2).stderr


def test_invalid_mutant_is_a_usage_error() -> None:
    assert "sim mutants --list" in lossbook("sim", "mutants", "--only", "nosuch", code=2).stderr


def test_the_smallest_network_is_two() -> None:
    assert (
        json.loads(lossbook("sim", "run", "--seeds", "1", "--once", "--validators", "2", "--json").stdout)["seeds"] == 1
    )
    assert "2<=x" in lossbook("sim", "run", "--seeds", "1", "--validators", "1", code=2).stderr


@pytest.mark.parametrize("seeds", ["", "a..b", "5..1", "1..", "-3", "1..99999999999"])
def test_invalid_ranges_are_refused_with_what_to_write(seeds: str) -> None:
    result = lossbook("sim", "run", "--seeds", seeds, code=2)
    assert "seeds" in result.stderr
    assert "Traceback" not in result.stderr
