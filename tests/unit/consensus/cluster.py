"""A whole cluster in one thread: virtual time, one seed, a network that loses, delays, doubles and reorders.

Each node is a real ``Core`` over a vote log and a block store that survive crashes, with a small application that
builds, judges, finalizes, "executes" and backfills. ``oracle.Oracle`` watches everything that is ever signed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from consensus.config import Config
from consensus.core import Core
from consensus.effects import (
    Alarm,
    Broadcast,
    Build,
    Certified,
    Effect,
    FetchBlock,
    Finalized,
    Penalise,
    Persist,
    RemoveBackupMarker,
    Report,
    Send,
    Verify,
)
from consensus.events import (
    BlockFetched,
    Built,
    Event,
    HeadersStored,
    Now,
    PeerConnected,
    Started,
    Tick,
    Verdict,
    Verified,
    Work,
    received,
)
from consensus.messages import Message
from consensus.records import OwnVote, Record
from consensus.types import Certificate, Header, Proposal, ValidatorSet, Vote, VoteKind
from tests.unit.consensus.oracle import Oracle
from tests.unit.consensus.support import (
    CONFIG,
    GENESIS_MS,
    FakeSignatures,
    child,
    genesis,
    justify,
    state_root_after,
    validators,
)

SETTLING_MS = 60_000


@dataclass
class Network:
    """How badly messages travel."""

    latency_ms: tuple[int, int] = (1, 5)
    drop: float = 0.0
    duplicate: float = 0.0
    groups: list[set[int]] = field(default_factory=list)
    """Partition: messages pass only within a group; empty: everybody reaches everybody."""
    cut: set[tuple[int, int]] = field(default_factory=set)
    """One-way cuts (from, to)."""

    def connected(self, sender: int, to: int) -> bool:
        if (sender, to) in self.cut:
            return False
        return not self.groups or any(sender in group and to in group for group in self.groups)


class Store:
    """The application's durable part: blocks, and which of them are final."""

    def __init__(self, root: Header) -> None:
        self.root = root
        self.proposals: dict[bytes, Proposal] = {}
        self.final: list[Header] = [root]

    def header(self, digest: bytes) -> Header | None:
        if digest == self.root.digest:
            return self.root
        found = self.proposals.get(digest)
        return found.header if found else None

    def proposal(self, digest: bytes) -> Proposal | None:
        return self.proposals.get(digest)


class Node:
    """An honest validator (or observer); Byzantine ones override ``carry_out`` or ``deliver``."""

    honest = True

    def __init__(self, cluster: Cluster, index: int, own_index: int | None) -> None:
        self.cluster = cluster
        self.index = index
        self.own_index = own_index
        self.log: list[Record] = []
        self.store = Store(cluster.genesis)
        self.marker = False
        self.core: Core | None = None
        self.generation = 0
        self.wall_offset_ms = 0
        self.pool: list[bytes] = []
        self.alarms: list[Alarm] = []
        self.penalties: list[Penalise] = []
        self.reports: list[Report] = []
        self.crash_after_effects: int | None = None
        self.withhold_verdicts = False
        self.state_root: Callable[[Header], bytes] = lambda header: (
            header.state_root if header.height == 0 else state_root_after(header.digest)
        )

    # -- life ------------------------------------------------------------------------------

    @property
    def public_key(self) -> bytes:
        if self.own_index is None:
            return b"observer"
        return self.cluster.validators.members[self.own_index].public_key

    @property
    def up(self) -> bool:
        return self.core is not None

    @property
    def running(self) -> Core:
        assert self.core is not None, f"node {self.index} is down"
        return self.core

    def start(self) -> None:
        assert self.core is None
        self.generation += 1
        self.offer: Build | None = None
        self.unjudged: dict[bytes, Proposal] = {}
        self.backfill: Certificate | None = None
        self.certified: Header = self.store.final[-1]
        self.told_work = False
        self.branches: dict[bytes, tuple[frozenset[bytes], int]] = {self.cluster.genesis.digest: (frozenset(), 0)}
        self.logged = {record.vote for record in self.log if isinstance(record, OwnVote)}
        self.core = Core.restore(
            self.cluster.config,
            self.cluster.validators,
            self.own_index,
            self.cluster.genesis,
            self.log,
            self.store,
            FakeSignatures(self.public_key),
            self.now(),
        )
        nonce = self.index.to_bytes(4, "big") + self.generation.to_bytes(28, "big")
        self.step(Started(nonce, self.marker))
        for other in self.cluster.nodes:
            if other.index != self.index and other.up:
                self.cluster.at(1, other.step_if_up, PeerConnected(self.index))
                self.cluster.at(1, self.step_if_up, PeerConnected(other.index))

    def crash(self) -> None:
        self.core = None
        self.generation += 1

    def now(self) -> Now:
        return Now(self.cluster.now_ms, GENESIS_MS + self.cluster.now_ms + self.wall_offset_ms)

    # -- one turn ----------------------------------------------------------------------------

    def step_if_up(self, event: Event) -> None:
        if self.up:
            self.step(event)

    def step(self, event: Event) -> None:
        core = self.running
        before = (core.view, core.floor_view)
        effects = core.step(event, self.now())
        assert core.view >= before[0], "I9: view went back"
        assert core.floor_view >= before[1], "I9: floor went back"
        self.cluster.steps += 1
        if self.crash_after_effects is not None:
            self._crash_within(effects)
            return
        self._write(effects)
        self._leave(effects)

    def _write(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self.log.append(effect.record)
                if isinstance(effect.record, OwnVote):
                    self.logged.add(effect.record.vote)
                    self.cluster.oracle.signed(effect.record.vote)

    def _leave(self, effects: list[Effect]) -> None:
        generation = self.generation
        for effect in effects:
            if self.generation != generation:
                return
            self.carry_out(effect)
        if self.up:
            self._after_turn(generation)

    def _after_turn(self, generation: int) -> None:
        self._tell_work()
        if self.core is not None and self.core.deadline_ms is not None:
            wait_ms = max(0, self.core.deadline_ms - self.cluster.now_ms)
            assert wait_ms > 0 or self.cluster.steps < 5_000_000
            self.cluster.at(wait_ms, self._tick, generation, self.core.deadline_ms)

    def _tick(self, generation: int, deadline_ms: int) -> None:
        if self.up and self.generation == generation and self.running.deadline_ms == deadline_ms:
            self.step(Tick())

    def _crash_within(self, effects: list[Effect]) -> None:
        """Crash before the sync (0), or after it with only some of the messages sent."""
        allowed = self.crash_after_effects or 0
        self.crash_after_effects = None
        if allowed > 0:
            self._write(effects)
            sends = [effect for effect in effects if isinstance(effect, Broadcast | Send)]
            for effect in sends[: allowed - 1]:
                self.carry_out(effect)
        self.crash()

    # -- effects -----------------------------------------------------------------------------

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Broadcast(message):
                self._check_logged(message)
                for node in self.cluster.nodes:
                    if node.index != self.index:
                        self.cluster.transmit(self.index, node.index, message)
            case Send(to, message):
                self._check_logged(message)
                self.cluster.transmit(self.index, to, message)
            case Build():
                self.offer = effect
                self._answer_build()
            case Verify(proposal):
                self.unjudged[proposal.header.digest] = proposal
                self.judge()
            case FetchBlock(digest, _, sources):
                self._fetch(digest, sources)
            case Certified(header):
                self.certified = header
            case Finalized(certificate, headers, complete):
                self._finalize(certificate, headers, complete)
            case Report():
                self.reports.append(effect)
                self.cluster.oracle.reported(effect.evidence)
            case Alarm():
                self.alarms.append(effect)
            case Penalise():
                self.penalties.append(effect)
            case RemoveBackupMarker():
                self.marker = False
            case _:
                pass

    def _check_logged(self, message: Message) -> None:
        """Nothing this node signed leaves before it is in its log."""
        vote = message.vote if isinstance(message, Proposal) else message
        if self.honest and isinstance(vote, Vote) and vote.signer == self.own_index:
            assert vote in self.logged, "a vote left before it was logged"

    def receive(self, sender: int, message: Message) -> None:
        if not self.up:
            return
        self.step(received(sender, message))

    # -- the application -----------------------------------------------------------------------

    @property
    def height(self) -> int:
        return self.store.final[-1].height

    def _holds_branch(self, header: Header) -> bool:
        """Whether every body down to the last delivered block is here."""
        while header.height > self.height:
            parent = self.store.header(header.parent_digest)
            if header.digest not in self.store.proposals or parent is None:
                return False
            header = parent
        return header.digest == self.store.final[header.height].digest

    def _branch(self, header: Header) -> tuple[frozenset[bytes], int]:
        """Everything listed on the branch of a block held, and the height of the last block that listed something."""
        path = []
        while header.digest not in self.branches:
            path.append(header)
            parent = self.store.header(header.parent_digest)
            assert parent is not None
            header = parent
        listed, height = self.branches[header.digest]
        for above in reversed(path):
            payload = self.store.proposals[above.digest].payload
            if payload:
                listed, height = listed.union(payload.split()), above.height
            self.branches[above.digest] = (listed, height)
        return listed, height

    def _has_work(self, tip: Header) -> bool:
        if not self._holds_branch(tip):
            return False
        listed, height = self._branch(tip)
        return not listed.issuperset(self.pool) or height > tip.state_height

    def _tell_work(self) -> None:
        tip = self.certified if self.certified.height >= self.height else self.store.final[-1]
        work = self._has_work(tip)
        if work != self.told_work and self.up:
            self.told_work = work
            self.step(Work(work))
        self._answer_build()

    def _answer_build(self) -> None:
        offer = self.offer
        if offer is None or not self.up or self.running.view != offer.view or not self._holds_branch(offer.parent):
            return
        listed, listing_height = self._branch(offer.parent)
        unlisted = sorted(set(self.pool) - listed)
        executed = self._executed_on(offer.parent)
        ready = offer.parent.state_height < listing_height <= executed.height
        if not (offer.at_once or unlisted or ready):
            return
        self.offer = None
        self.cluster.at(0, self._build, offer, b" ".join(unlisted), executed, self.generation)

    def _executed_on(self, parent: Header) -> Header:
        """Highest finalized block that the branch holds (execution follows finality at once)."""
        while parent.height > self.height:
            above = self.store.header(parent.parent_digest)
            assert above is not None
            parent = above
        return parent

    def _build(self, offer: Build, payload: bytes, executed: Header, generation: int) -> None:
        if not self.up or self.generation != generation:
            return
        justification = justify(offer.parent_certificate, offer.nullifications)
        header = child(
            offer.parent,
            offer.view,
            justification,
            payload=payload,
            timestamp_ms=max(offer.parent.timestamp_ms + 1, self.now().wall_ms),
            state_height=executed.height,
            state_root=self.state_root(executed),
        )
        vote = Vote(VoteKind.NOTARIZE, 0, offer.view, header.parent_view, header.digest, self.own_index or 0, bytes(64))
        self.store.proposals[header.digest] = Proposal(header, justification, payload, vote)
        self.cluster.oracle.block(self.store.proposals[header.digest])
        self.step(Built(offer.view, header, justification, payload))

    def judge(self) -> None:
        """Verdicts on what can be judged by now."""
        if self.withhold_verdicts:
            return
        for digest, proposal in list(self.unjudged.items()):
            verdict = self.verdict(proposal)
            if verdict is not None:
                del self.unjudged[digest]
                if verdict is Verdict.VALID:
                    self.store.proposals[digest] = proposal
                    self.cluster.oracle.block(proposal)
                self.cluster.at(0, self.step_in, self.generation, Verified(digest, verdict))

    def verdict(self, proposal: Proposal) -> Verdict | None:
        header = proposal.header
        parent = self.store.header(header.parent_digest)
        if parent is None or header.state_height > self.height:
            return None  # ancestors or own execution are missing
        if b"INVALID" in proposal.payload:
            return Verdict.INVALID
        if self.cluster.body_is_withheld(self.index, header.digest):
            return None
        own = self.store.final[header.state_height]
        return Verdict.VALID if header.state_root == self.state_root(own) else Verdict.INVALID

    def step_in(self, generation: int, event: Event) -> None:
        if self.up and self.generation == generation:
            self.step(event)

    def _finalize(self, certificate: Certificate, headers: Iterable[Header], complete: bool) -> None:
        self.cluster.oracle.finalized(certificate)
        chain: list[Header] = []
        digest = certificate.digest
        while digest != self.store.final[-1].digest:
            header = self.store.header(digest)
            if header is None or digest not in self.store.proposals or header.height <= self.height:
                if header is not None and header.height <= self.height:
                    return  # delivered before
                self.backfill = certificate
                self.cluster.at(20, self._backfill, self.generation)
                return
            chain.append(header)
            digest = header.parent_digest
        self._deliver(chain[::-1])

    def _deliver(self, chain: list[Header]) -> None:
        for header in chain:
            assert header.height == self.height + 1
            assert header.parent_digest == self.store.final[-1].digest
            self.store.final.append(header)
        self.judge()

    def _backfill(self, generation: int) -> None:
        """Fetch finalized blocks by height from anybody who has them."""
        if not self.up or self.generation != generation or self.backfill is None:
            return
        certificate = self.backfill
        for other in self.cluster.nodes:
            reachable = other.up and self.cluster.network.connected(other.index, self.index)
            if not reachable or not any(h.digest == certificate.digest for h in other.store.final):
                continue
            chain = [h for h in other.store.final if h.height > self.height]
            chain = chain[: 1 + [h.digest for h in chain].index(certificate.digest)]
            for header in chain:
                self.store.proposals[header.digest] = other.store.proposals[header.digest]
            self.backfill = None
            self._deliver(chain)
            self.step(HeadersStored(certificate.digest))
            return
        self.cluster.at(100, self._backfill, generation)

    def _fetch(self, digest: bytes, sources: tuple[int, ...]) -> None:
        for source in sources:
            other = self.cluster.nodes[source]
            if other.up and self.cluster.network.connected(source, self.index) and other.serves(digest):
                event = BlockFetched(source, other.store.proposals[digest])
                self.cluster.at(10, self.step_in, self.generation, event)
                return

    def serves(self, digest: bytes) -> bool:
        return digest in self.store.proposals


class Cluster:
    """Nodes, network and time."""

    def __init__(
        self,
        n: int = 4,
        seed: int = 0,
        *,
        config: Config = CONFIG,
        network: Network | None = None,
        byzantine: dict[int, type[Node]] | None = None,
        observers: int = 0,
        start: bool = True,
    ) -> None:
        self.config = config
        self.random = random.Random(seed)
        self.network = network or Network()
        self.validators: ValidatorSet = validators(n)
        self.genesis = genesis()
        self.now_ms = 0
        self.steps = 0
        self._queue: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0
        self.withheld: dict[bytes, set[int]] = {}
        byzantine = byzantine or {}
        self.oracle = Oracle(self.validators, self.genesis, {i for i in range(n) if i not in byzantine})
        self.nodes: list[Node] = [byzantine.get(i, Node)(self, i, i) for i in range(n)]
        self.nodes += [Node(self, n + i, None) for i in range(observers)]
        self._transactions = 0
        if start:
            for node in self.nodes:
                node.start()

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.honest]

    def at(self, delay_ms: int, action: Callable[..., None], *arguments: object) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._sequence, action, arguments))

    def transmit(self, sender: int, to: int, message: Message) -> None:
        if isinstance(message, Vote):
            self.oracle.sent(message)
        elif isinstance(message, Proposal):
            self.oracle.sent(message.vote)
            self.oracle.block(message)
        if not self.network.connected(sender, to) or self.random.random() < self.network.drop:
            return
        copies = 2 if self.random.random() < self.network.duplicate else 1
        for _ in range(copies):
            delay_ms = self.random.randint(*self.network.latency_ms)
            self.at(delay_ms, self.nodes[to].receive, sender, message)

    def body_is_withheld(self, index: int, digest: bytes) -> bool:
        return index in self.withheld.get(digest, ())

    def submit(self, *indexes: int) -> bytes:
        """One transaction into the pools of these nodes (all if none are named)."""
        self._transactions += 1
        transaction = b"tx%d" % self._transactions
        for node in self.nodes:
            if not indexes or node.index in indexes:
                node.pool.append(transaction)
                if node.up:
                    node._tell_work()
        return transaction

    def run(self, for_ms: int) -> None:
        until_ms = self.now_ms + for_ms
        while self._queue and self._queue[0][0] <= until_ms:
            self._run_one()
        self.now_ms = until_ms

    def run_until(self, condition: Callable[[], bool], within_ms: int = SETTLING_MS) -> None:
        until_ms = self.now_ms + within_ms
        while not condition():
            waits = bool(self._queue) and self._queue[0][0] <= until_ms
            assert waits, f"not within {within_ms} ms: {self.describe()}"
            self._run_one()

    def _run_one(self) -> None:
        at_ms, _, action, arguments = heapq.heappop(self._queue)
        self.now_ms = max(self.now_ms, at_ms)
        action(*arguments)

    def final_everywhere(self, transaction: bytes, among: Iterable[int] | None = None) -> bool:
        nodes = self.honest if among is None else [self.nodes[index] for index in among]
        return all(
            any(transaction in node.store.proposals[h.digest].payload.split() for h in node.store.final[1:])
            for node in nodes
        )

    def describe(self) -> str:
        return "\n" + "\n".join(
            f"{node.index}: height {node.height} {node.core.status() if node.core else 'down'}" for node in self.nodes
        )
