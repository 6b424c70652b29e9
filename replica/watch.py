"""``replica watch``: a live view on a terminal; elsewhere one line for each change."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ledger.money import render
from lossbook_sdk.errors import NothingReachable
from lossbook_sdk.query import Query
from lossbook_sdk.values import render_time
from replica.report import by_insurer, fetch_report, report_document, totals
from replica.status import ReplicaStatus, evidence_text, fault_text, fetch_status, render_sources
from services.reader import Report

EVERY_S: Final = 0.5
"""Twice a second: live for the eye, nothing for the replica."""


async def watch(
    query: Query,
    console: Console,
    *,
    every_s: float = EVERY_S,
    looks: int | None = None,
    as_json: bool = False,
) -> None:
    """Show a replica until interrupted; one that does not answer is shown as such and asked again.

    Args:
        query: the replica.
        console: where to draw; a live view where it is a terminal.
        every_s: seconds between two looks.
        looks: end after so many; None: never.
        as_json: one JSON document a line for each change, whatever the console is.
    """
    if console.is_terminal and not as_json:
        with Live(console=console, auto_refresh=False, screen=False) as live:
            async for view in _looks(query, looks, every_s):
                live.update(view.render(), refresh=True)
        return
    last = ""
    async for view in _looks(query, looks, every_s):
        line = json.dumps(view.document()) if as_json else view.line()
        if line != last:
            console.file.write(line + "\n")
            console.file.flush()
            last = line


class View:
    """One look at a replica."""

    def __init__(
        self, status: ReplicaStatus | None, report: Report | None, problem: str = "", blocks_per_s: float = 0.0
    ) -> None:
        self.status = status
        self.report = report
        self.problem = problem
        self.blocks_per_s = blocks_per_s

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        if self.status is None or self.report is None:
            return {"error": self.problem}
        status = self.status.document()
        del status["roots"]
        return status | {"rows": report_document(self.report)["rows"]}

    def line(self) -> str:
        """On one line, the same as long as nothing changes."""
        status = self.status
        if status is None or self.report is None:
            return f"no answer: {self.problem}"
        parts = [
            f"height {status.height}",
            f"lag {status.lag_blocks}",
            f"signatures {status.signatures_verified}",
            f"root {status.state_root[:16]}",
        ]
        for row in totals(self.report.rows):
            parts += [
                f"policies {row.policies}",
                f"claims {row.claims}",
                f"paid {render(row.paid_minor, row.currency)}",
            ]
        parts += [f"{source.organisation} {source.state}" for source in status.sources if source.state != "standby"]
        if status.evidence:
            parts.append(evidence_text(status.evidence))
        if status.last_fault is not None:
            parts.append(fault_text(status.last_fault))
        if status.failure:
            parts.append(f"NO PROGRESS: {status.failure}")
        return " | ".join(parts)

    def render(self) -> RenderableType:
        """For a terminal."""
        status, report = self.status, self.report
        if status is None or report is None:
            return Text(f"no answer: {self.problem}", style="yellow")
        head = Table.grid(padding=(0, 3))
        head.add_row("height", f"{status.height:,}", "lag", f"{status.lag_blocks:,} blocks")
        head.add_row("block time", render_time(status.block_time_ms), "speed", f"{self.blocks_per_s:.1f} blocks/s")
        head.add_row("signatures checked", f"{status.signatures_verified:,}", "operations", f"{status.operations:,}")
        parts: list[RenderableType] = [
            Text(f"replica of {status.organisation}, network {status.chain_id[:16]}", style="bold"),
            head,
            Text(f"state root     {status.state_root}"),
            Text(f"receipts root  {status.receipts_root}"),
            Text(""),
            _insurers(report),
            Text(""),
            render_sources(status),
        ]
        if status.evidence:
            parts.append(Text(evidence_text(status.evidence), style="red"))
        if status.last_fault is not None:
            parts.append(Text(f"last fault: {fault_text(status.last_fault)}", style="red"))
        if status.failure:
            parts.append(Text(f"no progress: {status.failure}", style="bold red"))
        return Group(*parts)


def _insurers(report: Report) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("insurer", "policies", "claims", "paid claims", "paid"):
        table.add_column(name, justify="left" if name == "insurer" else "right", no_wrap=True)
    for row in [*by_insurer(report.rows), *totals(report.rows)]:
        table.add_row(
            row.insurer or "all",
            f"{row.policies:,}",
            f"{row.claims:,}",
            f"{row.paid_claims:,}",
            render(row.paid_minor, row.currency),
        )
    return table


async def _looks(query: Query, looks: int | None, every_s: float) -> AsyncIterator[View]:
    seen_s, seen_height = time.monotonic(), 0
    looked = 0
    while looks is None or looked < looks:
        if looked:
            await asyncio.sleep(every_s)
        looked += 1
        try:
            status = await fetch_status(query)
            report = await fetch_report(query)
        except NothingReachable as error:
            yield View(None, None, str(error))
            continue
        now_s = time.monotonic()
        speed = (status.height - seen_height) / max(now_s - seen_s, 0.001) if seen_height else 0.0
        seen_s, seen_height = now_s, status.height
        yield View(status, report, blocks_per_s=speed)
