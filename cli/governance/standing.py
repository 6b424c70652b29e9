"""How a proposal stands: who has voted, what it waits for, from when on it is in force. Pure.

open          it may still be voted for
expired       nobody decided it in time
lapsed        its epoch ended before it was decided
rejected      too many voted against it
readiness     a change of the set that passed: a quorum of the next set has to declare itself ready
boundary      ready: the next block but a few ends the epoch
activation    parameters that wait for their height
in-force      done
superseded    a change of the set that passed, and another one took its place
not-ready     a change of the set that passed, and too few were ready in time
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from contracts.governance.records import ProposalRecord, ProposalState
from ledger.epochs import EpochRecord, MembershipRecord, quorum_of
from ledger.parameters import ACTIVATION_MARGIN

OVER: Final = frozenset({"expired", "lapsed", "rejected", "in-force", "superseded", "not-ready"})
"""States in which nothing further happens to a proposal."""


class Network(msgspec.Struct, frozen=True):
    """What was read of the network beside the proposal."""

    height: int
    """Of the newest state that was read."""
    time_ms: int
    """Block time there, milliseconds since 1970-01-01 UTC."""
    membership: MembershipRecord
    epochs: Mapping[int, EpochRecord]
    """The present epoch's record and those before it, as far as proposals need them."""
    registered: frozenset[str] = frozenset()
    """Of the members of the set that is to come, and of those who are to be reinstated: whose consensus key of the next
    epoch is registered."""
    parameters_height: int = 0
    """Activation height of the last decision on parameters."""
    k_max: int = 0
    """The greatest that may count for an activation: of the active parameters and of those decided last."""

    @property
    def validators(self) -> tuple[str, ...]:
        """Who votes now, in signer order."""
        return members_of(self, self.membership.epoch)

    @property
    def activation_height_min(self) -> int:
        """From when on parameters that were decided in the next block could be active."""
        return max(self.height + 1 + self.k_max + ACTIVATION_MARGIN, self.parameters_height + 1)


class Standing(msgspec.Struct, frozen=True):
    """What can be said of one proposal."""

    state: str
    """One of the words above."""
    needed: int
    """Votes for it that it takes."""
    yes: tuple[str, ...]
    no: tuple[str, ...]
    missing: tuple[str, ...]
    """Validators of its epoch that have not voted."""
    consents: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    """Of supervisors, where consent is asked for."""
    ready: tuple[str, ...] = ()
    not_ready: tuple[str, ...] = ()
    ready_needed: int = 0
    """Members of the next set that have to be ready."""
    without_key: tuple[str, ...] = ()
    """Of those not ready, or to be reinstated: who has no consensus key registered for the next epoch."""
    from_height: int | None = None
    """First block by the new rules, as far as it is known."""
    last_height: int | None = None
    """Parameters: last block that can still decide them for their activation height."""

    @property
    def over(self) -> bool:
        """Whether nothing further happens to it."""
        return self.state in OVER


def members_of(network: Network, epoch: int) -> tuple[str, ...]:
    """Ids of the validators of an epoch; none where its record was not read."""
    record = network.epochs.get(epoch)
    return tuple(seat.organisation for seat in record.members) if record is not None else ()


def standing_of(proposal: ProposalRecord, network: Network) -> Standing:
    """How it stands in this network."""
    members = members_of(network, proposal.epoch)
    yes = tuple(ballot.organisation for ballot in proposal.ballots if ballot.approve)
    no = tuple(ballot.organisation for ballot in proposal.ballots if not ballot.approve)
    counted = Standing(
        state="",
        needed=quorum_of(len(members)) if members else 0,
        yes=yes,
        no=no,
        missing=tuple(name for name in members if name not in (*yes, *no)),
        consents=tuple(each.organisation for each in proposal.consents if each.approve),
        refusals=tuple(each.organisation for each in proposal.consents if not each.approve),
    )
    if proposal.state == ProposalState.REJECTED:
        return msgspec.structs.replace(counted, state="rejected")
    if proposal.state != ProposalState.PASSED:
        return _undecided(proposal, network, counted)
    if proposal.set_change is not None:
        return _set(proposal, network, counted)
    decided = max(ballot.height for ballot in (*proposal.ballots, *proposal.consents))
    height = decided + 1
    if proposal.parameter_change is not None:
        height = proposal.parameter_change.activation_height
    state = "in-force" if network.height + 1 >= height else "activation"
    return msgspec.structs.replace(counted, state=state, from_height=height)


def _undecided(proposal: ProposalRecord, network: Network, counted: Standing) -> Standing:
    if proposal.epoch != network.membership.epoch:
        return msgspec.structs.replace(counted, state="lapsed")
    if network.time_ms > proposal.expires_ms:
        return msgspec.structs.replace(counted, state="expired")
    last = None
    change = proposal.parameter_change
    if change is not None:
        k_max = max([network.k_max, *(one.value for one in change.numbers if one.name == "k_max")])
        last = change.activation_height - k_max - ACTIVATION_MARGIN
        if network.height + 1 > last or change.activation_height <= network.parameters_height:
            return msgspec.structs.replace(counted, state="expired", last_height=last)
    back = proposal.set_change.reinstate if proposal.set_change is not None else ()
    without_key = tuple(name for name in back if name not in network.registered)
    return msgspec.structs.replace(counted, state="open", last_height=last, without_key=without_key)


def _set(proposal: ProposalRecord, network: Network, counted: Standing) -> Standing:
    membership = network.membership
    if membership.epoch > proposal.epoch:
        after = network.epochs.get(proposal.epoch + 1)
        if after is None or after.proposal_id != proposal.proposal_id:
            return msgspec.structs.replace(counted, state="superseded")
        return msgspec.structs.replace(counted, state="in-force", from_height=after.first_height)
    approved, passed = membership.approved, membership.passed
    if approved is not None and approved.proposal_id == proposal.proposal_id:
        return msgspec.structs.replace(counted, state="boundary")
    if passed is None or passed.proposal_id != proposal.proposal_id:
        return msgspec.structs.replace(counted, state="superseded")
    waiting = tuple(name for name in passed.members if name not in passed.ready)
    return msgspec.structs.replace(
        counted,
        state="readiness" if network.time_ms <= passed.expires_ms else "not-ready",
        ready=passed.ready,
        not_ready=waiting,
        ready_needed=quorum_of(len(passed.members)),
        without_key=tuple(name for name in waiting if name not in network.registered),
    )
