"""Whole validators across epochs, in one thread and virtual time: real signatures, memory stores, a seeded network.

Each node is ``node.validator.Validator`` as the daemon runs it; this drives the same turns (store, then
vote log, then send). A node can be cut off, crashed (it keeps what it synced) and started again.

Changes of the validator set are scripted: the operation that issues a policy with an id of ``Cluster.changes`` approves
the change named there, as governance would, on every node that executes it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from random import Random

from consensus.events import Now
from consensus.types import Certificate, Header
from contracts.dispatch import CONTRACTS
from crypto.keys import verify, verify_many
from ledger import operations as ops
from ledger import wire
from ledger.contract import Context, Contracts
from ledger.epochs import MEMBERSHIP, ApprovedChange, MembershipRecord, Seat, current_epoch
from ledger.genesis import Genesis
from ledger.genesis_header import genesis_header_of
from ledger.snapshot import LeafChunk
from ledger.snapshot_making import SnapshotShelf
from ledger.types import Batch, Block, Envelope, JustifiedHeader
from ledger.wellformed import read_envelope, signature_jobs
from ledger.wire.snapshots import decode_chunk, decode_manifest
from lossbook.v1 import peer_pb2
from node.assembly import Settings, assemble
from node.epoch import HeldKeys
from node.opening import open_state
from node.turn import (
    BatchChecked,
    BatchesFetched,
    BlocksFetched,
    ChunkFetched,
    Fetch,
    FetchBatches,
    FetchBlocks,
    FetchChunks,
    FetchFailed,
    FetchProposals,
    FetchSnapshot,
    Input,
    Notice,
    PeerConnected,
    PeerMessage,
    PeerMessages,
    Penalty,
    ProposalsFetched,
    SnapshotOffered,
    Submitted,
    Tick,
)
from simulator.serving import StoredBlocks, serve
from store.memory import MemoryStateStore
from store.memory_blocks import MemoryBlockStore
from tests.support.insurers import INSURERS, Organisation, key_of, market_genesis

START_MS = 1_000
SETTINGS = Settings(delay_ms=100, retry_ms=200, skip_ms=1_500, timeout_ms_max=3_000, heartbeat_ms=5_000)

Send = tuple[str | None, PeerMessage]

EPOCHS_MAX = 8
"""Every node has a key of its own for each epoch up to this one: a change may name it or not."""


def epoch_key(organisation: str, epoch: int) -> bytes:
    """The public consensus key of a node for one epoch."""
    return key_of(organisation, "consensus", str(epoch)).public


class Node:
    """One validator with its disk; the Byzantine ones of the tests derive from it."""

    def __init__(self, cluster: Cluster, index: int, organisation: Organisation) -> None:
        self.cluster = cluster
        self.index = index
        self.id = organisation.id
        self.key = organisation.consensus_key or key_of(self.id, "consensus")
        keys = [self.key, *[key_of(self.id, "consensus", str(epoch)) for epoch in range(EPOCHS_MAX)]]
        self.keys = {key.public: key.sign for key in keys}
        self.settings = SETTINGS
        self.made: dict[int, bytes] = {}  #: keys of epochs to come, as the daemon makes them early in each
        self.voting = True
        self.blocks = MemoryBlockStore()
        self.states = MemoryStateStore()
        self.log: list[bytes] = []
        self.notices: list[Notice] = []
        self.penalties: list[Penalty] = []
        self.up = False
        self.starts = 0
        self.wake_at: int | None = None

    def sign(self, epoch: int, message: bytes) -> bytes:
        """By its key of an epoch."""
        key = self.key if epoch == 0 else key_of(self.id, "consensus", str(epoch))
        return key.sign(message)

    def start(self) -> None:
        """Start, or start again, from what is on disk."""
        self.starts += 1
        now = self.cluster.now
        state = self.state = open_state(self.cluster.genesis, self.states, self.blocks)
        self.shelf = SnapshotShelf(state, StoredBlocks(self.blocks, state), lambda: self.cluster.time_ms / 1000)
        nonce = self.starts.to_bytes(16, "big") + self.index.to_bytes(16, "big")
        self.validator = assemble(
            genesis=self.cluster.genesis,
            organisation=self.id,
            voting=self.voting,
            keys=HeldKeys(self.keys, self.made),
            verify=verify,
            state=state,
            state_store=self.states,
            blocks=self.blocks,
            contracts=self.cluster.contracts,
            log_records=self.log,
            settings=self.settings,
            origin_nonce=nonce,
            now=now,
        )
        self.up = True
        self.wake_at = None
        self.validator.start(now, nonce)
        for other in self.cluster.nodes:
            if other is not self and other.up:
                self.give(PeerConnected(other.id))
                other.give(PeerConnected(self.id))
        self.run_turn()

    def crash(self) -> None:
        """Memory is gone; what was stored stays."""
        self.up = False

    def give(self, item: Input) -> None:
        """Hand over one input and carry out the turn."""
        if self.up:
            self.validator.handle(item, self.cluster.now)
            self.run_turn()

    def submit(self, *envelopes: Envelope) -> None:
        """Envelopes from a client, admitted."""
        self.give(Submitted(envelopes))

    def run_turn(self) -> None:
        """Carry out effects in their order, and execute what became final."""
        while True:
            turn = self.validator.take_turn()
            self.blocks.commit(turn.block_writes, sync=turn.sync_blocks)
            self.log.extend(turn.vote_records)
            for to, message in self.outgoing(turn.sends):
                self.cluster.send(self, to, message)
            for batch in turn.checks:
                self.cluster.after(1, partial(self.check, batch))
            for fetch in turn.fetches:
                self.cluster.fetch(self, fetch)
            self.notices.extend(turn.notices)
            self.penalties.extend(turn.penalties)
            for rows in turn.import_rows:
                self.states.import_rows(rows)
            if turn.install:
                self.start()
                return
            height = self.validator.executed_height
            executing = self.validator.execute_slice(self.cluster.now)
            moved = executing or self.validator.executed_height != height
            if not moved and not _any(turn) and not turn.notices:
                break
        deadline = self.validator.deadline_ms
        if deadline is not None and (self.wake_at is None or deadline < self.wake_at or self.wake_at <= self.time):
            self.wake_at = max(deadline, self.time + 1)
            self.cluster.at(self.wake_at, self.wake)

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """What leaves of what a turn sends: all of it, unless a subclass lies."""
        return sends

    def wake(self) -> None:
        """Time has come."""
        if self.up and self.wake_at is not None and self.time >= self.wake_at:
            self.wake_at = None
            self.give(Tick())

    @property
    def time(self) -> int:
        """Virtual milliseconds."""
        return self.cluster.time_ms

    def receive(self, item: Input, starts: int) -> None:
        """An input on its way, unless the node was started again meanwhile."""
        if self.starts == starts:
            self.give(item)

    def check(self, batch: Batch) -> None:
        """A verification worker answers."""
        self.give(self.checked(batch))

    def checked(self, batch: Batch) -> BatchChecked:
        """What a verification worker answers."""
        envelopes = []
        for raw in batch.envelopes:
            envelope = read_envelope(raw, self.cluster.genesis.chain_id)
            if not isinstance(envelope, Envelope) or not all(verify_many(signature_jobs(envelope))):
                return BatchChecked(batch.header.digest, False, ())
            envelopes.append(envelope)
        return BatchChecked(batch.header.digest, True, tuple(envelopes))

    @property
    def genesis_header(self) -> Header:
        """Block 0."""
        return genesis_header_of(self.cluster.genesis)

    def serve(self, fetch: Fetch) -> Input | None:
        """What this node answers to a fetch."""
        if isinstance(fetch, FetchBatches):
            raws = [raw for digest in fetch.digests if (raw := self.blocks.batch(digest)) is not None]
            return BatchesFetched(self.id, [wire.decode_batch(raw) for raw in raws]) if raws else None
        if isinstance(fetch, FetchProposals):
            raws = [raw for digest in fetch.digests if (raw := self.blocks.proposal(digest)) is not None]
            return ProposalsFetched(self.id, [wire.decode_stored_proposal(r) for r in raws]) if raws else None
        if not isinstance(fetch, FetchBlocks) or fetch.from_height < self.blocks.first_height():
            return None
        blocks = [self.block(height) for height in range(fetch.from_height, (self.blocks.finalized_height() or 0) + 1)]
        return BlocksFetched(self.id, blocks) if blocks else None

    def serve_snapshot(self, fetch: FetchSnapshot | FetchChunks) -> list[Input]:
        """What this node answers to whoever wants a snapshot, or a part of one, as bytes that were read again."""
        answer = serve(self.blocks, self.shelf, fetch)
        if isinstance(fetch, FetchSnapshot):
            return [SnapshotOffered(self.id, decode_manifest(answer.manifest))] if answer.manifest else []
        chunks = [wire.parse(peer_pb2.GetSnapshotChunksResponse, raw) for raw in answer.chunks]
        return [ChunkFetched(self.id, fetch, decode_chunk(chunk)) for chunk in chunks]

    def block(self, height: int) -> Block:
        """A final block as it is served."""
        digest = self.blocks.digest_at(height)
        assert digest is not None
        raw = self.blocks.proposal(digest)
        assert raw is not None
        proposal = wire.decode_stored_proposal(raw)
        payload = wire.decode_payload(proposal.payload)
        batches = [wire.decode_batch(self.blocks.batch(d) or b"") for d in payload.batch_digests]
        raw_certificate = self.blocks.finalization(height)
        certificate = wire.read_certificate(raw_certificate) if raw_certificate else None
        tails = self.tails(digest, certificate) if certificate else ()
        return Block(proposal.header, proposal.justification, payload, tuple(batches), certificate, tails)

    def tails(self, boundary: bytes, certificate: Certificate) -> tuple[JustifiedHeader, ...]:
        """The tails between a block and what its certificate names."""
        found: list[JustifiedHeader] = []
        digest = certificate.digest
        while digest != boundary:
            proposal = wire.decode_stored_proposal(self.blocks.proposal(digest) or b"")
            found.append(JustifiedHeader(proposal.header, proposal.justification))
            digest = proposal.header.parent_digest
        return tuple(found[::-1])


def _any(turn: object) -> bool:
    return bool(turn.block_writes or turn.vote_records or turn.sends)  # type: ignore[attr-defined]


class Cluster:
    """Nodes of the test market, four validators unless told otherwise.

    Args:
        seed: of delays and whatever else is drawn.
        genesis: another network.
        liars: what runs in place of an honest node, by its place among the organisations.
        organisations: who runs a node.
    """

    def __init__(
        self,
        seed: int,
        genesis: Genesis | None = None,
        liars: Mapping[int, type[Node]] | None = None,
        organisations: Sequence[Organisation] = INSURERS,
    ) -> None:
        self.random = Random(seed)
        self.genesis = genesis or market_genesis()
        self.time_ms = START_MS
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self.cut: set[tuple[int, int]] = set()  #: (from, to) pairs whose messages are lost
        self.lose: Callable[[Node, Node, PeerMessage], bool] = lambda sender, to, message: False
        self.delay_ms_max = 20
        self.changes: dict[bytes, tuple[Seat, ...]] = {}  #: by policy id: the next set of the change it approves
        self.nodes = [
            (liars or {}).get(index, Node)(self, index, organisation)
            for index, organisation in enumerate(organisations)
        ]
        self.by_id = {node.id: node for node in self.nodes}

    @property
    def contracts(self) -> Contracts:
        """The contracts, with the scripted changes."""
        issue = CONTRACTS[ops.PolicyIssue]

        def approve_or_issue(operation: ops.PolicyIssue, context: Context) -> None:
            seats = self.changes.get(operation.policy_id)
            if seats is None:
                issue(operation, context)
                return
            epoch, _ = current_epoch(context.view)
            change = ApprovedChange(epoch, context.height, operation.policy_id, seats)
            context.view.put(MEMBERSHIP, b"", MembershipRecord(epoch, None, change))

        return {**CONTRACTS, ops.PolicyIssue: approve_or_issue}

    @property
    def now(self) -> Now:
        """Both clocks, in step."""
        return Now(self.time_ms, self.genesis.time_ms + self.time_ms)

    def delay(self) -> int:
        """How long one message takes, in one direction."""
        return self.random.randint(1, self.delay_ms_max)

    def start(self) -> None:
        """All nodes."""
        for node in self.nodes:
            node.start()

    def start_all_that_are_down(self) -> None:
        """What an operator does after an outage."""
        for node in self.nodes:
            if not node.up:
                node.start()

    def at(self, time_ms: int, action: Callable[[], None]) -> None:
        """Do something at a virtual time."""
        heapq.heappush(self._queue, (time_ms, next(self._order), action))

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Do something later."""
        self.at(self.time_ms + delay_ms, action)

    def send(self, sender: Node, to: str | None, message: PeerMessage) -> None:
        """Deliver to one or to all others, unless the link is cut."""
        for node in self.nodes if to is None else (self.by_id[to],):
            lost = (sender.index, node.index) in self.cut or self.lose(sender, node, message)
            if node is not sender and not lost:
                self.after(self.delay(), partial(node.receive, PeerMessages(sender.id, (message,)), node.starts))

    def fetch(self, node: Node, fetch: Fetch) -> None:
        """Ask the sources in turn; the first that has something answers."""
        gone = False
        for source in fetch.sources:
            other = self.by_id[source]
            links = {(node.index, other.index), (other.index, node.index)}
            if other is not node and other.up and not links & self.cut:
                if isinstance(fetch, FetchSnapshot | FetchChunks):
                    self.deliver(node, other.serve_snapshot(fetch), FetchFailed(fetch, source))
                    return
                answer = other.serve(fetch)
                if answer is not None:
                    self.after(2 * self.delay(), partial(node.receive, answer, node.starts))
                    return
                gone = gone or (isinstance(fetch, FetchBlocks) and fetch.from_height < other.blocks.first_height())
        if isinstance(fetch, FetchSnapshot | FetchChunks) or gone:
            self.deliver(node, [], FetchFailed(fetch, fetch.sources[-1], gone))

    def deliver(self, node: Node, parts: list[Input], failed: FetchFailed) -> None:
        """The parts of one answer, in order; that it broke off where it did."""
        delay = 2 * self.delay()
        last = parts[-1] if parts else None
        if isinstance(last, ChunkFetched):
            items = last.chunk.leaves if isinstance(last.chunk, LeafChunk) else last.chunk.receipts
            last = last if last.chunk.first + len(items) == last.fetch.stop else None
        for part in parts if last is not None else [*parts, failed]:
            self.after(delay, partial(node.receive, part, node.starts))

    def run(self, duration_ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Advance virtual time; True as soon as ``until`` holds."""
        end = self.time_ms + duration_ms
        while self._queue and self._queue[0][0] <= end:
            if until is not None and until():
                return True
            self.time_ms, _, action = heapq.heappop(self._queue)
            action()
        self.time_ms = end
        return until() if until is not None else False

    def isolate(self, index: int) -> None:
        """Cut a node off in both directions."""
        others = range(len(self.nodes))
        self.cut |= {(index, other) for other in others} | {(other, index) for other in others}

    def heal(self) -> None:
        """All links work again; streams reconnect."""
        self.cut.clear()
        for node in self.nodes:
            for other in self.nodes:
                if node is not other and other.up:
                    node.give(PeerConnected(other.id))
