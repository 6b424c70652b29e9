"""``lossbook sim twins`` as it is typed."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from simulator.spread import WorkerLost
from tests.support.commands import document, lossbook


def test_a_slice_runs_and_counts() -> None:
    found = document("sim", "twins", "--slice", "30011", "--liar")
    assert found["cases"] == 9
    assert found["cases_total"] == 262_144
    assert found["failures"] == []


def test_one_case_is_told() -> None:
    assert document("sim", "twins", "--case", "2:922a", "--liar")["evidence_against"] == [0]


def test_all_of_one_round_goes_on_from_its_file(tmp_path: Path) -> None:
    words = ("sim", "twins", "--rounds", "1", "--jobs", "1", "--state", tmp_path / "state.json")
    lossbook(*words)
    assert "1 of 1 shards were done before" in lossbook(*words).stderr


def test_a_killed_worker_ends_the_command_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Generator[None]:
        raise WorkerLost
        yield

    monkeypatch.setattr("simulator.spread.spread", broken)
    said = lossbook("sim", "twins", "--rounds", "1", "--state", tmp_path / "twins.json", code=1).stderr
    assert "a worker process was killed" in said
    assert "run it again" in said


def test_invalid_case_and_state_file_are_explained(tmp_path: Path) -> None:
    assert "offset:cuts" in lossbook("sim", "twins", "--case", "9:1", code=2).stderr
    state = tmp_path / "state.json"
    state.write_text("no")
    assert "Name another --state" in lossbook("sim", "twins", "--state", state, code=1).stderr
