"""One seed, from start to verdict.

attack    the plan's faults and liars, under load: nothing wrong may ever be signed or decided
heal      to exactly a quorum of honest nodes that may sign; the rest stays as broken as it is: they must decide
drain     the load stops: what was ACCEPTED becomes PROVEN, or its time has passed
rest      an idle network makes heartbeats, and nothing else
reunite   everybody honest comes back, and ends with the same chain, state and receipts
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from traceback import extract_tb
from typing import Final

import msgspec

from consensus.types import Header
from ledger.known_epochs import KnownEpochs
from ledger.proof_errors import ProofError
from ledger.types import Block
from simulator.adversaries import LIARS
from simulator.cluster import Cluster
from simulator.coverage import FOLLOWED, Coverage
from simulator.faults import Faults
from simulator.governance import Governors
from simulator.load import Clients
from simulator.market import FakeMarket, contested_market, governed_market, market_of
from simulator.model import model_roots
from simulator.network import FAIR
from simulator.node import SETTINGS, Node
from simulator.oracles.base import Violation
from simulator.plan import Plan
from simulator.serving import StoredBlocks, block_at
from simulator.watch import Watch, contested_genesis_block, genesis_block, governed_genesis_block
from simulator.witness import Both, Witness

LIVE_BLOCKS: Final = 4
"""Every healed node finalizes so many more."""

LIVE_MS_MAX: Final = 40_000
DRAIN_MS_MAX: Final = 60_000
REST_HEARTBEATS: Final = 3
SETTLE_MS: Final = 200
"""After a heartbeat, until it is certified and all rest."""

PROVE_MS_MAX: Final = 4_500
"""Less than a heartbeat is away by then, and more than two blocks take with f leaders silent."""

REUNITE_MS_MAX: Final = 60_000
LINGER_MS: Final = 10_000


class Failure(msgspec.Struct, frozen=True):
    """What went wrong."""

    oracle: str
    text: str
    at_ms: int


class Outcome(msgspec.Struct, frozen=True):
    """What one run came to."""

    plan: Plan
    failure: Failure | None
    effects: str
    """SHA-256 over all effects and sends in order, hex."""
    events: int
    simulated_ms: int
    cpu_s: float
    finalized_blocks: int
    checks: int
    faults: dict[str, int]
    coverage: dict[str, int]


class Run:
    """One plan being carried out."""

    def __init__(self, plan: Plan, witnesses: Sequence[Witness] = ()) -> None:
        self.plan = plan
        self.market, genesis = _market(plan)
        liars = {liar.node: LIARS[liar.kind] for liar in plan.liars}
        honest = [index for index in range(plan.n + plan.newcomers) if index not in liars]
        self.watch = Watch(self.market, honest, genesis)
        self.cluster = Cluster(self.market, f"{plan.seed}/{plan.n}", liars=liars)
        self.faults = Faults(self.cluster, self.watch)
        seed = f"{plan.seed}/{plan.n}"
        self.clients = Clients(self.cluster, self.market, plan.load, seed, joined=plan.contested)
        self.governors = Governors(self.cluster, self.market, self.watch, self.clients, plan)
        self.coverage = Coverage(plan, self.faults)
        self.watch.tell("limit", b"", 0, 0, self.market.genesis.parameters.k_max)
        self.cluster.witness = Both((self.watch, self.faults, self.coverage, *witnesses))
        for node in self.cluster.nodes:
            node.pace = plan.pacing
            node.later = node.index in plan.later
            if plan.snapshot_blocks:
                node.settings = msgspec.structs.replace(node.settings, snapshot_blocks=plan.snapshot_blocks)
            if plan.close_bytes:
                node.settings = msgspec.structs.replace(node.settings, close_bytes=plan.close_bytes)
        self.healed: list[Node] = []

    # -- the phases ----------------------------------------------------------------------------------

    def execute(self) -> Failure | None:
        """All phases; the first violation ends it."""
        try:
            self._attack()
            if self.plan.hopeless:
                self._linger()
            else:
                self._heal()
                self._drain()
                self._rest()
                self._reunite()
            self._check_premise()
            self.watch.finish()
        except Violation as violation:
            return Failure(violation.oracle, violation.text, self.cluster.timeline.now_ms)
        except Exception as error:  # noqa: BLE001 - whatever the product raises is a finding
            at = extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__}: {error} ({Path(at.filename).name}:{at.lineno} {at.name})"
            return Failure("defect", told, self.cluster.timeline.now_ms)
        return None

    def _check_premise(self) -> None:
        """What the plan may do to a set: more than f liars and forgetful in one would prove nothing."""
        if self.plan.contested:
            world = self.watch.world
            for epoch, members in world.sets.items():
                weak = self.plan.weak & set(members)
                self._demand(len(weak) <= world.faulty_max(epoch), "premise", f"epoch {epoch} has {len(weak)} faulty")

    def _attack(self) -> None:
        cluster, plan = self.cluster, self.plan
        cluster.network.weather = plan.weather
        self.faults.plan(plan.faults)
        cluster.start()
        self.clients.start()
        if plan.governed:
            self.governors.start()
        cluster.timeline.run(plan.safety_ms)

    def _heal(self) -> None:
        """Exactly a quorum: links, clocks, disks and processes of these are well; nothing else is mended."""
        cluster = self.cluster
        self.faults.healed = True
        self.governors.stop()
        cluster.network.weather = FAIR
        self.healed = self._choose()
        members = [node.index for node in self.healed]
        broken = [node for node in cluster.honest if node not in self.healed]
        for node in broken:
            if node.index % 2:
                cluster.network.isolate(node.index)
            elif node.up:
                node.crash()
        for node in self.healed:
            self._mend(node)
        for node in self.healed:
            cluster.network.rejoin(node.index, [*members, *(liar.node for liar in self.plan.liars)])
        for liar in self.plan.liars:
            self._mend(cluster.nodes[liar.node])
        goal = max((node.finalized_height for node in self.healed), default=0) + LIVE_BLOCKS
        done = cluster.run(LIVE_MS_MAX, lambda: all(node.finalized_height >= goal for node in self.healed))
        self._demand(done, "I12", f"no {LIVE_BLOCKS} blocks within {LIVE_MS_MAX} ms of healing to {members}")
        changed = cluster.run(LIVE_MS_MAX, lambda: not self.governors.busy and self._in_one_epoch())
        self._demand(changed, "set", f"a change of the set that was proposed is not in force {LIVE_MS_MAX} ms after it")

    def _in_one_epoch(self) -> bool:
        return len({node.epoch for node in self.healed}) == 1

    def _linger(self) -> None:
        """All come back to fair weather; whoever may have forgotten votes has to keep quiet as far as it must."""
        self.faults.healed = True
        self.cluster.network.weather = FAIR
        everybody = list(range(self.plan.n))
        for node in self.cluster.nodes:
            self._mend(node)
            self.cluster.network.rejoin(node.index, everybody)
        self.cluster.run(LINGER_MS)

    def _choose(self) -> list[Node]:
        """A quorum of honest nodes; those whose votes may be lost come last.

        Where the set changes, all but one that neither the present set nor the next needs; all where somebody lies or
        forgets besides.
        """
        if self.plan.contested:
            return self.cluster.honest
        if self.plan.governed:
            spare = next(filter(self.governors.can_spare, self.cluster.honest[self.plan.seed % self.plan.n :]), None)
            return [node for node in self.cluster.honest if node is not spare]
        suspect = {fault.node for fault in self.plan.faults if fault.kind in ("flip", "restore", "restore-unmarked")}
        turn = self.plan.seed
        ranked = sorted(
            self.cluster.honest, key=lambda node: (node.index in suspect, (node.index + turn) % self.plan.n)
        )
        return sorted(ranked[: self.watch.world.quorum(self.watch.world.genesis.epoch)], key=lambda node: node.index)

    def _mend(self, node: Node) -> None:
        node.doom = None
        node.disk.mend()
        node.clock.mend(self.cluster.timeline.now_ms)
        if node.paused:
            node.resume()
        if node.up and node.failed:
            node.stop()
        if not node.up:
            node.start()

    def _drain(self) -> None:
        self.clients.stop()
        watch, clients = self.watch, self.clients.not_after
        members = [node.index for node in self.healed]
        done = self.cluster.run(DRAIN_MS_MAX, lambda: not watch.promises.open(members, clients))
        left = watch.promises.open(members, clients)
        self._demand(done, "I14", f"{len(left)} ACCEPTED envelopes are neither PROVEN nor EXPIRED: {left[:3]}")

    def _rest(self) -> None:
        """Heartbeats only: a few blocks an interval, none of them with a batch."""
        cluster = self.cluster
        cluster.run(2_000)
        before = max(node.finalized_height for node in self.healed)
        cluster.run(REST_HEARTBEATS * SETTINGS.heartbeat_ms)
        after = max(node.finalized_height for node in self.healed)
        self._demand(after - before >= REST_HEARTBEATS - 1, "idle", f"{after - before} blocks while idle: no heartbeat")
        if not self.plan.liars:
            most = 3 * REST_HEARTBEATS + 2
            self._demand(after - before <= most, "idle", f"{after - before} blocks in {REST_HEARTBEATS} heartbeats")
            listed = [self.watch.listed(height) for height in range(before + 1, after + 1)]
            self._demand(not any(listed), "idle", "an idle network lists batches")
            self._prove_one()

    def _prove_one(self) -> None:
        """An envelope that comes alone, right after a heartbeat, is PROVEN before the next one: R12 (b)."""
        cluster, promises = self.cluster, self.watch.promises
        at = next(node for node in self.healed if node.signing == "signing")
        before = max(node.finalized_height for node in self.healed)
        cluster.run(SETTINGS.heartbeat_ms * 2, lambda: min(n.finalized_height for n in self.healed) > before)
        cluster.run(SETTLE_MS)
        envelope_id = self.clients.submit_one(at.index)
        members = [node.index for node in self.healed]
        done = cluster.run(PROVE_MS_MAX, lambda: promises.proven(envelope_id, members))
        self._demand(done, "idle", f"a lone envelope was not PROVEN within {PROVE_MS_MAX} ms")

    def _reunite(self) -> None:
        """I13: everybody honest comes back."""
        cluster = self.cluster
        for node in cluster.honest:
            self._mend(node)
            if node.damaged:  # as an operator does: `node resync`
                node.stop()
                node.disk.set_votes_aside()
                self.watch.rewound(node.index)
                node.start()
        everybody = [node.index for node in cluster.nodes]
        for node in cluster.nodes:
            cluster.network.rejoin(node.index, everybody)
        goal = max(node.finalized_height for node in cluster.honest)
        done = cluster.run(REUNITE_MS_MAX, lambda: self._reunited(goal))
        told = [(node.index, node.validator.executed_height, node.signing) for node in cluster.honest]
        self._demand(done, "I13", f"not reunited within {REUNITE_MS_MAX} ms: {told}")
        self._compare(goal)

    def _reunited(self, goal: int) -> bool:
        honest, nodes = self.cluster.honest, self.cluster.nodes
        heights = {node.validator.executed_height for node in honest}
        if len(heights) > 1 or min(heights) < goal:
            return False
        epoch = max(node.epoch for node in honest)
        seats = self.watch.seats(epoch)
        able = {seat.node for seat in seats if nodes[seat.node].keys.sign_for(epoch, seat.key) is not None}
        return all(node.signing == ("signing" if node.index in able else "observer") for node in honest)

    def _compare(self, height: int) -> None:
        """Headers, bodies, state and receipts of all honest nodes up to this height.

        A node that took a snapshot has the blocks above it; the state it took is compared as everybody's.
        """
        for at in range(1, height + 1):
            holders = [node for node in self.cluster.honest if at >= node.disk.blocks.first_height()]
            blocks = [(node, block_at(node.disk.blocks, at)) for node in holders]
            for node, block in blocks:
                self._demand(block is not None, "I13", f"node {node.index} lacks a part of block {at}")
                same = _compared(block) == _compared(blocks[0][1])
                self._demand(same, "I13", f"node {node.index} has another block {at} than node {holders[0].index}")
            batches = blocks[0][1].batches if blocks and blocks[0][1] is not None else ()
            genuine = all(self.market.genuine(raw) for batch in batches for raw in batch.envelopes)
            self._demand(genuine, "envelope", f"block {at} lists an envelope without all its signatures")
            records = {record for node in self.cluster.honest if (record := node.state.height_record(at)) is not None}
            self._demand(len(records) == 1, "I13", f"{len(records)} states at {at}")

        for node in self.cluster.honest:
            self._follow_hand_overs(node)
        first = next((node for node in self.cluster.honest if node.disk.blocks.first_height() == 1), None)
        if first is None:
            return  # everybody took a snapshot: the blocks the model needs are gone
        for at, roots in enumerate(model_roots(self.market.genesis, first.disk.blocks, height), 1):
            record = first.state.height_record(at)
            told = f"the model has other roots at height {at} than node {first.index}"
            self._demand(record is not None and (record.state_root, record.receipts_root) == roots, "model", told)

    def _follow_hand_overs(self, node: Node) -> None:
        """As a client does: from the genesis to the epoch a node is in, by what it has to show of each end."""
        source, market = StoredBlocks(node.disk.blocks, node.state), self.market
        shown = [source.hand_over(epoch) for epoch in range(market.genesis.first_epoch, node.epoch)]
        told = f"node {node.index}, in epoch {node.epoch}, "
        known = [each for each in shown if each is not None]
        self._demand(len(known) == len(shown), "hand-over", f"{told}cannot show how each epoch before ended")
        try:
            followed, jobs = KnownEpochs.of_genesis(market.genesis).follow(known)
        except ProofError as error:
            raise Violation("hand-over", f"{told}shows one that does not hold: {error}") from error
        good = market.verify_many([job for _, job in jobs])
        self._demand(all(good), "hand-over", f"{told}shows one with a signature that is nobody's")
        members = tuple(seat.key for seat in self.watch.seats(node.epoch))
        reached = tuple(member.public_key for member in followed.latest.validators.members)
        self._demand(reached == members, "hand-over", f"{told}leads to other validators than those")
        self.coverage.counts[FOLLOWED] += len(known)

    def _demand(self, holds: bool, oracle: str, text: str) -> None:
        self.watch.demands += 1
        if not holds:
            raise Violation(oracle, text)

    # -- afterwards ------------------------------------------------------------------------------------

    def outcome(self, failure: Failure | None, cpu_s: float) -> Outcome:
        """The figures."""
        cluster, coverage = self.cluster, self.coverage.counts
        coverage["case: all crash after X"] += self.faults.counts["crash-all-after-nullify"]
        coverage["set: leader dead at the boundary"] += self.faults.counts["crash-at-boundary"]
        for kind, times in self.governors.in_force.items():
            coverage[f"change: {kind}"] += times
        return Outcome(
            plan=self.plan,
            failure=failure,
            effects=cluster.effects.hexdigest(),
            events=cluster.timeline.events,
            simulated_ms=cluster.timeline.now_ms,
            cpu_s=cpu_s,
            finalized_blocks=max(self.watch.world.final, default=0),
            checks=self.watch.checks,
            faults=dict(sorted((Counter(cluster.network.counts) + self.faults.counts).items())),
            coverage=dict(sorted(coverage.items())),
        )


def _market(plan: Plan) -> tuple[FakeMarket, Header]:
    """Who takes part, and block 0."""
    if plan.contested:
        return contested_market(plan.n, plan.newcomers), contested_genesis_block(plan.n, plan.newcomers)
    if plan.governed:
        return governed_market(plan.n, plan.newcomers), governed_genesis_block(plan.n, plan.newcomers)
    return market_of(plan.n), genesis_block(plan.n)


def run_plan(plan: Plan, witnesses: Sequence[Witness] = ()) -> Outcome:
    """Carry out a plan; a pure function of it but for ``cpu_s``."""
    began = process_time()
    run = Run(plan, witnesses)
    failure = run.execute()
    return run.outcome(failure, process_time() - began)


def _compared(block: Block | None) -> object:
    """What has to be equal; several Finalizations may exist."""
    return block and (block.header, block.justification, block.payload, block.batches)
