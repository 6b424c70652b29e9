"""The life of one claim of the file, as operations of the ledger."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from cli.demo.data import Row
from ledger import operations as ops
from ledger.operations import DeclineReason, Line, Operation
from lossbook_sdk.values import ID_BYTES, days_of

CURRENCY: Final = "USD"
_LINES: Final = {"Home": Line.HOME, "Auto": Line.AUTO}


class Case(msgspec.Struct, frozen=True, gc=False):
    """A row on the ledger."""

    row: Row
    policy_id: bytes
    claim_id: bytes
    operations: tuple[Operation, ...]


def case_of(row: Row) -> Case:
    """Policy and claim of a row under new random ids; no text, nothing about a person.

    The period is the calendar year of the accident. A claim that is not liable is assessed at nothing and declined; one
    that is liable is assessed and approved at its payment, paid if that is above zero, and closed.
    """
    policy_id, claim_id = secrets.token_bytes(ID_BYTES), secrets.token_bytes(ID_BYTES)
    first = days_of(datetime.date(row.accident.year, 1, 1))
    report, payment, close = days_of(row.report), days_of(row.payment), days_of(row.close)
    found: list[Operation] = [
        ops.PolicyIssue(
            policy_id=policy_id,
            subject_id=secrets.token_bytes(ID_BYTES),
            line=_LINES[row.line],
            currency=CURRENCY,
            limit_minor=row.limit_cents,
            deductible_minor=row.deductible_cents,
            period_start_days=first,
            period_end_days=days_of(datetime.date(row.accident.year, 12, 31)),
            asserted_date_days=first,
        ),
        ops.ClaimNotify(claim_id, policy_id, days_of(row.accident), report),
        ops.ClaimRegister(claim_id, report),
        ops.ClaimAssess(claim_id, payment, row.payment_cents),
    ]
    if row.liable:
        found.append(ops.ClaimApprove(claim_id, payment, row.payment_cents))
        if row.payment_cents > 0:
            found.append(ops.ClaimPay(claim_id, payment, row.payment_cents, CURRENCY))
    else:
        found.append(ops.ClaimDecline(claim_id, payment, DeclineReason.NOT_LIABLE))
    found.append(ops.ClaimClose(claim_id, close))
    return Case(row, policy_id, claim_id, tuple(found))


def count_of(row: Row) -> int:
    """Operations of a row, without making them."""
    return 7 if row.liable and row.payment_cents > 0 else 6


def bundles(rows: Sequence[Row], operations_max: int) -> Iterator[list[Case]]:
    """Cases in bundles of at most so many operations; a row's operations are never parted."""
    bundle: list[Case] = []
    size = 0
    for row in rows:
        case = case_of(row)
        if bundle and size + len(case.operations) > operations_max:
            yield bundle
            bundle, size = [], 0
        bundle.append(case)
        size += len(case.operations)
    if bundle:
        yield bundle


def refused_operation() -> Operation:
    """An operation that the contract refuses: it closes a claim nobody notified."""
    return ops.ClaimClose(secrets.token_bytes(ID_BYTES), 0)
