"""Policies and claims as the state holds them.

Committed as msgpack arrays in the order of the fields; docs/insurance.md repeats the order for
readers in other languages. Every record says which operations made it what it is: ``history``.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from ledger.contract import Context
from ledger.state import Table


class PolicyState(enum.IntEnum):
    """States of a policy (insurance.md); those that later operations lead to get their numbers then."""

    ISSUED = 1


class ClaimState(enum.IntEnum):
    """States of a claim (insurance.md)."""

    NOTIFIED = 1
    REGISTERED = 2
    ASSESSED = 3
    APPROVED = 4
    PARTIALLY_APPROVED = 5
    PAYMENT_DUE = 6
    PAID = 7
    DECLINED = 8
    CLOSED = 9


class Step(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A state reached: when, on which asserted date, by which operation."""

    state: int
    """``PolicyState`` or ``ClaimState``."""
    date_days: int
    """Asserted business date, days since 1970-01-01."""
    time_ms: int
    """Block time, milliseconds since 1970-01-01 UTC."""
    height: int
    """Block that holds the operation."""
    index: int
    """Place of the envelope in the block; with ``height`` it leads to envelope, signers and receipt."""
    operation: int
    """Place of the operation in the envelope."""

    @classmethod
    def from_context(cls, state: int, date_days: int, context: Context) -> Step:
        """The step the current operation makes."""
        return cls(state, date_days, context.time_ms, context.height, context.index, context.operation)


class PolicyRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One policy, under its id."""

    policy_id: bytes
    """16 bytes, chosen by the insurer."""
    insurer: str
    """Id of the organisation that issued it, on whose behalf every operation on it is made."""
    state: int
    """``PolicyState``."""
    subject_id: bytes
    """16 bytes: whom it is about; opaque."""
    line: int
    """``ledger.operations.Line``."""
    currency: str
    """ISO 4217; of the policy and all its claims."""
    limit_minor: int
    """Most that one claim can amount to before the deductible, > 0."""
    deductible_minor: int
    """Borne by the insured in each claim, 0 to below the limit."""
    period_start_days: int
    """First day of cover."""
    period_end_days: int
    """Last day of cover."""
    premium_minor: int | None
    """For the period; None where it is not recorded."""
    history: tuple[Step, ...]
    """Every state reached, oldest first."""

    @property
    def payable_max_minor(self) -> int:
        """Most that is paid for one claim: limit less deductible."""
        return self.limit_minor - self.deductible_minor

    @property
    def issued_date_days(self) -> int:
        """Asserted date of the issue."""
        return self.history[0].date_days


class ClaimRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One claim, under its id. At every height: paid + outstanding = incurred."""

    claim_id: bytes
    """16 bytes, chosen by the insurer."""
    policy_id: bytes
    """16 bytes."""
    insurer: str
    """Id of the policy's insurer."""
    line: int
    """The policy's line, repeated for reporting."""
    currency: str
    """The policy's currency."""
    state: int
    """``ClaimState``."""
    loss_date_days: int
    """Day of the loss, in the policy period."""
    assessed_minor: int
    """What the assessment found payable; 0 before."""
    approved_minor: int
    """What the insurer accepted; 0 before, and where it declined."""
    paid_minor: int
    """Paid so far."""
    outstanding_minor: int
    """Case reserve: expected still to be paid. Assessed, then approved, less paid; 0 once declined or paid."""
    decline_reason: int
    """``ledger.operations.DeclineReason``; 0 where it was not declined."""
    history: tuple[Step, ...]
    """Every state reached, oldest first."""

    @property
    def incurred_minor(self) -> int:
        """Paid and still expected to be paid."""
        return self.paid_minor + self.outstanding_minor

    @property
    def last_date_days(self) -> int:
        """Asserted date of the last step."""
        return self.history[-1].date_days

    def date_of(self, *states: ClaimState) -> int | None:
        """Asserted date on which the first of these states was reached; None if none was."""
        return next((step.date_days for step in self.history if step.state in states), None)


POLICIES: Final = Table(0x10, PolicyRecord, "policies")
CLAIMS: Final = Table(0x11, ClaimRecord, "claims")
