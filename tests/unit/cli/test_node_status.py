"""What ``node status`` shows a person: each thing once, nothing that is nothing, the reasons last."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.node_status import rows, show
from lossbook.v1.query_pb2 import GetStatusResponse

DETAIL: dict[str, Any] = {
    "epoch": 0,
    "validators": ["alpha", "beta"],
    "view": 57,
    "leader": "beta",
    "signing": "signing",
    "muted_until_view": 0,
    "muted": {},
    "finalized_height": 1041,
    "executed_height": 1040,
    "snapshot": None,
    "diverged": False,
    "ready": True,
    "voting": False,
    "failure": "",
    "peers": {"beta": "connected", "gamma": "no answer"},
    "waiting_bytes": 0,
    "disk_free_bytes": 12_000,
    "uptime_s": 8,
    "origin_open": True,
    "reasons": [{"kind": "idle", "text": "Nothing to do.", "next_step": "Nothing."}],
}


def answer(detail: dict[str, Any]) -> GetStatusResponse:
    return GetStatusResponse(
        organisation="alpha",
        kind="validator",
        view=57,
        finalized_height=1041,
        executed_height=1040,
        detail_json=json.dumps(detail),
    )


def test_each_thing_is_shown_once_with_its_unit_and_what_is_nothing_is_not() -> None:
    shown = dict(found := list(rows(answer(DETAIL), DETAIL)))
    assert len(shown) == len(found)
    assert shown["height"] == "1,041 final, 1,040 executed"
    assert shown["view"] == "57, led by beta"
    assert shown["epoch"] == "0: alpha, beta"
    assert (shown["disk free"], shown["uptime"]) == ("12.0 kB", "8 s")
    assert (shown["ready"], shown["voting"]) == (True, False)
    assert shown["peers"] == "beta: connected, gamma: no answer"
    assert not {"muted", "muted until view", "snapshot", "diverged", "failure", "waiting", "leader"} & shown.keys()
    text = " ".join(str(value) for value in shown.values())
    assert [text.count(number) for number in ("1,041", "1,040")] == [1, 1]


def test_a_node_that_could_vote_and_signs_nothing_yet_is_not_said_to_vote() -> None:
    muted = DETAIL | {"voting": True, "signing": "muted"}
    shown = dict(rows(answer(muted), muted))
    assert shown["signing"] == "muted"
    assert "voting" not in shown


def test_what_is_something_is_shown() -> None:
    detail = DETAIL | {"muted": {"gamma": 58}, "diverged": True, "failure": "votes: disk full", "waiting_bytes": 7}
    shown = dict(rows(answer(detail), detail))
    assert shown["muted"] == "gamma: 58"
    assert (shown["diverged"], shown["failure"], shown["waiting"]) == (True, "votes: disk full", "7 bytes")


def test_people_read_the_reasons_last_and_programs_get_everything(capsys: pytest.CaptureFixture[str]) -> None:
    show(answer(DETAIL), as_json=False)
    assert capsys.readouterr().out.endswith("\n* Nothing to do.\n  Next: Nothing.\n")
    show(answer(DETAIL), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["detail"] == DETAIL
    assert document["finalized_height"] == 1041
