"""What a person sees: status, report and watch, drawn from canned answers."""

from __future__ import annotations

import asyncio
import io
import json

import msgspec
import pytest
from rich.console import Console, RenderableType

from lossbook.v1 import query_pb2
from lossbook_sdk.errors import NothingReachable
from replica.report import by_insurer, by_line, fetch_report, report_document, report_table, totals
from replica.status import CheckpointStatus, fetch_status, render_status
from replica.watch import watch

ROOT = bytes(range(32))


class Answers:
    """Stands in for ``lossbook_sdk.query.Query``."""

    def __init__(self, heights: list[int], fault: bool = False) -> None:
        self._heights = heights
        self._fault = fault

    async def status(self) -> query_pb2.GetStatusResponse:
        height = self._heights.pop(0)
        if height < 0:
            raise NothingReachable([("here", "nobody listens")], unchanged="", advice="start it")
        detail = {
            "lag_blocks": 3,
            "network_height": height + 3,
            "signatures_verified": 1234,
            "operations": 77,
            "envelopes": 7,
            "receipts_root": "ab" * 32,
            "sources": [
                {"organisation": "alpha", "address": "a:1", "state": "following", "blocks": 9},
                {
                    "organisation": "beta",
                    "address": "b:1",
                    "state": "distrusted",
                    "blocks": 1,
                    "last_error": "forged block: x",
                    "distrusted": {"height": 4, "reason": "forged block: x"},
                },
            ],
            "failure": "",
            "diverged": False,
        }
        if self._fault:
            detail["evidence"] = {"beta": 3}
            detail["last_fault"] = {"kind": "forged block", "height": 4, "source": "beta", "reason": "x"}
            detail["failure"] = "DIVERGENCE: block 9"
        return query_pb2.GetStatusResponse(
            organisation="watch",
            kind="replica",
            chain_id=ROOT,
            executed_height=height,
            state_root=ROOT,
            block_time_ms=1_750_000_000_000,
            detail_json=json.dumps(detail),
            roots=[query_pb2.HeightRoots(height=height, state_root=ROOT, receipts_root=ROOT)],
        )

    async def report(self, height: int = 0) -> query_pb2.GetReportResponse:
        rows = [
            query_pb2.ReportRow(
                line=line, insurer=insurer, currency="USD", policies=2, claims=2, paid_claims=1, paid_minor=123_456
            )
            for line in ("Home", "Auto")
            for insurer in ("alpha", "beta")
        ]
        return query_pb2.GetReportResponse(
            height=height or 9, block_time_ms=1_750_000_000_000, rows=rows, operations=77, envelopes=7
        )


def drawn(renderable: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def shown(answers: Answers, looks: int, *, terminal: bool = False, as_json: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal)
    asyncio.run(watch(answers, console, looks=looks, every_s=0, as_json=as_json))  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_status_names_height_lag_roots_and_sources() -> None:
    text = drawn(render_status(asyncio.run(fetch_status(Answers([9], fault=True)))))  # type: ignore[arg-type]
    for part in ("1,234", ROOT.hex(), "ab" * 32, "3 blocks", "alpha", "following", "distrusted", "forged block: x"):
        assert part in text
    assert "last fault: forged block at height 4, served by beta: x" in text
    assert "no progress: DIVERGENCE" in text


def test_status_says_in_which_epoch_it_is_and_by_which_checkpoint_it_went() -> None:
    status = asyncio.run(fetch_status(Answers([9])))  # type: ignore[arg-type]
    assert "none: it began with the genesis" in drawn(render_status(status))
    checkpoint = CheckpointStatus(1_200, 1_750_000_000_000)
    text = drawn(render_status(msgspec.structs.replace(status, epoch=3, checkpoint=checkpoint)))
    assert "height 1,200, of 2025-06-15" in text
    assert msgspec.structs.replace(status, checkpoint=checkpoint).document()["checkpoint"]["height"] == 1_200


def test_status_as_json() -> None:
    document = asyncio.run(fetch_status(Answers([9]))).document()  # type: ignore[arg-type]
    assert document["height"] == 9
    assert document["roots"] == [{"height": 9, "state_root": ROOT.hex()}]
    assert document["sources"][1]["distrusted"] == {"height": 4, "reason": "forged block: x"}
    json.dumps(document)


def test_report_sums_by_line_by_insurer_and_in_all() -> None:
    report = asyncio.run(fetch_report(Answers([]), 5))  # type: ignore[arg-type]
    assert report.height == 5
    assert [(row.line, row.paid_minor) for row in by_line(report.rows)] == [("Auto", 246_912), ("Home", 246_912)]
    assert [(row.insurer, row.claims) for row in by_insurer(report.rows)] == [("alpha", 4), ("beta", 4)]
    assert [row.paid_minor for row in totals(report.rows)] == [493_824]
    document = report_document(report)
    assert document["lines"][0] == {
        "line": "Auto",
        "currency": "USD",
        "policies": 4,
        "claims": 4,
        "paid_claims": 2,
        "paid_minor": 246_912,
    }
    json.dumps(document)


def test_report_table_has_money_with_separators() -> None:
    text = drawn(report_table(asyncio.run(fetch_report(Answers([])))))  # type: ignore[arg-type]
    assert "1,234.56 USD" in text
    assert "4,938.24 USD" in text
    assert "77 operations in 7 envelopes" in text


def test_an_empty_report_can_be_drawn() -> None:
    report = asyncio.run(fetch_report(Answers([])))  # type: ignore[arg-type]
    assert "Height 9" in drawn(report_table(msgspec.structs.replace(report, rows=[])))


def test_watch_without_a_terminal_prints_a_line_for_each_change() -> None:
    lines = shown(Answers([5, 5, 6]), 3).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("height 5 | lag 3 | signatures 1234 | root ")
    assert "paid 4,938.24 USD" in lines[0]
    assert "beta distrusted" in lines[0]
    assert lines[1].startswith("height 6 ")


def test_watch_shows_a_replica_that_does_not_answer_and_goes_on() -> None:
    lines = shown(Answers([-1, 6]), 2).splitlines()
    assert lines[0].startswith("no answer: ")
    assert lines[1].startswith("height 6 ")


@pytest.mark.parametrize("fault", [False, True])
def test_watch_on_a_terminal_draws_live(fault: bool) -> None:
    text = shown(Answers([5, 6], fault=fault), 2, terminal=True)
    assert "replica of watch" in text
    assert ("no progress" in text) is fault


def test_watch_as_json_prints_a_document_for_each_change() -> None:
    lines = [json.loads(line) for line in shown(Answers([-1, 5, 5, 6]), 4, as_json=True).splitlines()]
    assert "error" in lines[0]
    assert [line["height"] for line in lines[1:]] == [5, 6]
    assert lines[1]["rows"][0]["paid_minor"] == 123_456
    assert lines[1]["sources"][1]["state"] == "distrusted"
