"""One validator, pure: consensus, dissemination and application joined.

    peers' messages --> consensus core  --Build----> building   what to list, and when
                        (consensus.core) --Verify---> branches   VALID or INVALID
                                         --Finalized-> finality  in order, then execution
                                         --Report---> statements  evidence, to be listed
                    --> dissemination   batches and acknowledgements
                    --> statements      what validators state, checked and passed on
    submissions     --> dissemination
                            |
                            v
                       Turn (node.turn: what is stored, synced, sent, in this order)

There is one core for each epoch (``node.instance``). When the block that ends an epoch is executed, the state names who
votes next, and the next core begins; that of the epoch before rests, and shows its end to whoever still speaks of it.

``handle`` takes one input; ``take_turn`` settles what follows from all inputs since the last turn and
hands out the effects. Nothing here reads a clock, a socket or a file (but through the store ports);
the daemon and the simulator drive the same object.
"""

from __future__ import annotations

from collections import deque
from hashlib import sha256

from consensus import effects as out
from consensus import events as into
from consensus.events import Now
from consensus.evidence import Evidence
from consensus.helping import HELP_PER_INTERVAL
from consensus.messages import Message, StartQuery, Want
from consensus.status import Status
from consensus.timers import Budget
from consensus.types import Header, Justification, Proposal
from ledger import wire
from ledger.types import Ack, Batch, Payload, Statement
from node.branches import Branches
from node.building import Builder, BuildRequest
from node.catchup import NOTHING_LISTED, BadBlocks, Catchup, Unproven, as_proposal, check_chain
from node.dissemination import Dissemination
from node.duties import Duties
from node.epoch import Epoch
from node.epochs import Epochs
from node.facts import OwnBatch
from node.finality import Finality
from node.instance import Instance
from node.peer_events import epoch_of, shows_end
from node.snapshot_sync import SnapshotSync
from node.statements import StatementPool
from node.turn import (
    AlarmNotice,
    BatchChecked,
    BatchesFetched,
    BlocksFetched,
    ChunkFetched,
    EpochNotice,
    FetchBlocks,
    FetchFailed,
    FetchProposals,
    Input,
    OriginAnswer,
    OriginQuery,
    PeerConnected,
    PeerLost,
    PeerMessage,
    PeerMessages,
    Penalty,
    ProposalsFetched,
    SnapshotOffered,
    Submitted,
    Tick,
    Turn,
)

OF_A_RESTING_CORE = (out.Persist, out.Send, out.Penalise, out.Alarm, out.Report)
"""Effects of the core of the epoch before that still matter: its views and blocks do not."""

SETTLE_ROUNDS_MAX = 64  #: a turn that is not settled after this many rounds goes on in the next one


class Validator:
    """See the module text; ``node.assembly`` makes one.

    Args:
        present: the core of the present epoch.
        epochs: how the next one begins, and how earlier ones ended.
        branches, builder, finality, dissemination, statements: the parts that are joined, all in the present epoch.
        duties: what this node states about its own keys.
        catchup: backfill of finalized blocks.
        snapshots: what takes its place where too many are missing.
        retry_ms: interval for which help to one peer is bounded.
    """

    def __init__(
        self,
        *,
        present: Instance,
        epochs: Epochs,
        branches: Branches,
        builder: Builder,
        finality: Finality,
        dissemination: Dissemination,
        statements: StatementPool,
        duties: Duties,
        catchup: Catchup,
        snapshots: SnapshotSync,
        retry_ms: int,
    ) -> None:
        self._present = present
        self._before: Instance | None = None  #: of the epoch before, resting
        self._epochs = epochs
        self._branches = branches
        self._builder = builder
        self._finality = finality
        self._batches = dissemination
        self._statements = statements
        self._duties = duties
        self._catchup = catchup
        self._snapshots = snapshots
        self._rules = epochs.rules(present.epoch)
        self._budget = Budget(HELP_PER_INTERVAL, retry_ms)
        self._nonce = b""
        self._restored = False  #: votes may be lost, also of epochs to come: the home carries the marker of a backup
        self._answered = False  #: the present core's question about that is answered, its bound logged
        self._tip: Header = finality.header  #: highest certified header
        self._turn = Turn()
        self._events: deque[tuple[Instance, into.Event]] = deque()
        self._work: bool | None = None
        self._final_written: bytes | None = None  #: newest block that the turn before made final
        self._now = Now(0, 0)
        self._progress_ms = 0  #: when something last became final, or there was nothing to do

    # -- inputs ------------------------------------------------------------------------------

    def start(self, now: Now, nonce: bytes, *, restored_from_backup: bool = False) -> None:
        """First of all: the driver is ready to carry out effects. ``nonce``: fresh random bytes."""
        self._now = now
        self._progress_ms = now.monotonic_ms
        self._nonce, self._restored = nonce, restored_from_backup
        self._begin()

    def _begin(self) -> None:
        """The present core begins; a query for one epoch must not be answered by what was said of another."""
        nonce = sha256(self._nonce + self._present.number.to_bytes(8, "big")).digest()
        self._answered = False
        self._step(into.Started(nonce, self._restored))

    def handle(self, item: Input, now: Now) -> None:
        """Take one input; its effects are in the next ``take_turn``."""
        self._now = now
        match item:
            case PeerMessages():
                for message in item.messages:
                    if self._is_penalised(item.sender):
                        break  # the rest would cost as much, and its sender nothing more
                    self._on_message(message, item.sender)
            case BatchChecked():
                self._batches.on_checked(item.digest, item.ok, item.envelopes, now, self._turn)
            case Submitted():
                self._batches.origin.submit(item.envelopes)
            case PeerConnected():
                self._step(into.PeerConnected(self._present.peer(item.peer)))
                self._batches.on_connected(item.peer, self._turn)
                self._statements.on_connected(item.peer, self._turn)
            case BatchesFetched():
                for batch in item.batches:
                    self._batches.on_batch(batch, item.sender, now, self._turn)
            case ProposalsFetched():
                for proposal in item.proposals:
                    self._step(into.BlockFetched(self._present.peer(item.sender), proposal))
            case BlocksFetched():
                self._on_blocks(item)
            case Tick():
                self._step(into.Tick())
            case SnapshotOffered():
                self._snapshots.on_offered(item, now, self._turn)
            case ChunkFetched():
                self._snapshots.on_chunk(item, now, self._turn)
            case FetchFailed():
                self._snapshots.on_failed(item, now, self._turn)
                if isinstance(item.fetch, FetchBlocks):
                    self._catchup.failed(gone=item.gone)
            case PeerLost():
                pass  # every other fetch is repeated by its own deadline, every message by PeerConnected

    def _is_penalised(self, peer: str) -> bool:
        penalties = self._turn.penalties
        return bool(penalties) and any(penalty.peer == peer for penalty in penalties)

    def _on_message(self, message: PeerMessage, sender: str) -> None:
        present = self._present
        match message:
            case Batch():
                self._batches.on_batch(message, sender, self._now, self._turn)
            case OriginQuery():
                self._batches.on_origin_query(message, sender, self._turn)
            case OriginAnswer():
                self._batches.origin.on_answer(message, sender)
            case Statement():
                self._statements.on_statement(message, sender, self._turn)
            case Ack() if message.epoch == present.number:
                self._batches.on_ack(message, sender, self._now, self._turn)
            case Ack():
                self._on_other_epoch(message.epoch, message, sender)
            case _ if (epoch := epoch_of(message)) is not None and epoch != present.number:
                self._on_other_epoch(epoch, message, sender)
            case _:
                self._step(into.received(present.peer(sender), message))
                if isinstance(message, StartQuery):
                    self._batches.on_entered(sender, self._turn)

    def _on_other_epoch(self, epoch: int, message: Message | Ack, sender: str) -> None:
        """Who is behind is shown how its epoch ended; who is ahead is told where this node is, and shows it."""
        present, before = self._present, self._before
        if epoch > present.number:
            if present.core.ended is None and self._may_help(sender):
                self._turn.sends.append((sender, Want(present.number, present.core.view)))
        elif before is not None and before.number == epoch and not isinstance(message, Ack):
            self._step(into.received(before.peer(sender), message), before)
        elif (end := self._epochs.end_of(epoch)) is not None and not shows_end(message, end) and self._may_help(sender):
            self._turn.sends.append((sender, end))

    def _may_help(self, peer: str) -> bool:
        return self._budget.take(self._present.peer(peer), self._now.monotonic_ms)

    def _on_blocks(self, item: BlocksFetched) -> None:
        """Backfill: believe the answer as a whole, or nothing of it."""
        self._catchup.answered()
        final = self._finality.header
        blocks = [block for block in item.blocks if block.header.height > final.height]
        if not blocks or self._finality.epoch_ended:
            return  # who votes on what follows is known when the end of the epoch is executed
        try:
            chain, certificate = check_chain(blocks, final, self._rules)
        except Unproven:
            return
        except BadBlocks as problem:
            self._turn.penalties.append(Penalty(item.sender, f"served blocks that do not hold: {problem}"))
            return
        for block in chain:
            self._add_final(block.header, block.justification, block.payload)
            for tail in block.tails:
                self._add_final(tail.header, tail.justification, NOTHING_LISTED)
            for batch in block.batches:
                self._batches.want(batch.header.digest, (item.sender,), self._now)
                self._batches.on_batch(batch, item.sender, self._now, self._turn)
        proofs = [block.justification for block in chain] + [tail.justification for tail in chain[-1].tails]
        self._step(into.Witnessed(tuple([each for proof in proofs for each in proof.certificates])))
        self._step(into.CertificateReceived(self._present.peer(item.sender), certificate))
        self._finality.on_backfilled(certificate)

    def _add_final(self, header: Header, justification: Justification, payload: Payload) -> None:
        leader = self._present.epoch.validators.leader(header.view)
        self._branches.add(as_proposal(header, justification, payload, leader), asked=False)

    # -- epochs ------------------------------------------------------------------------------

    def _enter_epoch(self) -> None:
        """The block that ends an epoch was executed: the next one begins on it."""
        old = self._present
        self._step(into.HeadersStored(self._finality.header.digest))  # a core that only caught up sees its end now
        if old.signs:
            self._epochs.log.replace(old.number, old.live_records())
            if old.core.status().muted_until_view >= self._finality.header.view:
                self._restored = True  # others showed it that votes are lost, perhaps of this epoch as well
        epoch = self._epochs.present()
        self._present = self._epochs.instance(epoch, self._now)
        self._before = old if old.core.ended is not None else None
        self._rules = self._epochs.rules(epoch)
        self._branches.enter(epoch)
        self._builder.enter(epoch)
        self._finality.enter(epoch)
        others = [member.id for member in epoch.validators.members]
        self._catchup.enter(others)
        self._snapshots.enter(
            [member for member in others if member != self._epochs.organisation], self._epochs.known()
        )
        self._batches.enter(epoch, self._turn)
        self._tip = self._finality.header
        self._work = self._final_written = None
        members = tuple([member.id for member in epoch.validators.members])
        self._turn.notices.append(EpochNotice(epoch.number, epoch.start.height + 1, members))
        self._begin()

    # -- consensus ---------------------------------------------------------------------------

    def _step(self, event: into.Event, instance: Instance | None = None) -> None:
        """Give a core (the present one) an event, and whatever its effects make the application answer."""
        self._events.append((instance or self._present, event))
        while self._events:
            taker, event = self._events.popleft()
            if self._finality.diverged and not _answers_peers(event):
                continue
            for effect in taker.core.step(event, self._now):
                if taker is self._present or isinstance(effect, OF_A_RESTING_CORE):
                    self._carry_out(effect, taker)

    def _carry_out(self, effect: out.Effect, of: Instance) -> None:
        turn = self._turn
        match effect:
            case out.Persist(record):
                if of.signs:
                    turn.vote_records.append(wire.encode_record(record))
            case out.Broadcast(message):
                if isinstance(message, Proposal):
                    self._store_own(message)
                turn.sends.append((None, message))
            case out.Send(to, message):
                turn.sends.append((of.organisation(to), message))
            case out.ViewEntered(view, _):
                self._builder.forget(view)
            case out.Build(view, parent, certificate, nullifications, boundary, at_once):
                since_ms = self._now.monotonic_ms
                self._builder.request(
                    BuildRequest(view, parent, certificate, nullifications, boundary, since_ms, at_once)
                )
            case out.Verify(proposal):
                self._branches.add(proposal, asked=True)
            case out.FetchBlock(digest, _, sources):
                turn.fetches.append(FetchProposals(of.organisations(sources), (digest,)))
            case out.Certified(header):
                self._tip = header
            case out.Finalized(certificate, _, _):
                self._finality.on_finalized(certificate)
            case out.Penalise(sender, reason):
                turn.penalties.append(Penalty(of.organisation(sender), reason))
            case out.Alarm(kind, text):
                turn.notices.append(AlarmNotice(kind, text))
            case out.Report(evidence):
                turn.notices.append(AlarmNotice("evidence", _in_words(evidence, of)))
                self._statements.found(evidence, turn)
            case out.RemoveBackupMarker():
                self._answered = of.signs  # whoever only observes has asked nobody

    def _store_own(self, proposal: Proposal) -> None:
        """The own block, with the vote just signed: stored before it leaves."""
        self._branches.add(proposal, asked=False)
        node = self._branches.get(proposal.header.digest)
        if node is not None:
            self._branches.write(node, self._turn)

    # -- turns -------------------------------------------------------------------------------

    def take_turn(self) -> Turn:
        """Settle what follows from the inputs since the last turn; the effects, to be carried out in order.

        Calling it says that the turn before was carried out, down to its syncs.
        """
        self._finality.turn_stored()
        if self._final_written is not None:
            self._step(into.HeadersStored(self._final_written))
            self._final_written = None
        if not self._finality.behind:
            self._duties.settle(self._present.epoch, self._now, self._turn)
        for _ in range(SETTLE_ROUNDS_MAX):
            if not self._settle():
                break
        self._batches.flush(self._now, self._turn)
        if self._present.core.idle:
            self._progress_ms = self._now.monotonic_ms
        self._snapshots.settle(self._now, self._turn)
        turn, self._turn = self._turn, Turn()
        return turn

    def _settle(self) -> bool:
        """One round; False when nothing followed."""
        branches, builder, finality, now = self._branches, self._builder, self._finality, self._now
        before = finality.header
        if finality.settle(now, self._turn):
            self._catchup.complete()
            self._snapshots.level()
        elif not self._snapshots.fetching:
            self._catch_up(finality.header.height)
        moved = finality.header is not before
        if moved:
            if finality.header.view > self._tip.view:
                self._tip = finality.header
            self._final_written = finality.header.digest
            self._progress_ms = now.monotonic_ms
            self._lay_marker_down()
        judged = branches.judge(now, self._turn)
        for judgement in judged:
            verdict = into.Verdict.VALID if judgement.valid else into.Verdict.INVALID
            self._step(into.Verified(judgement.digest, verdict))
        built = builder.try_build(now)
        if built is not None:
            self._step(into.Built(built.view, built.header, built.justification, built.payload.raw))
        work = builder.work_pending(self._tip, now)
        if work != self._work:
            self._work = work
            self._step(into.Work(work))
        return moved or bool(judged) or built is not None

    def _lay_marker_down(self) -> None:
        """The backup marker goes once no epoch to come can hold votes that this node has forgotten.

        To have signed in the next epoch it must have held the Finalization of the end of this one. Of the Q-1 that have
        answered since, one that is honest had signed it, so the bound lies above its view. A final block above the
        bound therefore is no older than the answers: this epoch had not ended before.
        """
        if not self._restored or not self._answered:
            return
        header = self._finality.header
        if header.epoch == self._present.number and header.view > self._present.core.status().muted_until_view:
            self._restored = False
            self._turn.remove_backup_marker = True

    def _catch_up(self, height: int) -> None:
        """Blocks above this height are missing here."""
        catchup, snapshots, now = self._catchup, self._snapshots, self._now
        if not catchup.missing(now):
            return
        snapshots.behind(height, gone=catchup.gone, now=now, turn=self._turn)
        if not self._finality.backfilling and not snapshots.deciding(now):
            catchup.need(height + 1, now, self._turn)

    @property
    def deadline_ms(self) -> int | None:
        """Monotonic time at which a ``Tick`` is due."""
        snapshots = self._snapshots
        blocks_wait = snapshots.fetching or self._finality.backfilling or snapshots.deciding(self._now)
        times = (
            self._present.core.deadline_ms,
            self._builder.deadline_ms(self._tip, self._now),
            self._batches.deadline_ms(),
            None if blocks_wait else self._catchup.deadline_ms(),
            snapshots.deadline_ms(self._now),
        )
        return min((time for time in times if time is not None), default=None)

    def execute_slice(self, now: Now) -> bool:
        """Execute one envelope of a finalized block; True while more is waiting."""
        self._now = now
        more = self._finality.execute_slice(now, self._turn)
        if self._epochs.number != self._present.number:
            self._enter_epoch()
        return more

    # -- what others may ask -----------------------------------------------------------------

    @property
    def backlog_bytes(self) -> int:
        """Own envelopes not executed yet; admission refuses beyond its limit."""
        return self._batches.origin.backlog_bytes

    @property
    def finalized_height(self) -> int:
        """Highest block that is final and in hand."""
        return self._finality.header.height

    @property
    def executed_height(self) -> int:
        """Last executed height."""
        return self._finality.executed_height

    @property
    def epoch(self) -> Epoch:
        """The present epoch."""
        return self._present.epoch

    @property
    def epoch_age_ms(self) -> int:
        """Block time since the present epoch began: how old its consensus keys are."""
        return max(0, self._finality.header.timestamp_ms - self._present.epoch.start.timestamp_ms)

    @property
    def caught_up(self) -> bool:
        """Is everything known to be final executed, and may this origin make batches?"""
        return not self._finality.behind and self._batches.origin.opened

    def live_records(self) -> list[bytes]:
        """What a rewritten vote log has to hold."""
        return self._epochs.live_records(self._present) + self._batches.live_records()

    @property
    def snapshot(self) -> dict[str, int] | None:
        """How much of a snapshot has come in; None while none is fetched."""
        return self._snapshots.progress

    @property
    def catching_up(self) -> bool:
        """Is more known to be final than is executed here?"""
        return self._finality.behind

    @property
    def divergence(self) -> str:
        """How the network's state contradicts this node's; empty if it does not."""
        return self._finality.divergence

    def stalled_ms(self, now: Now) -> int:
        """For how long nothing became final although there was something to do."""
        return 0 if self._present.core.idle else now.monotonic_ms - self._progress_ms

    def missing_batches(self) -> list[bytes]:
        """Some batches that blocks wait for."""
        return self._branches.missing_batches()

    def own_batches(self) -> list[OwnBatch]:
        """Own batches that a quorum has not acknowledged, oldest first."""
        return self._batches.origin.unacknowledged()

    def consensus_status(self) -> Status:
        """Where consensus stands."""
        return self._present.core.status()

    def status(self) -> dict[str, object]:
        """Where it stands, for ``node status``; ``node.reasons`` says what it waits for."""
        core = self._present.core.status()
        members = self._present.epoch.validators.members
        return {
            "epoch": self._present.number,
            "validators": [member.id for member in members],
            "view": core.view,
            "leader": members[core.leader].id,
            "signing": core.signing,
            "muted_until_view": core.muted_until_view,
            "muted": {members[i].id: until for i, until in core.muted_peers},
            "idle": core.idle,
            "silent": [members[i].id for i in core.silent],
            "finalized_height": self.finalized_height,
            "executed_height": self.executed_height,
            "catching_up": self._finality.behind,
            "snapshot": self.snapshot,
            "backlog_bytes": self.backlog_bytes,
            "origin_open": self._batches.origin.opened,
            "diverged": self._finality.diverged,
            "evidence": core.evidence_count,
        }


def _in_words(evidence: Evidence, of: Instance) -> str:
    culprit, act = of.organisation(evidence.culprit), evidence.kind.name.lower().replace("_", "-")
    return f"{culprit} broke the rules of consensus in view {evidence.vote.view}: {act}"


def _answers_peers(event: into.Event) -> bool:
    """A node that has diverged still answers what others ask after a start."""
    return isinstance(event, into.StartQueryReceived | into.WantReceived)
