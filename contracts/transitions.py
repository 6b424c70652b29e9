"""Which operation leads a claim from which state to which: the whole table.

NOTIFIED -> REGISTERED -> ASSESSED -> APPROVED | PARTIALLY_APPROVED | DECLINED; with something payable
-> PAYMENT_DUE (by the approval itself) -> PAID -> CLOSED; with nothing payable, and DECLINED -> CLOSED.
"""

from __future__ import annotations

from typing import Final

from contracts.records import ClaimState
from ledger import operations as ops
from ledger.codes import Code
from ledger.contract import Refused

CLAIM_TRANSITIONS: Final[dict[ClaimState, dict[type, frozenset[ClaimState]]]] = {
    ClaimState.NOTIFIED: {ops.ClaimRegister: frozenset({ClaimState.REGISTERED})},
    ClaimState.REGISTERED: {ops.ClaimAssess: frozenset({ClaimState.ASSESSED})},
    ClaimState.ASSESSED: {
        ops.ClaimApprove: frozenset({ClaimState.APPROVED, ClaimState.PARTIALLY_APPROVED, ClaimState.PAYMENT_DUE}),
        ops.ClaimDecline: frozenset({ClaimState.DECLINED}),
    },
    ClaimState.APPROVED: {ops.ClaimClose: frozenset({ClaimState.CLOSED})},
    ClaimState.PARTIALLY_APPROVED: {ops.ClaimClose: frozenset({ClaimState.CLOSED})},
    ClaimState.PAYMENT_DUE: {ops.ClaimPay: frozenset({ClaimState.PAID})},
    ClaimState.PAID: {ops.ClaimClose: frozenset({ClaimState.CLOSED})},
    ClaimState.DECLINED: {ops.ClaimClose: frozenset({ClaimState.CLOSED})},
    ClaimState.CLOSED: {},
}


def check_transition(state: int, operation: type) -> frozenset[ClaimState]:
    """The states this operation may lead to from here, or ILLEGAL_TRANSITION."""
    targets = CLAIM_TRANSITIONS[ClaimState(state)].get(operation)
    if targets is None:
        raise Refused(Code.ILLEGAL_TRANSITION)
    return targets
