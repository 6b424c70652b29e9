"""``replica watch``: one screen, refreshed; lines where stdout is no terminal."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from cli.output import console, emit_line

if TYPE_CHECKING:
    from rich.table import Table

    from lossbook_sdk.nodes import Nodes


async def watch_replica(nodes: Nodes, *, every_s: float, once: bool, as_json: bool) -> None:
    """Look at a replica again and again, until Ctrl-C."""
    try:
        if once or as_json or not sys.stdout.isatty():
            await _lines(nodes, every_s, once, as_json)
        else:
            await _screen(nodes, every_s)
    finally:
        await nodes.close()


async def look(nodes: Nodes) -> dict[str, Any]:
    """What there is to see now."""
    from cli.replica import report_document
    from lossbook_sdk.query import Query

    query = Query(nodes)
    status = await query.status()
    report = report_document(await query.report())
    return {
        "organisation": status.organisation,
        "height": status.executed_height,
        "lag_ms": max(0, time.time_ns() // 1_000_000 - status.block_time_ms),
        "state_root": status.state_root.hex(),
        "detail": json.loads(status.detail_json or "{}"),
        **{name: report[name] for name in ("operations", "envelopes", "signatures_verified", "rows")},
    }


async def _lines(nodes: Nodes, every_s: float, once: bool, as_json: bool) -> None:
    while True:
        seen = await look(nodes)
        if as_json:
            emit_line(seen)
        else:
            out = console()
            out.print(_head(seen))
            out.print(_body(seen))
        if once:
            return
        await asyncio.sleep(every_s)


async def _screen(nodes: Nodes, every_s: float) -> None:
    from rich.console import Group
    from rich.live import Live

    with Live(console=console(), screen=False, auto_refresh=False) as live:
        while True:
            seen = await look(nodes)
            live.update(Group(_head(seen), _body(seen)), refresh=True)
            await asyncio.sleep(every_s)


def _head(seen: dict[str, Any]) -> str:
    sources = seen["detail"].get("sources", [])
    following = next((source["organisation"] for source in sources if source["state"] == "following"), "nobody")
    return (
        f"{seen['organisation']}  height {seen['height']:,}  lag {seen['lag_ms'] / 1000:,.1f} s  "
        f"signatures {seen['signatures_verified']:,}  operations {seen['operations']:,}  "
        f"follows {following}\nstate root {seen['state_root']}\n"
    )


def _body(seen: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    from ledger.money import render

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("line", "insurer", "policies", "claims", "payments", "paid"):
        table.add_column(name, justify="left" if name in ("line", "insurer") else "right", no_wrap=True)
    for row in sorted(seen["rows"], key=lambda row: (row["line"], row["insurer"])):
        table.add_row(
            row["line"],
            row["insurer"],
            f"{row['policies']:,}",
            f"{row['claims']:,}",
            f"{row['paid_claims']:,}",
            render(row["paid_minor"], row["currency"]),
        )
    return table
