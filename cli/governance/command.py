"""``lossbook governance``: who validates, with which keys, by which parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import Stop, fail, group
from cli.governance.propose import propose
from cli.options import FILE, json_option, profile_option, write_options
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from cli.governance.standing import Network
    from lossbook_sdk.client import Client
    from lossbook_sdk.query import Found


@group(example="lossbook governance list")
def command() -> None:
    """Who validates, with which keys, by which parameters: validators propose and vote.

    A change passes with the votes of more than two thirds of the validators of the present epoch. A proposal counts as
    its proposer's vote, and lapses with its epoch. Role: admin.
    """


command.add_command(propose)


@command.command(example="lossbook governance vote 5f0c4d7e00112233445566778899aabb yes")
@click.argument("proposal")
@click.argument("answer", type=click.Choice(["yes", "no"]))
@write_options
def vote(proposal: str, answer: str, **options: Any) -> None:
    """Vote on a proposal; the first vote stands. A supervisor consents where consent is asked for. Role: admin."""
    from cli.session import client
    from lossbook_sdk import governance
    from lossbook_sdk.values import parse_id

    operation = governance.vote(parse_id(proposal, "proposal id"), answer == "yes")
    with client(options["profile_name"], options["passphrase_fd"]) as session:
        submit(session, operation, operation.proposal_id, options)


@command.command("list", example="lossbook governance list --open")
@click.option("--open", "only_open", is_flag=True, help="Only what still waits for something.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="At most so many.")
@profile_option
@json_option
def list_(only_open: bool, limit: int, profile_name: str | None, as_json: bool) -> None:
    """List proposals, newest first, with their votes and what each waits for.

    Each record's proof is checked. That there is no other proposal, nobody can prove.
    """
    from cli.governance import words
    from cli.governance.reading import read_book, record_of
    from cli.governance.standing import standing_of
    from cli.session import client

    with client(profile_name) as session:
        book = session.run(read_book(session.query, limit))
    network = book.network
    shown = [(record, standing_of(record, network)) for record in map(record_of, book.proposals)]
    if only_open:
        shown = [(record, standing) for record, standing in shown if not standing.over]
    if as_json:
        proposals = [words.document(record, standing, network) for record, standing in shown]
        emit(words.network_document(network) | {"proposals": proposals, "more": book.more})
        return
    _show_network(words.network_document(network))
    click.echo()
    table(
        ("proposal", "by", "what", "state", ">yes", ">no", "waits for"),
        (
            (
                record.proposal_id.hex(),
                record.ballots[0].organisation,
                words.change_in_words(record),
                standing.state,
                f"{len(standing.yes)} of {standing.needed}",
                len(standing.no),
                words.waits_for(standing),
            )
            for record, standing in shown
        ),
    )
    if book.more:
        say("There are more: raise --limit.")


@command.command(example="lossbook governance show 5f0c4d7e00112233445566778899aabb")
@click.argument("proposal")
@click.option("--prove", type=FILE, help="Write the record's proof to this file; it is checked first.")
@profile_option
@json_option
def show(proposal: str, prove: Path | None, profile_name: str | None, as_json: bool) -> None:
    """Show a proposal: what it would change, who has voted, what it waits for, what to do next."""
    from cli.session import client
    from ledger.wire.proofs import encode_proof
    from lossbook_sdk.values import parse_id
    from store.home import write_durably

    name = parse_id(proposal, "proposal id")
    with client(profile_name) as session:
        read = _read(session, name)
    if read is None or read[0].proof is None:
        fail(f"there is no proposal {name.hex()}", "`lossbook governance list` shows those there are")
    if prove is not None:
        write_durably(prove, encode_proof(read[0].proof))
    _show(read, as_json, str(prove) if prove is not None else None)


# -- what proposing and voting share ---------------------------------------------------------------


def submit(session: Client, operation: Any, proposal_id: bytes, options: dict[str, Any]) -> None:
    """Sign as an admin, submit, wait; tell how the proposal stands then."""
    from cli.session import show_status, status_document
    from cli.session import submit as send
    from ledger.organisations import Role
    from lossbook_sdk.answers import Stage

    status = send(
        session,
        [operation],
        role=Role.ADMIN,
        keys=options["keys"],
        wait=options["wait"],
        not_after=options["not_after"],
    )
    as_json, height = options["as_json"], status.receipt.height if status.receipt is not None else 0
    try:
        read = _read(session, proposal_id, height) if status.stage >= Stage.FINAL else None
    except Stop as stop:  # what was written stands, whether it can be read already or not
        say(f"{stop.problem}.")
        read = None
    if read is None:
        show_status(status, as_json, proposal=proposal_id.hex())
        say(f"How it stands: `lossbook governance show {proposal_id.hex()}`.")
        return
    _show(read, as_json, extra=status_document(status))


def _read(session: Client, proposal_id: bytes, height_min: int = 0) -> tuple[Found, Network] | None:
    """A proposal and the network it stands in, proved; None if there is none."""
    from cli.governance.reading import read_network, read_proposal, record_of

    async def read() -> tuple[Found, Network] | None:
        found = await read_proposal(session.query, proposal_id, height_min)
        if found is None:
            return None
        return found, await read_network(session.query, [record_of(found)], found.height)

    return session.run(read())


def _show(
    read: tuple[Found, Network], as_json: bool, proof: str | None = None, extra: dict[str, Any] | None = None
) -> None:
    """A proved proposal, and how it stands."""
    from cli.governance import words
    from cli.governance.reading import record_of
    from cli.governance.standing import standing_of
    from lossbook_sdk.values import render_time

    found, network = read
    record = record_of(found)
    standing = standing_of(record, network)
    if as_json:
        shown = words.document(record, standing, network) | {"proven_at": found.height, "proof": proof}
        emit((extra or {}) | shown)
        return
    asks = record.asks_consent
    facts(
        [
            ("proposal", record.proposal_id.hex()),
            ("what", words.change_in_words(record)),
            *(row for card in words.cards_of(record) for row in words.card_facts(card)),
            ("proposed by", f"{record.ballots[0].organisation}, {render_time(record.ballots[0].time_ms)}"),
            ("expires", render_time(record.expires_ms)),
            ("epoch", record.epoch),
            ("state", standing.state),
            ("yes", f"{', '.join(standing.yes) or '-'} ({len(standing.yes)} of {standing.needed} needed)"),
            ("no", ", ".join(standing.no) or "-"),
            ("not voted", ", ".join(standing.missing) or "-"),
            ("consent", (", ".join(standing.consents) or "not yet") if asks else None),
            ("ready", ", ".join(standing.ready) or "-" if standing.ready_needed else None),
            ("not ready", ", ".join(standing.not_ready) or "-" if standing.ready_needed else None),
            ("proven at", found.height),
            ("proof", proof),
        ]
    )
    click.echo()
    click.echo(words.next_in_words(record, standing, network))


def _show_network(network: dict[str, Any]) -> None:
    facts(
        [
            ("epoch", network["epoch"]),
            ("validators", ", ".join(network["validators"])),
            ("suspended", ", ".join(network["suspended"]) or None),
            ("height", network["height"]),
            ("parameters decided now could apply", f"from block {network['from_height_min']:,}"),
        ]
    )
