"""Proposing and voting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from contracts.governance.changes import plan
from contracts.governance.records import PROPOSALS, Ballot, ProposalRecord, ProposalState
from contracts.guards import check_id
from ledger.codes import Code
from ledger.contract import Context, Refused
from ledger.epochs import current_epoch
from ledger.operations import GovernancePropose, GovernanceVote
from ledger.organisations import Kind, Role

EXPIRY_AHEAD_MS_MAX: Final = 30 * 86_400_000
"""Thirty days: boards meet within it; a proposal nobody remembers must not pass."""


def propose(operation: GovernancePropose, context: Context) -> None:
    """A proposal with its proposer's vote; decided at once where that vote is enough."""
    # authorise
    context.authority.require(Role.ADMIN)
    epoch, members = _seats(context)
    if context.authority.organisation not in members:
        raise Refused(Code.NOT_A_VALIDATOR)
    # check
    check_id(operation.proposal_id)
    if context.view.get(PROPOSALS, operation.proposal_id) is not None:
        raise Refused(Code.DUPLICATE_ID)
    if operation.epoch != epoch:
        raise Refused(Code.WRONG_EPOCH)
    if not context.time_ms < operation.expires_ms <= context.time_ms + EXPIRY_AHEAD_MS_MAX:
        raise Refused(Code.BAD_EXPIRY)
    # compute
    record = ProposalRecord(
        proposal_id=operation.proposal_id,
        epoch=epoch,
        expires_ms=operation.expires_ms,
        state=ProposalState.OPEN.value,
        set_change=operation.set_change,
        card_change=operation.card_change,
        parameter_change=operation.parameter_change,
        ballots=(Ballot.from_context(True, context),),
        consents=(),
    )
    plan(record, context)
    # write
    _settle(record, members, context)


def vote(operation: GovernanceVote, context: Context) -> None:
    """A validator's vote, or a supervisor's consent; the change takes effect with the deciding one."""
    # authorise
    context.authority.require(Role.ADMIN)
    epoch, members = _seats(context)
    # check
    check_id(operation.proposal_id)
    record = context.view.get(PROPOSALS, operation.proposal_id)
    if record is None:
        raise Refused(Code.UNKNOWN_PROPOSAL)
    votes = context.authority.organisation in members
    if not votes and not (record.asks_consent and context.authority.kind == Kind.SUPERVISOR):
        raise Refused(Code.NOT_A_VALIDATOR)
    _check_open(record, epoch, context)
    # compute
    ballot = Ballot.from_context(operation.approve, context)
    if votes:
        record = msgspec.structs.replace(record, ballots=(*record.ballots, ballot))
    else:
        record = msgspec.structs.replace(record, consents=(*record.consents, ballot))
    # write
    _settle(record, members, context)


def outcome(
    members: Sequence[str], ballots: Sequence[Ballot], consents: Sequence[Ballot], asks_consent: bool
) -> ProposalState:
    """What the ballots come to in this set: passed above two thirds, rejected once that cannot be any more.

    Only members of the set count, each once. Where consent is asked for, it takes one supervisor's, and nobody's no.
    """
    for_it = sum(any(ballot.organisation == name and ballot.approve for ballot in ballots) for name in members)
    against = sum(any(ballot.organisation == name and not ballot.approve for ballot in ballots) for name in members)
    if 3 * (len(members) - against) <= 2 * len(members):
        return ProposalState.REJECTED
    if asks_consent and any(not consent.approve for consent in consents):
        return ProposalState.REJECTED
    if 3 * for_it > 2 * len(members) and (consents or not asks_consent):
        return ProposalState.PASSED
    return ProposalState.OPEN


def _settle(record: ProposalRecord, members: Sequence[str], context: Context) -> None:
    """Write the proposal as its ballots leave it; where it has passed, what it changes as well."""
    state = outcome(members, record.ballots, record.consents, record.asks_consent)
    record = msgspec.structs.replace(record, state=state.value)
    if state is ProposalState.PASSED:
        plan(record, context).apply(context)
    context.view.put(PROPOSALS, record.proposal_id, record)
    # emit
    context.emit(record)


def _seats(context: Context) -> tuple[int, tuple[str, ...]]:
    """The present epoch and the ids of its members."""
    epoch, record = current_epoch(context.view)
    return epoch, tuple(seat.organisation for seat in record.members)


def _check_open(record: ProposalRecord, epoch: int, context: Context) -> None:
    if record.state != ProposalState.OPEN:
        raise Refused(Code.PROPOSAL_CLOSED)
    if record.epoch != epoch:
        raise Refused(Code.WRONG_EPOCH)
    if context.time_ms > record.expires_ms:
        raise Refused(Code.PROPOSAL_EXPIRED)
    by = context.authority.organisation
    if any(ballot.organisation == by for ballot in (*record.ballots, *record.consents)):
        raise Refused(Code.ALREADY_VOTED)
