"""From what a cluster does to what the oracles see: products' values in, facts out. Genuineness is judged here, by the
notary and by signed bytes laid out anew from docs/protocol.md."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from typing import Any, Final

from consensus.effects import Broadcast, Effect, Finalized, Persist, Report, Verify
from consensus.events import Built, Event, Now, Tick
from consensus.messages import Message, StartQuery
from consensus.records import HeldCertificate, OwnVote
from consensus.types import Certificate, Header, Proposal, Vote
from ledger import wire
from ledger.block_port import FinalizedWrite
from ledger.codes import Code
from ledger.epochs import find_epoch
from ledger.genesis_header import genesis_header_of
from ledger.types import Ack, Batch, Readiness, Statement
from node.turn import (
    AcceptedNotice,
    AlarmNotice,
    CertifiedRootNotice,
    ExecutedNotice,
    FinalizedNotice,
    PeerMessage,
    Penalty,
    Turn,
)
from simulator.market import Market, contested_market, governed_market, market_of
from simulator.node import SETTINGS, Node
from simulator.oracles import all_oracles
from simulator.oracles.base import (
    NULLIFY,
    AckFact,
    BatchFact,
    CertificateFact,
    HeaderFact,
    Oracle,
    ReceiptFact,
    SeatFact,
    Timing,
    VoteFact,
    World,
)
from simulator.oracles.promises import Promises
from simulator.witness import Witness

REFUSED: Final = (Code.EXPIRED, Code.NOT_AFTER_TOO_FAR, Code.REPLAYED)

_VOTE_TAG: Final = b"lossbook/v1/vote\x00"
_ACK_TAG: Final = b"lossbook/v1/ack\x00"
_READINESS_TAG: Final = b"lossbook/v1/readiness\x00"


def header_fact(header: Header, listed: tuple[bytes, ...] = ()) -> HeaderFact:
    """The fact of a header."""
    return HeaderFact(
        header.digest,
        header.epoch,
        header.height,
        header.view,
        header.parent_view,
        header.parent_digest,
        header.timestamp_ms,
        header.state_height,
        header.state_root,
        header.receipts_root,
        listed,
        header.next_valset_hash,
    )


class Watch(Witness):
    """Feeds the oracles; see the module text.

    Args:
        honest: signer indexes of those whose every promise counts.
        genesis: the genesis block.
    """

    def __init__(self, market: Market, honest: Sequence[int], genesis: Header) -> None:
        self._market = market
        self._chain_id = market.genesis.chain_id
        #: epoch -> who signs with which key, in signer order
        self._seats: dict[int, tuple[SeatFact, ...]] = {
            genesis.epoch: tuple(
                SeatFact(index, member, market.keys[index].public)
                for index, member in enumerate(market.members[: market.n])
            )
        }
        self._origins = set(market.members)
        timing = Timing(SETTINGS.delay_ms, SETTINGS.timeout_ms_max, SETTINGS.clock_delta_ms)
        self.world = World(market.n, honest, header_fact(genesis), timing)
        self._floor_before = 0
        self.oracles = all_oracles(self.world)
        self.promises = next(oracle for oracle in self.oracles if isinstance(oracle, Promises))
        self.demands = 0  #: checks of whoever drives the run
        self._genuine: set[Vote] = set()
        self._genuine_certificates: set[Certificate] = set()  #: all their votes were genuine, which votes remain
        self._seen_certificates: set[tuple[int, Certificate]] = set()
        self._seen_batches: set[bytes] = set()
        self._seen_acks: dict[Ack, bool] = {}
        self._rewound: set[int] = set()
        self._hooks: dict[str, list[Callable[..., None]]] = {}

    @property
    def checks(self) -> int:
        """How many checks the oracles made."""
        return self.demands + sum(oracle.checks for oracle in self.oracles)

    def listed(self, height: int) -> tuple[bytes, ...]:
        """Batches that the final block of a height lists."""
        header = self.world.headers.get(self.world.final.get(height, b""))
        return header.listed if header is not None else ()

    def finish(self) -> None:
        """The run is over."""
        self._tell("finish")

    def rewound(self, index: int) -> None:
        """The next start of a node is from an older disk, or with a new vote log."""
        self._rewound.add(index)

    def _tell(self, hook: str, *facts: Any) -> None:
        listeners = self._hooks.get(hook)
        if listeners is None:
            base = getattr(Oracle, hook)
            listeners = self._hooks[hook] = [
                getattr(oracle, hook) for oracle in self.oracles if getattr(type(oracle), hook) is not base
            ]
        for listener in listeners:
            listener(*facts)

    # -- votes and certificates ------------------------------------------------------------------

    def _vote(self, vote: Vote) -> bool:
        """Take a vote in; whether it is genuine."""
        if vote in self._genuine:
            return True
        seat = self._seat(vote.epoch, vote.signer)
        if seat is None or not 0 <= vote.view < 1 << 64:
            return False
        message = _VOTE_TAG + self._chain_id + struct.pack(">BQQ", vote.kind, vote.epoch, vote.view)
        if vote.kind != NULLIFY:
            message += struct.pack(">Q", vote.parent_view) + vote.digest
        if not self._market.verify(seat.key, sha256(message).digest(), vote.signature):
            return False
        self._genuine.add(vote)
        fact = VoteFact(vote.epoch, vote.view, int(vote.kind), vote.parent_view, vote.digest, seat.node)
        self._tell("vote", fact)
        return True

    def _seat(self, epoch: int, signer: int) -> SeatFact | None:
        """Whose signer index this is in an epoch that somebody has begun."""
        seats = self._seats.get(epoch, ())
        return seats[signer] if 0 <= signer < len(seats) else None

    def _node_of(self, epoch: int, signer: int) -> int:
        seat = self._seat(epoch, signer)
        return -1 if seat is None else seat.node

    def _signs(self, node: Node) -> bool:
        """Whether it has a seat and its key in the epoch it is in: who only observes keeps nothing of a core."""
        seats = self._seats.get(node.epoch, ())
        return any(s.node == node.index and node.keys.sign_for(node.epoch, s.key) is not None for s in seats)

    def _is_own(self, node: Node, epoch: int, signer: int) -> bool:
        seat = self._seat(epoch, signer)
        return seat is not None and seat.node == node.index

    def _certificate(self, node: Node, certificate: Certificate) -> None:
        key = (node.index if node.honest else -1, certificate)
        if key in self._seen_certificates:
            return
        self._seen_certificates.add(key)
        forged: tuple[int, ...] = ()
        if certificate not in self._genuine_certificates:
            forged = tuple(vote.signer for vote in certificate.votes() if not self._vote(vote))
            if not forged:
                self._genuine_certificates.add(certificate)
        if node.honest:
            fact = CertificateFact(
                certificate.epoch,
                certificate.view,
                int(certificate.kind),
                certificate.parent_view,
                certificate.digest,
                tuple(self._node_of(certificate.epoch, signer) for signer in certificate.signers),
                forged,
            )
            self._tell("certificate", node.index, fact)

    def _proposal(self, proposal: Proposal) -> None:
        header = proposal.header
        if header.digest not in self.world.headers:
            listed = wire.decode_payload(proposal.payload).batch_digests
            fact = self.world.headers[header.digest] = header_fact(header, listed)
            self._tell("header", fact)

    # -- what happens ----------------------------------------------------------------------------

    def sent(self, node: Node, to: int | None, message: PeerMessage) -> None:
        """See Witness."""
        match message:
            case Vote():
                fresh = message not in self._genuine
                self._vote(message)
                if fresh and message.kind == 1 and node.honest and self._is_own(node, message.epoch, message.signer):
                    self._tell("uttered", node.index, "a block", node.disk.blocks.is_durable(message.digest))
            case Certificate():
                self._certificate(node, message)
            case Proposal():
                self._vote(message.vote)
                self._proposal(message)
                if node.honest:
                    justification = message.justification
                    for certificate in (justification.parent, *justification.nullifications):
                        if certificate is not None:
                            self._certificate(node, certificate)
            case Batch():
                self._batch(message)
            case Statement(content=Readiness() as said):
                self._ready(said)
            case Ack() if node.honest and self._is_own(node, message.epoch, message.acker):
                fresh = message not in self._seen_acks
                self._ack(node, message)
                if fresh:
                    self._tell("uttered", node.index, "a batch", node.disk.blocks.is_durable(message.digest))

    def _ready(self, said: Readiness) -> None:
        message = _READINESS_TAG + self._chain_id + struct.pack(">Q", said.epoch) + said.proposal_id
        message += said.consensus_key
        if self._market.verify(said.consensus_key, sha256(message).digest(), said.signature):
            self._tell("ready", said.proposal_id, said.consensus_key)

    def _batch(self, batch: Batch) -> None:
        header = batch.header
        if header.digest not in self._seen_batches:
            self._seen_batches.add(header.digest)
            fact = BatchFact(header.origin, header.incarnation, header.sequence, header.previous, header.digest)
            self._tell("batch", fact)

    def _ack(self, node: Node, ack: Ack) -> None:
        genuine = self._seen_acks.get(ack)
        if genuine is None:
            genuine = self._seen_acks[ack] = self._is_genuine(ack)
        if genuine:
            acker = self._node_of(ack.epoch, ack.acker)
            fact = AckFact(acker, ack.origin, ack.incarnation, ack.sequence, ack.digest, ack.epoch)
            self._tell("ack", node.index, fact, node.now().monotonic_ms)

    def _is_genuine(self, ack: Ack) -> bool:
        seat = self._seat(ack.epoch, ack.acker)
        if seat is None or ack.origin not in self._origins:
            return False
        origin = ack.origin.encode()
        message = _ACK_TAG + self._chain_id
        message += struct.pack(">BQIH", ack.kind, ack.epoch, ack.acker, len(origin)) + origin
        message += struct.pack(">QQ", ack.incarnation, ack.sequence) + ack.digest
        return self._market.verify(seat.key, sha256(message).digest(), ack.signature)

    def delivered(self, node: Node, sender: int, messages: Sequence[PeerMessage]) -> None:
        """See Witness."""
        if not node.honest:
            return
        for message in messages:
            if isinstance(message, Ack):
                self._ack(node, message)
            elif isinstance(message, Batch):
                self._batch(message)

    def started(self, node: Node) -> None:
        """See Witness."""
        if node.honest:
            rewound = node.index in self._rewound
            self._rewound.discard(node.index)
            self._tell("started", node.index, rewound, node.votes is not None)
            self._tell("holds_final", node.index, node.disk.blocks.finalized_height() or 0)

    def entered(self, node: Node) -> None:
        """See Witness."""
        record = find_epoch(node.state, node.epoch)
        if node.epoch == self.world.genesis.epoch or record is None:
            return
        index = self._market.index
        seats = tuple(SeatFact(index(s.organisation), s.organisation, s.consensus_key) for s in record.members)
        if node.epoch not in self._seats:
            self._seats[node.epoch] = seats
            self.world.begin(node.epoch, tuple(seat.node for seat in seats))
        if node.honest:
            self._tell("epoch", node.index, node.epoch, record.first_height, seats, record.proposal_id)

    def seats(self, epoch: int) -> tuple[SeatFact, ...]:
        """Of an epoch that somebody has begun."""
        return self._seats[epoch]

    def tell(self, hook: str, *facts: object) -> None:
        """A fact of whoever drives the run."""
        self._tell(hook, *facts)

    def stepping(self, node: Node, event: Event, now: Now) -> None:
        """See Witness."""
        self._floor_before = node.core.floor_view

    def reopened(self, node: Node, missing: int) -> None:
        """See Witness."""
        if node.honest and node.index not in self._rewound:
            self._tell("reopened", node.index, missing)

    def stepped(self, node: Node, event: Event, effects: Sequence[Effect], now: Now) -> None:
        """See Witness."""
        if isinstance(event, Built) and node.honest:
            fact = header_fact(event.header, wire.decode_payload(event.payload).batch_digests)
            self._tell("built", node.index, fact, now.monotonic_ms)
        if isinstance(event, Tick) and node.honest and not any(isinstance(effect, Persist) for effect in effects):
            self._retried(node, [effect.message for effect in effects if isinstance(effect, Broadcast)])
        for effect in effects:
            match effect:
                case Verify(proposal):
                    self._proposal(proposal)
                case Persist(HeldCertificate(certificate)):
                    self._certificate(node, certificate)
                case Persist(OwnVote(vote)) if node.honest and vote.kind == 1 and vote not in self._genuine:
                    header = self.world.headers.get(vote.digest)
                    if header is not None:
                        self._tell("notarized", node.index, header, now.wall_ms, self._floor_before)
                case Report(evidence) if node.honest:
                    culprit = self._node_of(evidence.vote.epoch, evidence.culprit)
                    self._tell("evidence", node.index, culprit, str(evidence))
                case Finalized(certificate):
                    self._certificate(node, certificate)

    def _retried(self, node: Node, messages: Sequence[Message]) -> None:
        """A step that sends and signs nothing new sends again."""
        if messages and not any(isinstance(message, StartQuery) for message in messages):
            sent = [(int(message.kind), message.view) for message in messages if isinstance(message, Vote)]
            core = node.core
            self._tell("retried", node.index, node.epoch, core.view, core.floor_view, sent)

    def turned(self, node: Node, turn: Turn) -> None:
        """See Witness."""
        if not node.honest:
            return
        if self._signs(node):
            self._tell("position", node.index, node.epoch, node.core.view, node.core.floor_view)
        for write in turn.block_writes:
            if isinstance(write, FinalizedWrite):
                self._tell("final", node.index, write.height, write.digest)
        for notice in turn.notices:
            match notice:
                case ExecutedNotice():
                    self._executed(node, notice)
                case CertifiedRootNotice():
                    self._tell("certified_root", node.index, notice.state_height)
                case FinalizedNotice():
                    self._tell("told_final", node.index, notice.height)
                case AcceptedNotice():
                    self._tell("accepted", node.index, notice.envelope_ids)
                case AlarmNotice():
                    self._tell("alarm", node.index, notice.kind, notice.text)

    def _executed(self, node: Node, notice: ExecutedNotice) -> None:
        record = node.state.height_record(notice.height)
        if record is not None:
            receipts = [
                ReceiptFact(each.envelope_id, each.position, each.code not in REFUSED, each.code == Code.OK)
                for each in notice.receipts
            ]
            for breach in notice.breaches:
                act = (breach.epoch, breach.view, breach.kind)
                self._tell("recorded", node.index, self._market.index(breach.organisation), act, notice.height)
            self._tell("executed", node.index, notice.height, (record.state_root, record.receipts_root), receipts)

    def penalised(self, node: Node, penalty: Penalty) -> None:
        """See Witness."""
        if node.honest:
            self._tell("penalty", node.index, node.cluster.market.index(penalty.peer), penalty.reason)


@cache
def genesis_block(n: int) -> Header:
    """Block 0 of the market of n."""
    return genesis_header_of(market_of(n).genesis)


@cache
def governed_genesis_block(n: int, newcomers: int) -> Header:
    """Block 0 of such a market."""
    return genesis_header_of(governed_market(n, newcomers).genesis)


@cache
def contested_genesis_block(n: int, newcomers: int) -> Header:
    """Block 0 of such a market."""
    return genesis_header_of(contested_market(n, newcomers).genesis)
