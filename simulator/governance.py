"""Admins who change the set of validators while the network is attacked: they propose, vote, and try again.

One change after another, in the order of the plan; the next is proposed once the one before is in force. What an admin
submits may be lost with the gateway that took it, so whatever the state does not show yet is submitted again. Seats
whose node registered no key in time are given one by their admin, as an operator would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from contracts.governance.records import PROPOSALS, ProposalState
from ledger import operations as ops
from ledger.cards import encode_card
from ledger.epochs import find_epoch, membership
from ledger.registrations import registered_key
from simulator.load import LONG_MS, Clients
from simulator.market import FakeMarket
from simulator.node import Node
from simulator.oracles.base import quorum_of
from simulator.plan import Change
from simulator.watch import Watch

if TYPE_CHECKING:
    from simulator.cluster import Cluster

LOOK_EVERY_MS: Final = 120
AGAIN_MS: Final = 1_000
SIZE_MIN: Final = 4
"""Below four members no fault is tolerated, and every plan has one."""


class Governors:
    """See the module text.

    Args:
        changes: what to bring about, in this order.
    """

    def __init__(
        self, cluster: Cluster, market: FakeMarket, watch: Watch, clients: Clients, changes: Sequence[Change]
    ) -> None:
        self._cluster = cluster
        self._market = market
        self._watch = watch
        self._clients = clients
        self._waiting = list(changes)
        self._current: Change | None = None
        self._proposal_id = b""
        self._made_in = 0  #: the epoch in which the current change was proposed
        self._said: dict[tuple[str, int], int] = {}  #: when something was last submitted
        self._stopped = False
        self.in_force: Counter[str] = Counter()  #: changes by kind

    def start(self) -> None:
        """Look from time to time."""
        self._cluster.timeline.after(LOOK_EVERY_MS, self._look)

    def stop(self) -> None:
        """No further change; the current one is brought to its end."""
        self._stopped = True

    @property
    def busy(self) -> bool:
        """Whether a change is under way."""
        return self._current is not None

    def reference(self) -> Node:
        """Who has executed most."""
        known = [node for node in self._cluster.honest if node.life]
        return max(known, key=lambda node: (node.state.height, node.index))

    def sets(self) -> list[tuple[int, set[int]]]:
        """The present set and the one that may follow: how many seats, and which nodes are sure to sign there.

        Who has not registered its next key by now may come too late with it.
        """
        state, index = self.reference().state, self._market.index
        standing = membership(state)
        record, epoch = find_epoch(state, standing.epoch), standing.epoch + 1
        members = record.members if record is not None else ()
        found = [(len(members), {index(seat.organisation) for seat in members if seat.consensus_key})]
        if standing.approved is not None:
            coming = standing.approved.members
            found.append((len(coming), {index(seat.organisation) for seat in coming if seat.consensus_key}))
        elif self._current is not None:
            after = self._after({index(seat.organisation) for seat in members})
            able = {each for each in after if registered_key(state, self._market.member(each), epoch)}
            found.append((len(after), able | set(self._added())))
        return found

    def can_spare(self, node: Node) -> bool:
        """Whether every set that matters keeps a quorum without it."""
        return all(len(able - {node.index}) >= quorum_of(size) for size, able in self.sets())

    # -- the current change ----------------------------------------------------------------------

    def _added(self) -> tuple[int, ...]:
        change = self._current
        return (change.node,) if change is not None and change.kind == "add" else ()

    def _removed(self) -> tuple[int, ...]:
        change = self._current
        return (change.node,) if change is not None and change.kind in ("remove", "suspend") else ()

    def _after(self, members: set[int]) -> set[int]:
        return (members - set(self._removed())) | set(self._added())

    def _set_change(self) -> ops.SetChange:
        change, market = self._current, self._market
        if change is None or change.kind == "rotate":
            return ops.SetChange()
        if change.kind == "add":
            return ops.SetChange(add=(encode_card(market.newcomers[change.node - market.n]),))
        gone = (market.member(change.node),)
        return ops.SetChange(remove=gone) if change.kind == "remove" else ops.SetChange(suspend=gone)

    def _look(self) -> None:
        self._cluster.timeline.after(LOOK_EVERY_MS, self._look)
        state = self.reference().state
        epoch = membership(state).epoch
        record = find_epoch(state, epoch)
        if record is None:
            return
        if self._current is not None and epoch > self._made_in:
            self.in_force[self._current.kind] += 1
            self._current = None
        members = [self._market.index(seat.organisation) for seat in record.members]
        self._begin_next(epoch, set(members))
        if self._current is None:
            return
        self._register(
            epoch, [index for index, seat in zip(members, record.members, strict=True) if not seat.consensus_key]
        )
        found = state.get(PROPOSALS, self._proposal_id)
        if found is None:
            self._propose(epoch, members)
        elif found.state == ProposalState.OPEN:
            voted = {ballot.organisation for ballot in found.ballots}
            for voter in members:
                if self._market.member(voter) not in voted:
                    self._submit("vote", voter, ops.GovernanceVote(self._proposal_id, True))

    def _begin_next(self, epoch: int, members: set[int]) -> None:
        while self._current is None and self._waiting and not self._stopped:
            if self._waiting[0].at_ms > self._cluster.timeline.now_ms:
                return
            change = self._waiting.pop(0)
            self._current = change
            possible = (change.node in members) == (change.kind in ("remove", "suspend")) or change.kind == "rotate"
            if not possible or len(self._after(members)) < SIZE_MIN:
                self._current = None
                continue
            self._made_in = epoch
            self._proposal_id = sha256(b"%d/%s" % (epoch, change.kind.encode())).digest()[:16]
            self._said.clear()
            self._watch.tell("proposed", self._proposal_id, epoch, self._added(), self._removed())

    def _propose(self, epoch: int, members: Sequence[int]) -> None:
        by = members[self._cluster.timeline.now_ms // AGAIN_MS % len(members)]
        expires_ms = self._market.genesis.time_ms + self._cluster.timeline.now_ms + LONG_MS
        proposal = ops.GovernancePropose(self._proposal_id, epoch, expires_ms, set_change=self._set_change())
        self._submit("propose", by, proposal)

    def _register(self, epoch: int, keyless: Sequence[int]) -> None:
        """Their nodes have no key in this epoch that could register the next one."""
        state = self.reference().state
        for index in keyless:
            member, key = self._market.member(index), self._market.epoch_key(index, epoch + 1)
            if not registered_key(state, member, epoch + 1):
                possession = self._market.possession(index, epoch + 1)
                operation = ops.OrganisationRegisterConsensusKey(epoch + 1, key.public, possession)
                self._submit("register", index, operation)

    def _submit(self, what: str, by: int, operation: ops.Operation) -> None:
        """At the own gateway, or another one; not again before it had time to be executed."""
        now_ms = self._cluster.timeline.now_ms
        if now_ms - self._said.get((what, by), -AGAIN_MS) < AGAIN_MS:
            return
        nodes = self._cluster.nodes
        able = [node for node in (nodes[by], *nodes) if node.up and not node.failed and node.signing == "signing"]
        if not able:
            return
        self._said[what, by] = now_ms
        envelope = self._market.decision(
            by, len(self._clients.not_after) + 1, self._market.genesis.time_ms + now_ms + LONG_MS, operation
        )
        self._clients.not_after[envelope.id] = envelope.not_after_ms
        if what != "register":
            self._watch.tell("ballot", envelope.id, self._proposal_id, by)
        able[0].submit(envelope)
