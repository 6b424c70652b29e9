"""``lossbook claim``: from the report of a loss to the closed file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cli.base import fail, group
from cli.options import json_option, passphrase_option, profile_option, write_options
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from contracts.records import ClaimRecord
    from ledger.operations import Operation
    from ledger.organisations import Role
    from lossbook_sdk.client import Client


@group(example="lossbook claim notify POLICY_ID --loss 2025-03-01 --date 2025-03-02")
def command() -> None:
    """Claims: notify, register, assess, approve or decline, pay, close.

    Dates are business dates and must not go back. Above the network's four-eyes amount, approval and payment need two
    different keys with the role: give --key twice, or use `lossbook tx`.
    """


def _date_option(function: Any) -> Any:
    return click.option("--date", metavar="DATE", help="Business date of the step. Default: today (UTC).")(function)


@command.command(example="lossbook claim notify 00112233445566778899aabbccddeeff --loss 2025-03-01 --date 2025-03-02")
@click.argument("policy_id")
@click.option("--loss", required=True, metavar="DATE", help="Day of the loss.")
@click.option("--id", "claim_id", metavar="HEX", help="16 bytes. Default: random.")
@_date_option
@write_options
def notify(policy_id: str, loss: str, claim_id: str | None, date: str | None, **options: Any) -> None:
    """A loss is reported under a policy. Role: claims handler."""
    from ledger import operations as ops
    from ledger.organisations import Role
    from lossbook_sdk.values import new_id, parse_date, parse_id

    operation = ops.ClaimNotify(
        claim_id=parse_id(claim_id, "claim id") if claim_id else new_id(),
        policy_id=parse_id(policy_id, "policy id"),
        loss_date_days=parse_date(loss),
        asserted_date_days=_days(date),
    )
    _submit(lambda _: operation, Role.CLAIMS_HANDLER, operation.claim_id, options)


@command.command(example="lossbook claim register 00112233445566778899aabbccddeeff --date 2025-03-03")
@click.argument("claim_id")
@_date_option
@write_options
def register(claim_id: str, date: str | None, **options: Any) -> None:
    """A claim is taken on the books. Role: claims handler."""
    from ledger import operations as ops
    from ledger.organisations import Role

    wanted = _id(claim_id)
    _submit(lambda _: ops.ClaimRegister(wanted, _days(date)), Role.CLAIMS_HANDLER, wanted, options)


@command.command(example="lossbook claim assess 00112233445566778899aabbccddeeff --amount '1234.56 USD'")
@click.argument("claim_id")
@click.option("--amount", required=True, metavar="AMOUNT", help="What would be payable.")
@_date_option
@write_options
def assess(claim_id: str, amount: str, date: str | None, **options: Any) -> None:
    """The loss is valued. Role: claims handler or adjuster."""
    from ledger import operations as ops
    from ledger.organisations import Role

    wanted, days = _id(claim_id), _days(date)
    _submit(
        lambda session: ops.ClaimAssess(wanted, days, _amount_of(session, wanted, amount)),
        Role.CLAIMS_HANDLER,
        wanted,
        options,
    )


@command.command(
    example="lossbook claim approve 00112233445566778899aabbccddeeff --amount '150000.00 USD' \\\n"
    "    --key handler-1 --key handler-2"
)
@click.argument("claim_id")
@click.option("--amount", required=True, metavar="AMOUNT", help="What is accepted; at most what was assessed.")
@_date_option
@write_options
def approve(claim_id: str, amount: str, date: str | None, **options: Any) -> None:
    """The insurer accepts liability, in full or in part. Role: claims handler; two above the four-eyes amount."""
    from ledger import operations as ops
    from ledger.organisations import Role

    wanted, days = _id(claim_id), _days(date)
    _submit(
        lambda session: ops.ClaimApprove(wanted, days, _amount_of(session, wanted, amount)),
        Role.CLAIMS_HANDLER,
        wanted,
        options,
    )


@command.command(example="lossbook claim decline 00112233445566778899aabbccddeeff --reason not-liable")
@click.argument("claim_id")
@click.option("--reason", required=True, help="not-liable or below-deductible.")
@_date_option
@write_options
def decline(claim_id: str, reason: str, date: str | None, **options: Any) -> None:
    """The insurer refuses the claim. Role: claims handler."""
    from ledger import operations as ops
    from ledger.organisations import Role
    from lossbook_sdk.values import parse_reason

    wanted, number = _id(claim_id), parse_reason(reason)
    _submit(lambda _: ops.ClaimDecline(wanted, _days(date), number), Role.CLAIMS_HANDLER, wanted, options)


@command.command(example="lossbook claim pay 00112233445566778899aabbccddeeff --amount '1234.56 USD'")
@click.argument("claim_id")
@click.option("--amount", required=True, metavar="AMOUNT", help="What is paid; exactly what is due.")
@_date_option
@write_options
def pay(claim_id: str, amount: str, date: str | None, **options: Any) -> None:
    """What is due is paid. Role: finance; two above the four-eyes amount."""
    from ledger import operations as ops
    from ledger.organisations import Role
    from lossbook_sdk.values import parse_amount

    wanted, paid = _id(claim_id), parse_amount(amount)
    _submit(lambda _: ops.ClaimPay(wanted, _days(date), paid.minor, paid.currency), Role.FINANCE, wanted, options)


@command.command(example="lossbook claim close 00112233445566778899aabbccddeeff")
@click.argument("claim_id")
@_date_option
@write_options
def close(claim_id: str, date: str | None, **options: Any) -> None:
    """The file is closed. Role: claims handler."""
    from ledger import operations as ops
    from ledger.organisations import Role

    wanted = _id(claim_id)
    _submit(lambda _: ops.ClaimClose(wanted, _days(date)), Role.CLAIMS_HANDLER, wanted, options)


@command.command("list", example="lossbook claim list --state PAYMENT_DUE")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many.")
@click.option("--state", metavar="STATE", help="Only claims in this state, e.g. REGISTERED.")
@click.option("--all-insurers", is_flag=True, help="Other insurers' claims too.")
@profile_option
@passphrase_option
@json_option
def list_(
    limit: int,
    state: str | None,
    all_insurers: bool,
    profile_name: str | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """List claims by id: an insurer's own; a supervisor sees every insurer's."""
    from cli.session import client, listed, own_business
    from contracts.records import CLAIMS, ClaimState
    from ledger.money import render
    from lossbook_sdk.values import name_of_line, render_date

    try:
        number = ClaimState[state.upper().replace("-", "_")].value if state else None
    except KeyError as error:
        known = ", ".join(one.name for one in ClaimState)
        raise click.BadParameter(f"{state!r} is not one of {known}", param_hint="--state") from error
    with client(profile_name, passphrase_fd) as session:
        whose = None if all_insurers else own_business(session)

        def wanted(record: ClaimRecord) -> bool:
            return whose in (None, record.insurer) and number in (None, record.state)

        found, more = session.run(listed(session, CLAIMS, limit, wanted))
    if as_json:
        emit({"claims": [document(record) for record in found], "more": more})
        return
    table(
        ("claim", "insurer", "line", "state", "loss", ">assessed", ">approved", ">paid", ">outstanding"),
        (
            (
                record.claim_id.hex(),
                record.insurer,
                name_of_line(record.line),
                state_name(record),
                render_date(record.loss_date_days),
                render(record.assessed_minor, record.currency),
                render(record.approved_minor, record.currency),
                render(record.paid_minor, record.currency),
                render(record.outstanding_minor, record.currency),
            )
            for record in found
        ),
    )
    if more:
        say("There are more: raise --limit.")


@command.command(example="lossbook claim show 00112233445566778899aabbccddeeff")
@click.argument("claim_id")
@profile_option
@passphrase_option
@json_option
def show(claim_id: str, profile_name: str | None, passphrase_fd: int | None, as_json: bool) -> None:
    """Show a claim with its amounts and history."""
    from cli.policy import history_table
    from cli.session import client
    from contracts.records import CLAIMS, ClaimState
    from ledger.money import render
    from lossbook_sdk.values import name_of_line, render_date

    wanted = _id(claim_id)
    with client(profile_name, passphrase_fd) as session:
        found = session.record(CLAIMS.prefix + wanted)
    if found is None:
        fail(f"there is no claim {wanted.hex()}", "Check the id: `lossbook claim list`")
    record = CLAIMS.decode(found.value)
    if as_json:
        emit(document(record) | {"height": found.height})
        return
    facts(
        [
            ("claim", record.claim_id.hex()),
            ("policy", record.policy_id.hex()),
            ("insurer", record.insurer),
            ("line", name_of_line(record.line)),
            ("state", state_name(record)),
            ("declined", reason_name(record)),
            ("day of loss", render_date(record.loss_date_days)),
            ("assessed", render(record.assessed_minor, record.currency)),
            ("approved", render(record.approved_minor, record.currency)),
            ("paid", render(record.paid_minor, record.currency)),
            ("outstanding", render(record.outstanding_minor, record.currency)),
            ("read at height", found.height),
        ]
    )
    click.echo()
    history_table(record.history, ClaimState)


def document(record: ClaimRecord) -> dict[str, Any]:
    """A claim as JSON."""
    from cli.policy import history_document
    from contracts.records import ClaimState
    from lossbook_sdk.values import name_of_line, render_date

    return {
        "claim_id": record.claim_id.hex(),
        "policy_id": record.policy_id.hex(),
        "insurer": record.insurer,
        "line": name_of_line(record.line),
        "state": state_name(record),
        "declined": reason_name(record),
        "loss_date": render_date(record.loss_date_days),
        "currency": record.currency,
        "assessed_minor": record.assessed_minor,
        "approved_minor": record.approved_minor,
        "paid_minor": record.paid_minor,
        "outstanding_minor": record.outstanding_minor,
        "history": history_document(record.history, ClaimState),
    }


def state_name(record: ClaimRecord) -> str:
    """Name of a claim's state; its number where this version does not know it."""
    from contracts.records import ClaimState

    try:
        return ClaimState(record.state).name
    except ValueError:
        return str(record.state)


def reason_name(record: ClaimRecord) -> str | None:
    """Why it was declined; None where it was not."""
    from ledger.operations import DeclineReason

    if not record.decline_reason:
        return None
    try:
        return DeclineReason(record.decline_reason).name.lower().replace("_", "-")
    except ValueError:
        return str(record.decline_reason)


# ---------------------------------------------------------------- inside


def _submit(make: Callable[[Client], Operation], role: Role, claim_id: bytes, options: dict[str, Any]) -> None:
    from cli.session import client, show_status, submit

    with client(options["profile_name"], options["passphrase_fd"]) as session:
        status = submit(
            session,
            [make(session)],
            role=role,
            keys=options["keys"],
            wait=options["wait"],
            not_after=options["not_after"],
        )
    show_status(status, options["as_json"], claim=claim_id.hex())


def _amount_of(session: Client, claim_id: bytes, text: str) -> int:
    """Minor units, in the claim's own currency: the operation does not name one, so a slip would go unseen."""
    from contracts.records import CLAIMS
    from lossbook_sdk.values import parse_amount

    amount = parse_amount(text)
    found = session.record(CLAIMS.prefix + claim_id)
    if found is not None:
        currency = CLAIMS.decode(found.value).currency
        if currency != amount.currency:
            fail(
                f"the claim is in {currency}, the amount in {amount.currency}; nothing was sent",
                f"Give the amount in {currency}",
            )
    return amount.minor


def _id(text: str) -> bytes:
    from lossbook_sdk.values import parse_id

    return parse_id(text, "claim id")


def _days(text: str | None) -> int:
    from cli.session import today
    from lossbook_sdk.values import parse_date

    return parse_date(text or today())
