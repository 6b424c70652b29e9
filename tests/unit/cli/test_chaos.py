"""``lossbook chaos`` before and after a run: what is refused at once, and what a kept history says."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from chaos.completeness import gaps
from chaos.history import Event
from tests.support.commands import lossbook
from tests.unit.chaos.test_completeness import WHOLE


def test_a_run_too_short_for_its_faults_is_refused_before_it_begins() -> None:
    done = lossbook("chaos", "run", "--minutes", "0.2", "--seed", "1", "--faults", "destroyed", code=2)
    assert "too few for destroyed: give 0.4 or more, or name fewer --faults" in " ".join(done.output.split())


def test_invalid_a_fault_that_does_not_exist() -> None:
    done = lossbook("chaos", "run", "--faults", "earthquake", code=2)
    assert "'earthquake' is not one of kill, storm, pause" in done.output


def written(path: Path, events: list[Event]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
    return path


def test_a_history_that_holds(tmp_path: Path) -> None:
    done = lossbook("chaos", "judge", written(tmp_path / "history.jsonl", WHOLE))
    assert "The history holds: 6 operations were acknowledged, none was lost." in done.output


@pytest.mark.parametrize("at", range(len(WHOLE)))
def test_invalid_a_history_without_any_one_line_is_told_without_a_traceback(tmp_path: Path, at: int) -> None:
    left = WHOLE[:at] + WHOLE[at + 1 :]
    done = lossbook("chaos", "judge", written(tmp_path / "history.jsonl", left), "--json", code=1)
    found = json.loads(done.stdout)
    assert found["complete"] is False
    assert set(gaps(left)) <= set(found["problems"])
    assert "grep" in done.stderr
