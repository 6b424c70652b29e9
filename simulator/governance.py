"""Admins who change set, keys and parameters while the network is attacked: they propose, vote, and try again.

One change after another, in the order of the plan; the next is proposed once the one before is in force. What an admin
submits may be lost with the gateway that took it, so whatever the state does not show yet is submitted again. Seats
whose node registered no key in time are given one by their admin, as an operator would; so are those whose node lost
its keys, and suspended ones before they are reinstated.

In a contested plan they are careful, as those who know that f may already be used up: nobody votes before all in the
next set but the f have a key there, and no set is proposed in which more than f of ``Plan.weak`` sit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from contracts.governance.records import PROPOSALS, ProposalRecord, ProposalState
from ledger import operations as ops
from ledger.cards import Card, card_record, encode_card
from ledger.epochs import Seat, find_epoch, membership
from ledger.organisations import CARDS, Role, find_key
from ledger.parameters import ACTIVATION_MARGIN, latest_parameters
from ledger.registrations import registered_key
from ledger.state import State
from simulator.load import LONG_MS, Clients
from simulator.market import FakeMarket
from simulator.node import Node
from simulator.oracles.base import quorum_of
from simulator.plan import SET_CHANGES, Change, Plan
from simulator.signatures import FakeKey
from simulator.watch import Watch

if TYPE_CHECKING:
    from simulator.cluster import Cluster

LOOK_EVERY_MS: Final = 120
AGAIN_MS: Final = 1_000
BLOCKS_UNTIL_DECIDED: Final = 8
"""Between a proposal of parameters and the vote that decides it; if it takes longer, it is made again."""

SIZE_MIN: Final = 4
"""Below four members no fault is tolerated, and every plan has one."""


class Governors:
    """See the module text.

    Args:
        plan: what to bring about, in its order.
    """

    def __init__(self, cluster: Cluster, market: FakeMarket, watch: Watch, clients: Clients, plan: Plan) -> None:
        self._cluster = cluster
        self._market = market
        self._watch = watch
        self._clients = clients
        self._waiting = list(plan.changes)
        self._weak = plan.weak
        self._careful = plan.contested
        self._random = Random(f"{cluster.seed}/governors")
        self._number = 0  #: of the current change
        self._card: Card | None = None  #: what the current change puts in place of another
        self._activates: int | None = None  #: height from which parameters hold that were decided
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
        return (change.node,) if change is not None and change.kind in ("add", "reinstate") else ()

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
        named = (market.member(change.node),)
        match change.kind:
            case "remove":
                return ops.SetChange(remove=named)
            case "suspend":
                return ops.SetChange(suspend=named)
            case _:
                return ops.SetChange(reinstate=named)

    def _look(self) -> None:
        self._cluster.timeline.after(LOOK_EVERY_MS, self._look)
        state = self.reference().state
        epoch = membership(state).epoch
        record = find_epoch(state, epoch)
        if record is None:
            return
        self._settle(state, epoch)
        members = [self._market.index(seat.organisation) for seat in record.members]
        self._begin_next(epoch, set(members))
        if self._current is None:
            return
        keyless = [
            index for index, seat in zip(members, record.members, strict=True) if not self._able(index, epoch, seat)
        ]
        suspended = [self._market.index(each) for each in membership(state).suspended] if self._careful else []
        self._register(epoch, [*keyless, *suspended])
        if self._current.kind == "key":
            self._change_key(self._current.node)
            return
        if self._careful and self._current.kind in SET_CHANGES and not self._all_have_keys(state, epoch, set(members)):
            return
        found = state.get(PROPOSALS, self._proposal_id)
        if found is not None and found.parameter_change is not None and self._comes_too_late(state, found):
            self._number += 1
            self._name(epoch, self._current)
            found = None
        if found is None:
            self._propose(epoch, members)
        elif found.state == ProposalState.OPEN:
            voted = {ballot.organisation for ballot in found.ballots}
            for voter in members:
                if self._market.member(voter) not in voted:
                    self._submit("vote", voter, ops.GovernanceVote(self._proposal_id, True))

    def _settle(self, state: State, epoch: int) -> None:
        """Whether the current change has come about."""
        if self._activates is not None and state.height >= self._activates:
            self._activates = None
            self.in_force["parameters"] += 1
        change, market = self._current, self._market
        if change is None:
            return
        match change.kind:
            case "card":
                held = state.get(CARDS, market.member(change.node).encode())
                done = self._card is not None and held == card_record(self._card)
            case "key":
                key, _ = market.next_desk_key(change.node, self._number)
                done = find_key(state, key.public) is not None
                if done:
                    self._clients.keys[change.node] = (key, *self._desk(change.node)[1:])
            case "parameters":
                found = state.get(PROPOSALS, self._proposal_id)
                done = found is not None and found.state == ProposalState.PASSED
                if found is not None and done and found.parameter_change is not None:
                    self._activates = found.parameter_change.activation_height
            case _:
                done = epoch > self._made_in
        if done:
            if change.kind != "parameters":
                self.in_force[change.kind] += 1
            self._current = None

    def _able(self, index: int, epoch: int, seat: Seat) -> bool:
        """Whether a member's node can register its own next key."""
        node = self._cluster.nodes[index]
        return bool(seat.consensus_key) and (
            not self._careful or node.keys.sign_for(epoch, seat.consensus_key) is not None
        )

    def _all_have_keys(self, state: State, epoch: int, members: set[int]) -> bool:
        """Everybody of the next set but those who may lie or forget; who is added brings a key."""
        change = self._current
        added = {change.node} if change is not None and change.kind == "add" else set[int]()
        sure = self._after(members) - added - self._weak
        return all(registered_key(state, self._market.member(each), epoch + 1) for each in sure)

    def _is_possible(self, change: Change, members: set[int], suspended: Sequence[str]) -> bool:
        """What the rules allow, and no set with more than f who may lie or forget."""
        match change.kind:
            case "add":
                possible = change.node not in members
            case "remove" | "suspend":
                possible = change.node in members
            case "reinstate":
                possible = self._market.member(change.node) in suspended
            case _:
                possible = True
        after = self._after(members)
        size = len(after)
        possible = possible and size >= SIZE_MIN
        return possible and (not self._careful or len(after & self._weak) <= size - quorum_of(size))

    def _desk(self, index: int) -> tuple[FakeKey, ...]:
        return self._clients.keys.get(index, self._market.desks[index].keys)

    def _change_key(self, index: int) -> None:
        """An organisation's own admin puts one signing key in another's place; nobody votes on that."""
        key, possession = self._market.next_desk_key(index, self._number)
        roles, drop = int(Role.UNDERWRITER), self._desk(index)[0].public
        self._submit("key", index, ops.OrganisationChangeKey(key.public, roles, drop, possession))

    def _begin_next(self, epoch: int, members: set[int]) -> None:
        while self._current is None and self._waiting and not self._stopped:
            if self._waiting[0].at_ms > self._cluster.timeline.now_ms:
                return
            change = self._waiting.pop(0)
            self._current = change
            if not self._is_possible(change, members, membership(self.reference().state).suspended):
                self._current = None
                continue
            self._made_in = epoch
            self._number += 1
            self._name(epoch, change)
            if change.kind == "card":
                self._card = self._market.next_card(change.node, 1 + self._number, self._desk(change.node))
            if change.kind in SET_CHANGES:
                self._watch.tell("proposed", self._proposal_id, epoch, self._added(), self._removed())

    def _name(self, epoch: int, change: Change) -> None:
        """A proposal of its own for each change; of the set there is one in an epoch."""
        name = change.kind if change.kind in SET_CHANGES else f"{change.kind}/{self._number}"
        self._proposal_id = sha256(b"%d/%s" % (epoch, name.encode())).digest()[:16]
        self._said.clear()

    def _comes_too_late(self, state: State, found: ProposalRecord) -> bool:
        """Parameters that would hold from a height that is too near by now: the deciding vote is refused for ever."""
        change = found.parameter_change
        if found.state != ProposalState.OPEN or change is None:
            return False
        k_max = max(latest_parameters(state)[1].k_max, *(each.value for each in change.numbers if each.name == "k_max"))
        return change.activation_height < state.height + k_max + ACTIVATION_MARGIN

    def _propose(self, epoch: int, members: Sequence[int]) -> None:
        by = members[self._cluster.timeline.now_ms // AGAIN_MS % len(members)]
        expires_ms = self._market.genesis.time_ms + self._cluster.timeline.now_ms + LONG_MS
        proposal = ops.GovernancePropose(self._proposal_id, epoch, expires_ms)
        match self._current.kind if self._current is not None else "":
            case "card" if self._card is not None:
                proposal = msgspec.structs.replace(proposal, card_change=ops.CardChange(encode_card(self._card)))
            case "parameters":
                proposal = msgspec.structs.replace(proposal, parameter_change=self._parameters())
            case _:
                proposal = msgspec.structs.replace(proposal, set_change=self._set_change())
        self._submit("propose", by, proposal)

    def _parameters(self) -> ops.ParameterChange:
        """Execution may lag further behind, or less far; batches are smaller, blocks less frequent."""
        state, random = self.reference().state, self._random
        _, before = latest_parameters(state)
        numbers = {
            "k_max": random.choice((2, 5, 9)),
            "batch_bytes_max": random.choice((4 << 10, 64 << 10)),
            "block_interval_ms": random.choice((0, 20, 150)),
        }
        height = state.height + max(before.k_max, numbers["k_max"]) + ACTIVATION_MARGIN + BLOCKS_UNTIL_DECIDED
        return ops.ParameterChange(height, "", tuple(ops.NumberParameter(*each) for each in numbers.items()))

    def _register(self, epoch: int, keyless: Sequence[int]) -> None:
        """Their nodes have no key in this epoch that could register the next one."""
        state = self.reference().state
        for index in keyless:
            made = self._cluster.nodes[index].made
            member, key = self._market.member(index), self._market.epoch_key(index, epoch + 1, made)
            held = registered_key(state, member, epoch + 1)
            if held != key.public if self._careful else not held:
                possession = self._market.possession(index, epoch + 1, made)
                operation = ops.OrganisationRegisterConsensusKey(epoch + 1, key.public, possession)
                self._submit("register", index, operation)

    def _submit(self, what: str, by: int, operation: ops.Operation) -> None:
        """At the own gateway, or another one; not again before it had time to be executed."""
        now_ms = self._cluster.timeline.now_ms
        if now_ms - self._said.get((what, by), -AGAIN_MS) < AGAIN_MS:
            return
        nodes = self._cluster.nodes
        able = [node for node in (nodes[by], *nodes) if node.up and not node.failed and node.signing == "signing"]
        if self._careful:  # a gateway that lies may withhold it for ever
            able = [node for node in able if node.honest]
        if not able:
            return
        self._said[what, by] = now_ms
        envelope = self._market.decision(
            by, len(self._clients.not_after) + 1, self._market.genesis.time_ms + now_ms + LONG_MS, operation
        )
        self._clients.not_after[envelope.id] = envelope.not_after_ms
        if isinstance(operation, ops.GovernancePropose) and operation.parameter_change is not None:
            change = operation.parameter_change
            limit = next(each.value for each in change.numbers if each.name == "k_max")
            self._watch.tell("limit", envelope.id, operation.epoch, change.activation_height, limit)
        if what in ("propose", "vote"):
            self._watch.tell("ballot", envelope.id, self._proposal_id, by)
        able[0].submit(envelope)
