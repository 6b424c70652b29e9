"""The claim contract: from the report of a loss to the closed file.

Dates are the insurer's assertions and must not go back: loss <= report <= ... <= payment <= close <=
date of the block (UTC). Payable is at most the policy's limit less its deductible, checked at
assessment, approval and payment. Above the network's four-eyes amount, approval and payment each
need two distinct keys with the role.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.guards import (
    check_amount,
    check_asserted_date,
    check_date,
    check_id,
    check_not_before,
    check_positive,
    currency_rule,
)
from contracts.policy import own_policy
from contracts.records import CLAIMS, POLICIES, ClaimRecord, ClaimState, Step
from contracts.transitions import check_transition
from ledger import operations as ops
from ledger.codes import Code
from ledger.contract import Context, Refused
from ledger.invariant import InvariantViolated
from ledger.operations import DeclineReason
from ledger.organisations import Kind, Role

DECLINE_REASONS: Final = frozenset(DeclineReason)
ASSESSORS: Final = Role.ADJUSTER | Role.CLAIMS_HANDLER


def notify(operation: ops.ClaimNotify, context: Context) -> None:
    """A loss is reported under a policy: NOTIFIED."""
    # authorise
    context.authority.require_kind(Kind.INSURER)
    context.authority.require(Role.CLAIMS_HANDLER)
    policy = own_policy(operation.policy_id, context)
    # check
    check_id(operation.claim_id)
    check_date(operation.loss_date_days)
    check_asserted_date(operation.asserted_date_days, context)
    check_not_before(operation.asserted_date_days, operation.loss_date_days)
    if not policy.period_start_days <= operation.loss_date_days <= policy.period_end_days:
        raise Refused(Code.LOSS_OUTSIDE_PERIOD)
    if context.view.get(CLAIMS, operation.claim_id) is not None:
        raise Refused(Code.DUPLICATE_ID)
    # compute
    claim = ClaimRecord(
        claim_id=operation.claim_id,
        policy_id=policy.policy_id,
        insurer=policy.insurer,
        line=policy.line,
        currency=policy.currency,
        state=ClaimState.NOTIFIED.value,
        loss_date_days=operation.loss_date_days,
        assessed_minor=0,
        approved_minor=0,
        paid_minor=0,
        outstanding_minor=0,
        decline_reason=0,
        history=(Step.from_context(ClaimState.NOTIFIED.value, operation.asserted_date_days, context),),
    )
    # write
    context.view.put(CLAIMS, operation.claim_id, claim)
    # emit
    context.emit(claim)


def register(operation: ops.ClaimRegister, context: Context) -> None:
    """The claim is taken on the books: REGISTERED."""
    # authorise
    claim = _own_claim(operation.claim_id, Role.CLAIMS_HANDLER, context)
    # check
    _check_step(claim, operation, context)
    # compute
    claim = _moved(claim, operation.asserted_date_days, context, ClaimState.REGISTERED)
    # write
    context.view.put(CLAIMS, operation.claim_id, claim)
    # emit
    context.emit(claim)


def assess(operation: ops.ClaimAssess, context: Context) -> None:
    """The loss is valued: ASSESSED; the case reserve becomes the assessed amount."""
    # authorise
    claim = _own_claim(operation.claim_id, ASSESSORS, context)
    # check
    _check_step(claim, operation, context)
    check_amount(operation.assessed_minor)
    _check_payable(operation.assessed_minor, claim, context)
    # compute
    claim = _moved(
        claim,
        operation.asserted_date_days,
        context,
        ClaimState.ASSESSED,
        assessed_minor=operation.assessed_minor,
        outstanding_minor=operation.assessed_minor,
    )
    # write
    context.view.put(CLAIMS, operation.claim_id, claim)
    # emit
    context.emit(claim)


def approve(operation: ops.ClaimApprove, context: Context) -> None:
    """The insurer accepts liability, in full (APPROVED) or in part; what is payable falls due at once."""
    # authorise
    claim = _own_claim(operation.claim_id, Role.CLAIMS_HANDLER, context)
    _check_four_eyes(operation.approved_minor, Role.CLAIMS_HANDLER, claim, context)
    # check
    _check_step(claim, operation, context)
    check_amount(operation.approved_minor)
    if operation.approved_minor > claim.assessed_minor:
        raise Refused(Code.ASSESSED_EXCEEDED)
    _check_payable(operation.approved_minor, claim, context)
    # compute
    full = operation.approved_minor == claim.assessed_minor
    decided = ClaimState.APPROVED if full else ClaimState.PARTIALLY_APPROVED
    reached = (decided, ClaimState.PAYMENT_DUE) if operation.approved_minor else (decided,)
    claim = _moved(
        claim,
        operation.asserted_date_days,
        context,
        *reached,
        approved_minor=operation.approved_minor,
        outstanding_minor=operation.approved_minor,
    )
    # write
    context.view.put(CLAIMS, operation.claim_id, claim)
    # emit
    context.emit(claim)


def decline(operation: ops.ClaimDecline, context: Context) -> None:
    """The insurer refuses, with its reason: DECLINED; nothing is reserved any more."""
    # authorise
    claim = _own_claim(operation.claim_id, Role.CLAIMS_HANDLER, context)
    # check
    _check_step(claim, operation, context)
    if operation.reason not in DECLINE_REASONS:
        raise Refused(Code.UNKNOWN_REASON)
    # compute
    claim = _moved(
        claim,
        operation.asserted_date_days,
        context,
        ClaimState.DECLINED,
        decline_reason=operation.reason,
        outstanding_minor=0,
    )
    # write
    context.view.put(CLAIMS, operation.claim_id, claim)
    # emit
    context.emit(claim)


def pay(operation: ops.ClaimPay, context: Context) -> None:
    """What is due is paid: PAID."""
    # authorise
    claim = _own_claim(operation.claim_id, Role.FINANCE, context)
    _check_four_eyes(operation.amount_minor, Role.FINANCE, claim, context)
    # check
    _check_step(claim, operation, context)
    currency_rule(operation.currency, context)
    if operation.currency != claim.currency:
        raise Refused(Code.CURRENCY_MISMATCH)
    check_positive(operation.amount_minor)
    _check_payable(operation.amount_minor, claim, context)
    if operation.amount_minor != claim.outstanding_minor:
        raise Refused(Code.AMOUNT_NOT_DUE)
    # compute
    claim = _moved(
        claim,
        operation.asserted_date_days,
        context,
        ClaimState.PAID,
        paid_minor=claim.paid_minor + operation.amount_minor,
        outstanding_minor=claim.outstanding_minor - operation.amount_minor,
    )
    # write
    context.view.put(CLAIMS, operation.claim_id, claim)
    # emit
    context.emit(claim)


def close(operation: ops.ClaimClose, context: Context) -> None:
    """The file is closed: CLOSED."""
    # authorise
    claim = _own_claim(operation.claim_id, Role.CLAIMS_HANDLER, context)
    # check
    _check_step(claim, operation, context)
    # compute
    claim = _moved(claim, operation.asserted_date_days, context, ClaimState.CLOSED)
    # write
    context.view.put(CLAIMS, operation.claim_id, claim)
    # emit
    context.emit(claim)


_StepOperation = (
    ops.ClaimRegister | ops.ClaimAssess | ops.ClaimApprove | ops.ClaimDecline | ops.ClaimPay | ops.ClaimClose
)


def _own_claim(claim_id: bytes, roles: Role, context: Context) -> ClaimRecord:
    """The claim, for an insurer that signed with one of the roles and issued its policy."""
    context.authority.require_kind(Kind.INSURER)
    context.authority.require(roles)
    check_id(claim_id)
    claim = context.view.get(CLAIMS, claim_id)
    if claim is None:
        raise Refused(Code.UNKNOWN_CLAIM)
    if claim.insurer != context.authority.organisation:
        raise Refused(Code.NOT_YOURS)
    return claim


def _check_four_eyes(amount_minor: int, role: Role, claim: ClaimRecord, context: Context) -> None:
    """Strictly above the network's amount for the currency, two distinct keys with the role must sign."""
    if amount_minor > currency_rule(claim.currency, context).four_eyes_minor:
        context.authority.require_two(role)


def _check_step(claim: ClaimRecord, operation: _StepOperation, context: Context) -> None:
    """The state allows the step, and its date neither goes back nor lies ahead of the block."""
    check_transition(claim.state, type(operation))
    check_asserted_date(operation.asserted_date_days, context)
    check_not_before(operation.asserted_date_days, claim.last_date_days)


def _check_payable(amount_minor: int, claim: ClaimRecord, context: Context) -> None:
    """PAYMENT_ABOVE_LIMIT above the policy's limit less deductible."""
    policy = context.view.get(POLICIES, claim.policy_id)
    if policy is None:
        raise InvariantViolated(f"claim {claim.claim_id.hex()} has no policy")
    if amount_minor > policy.payable_max_minor:
        raise Refused(Code.PAYMENT_ABOVE_LIMIT)


def _moved(claim: ClaimRecord, date_days: int, context: Context, *reached: ClaimState, **amounts: int) -> ClaimRecord:
    """The claim after reaching these states in one operation, with new amounts."""
    steps = [Step.from_context(state.value, date_days, context) for state in reached]
    return msgspec.structs.replace(claim, state=reached[-1].value, history=(*claim.history, *steps), **amounts)
