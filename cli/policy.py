"""``lossbook policy``: issue and read policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.base import fail, group
from cli.options import json_option, passphrase_option, profile_option, write_options
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from contracts.records import PolicyRecord, Step


@group(
    example="lossbook policy issue --line home --limit '300000.00 USD' --deductible '500.00 USD' \\\n"
    "    --from 2025-01-01 --to 2025-12-31"
)
def command() -> None:
    """Policies: issue and read them."""


@command.command(
    example="lossbook policy issue --line home --limit '300000.00 USD' --deductible '500.00 USD' \\\n"
    "    --from 2025-01-01 --to 2025-12-31 --wait proven"
)
@click.option("--line", required=True, help="Line of business: home or auto.")
@click.option("--limit", required=True, metavar="AMOUNT", help="Most that one claim can amount to.")
@click.option("--deductible", required=True, metavar="AMOUNT", help="Borne by the insured in each claim.")
@click.option("--from", "start", required=True, metavar="DATE", help="First day of cover.")
@click.option("--to", "end", required=True, metavar="DATE", help="Last day of cover.")
@click.option("--premium", metavar="AMOUNT", help="For the whole period, where it is recorded.")
@click.option("--date", metavar="DATE", help="Business date of the issue. Default: today (UTC).")
@click.option("--id", "policy_id", metavar="HEX", help="16 bytes. Default: random.")
@click.option("--subject", "subject_id", metavar="HEX", help="Whom it is about, 16 opaque bytes. Default: random.")
@write_options
def issue(
    line: str,
    limit: str,
    deductible: str,
    start: str,
    end: str,
    premium: str | None,
    date: str | None,
    policy_id: str | None,
    subject_id: str | None,
    keys: tuple[str, ...],
    wait: str,
    not_after: int,
    profile_name: str | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Issue a policy. Role of the key: underwriter. Amounts are written '1234.56 USD', dates 2025-01-31."""
    from cli.session import client, show_status, submit, today
    from ledger.organisations import Role
    from lossbook_sdk.client import policy_issue
    from lossbook_sdk.values import parse_id

    operation = policy_issue(
        line=line,
        limit=limit,
        deductible=deductible,
        start=start,
        end=end,
        date=date or today(),
        premium=premium,
        policy_id=parse_id(policy_id, "policy id") if policy_id else None,
        subject_id=parse_id(subject_id, "subject id") if subject_id else None,
    )
    with client(profile_name, passphrase_fd) as session:
        status = submit(session, [operation], role=Role.UNDERWRITER, keys=keys, wait=wait, not_after=not_after)
    show_status(status, as_json, policy=operation.policy_id.hex())
    if not as_json:
        say(f"See it: `lossbook policy show {operation.policy_id.hex()}`.")


@command.command("list", example="lossbook policy list --limit 20")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many.")
@click.option("--all-insurers", is_flag=True, help="Other insurers' policies too.")
@profile_option
@passphrase_option
@json_option
def list_(limit: int, all_insurers: bool, profile_name: str | None, passphrase_fd: int | None, as_json: bool) -> None:
    """List policies by id: an insurer's own; a supervisor sees every insurer's."""
    from cli.session import client, listed, own_business
    from contracts.records import POLICIES
    from ledger.money import render
    from lossbook_sdk.values import name_of_line, render_date

    with client(profile_name, passphrase_fd) as session:
        whose = None if all_insurers else own_business(session)

        def wanted(record: PolicyRecord) -> bool:
            return whose in (None, record.insurer)

        found, more = session.run(listed(session, POLICIES, limit, wanted))
    if as_json:
        emit({"policies": [document(record) for record in found], "more": more})
        return
    table(
        ("policy", "insurer", "line", "state", "from", "to", ">limit", ">deductible"),
        (
            (
                record.policy_id.hex(),
                record.insurer,
                name_of_line(record.line),
                state_name(record),
                render_date(record.period_start_days),
                render_date(record.period_end_days),
                render(record.limit_minor, record.currency),
                render(record.deductible_minor, record.currency),
            )
            for record in found
        ),
    )
    if more:
        say("There are more: raise --limit.")


@command.command(example="lossbook policy show 00112233445566778899aabbccddeeff")
@click.argument("policy_id")
@profile_option
@passphrase_option
@json_option
def show(policy_id: str, profile_name: str | None, passphrase_fd: int | None, as_json: bool) -> None:
    """Show a policy with its history."""
    from cli.session import client
    from contracts.records import POLICIES
    from ledger.money import render
    from lossbook_sdk.values import name_of_line, parse_id, render_date

    wanted = parse_id(policy_id, "policy id")
    with client(profile_name, passphrase_fd) as session:
        found = session.record(POLICIES.prefix + wanted)
    if found is None:
        fail(f"there is no policy {wanted.hex()} (height not given)", "Check the id: `lossbook policy list`")
    record = POLICIES.decode(found.value)
    if as_json:
        emit(document(record) | {"height": found.height})
        return
    facts(
        [
            ("policy", record.policy_id.hex()),
            ("insurer", record.insurer),
            ("state", state_name(record)),
            ("line", name_of_line(record.line)),
            ("subject", record.subject_id.hex()),
            ("limit", render(record.limit_minor, record.currency)),
            ("deductible", render(record.deductible_minor, record.currency)),
            ("premium", render(record.premium_minor, record.currency) if record.premium_minor is not None else None),
            ("cover", f"{render_date(record.period_start_days)} to {render_date(record.period_end_days)}"),
            ("read at height", found.height),
        ]
    )
    click.echo()
    from contracts.records import PolicyState

    history_table(record.history, PolicyState)


def document(record: PolicyRecord) -> dict[str, Any]:
    """A policy as JSON."""
    from contracts.records import PolicyState
    from lossbook_sdk.values import name_of_line, render_date

    return {
        "policy_id": record.policy_id.hex(),
        "insurer": record.insurer,
        "state": state_name(record),
        "line": name_of_line(record.line),
        "subject_id": record.subject_id.hex(),
        "currency": record.currency,
        "limit_minor": record.limit_minor,
        "deductible_minor": record.deductible_minor,
        "premium_minor": record.premium_minor,
        "period_start": render_date(record.period_start_days),
        "period_end": render_date(record.period_end_days),
        "history": history_document(record.history, PolicyState),
    }


def state_name(record: PolicyRecord) -> str:
    """Name of a policy's state; its number where this version does not know it."""
    from contracts.records import PolicyState

    return _named(PolicyState, record.state)


def history_table(history: tuple[Step, ...], states: Any) -> None:
    """Steps of a record, oldest first."""
    from lossbook_sdk.values import render_date, render_time

    table(
        ("state", "business date", "recorded", ">block", ">envelope", ">operation"),
        (
            (
                _named(states, step.state),
                render_date(step.date_days),
                render_time(step.time_ms),
                step.height,
                step.index,
                step.operation,
            )
            for step in history
        ),
    )


def history_document(history: tuple[Step, ...], states: Any) -> list[dict[str, Any]]:
    """Steps as JSON."""
    from lossbook_sdk.values import render_date

    return [
        {
            "state": _named(states, step.state),
            "date": render_date(step.date_days),
            "time_ms": step.time_ms,
            "height": step.height,
            "index": step.index,
            "operation": step.operation,
        }
        for step in history
    ]


def _named(states: Any, number: int) -> str:
    try:
        return str(states(number).name)
    except ValueError:
        return str(number)
