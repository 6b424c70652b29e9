"""What a proposal would change: one plan for each kind, checked first, applied when the vote has passed."""

from __future__ import annotations

from typing import Protocol

from contracts.governance.cards import plan_card_change
from contracts.governance.parameters import plan_parameter_change
from contracts.governance.records import ProposalRecord
from contracts.governance.validators import plan_set_change
from ledger.codes import Code
from ledger.contract import Context, Refused


class Plan(Protocol):
    """A change that was found possible in this state."""

    def apply(self, context: Context) -> None:
        """Write it."""


def plan(proposal: ProposalRecord, context: Context) -> Plan:
    """The change, checked against the state as it is now; refuses what cannot be, or is not exactly one change."""
    changes = (proposal.set_change, proposal.card_change, proposal.parameter_change)
    if sum(change is not None for change in changes) != 1:
        raise Refused(Code.BAD_CHANGE)
    if proposal.set_change is not None:
        return plan_set_change(proposal.set_change, proposal, context)
    if proposal.card_change is not None:
        return plan_card_change(proposal.card_change, context)
    if proposal.parameter_change is not None:
        return plan_parameter_change(proposal.parameter_change, context)
    raise Refused(Code.BAD_CHANGE)
