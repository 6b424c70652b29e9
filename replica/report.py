"""``replica report``: totals by line and insurer at a height, as the replica's own execution found them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from rich.table import Table

from ledger.money import render
from lossbook_sdk.query import Query
from lossbook_sdk.values import render_time
from services.reader import Report, ReportRow


async def fetch_report(query: Query, height: int = 0) -> Report:
    """Totals after a height; 0: the last executed one.

    Raises:
        NodeRefused: the daemon is no replica, or has not executed that height.
        NothingReachable: nobody answers.
    """
    answer = await query.report(height)
    return Report(
        height=answer.height,
        block_time_ms=answer.block_time_ms,
        rows=[
            ReportRow(row.line, row.insurer, row.currency, row.policies, row.claims, row.paid_claims, row.paid_minor)
            for row in answer.rows
        ],
        operations=answer.operations,
        envelopes=answer.envelopes,
        signatures_verified=answer.signatures_verified,
    )


def by_line(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Sums over the insurers, by line and currency."""
    return _summed(rows, lambda row: (row.line, "", row.currency))


def by_insurer(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Sums over the lines, by insurer and currency."""
    return _summed(rows, lambda row: ("", row.insurer, row.currency))


def totals(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Sums over everything, by currency."""
    return _summed(rows, lambda row: ("", "", row.currency))


def _summed(rows: Iterable[ReportRow], key: Callable[[ReportRow], tuple[str, str, str]]) -> list[ReportRow]:
    sums: dict[tuple[str, str, str], ReportRow] = {}
    for row in rows:
        at = key(row)
        sums[at] = add(sums.get(at) or ReportRow(*at, 0, 0, 0, 0), row)
    return [sums[at] for at in sorted(sums)]


def add(left: ReportRow, right: ReportRow) -> ReportRow:
    """The left row's names, the sums of both."""
    return msgspec.structs.replace(
        left,
        policies=left.policies + right.policies,
        claims=left.claims + right.claims,
        paid_claims=left.paid_claims + right.paid_claims,
        paid_minor=left.paid_minor + right.paid_minor,
    )


def report_document(report: Report) -> dict[str, Any]:
    """As JSON shows it; ``lines`` and ``insurers`` are sums of ``rows``."""
    found: dict[str, Any] = msgspec.to_builtins(report)
    found["lines"] = [_without(row, "insurer") for row in by_line(report.rows)]
    found["insurers"] = [_without(row, "line") for row in by_insurer(report.rows)]
    return found


def _without(row: ReportRow, name: str) -> dict[str, Any]:
    return {key: value for key, value in msgspec.structs.asdict(row).items() if key != name}


def report_table(report: Report) -> Table:
    """One row a line and insurer, then the sums."""
    table = Table(
        title=f"Height {report.height:,}, {render_time(report.block_time_ms)}",
        title_justify="left",
        caption=f"{report.operations:,} operations in {report.envelopes:,} envelopes; "
        f"{report.signatures_verified:,} signatures checked",
        caption_justify="left",
    )
    for name in ("line", "insurer"):
        table.add_column(name)
    for name in ("policies", "claims", "paid claims", "paid"):
        table.add_column(name, justify="right", no_wrap=True)
    for at, row in enumerate(report.rows):
        end = at + 1 == len(report.rows) or report.rows[at + 1].line != row.line
        table.add_row(*_cells(row), end_section=end)
    for row in by_line(report.rows):
        table.add_row(*_cells(row, insurer="all"))
    table.add_section()
    for row in totals(report.rows):
        table.add_row(*_cells(row, line="all", insurer="all"))
    return table


def _cells(row: ReportRow, *, line: str = "", insurer: str = "") -> list[str]:
    return [
        line or row.line,
        insurer or row.insurer,
        f"{row.policies:,}",
        f"{row.claims:,}",
        f"{row.paid_claims:,}",
        render(row.paid_minor, row.currency),
    ]
