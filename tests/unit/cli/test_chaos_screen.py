"""The end of a chaos run as a tired person reads it: how it came out, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from chaos.run import Progress
from cli.chaos_screen import Screen, in_words, verdict

DOCUMENT: dict[str, Any] = {
    "network": "proxy",
    "seed": 7,
    "minutes": 3.0,
    "faults": {"kill": 2, "destroyed": 1},
    "newcomers": [{"validator": "gamma", "back_s": 18.5, "epoch": 1, "blocks_from": 1_143}],
    "operations": 2_000,
    "acknowledged": 1_990,
    "proven": 1_985,
    "expired": 5,
    "state_roots_equal": True,
    "longest_stall_faults": [],
}
FOLDER = Path("kept")


def test_a_good_end_is_one_sentence_with_the_figures() -> None:
    (line,) = verdict(DOCUMENT, [], faults=None, folder=None)
    assert line == (
        "Every promise was kept. Of 2,000 operations 1,990 acknowledged: 1,985 proved, 5 expired, none lost."
    )
    assert verdict(DOCUMENT, [], faults=None, folder=FOLDER)[1:] == ["Network, logs and history.jsonl are in kept."]


def test_a_bad_end_says_where_to_look_and_how_to_have_the_same_faults_again() -> None:
    lines = [click.unstyle(line) for line in verdict(DOCUMENT, ["a claim is gone"], faults=None, folder=FOLDER)]
    said = "\n".join(lines)
    assert lines[0] == "does not hold: a claim is gone"
    assert "kept/history.jsonl" in said
    assert "kept/*/node.log" in said
    assert "kept/*/operator.log" in said
    assert "`lossbook chaos run --minutes 3 --seed 7 --network proxy --keep ./again`" in said


def test_a_plan_of_some_faults_is_named_in_the_command_that_repeats_it() -> None:
    """Other faults would be another plan of the same seed."""
    document = DOCUMENT | {"faults": {"kill": 0, "loss": 1}}
    said = "\n".join(verdict(document, ["kill never struck"], faults=["kill", "loss"], folder=FOLDER))
    assert "--seed 7 --faults kill,loss --network proxy" in said
    assert "operator.log" not in said


def test_a_run_that_ended_early_has_a_verdict_too() -> None:
    early = {"network": "namespaces", "seed": 7, "minutes": 0.5}
    assert "--minutes 0.5" in verdict(early, ["the validators were not ready"], faults=None, folder=FOLDER)[-2]


def test_the_document_is_shown_without_a_programs_brackets() -> None:
    shown = dict(in_words(DOCUMENT))
    assert shown["faults"] == "kill 2, destroyed 1"
    assert shown["newcomers"] == "gamma voted after 18.5 s, in epoch 1, holds blocks from 1,143"
    assert shown["longest stall faults"] == "none"
    assert shown["state roots equal"] is True


def test_the_live_line_fits_a_terminal_with_what_is_wrong_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    with Screen() as screen:
        heights = {"alpha": 1_234, "beta": 1_230, "gamma": None, "delta": 1_234}
        screen.show(Progress(12.3, heights, 1_579, 3, ("destroyed", "one-way")))
    line = capsys.readouterr().err.split("\r")[1]
    assert "[  12.3 s] destroyed, one-way; no answer: gamma; final 1,579, open 3;" in line
