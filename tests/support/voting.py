"""Governance on a ledger in memory: the market proposes, votes, registers keys, declares itself ready, changes sets."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec

from contracts.governance.records import PROPOSALS, ProposalRecord
from crypto.keys import SigningKey
from ledger import operations as ops
from ledger.cards import encode_card, sign_card
from ledger.codes import Code
from ledger.epochs import approved_change, current_epoch, membership
from ledger.readiness import declare_ready, ready_member
from ledger.registrations import possession_message, register, registered_key
from tests.support.insurers import INSURERS, Ledger, Organisation, key_of

DAY_MS = 86_400_000
NEWCOMER = Organisation("newcomer", "insurer")


def proposal_id(name: str) -> bytes:
    """The same 16 bytes for a name."""
    return sha256(name.encode()).digest()[:16]


def next_key(organisation: str, epoch: int) -> SigningKey:
    """Consensus key of an organisation in a later epoch."""
    return key_of(organisation, "consensus", str(epoch))


def seat_card(organisation: Organisation, **changes: object) -> bytes:
    """Card file of one that wants a seat."""
    return encode_card(organisation.card(**changes))


def plain_card(organisation: Organisation, **changes: object) -> bytes:
    """Card file without a consensus key."""
    body = organisation.body(**({"consensus_key": ""} | changes))
    return encode_card(sign_card(body, organisation.ledger_key))


class Assembly:
    """The validators of a ledger, acting together."""

    def __init__(self, ledger: Ledger | None = None, validators: Sequence[Organisation] = INSURERS) -> None:
        self.ledger = ledger or Ledger()
        self.known = {organisation.id: organisation for organisation in (*validators, NEWCOMER)}

    @property
    def epoch(self) -> int:
        """The present one."""
        return current_epoch(self.ledger.state)[0]

    @property
    def seats(self) -> list[str]:
        """Ids of the present validators."""
        return [seat.organisation for seat in current_epoch(self.ledger.state)[1].members]

    def code(self, operation: ops.Operation, by: Organisation, desks: Sequence[str] = ("admin",)) -> int:
        """Outcome of one operation of an admin."""
        return self.ledger.code(operation, by=by, desks=desks)

    def proposal(
        self,
        name: str,
        change: ops.SetChange | ops.CardChange | ops.ParameterChange | None,
        *,
        epoch: int | None = None,
        for_ms: int = DAY_MS,
    ) -> ops.GovernancePropose:
        """A proposal of this change."""
        return ops.GovernancePropose(
            proposal_id(name),
            self.epoch if epoch is None else epoch,
            self.ledger.time_ms + for_ms,
            set_change=change if isinstance(change, ops.SetChange) else None,
            card_change=change if isinstance(change, ops.CardChange) else None,
            parameter_change=change if isinstance(change, ops.ParameterChange) else None,
        )

    def propose(self, name: str, change: ops.SetChange | ops.CardChange | ops.ParameterChange) -> int:
        """The first validator proposes it; the outcome."""
        return self.code(self.proposal(name, change), self.known[self.seats[0]])

    def vote(self, name: str, by: str, *, approve: bool = True) -> int:
        """One validator votes; the outcome."""
        return self.code(ops.GovernanceVote(proposal_id(name), approve), self.known[by])

    def record(self, name: str) -> ProposalRecord:
        """The proposal as it stands."""
        record = self.ledger.state.get(PROPOSALS, proposal_id(name))
        assert record is not None
        return record

    def pass_(self, name: str, change: ops.SetChange | ops.CardChange | ops.ParameterChange) -> None:
        """Proposed by the first validator, voted for by as many as it takes, in signer order."""
        assert self.propose(name, change) == Code.OK
        for voter in self.seats[1:]:
            if self.record(name).state == 1:
                assert self.vote(name, voter) == Code.OK
        assert self.record(name).state == 2

    def register_keys(self, *without: str) -> None:
        """Every validator but these registers its key of the next epoch, as its node would."""
        for seat in self.seats:
            if seat not in without:
                self.register_key(seat)

    def register_key(self, organisation: str) -> None:
        """One of them; takes a block, as the state has no open writes between blocks."""
        height = self.ledger.state.height + 1
        register(self.ledger.state, organisation, self.epoch + 1, next_key(organisation, self.epoch + 1).public, height)
        self.ledger.block()

    def registration_by_admin(
        self, organisation: Organisation, key: SigningKey
    ) -> ops.OrganisationRegisterConsensusKey:
        """What an admin submits for a node that cannot sign for itself."""
        epoch = self.epoch + 1
        message = possession_message(self.ledger.genesis.chain_id, epoch, organisation.id, key.public)
        return ops.OrganisationRegisterConsensusKey(epoch, key.public, key.sign(message))

    def ready(self, *members: str) -> list[str]:
        """These members of the next set declare themselves ready, each in a block; those that counted."""
        counted = []
        for name in members:
            state, passed = self.ledger.state, membership(self.ledger.state).passed
            key = registered_key(state, name, self.epoch + 1)
            who = passed and ready_member(state, self.epoch, passed.proposal_id, key, self.ledger.time_ms)
            if who:
                declare_ready(state, who, state.height + 1)
                counted.append(who)
            self.ledger.block()
        return counted

    def end_epoch(self) -> None:
        """Execute the boundary block of the approved change."""
        change = approved_change(self.ledger.state)
        assert change is not None
        block = self.ledger.executable()
        digest = sha256(block.height.to_bytes(8, "big")).digest()
        block = msgspec.structs.replace(block, digest=digest, next_valset_hash=change.next_valset_hash)
        self.ledger.store.commit(self.ledger.execution.run(block).writes)

    def change_set(self, name: str, change: ops.SetChange) -> None:
        """All of it: keys, votes, readiness, boundary."""
        self.register_keys()
        self.pass_(name, change)
        passed = membership(self.ledger.state).passed
        assert passed is not None
        self.ready(*passed.members)
        self.end_epoch()
