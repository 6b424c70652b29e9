"""One claim as a sequential object: what each operation on it answers, and what it leaves. Pure.

Written from docs/insurance.md, not from the contract, which it is to judge; a test holds the two against each other.
It knows what the clients of a chaos run do: amounts are within every limit, dates are equal, the policy exists. A
PROBE is an envelope of steps that are all dated before the loss, so that none can take effect and each answers
whether the claim's stage allows it: a read that goes through consensus like any write, and is therefore as
linearizable as one.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from ledger.codes import Code


class Kind(enum.StrEnum):
    """What a client asks for."""

    NOTIFY = "notify"
    REGISTER = "register"
    ASSESS = "assess"
    APPROVE = "approve"
    DECLINE = "decline"
    PAY = "pay"
    CLOSE = "close"
    PROBE = "probe"
    """A read through consensus: changes nothing, answers one code for each of ``PROBED``."""
    READ = "read"
    """A read of settled state, when nothing is in flight any more; answers the claim."""


class Stage(enum.IntEnum):
    """How far a claim has come; numbers as in the claim's record."""

    ABSENT = 0
    NOTIFIED = 1
    REGISTERED = 2
    ASSESSED = 3
    APPROVED = 4
    PARTIALLY_APPROVED = 5
    PAYMENT_DUE = 6
    PAID = 7
    DECLINED = 8
    CLOSED = 9


class Claim(NamedTuple):
    """State of one claim; amounts in minor units."""

    stage: Stage = Stage.ABSENT
    assessed: int = 0
    approved: int = 0
    paid: int = 0


class Request(NamedTuple):
    """An operation on a claim."""

    kind: Kind
    amount: int = 0
    """Assessed, approved or paid, minor units; 0 for the others."""


Answer = tuple[int, ...]
"""Codes of the operations of the envelope; for READ the fields of the claim."""

ABSENT: Final = Claim()

PROBED: Final = (Kind.REGISTER, Kind.ASSESS, Kind.APPROVE, Kind.PAY, Kind.CLOSE)
"""Steps of a probe, in order: exactly one of them is allowed at every stage but the last."""

_ALLOWED: Final[dict[Kind, frozenset[Stage]]] = {
    Kind.REGISTER: frozenset({Stage.NOTIFIED}),
    Kind.ASSESS: frozenset({Stage.REGISTERED}),
    Kind.APPROVE: frozenset({Stage.ASSESSED}),
    Kind.DECLINE: frozenset({Stage.ASSESSED}),
    Kind.PAY: frozenset({Stage.PAYMENT_DUE}),
    Kind.CLOSE: frozenset({Stage.APPROVED, Stage.PARTIALLY_APPROVED, Stage.PAID, Stage.DECLINED}),
}


def apply(claim: Claim, request: Request) -> tuple[Claim, Answer]:
    """The claim afterwards, and the answer."""
    if request.kind is Kind.READ:
        return claim, tuple(claim)
    if request.kind is Kind.PROBE:
        return claim, tuple(_probe(claim, kind) for kind in PROBED)
    if request.kind is Kind.NOTIFY:
        if claim.stage is not Stage.ABSENT:
            return claim, (Code.DUPLICATE_ID,)
        return Claim(Stage.NOTIFIED), (Code.OK,)
    after = _step(claim, request)
    return (claim, (after,)) if isinstance(after, Code) else (after, (Code.OK,))


def _probe(claim: Claim, kind: Kind) -> int:
    if claim.stage is Stage.ABSENT:
        return Code.UNKNOWN_CLAIM
    return Code.DATES_OUT_OF_ORDER if claim.stage in _ALLOWED[kind] else Code.ILLEGAL_TRANSITION


def _step(claim: Claim, request: Request) -> Claim | Code:
    if claim.stage is Stage.ABSENT:
        return Code.UNKNOWN_CLAIM
    if claim.stage not in _ALLOWED[request.kind]:
        return Code.ILLEGAL_TRANSITION
    match request.kind:
        case Kind.ASSESS:
            return claim._replace(stage=Stage.ASSESSED, assessed=request.amount)
        case Kind.APPROVE:
            return _approved(claim, request.amount)
        case Kind.PAY:
            if request.amount != claim.approved - claim.paid:
                return Code.AMOUNT_NOT_DUE
            return claim._replace(stage=Stage.PAID, paid=claim.paid + request.amount)
        case Kind.REGISTER:
            return claim._replace(stage=Stage.REGISTERED)
        case Kind.DECLINE:
            return claim._replace(stage=Stage.DECLINED)
        case _:
            return claim._replace(stage=Stage.CLOSED)


def _approved(claim: Claim, amount: int) -> Claim | Code:
    if amount > claim.assessed:
        return Code.ASSESSED_EXCEEDED
    if amount > 0:
        return claim._replace(stage=Stage.PAYMENT_DUE, approved=amount)
    full = claim.assessed == 0
    return claim._replace(stage=Stage.APPROVED if full else Stage.PARTIALLY_APPROVED)
