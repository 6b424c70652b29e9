"""What ``lossbook node status`` shows: where a node stands, then why there is no progress, what to look at first first.

Programs get all of it (``--json``). People get each thing once, and of what is mostly nothing only what is something.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from cli.output import emit, facts, number

if TYPE_CHECKING:
    from lossbook.v1.query_pb2 import GetStatusResponse

ALWAYS: Final = frozenset({"signing", "ready", "peers", "disk_free_bytes"})
"""Shown whatever they are; of the others what is none, no or zero is left out."""

UNLESS: Final = frozenset({"voting"})
"""Shown where it is no: a node may have a seat, a key and good stores, and sign nothing yet (``signing``)."""

ELSEWHERE: Final = frozenset(
    {"epoch", "validators", "view", "leader", "finalized_height", "executed_height", "origin_open", "reasons"}
)
"""Told in words of their own, or of use to programs only."""


def show(answer: GetStatusResponse, as_json: bool) -> None:
    """A daemon's status, for people or programs."""
    detail: dict[str, Any] = json.loads(answer.detail_json or "{}")
    if as_json:
        emit(_document(answer, detail))
        return
    facts(rows(answer, detail))
    for reason in detail.get("reasons", ()):
        click.echo(f"\n* {reason['text']}\n  Next: {reason['next_step']}")


def rows(answer: GetStatusResponse, detail: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Names and values, for people."""
    from lossbook_sdk.values import render_time

    yield "organisation", f"{answer.organisation} ({answer.kind})"
    yield "network", answer.chain_id.hex()[:16]
    if "epoch" in detail:
        yield "epoch", f"{detail['epoch']:,}: {_plain(detail.get('validators', []))}"
    if answer.view:
        yield "view", f"{answer.view:,}" + (f", led by {detail['leader']}" if detail.get("leader") else "")
    yield "height", f"{answer.finalized_height:,} final, {answer.executed_height:,} executed"
    yield "block time", render_time(answer.block_time_ms)
    yield "state root", answer.state_root.hex()
    for name, value in detail.items():
        if name not in ELSEWHERE and (name in ALWAYS or bool(value) is not (name in UNLESS)):
            yield _named(name, value)


def _named(name: str, value: object) -> tuple[str, object]:
    """The row of a value, in the unit that its name ends with."""
    from node.words import size

    if name.endswith("_bytes") and isinstance(value, int):
        return name.removesuffix("_bytes").replace("_", " "), size(value)
    if name.endswith("_s"):
        return name.removesuffix("_s").replace("_", " "), f"{number(value)} s"
    return name.replace("_", " "), _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_plain(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(_plain(inner)) for inner in value) or "none"
    return value if value not in (None, "") else "none"


def _document(answer: GetStatusResponse, detail: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "organisation": answer.organisation,
        "kind": answer.kind,
        "chain_id": answer.chain_id.hex(),
        "view": answer.view,
        "finalized_height": answer.finalized_height,
        "executed_height": answer.executed_height,
        "state_root": answer.state_root.hex(),
        "block_time_ms": answer.block_time_ms,
        "detail": detail,
        "roots": [
            {"height": each.height, "state_root": each.state_root.hex(), "receipts_root": each.receipts_root.hex()}
            for each in answer.roots
        ],
    }
