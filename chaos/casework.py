"""A claim's operations as an insurer's system writes them, and its record as the model sees it.

All dates lie in the past and are the same for every step, so that neither clocks nor the order of steps decide
anything but the stage; a probe's are a month earlier than the loss.
"""

from __future__ import annotations

import datetime
from typing import Final

from chaos.claim_model import PROBED, Claim, Kind, Request, Stage
from contracts.records import ClaimRecord
from ledger import operations as ops
from ledger.operations import DeclineReason, Line, Operation
from lossbook_sdk.values import days_of

CURRENCY: Final = "USD"
LIMIT_MINOR: Final = 1_000_000
"""Far above every amount of a claim, and below what needs four eyes."""

_START: Final = days_of(datetime.date(2024, 1, 1))
_END: Final = days_of(datetime.date(2024, 12, 31))
_LOSS: Final = days_of(datetime.date(2024, 6, 1))
_BEFORE: Final = days_of(datetime.date(2024, 5, 1))

UNDERWRITER: Final = ("underwriter",)
DESKS: Final = ("handler-1", "finance-1")
"""Who signs every operation on a claim: a claims handler and finance, so that one envelope can hold any step."""


def policy_of(policy_id: bytes) -> ops.PolicyIssue:
    """The policy that claims are notified under."""
    return ops.PolicyIssue(
        policy_id=policy_id,
        subject_id=policy_id,
        line=Line.HOME,
        currency=CURRENCY,
        limit_minor=LIMIT_MINOR,
        deductible_minor=0,
        period_start_days=_START,
        period_end_days=_END,
        asserted_date_days=_START,
    )


def operations_of(request: Request, claim_id: bytes, policy_id: bytes) -> tuple[Operation, ...]:
    """The operations of one envelope: one, or those of a probe."""
    if request.kind is Kind.NOTIFY:
        return (ops.ClaimNotify(claim_id, policy_id, _LOSS, _LOSS),)
    if request.kind is Kind.PROBE:
        return tuple(_step(Request(kind, 1), claim_id, _BEFORE) for kind in PROBED)
    return (_step(request, claim_id, _LOSS),)


def _step(request: Request, claim_id: bytes, date_days: int) -> Operation:
    match request.kind:
        case Kind.REGISTER:
            return ops.ClaimRegister(claim_id, date_days)
        case Kind.ASSESS:
            return ops.ClaimAssess(claim_id, date_days, request.amount)
        case Kind.APPROVE:
            return ops.ClaimApprove(claim_id, date_days, request.amount)
        case Kind.DECLINE:
            return ops.ClaimDecline(claim_id, date_days, DeclineReason.NOT_LIABLE)
        case Kind.PAY:
            return ops.ClaimPay(claim_id, date_days, request.amount, CURRENCY)
        case Kind.CLOSE:
            return ops.ClaimClose(claim_id, date_days)
        case _:
            raise ValueError(f"{request.kind} is not a step")


def claim_of(record: ClaimRecord) -> tuple[Claim, tuple[tuple[int, int], ...]]:
    """The claim, and (height, index) of the operation that made each state it reached."""
    claim = Claim(Stage(record.state), record.assessed_minor, record.approved_minor, record.paid_minor)
    return claim, tuple((step.height, step.index) for step in record.history)
