"""The policy contract. One operation so far: a policy comes into being."""

from __future__ import annotations

from typing import Final

from contracts.guards import (
    check_amount,
    check_asserted_date,
    check_date,
    check_id,
    check_positive,
    currency_rule,
)
from contracts.records import POLICIES, PolicyRecord, PolicyState, Step
from ledger.codes import Code
from ledger.contract import Context, Refused
from ledger.operations import Line, PolicyIssue
from ledger.organisations import Kind, Role

PERIOD_DAYS_MAX: Final = 36_525  #: a hundred years: whole-life cover fits, a date typed wrong does not
LINES: Final = frozenset(Line)


def issue(operation: PolicyIssue, context: Context) -> None:
    """A policy in state ISSUED."""
    # authorise
    context.authority.require_kind(Kind.INSURER)
    context.authority.require(Role.UNDERWRITER)
    # check
    check_id(operation.policy_id)
    check_id(operation.subject_id)
    if operation.line not in LINES:
        raise Refused(Code.UNKNOWN_LINE)
    currency_rule(operation.currency, context)
    _check_amounts(operation)
    _check_period(operation)
    check_asserted_date(operation.asserted_date_days, context)
    if context.view.get(POLICIES, operation.policy_id) is not None:
        raise Refused(Code.DUPLICATE_ID)
    # compute
    record = PolicyRecord(
        policy_id=operation.policy_id,
        insurer=context.authority.organisation,
        state=PolicyState.ISSUED.value,
        subject_id=operation.subject_id,
        line=operation.line,
        currency=operation.currency,
        limit_minor=operation.limit_minor,
        deductible_minor=operation.deductible_minor,
        period_start_days=operation.period_start_days,
        period_end_days=operation.period_end_days,
        premium_minor=operation.premium_minor,
        history=(Step.from_context(PolicyState.ISSUED.value, operation.asserted_date_days, context),),
    )
    # write
    context.view.put(POLICIES, operation.policy_id, record)
    # emit
    context.emit(record)


def own_policy(policy_id: bytes, context: Context) -> PolicyRecord:
    """The policy, if it is the submitting insurer's: BAD_ID, UNKNOWN_POLICY, NOT_YOURS."""
    check_id(policy_id)
    policy = context.view.get(POLICIES, policy_id)
    if policy is None:
        raise Refused(Code.UNKNOWN_POLICY)
    if policy.insurer != context.authority.organisation:
        raise Refused(Code.NOT_YOURS)
    return policy


def _check_amounts(operation: PolicyIssue) -> None:
    check_positive(operation.limit_minor)
    check_amount(operation.deductible_minor)
    if operation.deductible_minor >= operation.limit_minor:
        raise Refused(Code.BAD_LIMIT)
    if operation.premium_minor is not None:
        check_amount(operation.premium_minor)


def _check_period(operation: PolicyIssue) -> None:
    check_date(operation.period_start_days)
    check_date(operation.period_end_days)
    if not 0 <= operation.period_end_days - operation.period_start_days < PERIOD_DAYS_MAX:
        raise Refused(Code.BAD_PERIOD)
