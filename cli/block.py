"""``lossbook block``: blocks, one by one or as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.base import fail, group
from cli.options import json_option, profile_option
from cli.output import emit, emit_line, facts, table

if TYPE_CHECKING:
    from ledger.types import Block


@group(example="lossbook block tail --from 1")
def command() -> None:
    """Blocks, as a node holds them. Nothing is verified here: that is a replica's work."""


@command.command(example="lossbook block show 12")
@click.argument("height", type=click.IntRange(min=1))
@profile_option
@json_option
def show(height: int, profile_name: str | None, as_json: bool) -> None:
    """Show a block: its header, who finalized it, its batches."""
    from cli.session import client
    from lossbook_sdk.values import render_time

    with client(profile_name) as session:
        block = session.run(session.query.block(height))
        members = [member.id for member in session.genesis.validator_set().members]
    if block is None:
        fail(f"there is no block {height} there yet", "See the last ones: `lossbook block tail`")
    if as_json:
        emit(document(block, members))
        return
    header = block.header
    facts(
        [
            ("height", header.height),
            ("digest", header.digest.hex()),
            ("time", render_time(header.timestamp_ms)),
            ("view", f"{header.view} (parent's {header.parent_view})"),
            ("state after height", header.state_height),
            ("state root", header.state_root.hex()),
            ("receipts root", header.receipts_root.hex()),
            ("finalized by", ", ".join(signers(block, members)) or "a later block's certificate"),
            ("statements", len(block.payload.statements) or None),
        ]
    )
    click.echo()
    table(
        ("batch", "origin", ">incarnation", ">sequence", ">envelopes", ">bytes"),
        (
            (
                batch.header.digest.hex()[:16],
                batch.header.origin,
                batch.header.incarnation,
                batch.header.sequence,
                batch.header.count,
                batch.header.envelope_bytes,
            )
            for batch in block.batches
        ),
    )


@command.command(example="lossbook block tail --from 1")
@click.option("--from", "start", type=click.IntRange(min=1), help="First height. Default: the newest.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many blocks.")
@profile_option
@json_option
def tail(start: int | None, count: int | None, profile_name: str | None, as_json: bool) -> None:
    """Show blocks as they become final, until Ctrl-C; with --json one document a line."""
    from cli.session import client

    with client(profile_name) as session:
        members = [member.id for member in session.genesis.validator_set().members]

        async def follow() -> None:
            from_height = start or max(1, (await session.query.status()).finalized_height)
            shown = 0
            async for block in session.query.tail(from_height, headers_only=False):
                if as_json:
                    emit_line(document(block, members))
                else:
                    click.echo(line_of(block, members))
                shown += 1
                if shown == count:
                    return

        session.run(follow())


def signers(block: Block, members: list[str]) -> list[str]:
    """Who signed the block's own Finalization."""
    if block.finalization is None:
        return []
    return [members[signer] for signer in block.finalization.signers if signer < len(members)]


def line_of(block: Block, members: list[str]) -> str:
    """A block on one line."""
    from lossbook_sdk.values import render_time

    header = block.header
    envelopes = sum(batch.header.count for batch in block.batches)
    return (
        f"{header.height:>8,}  {render_time(header.timestamp_ms)}  {header.digest.hex()[:16]}  "
        f"{len(block.batches):>3} batches  {envelopes:>5,} envelopes  "
        f"signed by {', '.join(signers(block, members)) or '(a later certificate)'}"
    )


def document(block: Block, members: list[str]) -> dict[str, Any]:
    """A block as JSON."""
    from crypto.hashing import TAG_STATEMENT, tagged

    header = block.header
    return {
        "height": header.height,
        "digest": header.digest.hex(),
        "view": header.view,
        "parent_view": header.parent_view,
        "time_ms": header.timestamp_ms,
        "state_height": header.state_height,
        "state_root": header.state_root.hex(),
        "receipts_root": header.receipts_root.hex(),
        "finalized_by": signers(block, members),
        "statements": [tagged(TAG_STATEMENT, raw).hex() for raw in block.payload.statements],
        "batches": [
            {
                "digest": batch.header.digest.hex(),
                "origin": batch.header.origin,
                "incarnation": batch.header.incarnation,
                "sequence": batch.header.sequence,
                "envelopes": batch.header.count,
                "bytes": batch.header.envelope_bytes,
            }
            for batch in block.batches
        ],
    }
