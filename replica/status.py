"""``replica status``: where a replica stands, and why there is no progress, for people and as JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lossbook_sdk.query import Query
from lossbook_sdk.values import render_time


class SourceStatus(msgspec.Struct, frozen=True):
    """One node it may follow."""

    organisation: str
    address: str
    state: str
    """following, standby, waiting or distrusted."""
    blocks: int = 0
    last_error: str = ""
    distrusted: dict[str, Any] | None = None
    """Height and reason, where it served something forged."""


class CheckpointStatus(msgspec.Struct, frozen=True):
    """The checkpoint it accepted last."""

    height: int
    time_ms: int
    """Block time."""


class _Detail(msgspec.Struct, frozen=True):
    epoch: int = 0
    checkpoint: CheckpointStatus | None = None
    lag_blocks: int = 0
    network_height: int = 0
    signatures_verified: int = 0
    operations: int = 0
    envelopes: int = 0
    evidence: dict[str, int] = {}
    sources: tuple[SourceStatus, ...] = ()
    diverged: bool = False
    failure: str = ""
    receipts_root: str = ""
    last_fault: dict[str, Any] | None = None


class ReplicaStatus(msgspec.Struct, frozen=True):
    """What a replica says of itself."""

    organisation: str
    chain_id: str
    height: int
    """Last executed height."""
    epoch: int
    """Of the next block."""
    checkpoint: CheckpointStatus | None
    """The one accepted last; below it nothing is believed."""
    lag_blocks: int
    network_height: int
    block_time_ms: int
    state_root: str
    receipts_root: str
    signatures_verified: int
    operations: int
    envelopes: int
    evidence: dict[str, int]
    """Recorded breaches of consensus, by culprit."""
    diverged: bool
    failure: str
    last_fault: dict[str, Any] | None
    sources: tuple[SourceStatus, ...]
    roots: tuple[tuple[int, str], ...]
    """(height, state root) of recent heights, newest last: to compare with other members."""

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        found["roots"] = [{"height": height, "state_root": root} for height, root in self.roots]
        return found


async def fetch_status(query: Query) -> ReplicaStatus:
    """Ask.

    Raises:
        NothingReachable, NodeRefused: as every call.
    """
    answer = await query.status()
    detail = msgspec.json.decode(answer.detail_json or "{}", type=_Detail)
    return ReplicaStatus(
        organisation=answer.organisation,
        chain_id=answer.chain_id.hex(),
        height=answer.executed_height,
        epoch=detail.epoch,
        checkpoint=detail.checkpoint,
        lag_blocks=detail.lag_blocks,
        network_height=detail.network_height,
        block_time_ms=answer.block_time_ms,
        state_root=answer.state_root.hex(),
        receipts_root=detail.receipts_root,
        signatures_verified=detail.signatures_verified,
        operations=detail.operations,
        envelopes=detail.envelopes,
        evidence=detail.evidence,
        diverged=detail.diverged,
        failure=detail.failure,
        last_fault=detail.last_fault,
        sources=detail.sources,
        roots=tuple((each.height, each.state_root.hex()) for each in answer.roots),
    )


def render_status(status: ReplicaStatus) -> RenderableType:
    """For a person."""
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("organisation", status.organisation),
        ("network", status.chain_id),
        ("height", f"{status.height:,}"),
        ("epoch", str(status.epoch)),
        ("checkpoint", checkpoint_text(status.checkpoint)),
        ("lag", f"{status.lag_blocks:,} blocks"),
        ("block time", render_time(status.block_time_ms)),
        ("state root", status.state_root),
        ("receipts root", status.receipts_root),
        ("signatures checked", f"{status.signatures_verified:,}"),
        ("operations", f"{status.operations:,} in {status.envelopes:,} envelopes"),
    ):
        facts.add_row(name, value)
    parts: list[RenderableType] = [facts, Text(""), render_sources(status)]
    if status.evidence:
        parts.append(Text(evidence_text(status.evidence), style="red"))
    if status.last_fault is not None:
        parts.append(Text(f"last fault: {fault_text(status.last_fault)}", style="red"))
    if status.failure:
        parts.append(Text(f"no progress: {status.failure}", style="bold red"))
    return Group(*parts)


_STYLES = {"following": "green", "distrusted": "red", "waiting": "yellow"}


def render_sources(status: ReplicaStatus) -> Table:
    """The nodes it may follow, in order of preference."""
    table = Table(box=None, pad_edge=False)
    for name in ("source", "address", "state", "blocks", "last error"):
        table.add_column(name, justify="right" if name == "blocks" else "left")
    for source in status.sources:
        state = Text(source.state, style=_STYLES.get(source.state, ""))
        table.add_row(source.organisation, source.address, state, f"{source.blocks:,}", Text(source.last_error))
    return table


def checkpoint_text(checkpoint: CheckpointStatus | None) -> str:
    """``height 1,200, of 2026-11-21T16:00:00Z``, or what stands in its place."""
    if checkpoint is None:
        return "none: it began with the genesis"
    return f"height {checkpoint.height:,}, of {render_time(checkpoint.time_ms)}"


def fault_text(fault: dict[str, Any]) -> str:
    """``forged block at height 4, served by alpha: ...``."""
    return f"{fault['kind']} at height {fault['height']}, served by {fault['source']}: {fault['reason']}"


def evidence_text(evidence: dict[str, int]) -> str:
    """``evidence recorded against beta (3)``; `lossbook evidence list` has the particulars."""
    return "evidence recorded against " + ", ".join(f"{culprit} ({count})" for culprit, count in evidence.items())
