"""Changes of the validator set: who will sit in it, checked and handed to readiness."""

from __future__ import annotations

import msgspec

from contracts.governance.cards import check_cards, put_card
from contracts.governance.records import ProposalRecord
from ledger.cards import Card
from ledger.codes import Code
from ledger.contract import Context, Refused
from ledger.epochs import (
    MEMBERSHIP,
    VALIDATORS_MAX,
    VALIDATORS_MIN,
    PassedChange,
    current_epoch,
    membership,
)
from ledger.operations import SetChange
from ledger.registrations import register


class SetPlan(msgspec.Struct, frozen=True):
    """The next set, before its members are ready."""

    change: PassedChange
    cards: tuple[Card, ...]
    """Of those who are added."""

    def apply(self, context: Context) -> None:
        """See Plan. A change that passed before and still waits for readiness gives way: the later decision stands."""
        view, standing = context.view, membership(context.view)
        for card in self.cards:
            put_card(card, view)
            register(view, card.id, standing.epoch + 1, card.consensus_key, context.height)
        view.put(MEMBERSHIP, b"", msgspec.structs.replace(standing, passed=self.change))


def plan_set_change(change: SetChange, proposal: ProposalRecord, context: Context) -> SetPlan:
    """Refuses EPOCH_ENDING, BAD_CHANGE, the codes of cards, NOT_IN_SET, NOT_SUSPENDED, ALREADY_IN_SET, SET_SIZE."""
    standing = membership(context.view)
    if standing.approved is not None:
        raise Refused(Code.EPOCH_ENDING)
    _, epoch = current_epoch(context.view)
    cards = check_cards(change.add, context.view, with_consensus_key=True)
    added = tuple(card.id for card in cards)
    _check_named(change, added)
    seated = tuple(seat.organisation for seat in epoch.members)
    _check_standing(change, added, seated, standing.suspended)
    leaving = (*change.remove, *change.suspend)
    staying = tuple(name for name in seated if name not in leaving)
    members = tuple(sorted((*staying, *added, *change.reinstate)))
    if not VALIDATORS_MIN <= len(members) <= VALIDATORS_MAX:
        raise Refused(Code.SET_SIZE)
    back = (*added, *change.reinstate, *change.remove)
    still = tuple(name for name in standing.suspended if name not in back)
    suspended = tuple(sorted((*still, *change.suspend)))
    passed = PassedChange(
        proposal_id=proposal.proposal_id,
        passed_height=context.height,
        expires_ms=proposal.expires_ms,
        members=members,
        ready=(),
        suspended=suspended,
    )
    return SetPlan(passed, cards)


def _check_named(change: SetChange, added: tuple[str, ...]) -> None:
    named = (*added, *change.remove, *change.suspend, *change.reinstate)
    if len(frozenset(named)) != len(named):
        raise Refused(Code.BAD_CHANGE)


def _check_standing(
    change: SetChange, added: tuple[str, ...], seated: tuple[str, ...], suspended: tuple[str, ...]
) -> None:
    if any(name not in seated and name not in suspended for name in change.remove):
        raise Refused(Code.NOT_IN_SET)
    if any(name not in seated for name in change.suspend):
        raise Refused(Code.NOT_IN_SET)
    if any(name not in suspended for name in change.reinstate):
        raise Refused(Code.NOT_SUSPENDED)
    if any(name in seated for name in added):
        raise Refused(Code.ALREADY_IN_SET)
