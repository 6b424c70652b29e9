"""``lossbook sim``: figures as JSON and for people, replays, and what is no range."""

from __future__ import annotations

import json

import pytest

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
