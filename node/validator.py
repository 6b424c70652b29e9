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

``handle`` takes one input; ``take_turn`` settles what follows from all inputs since the last turn and
hands out the effects. Nothing here reads a clock, a socket or a file (but through the store ports);
the daemon and the simulator drive the same object.
"""

from __future__ import annotations

from collections import deque

from consensus import effects as out
from consensus import events as into
from consensus.core import Core
from consensus.events import Now
from consensus.evidence import Evidence
from consensus.status import Status
from consensus.types import Header, Proposal, ValidatorSet
from ledger import wire
from ledger.types import Ack, Batch, Statement
from node.branches import Branches
from node.building import Builder, BuildRequest
from node.catchup import BadBlocks, Catchup, ChainRules, as_proposal, check_chain
from node.dissemination import Dissemination
from node.finality import Finality
from node.reasons import OwnBatch
from node.statements import StatementPool
from node.turn import (
    AlarmNotice,
    BatchChecked,
    BatchesFetched,
    BlocksFetched,
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
    Submitted,
    Tick,
    Turn,
)

SETTLE_ROUNDS_MAX = 64  #: a turn that is not settled after this many rounds goes on in the next one


class Validator:
    """See the module text; ``node.assembly`` makes one.

    Args:
        validators: set of the epoch.
        core, branches, builder, finality, dissemination, statements: the parts that are joined.
        catchup: backfill of finalized blocks.
        rules: what peers serve in backfill has to satisfy.
        votes: False for an observer, which has no vote log: it signs nothing that a log would have to remember.
    """

    def __init__(
        self,
        *,
        validators: ValidatorSet,
        core: Core,
        branches: Branches,
        builder: Builder,
        finality: Finality,
        dissemination: Dissemination,
        statements: StatementPool,
        catchup: Catchup,
        rules: ChainRules,
        votes: bool,
    ) -> None:
        self._validators = validators
        self._core = core
        self._branches = branches
        self._builder = builder
        self._finality = finality
        self._batches = dissemination
        self._statements = statements
        self._catchup = catchup
        self._rules = rules
        self._votes = votes
        self._tip: Header = finality.header  #: highest certified header
        self._turn = Turn()
        self._events: deque[into.Event] = deque()
        self._work: bool | None = None
        self._final_written: bytes | None = None  #: newest block that the turn before made final
        self._now = Now(0, 0)
        self._progress_ms = 0  #: when something last became final, or there was nothing to do

    # -- inputs ------------------------------------------------------------------------------

    def start(self, now: Now, nonce: bytes, *, restored_from_backup: bool = False) -> None:
        """First of all: the driver is ready to carry out effects."""
        self._now = now
        self._progress_ms = now.monotonic_ms
        self._step(into.Started(nonce, restored_from_backup))

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
                self._batches.submit(item.envelopes)
            case PeerConnected():
                self._step(into.PeerConnected(item.peer))
                self._batches.on_connected(item.peer, self._turn)
                self._statements.on_connected(item.peer, self._turn)
            case BatchesFetched():
                for batch in item.batches:
                    self._batches.on_batch(batch, item.sender, now, self._turn)
            case ProposalsFetched():
                for proposal in item.proposals:
                    self._step(into.BlockFetched(item.sender, proposal))
            case BlocksFetched():
                self._on_blocks(item)
            case Tick():
                self._step(into.Tick())
            case FetchFailed() | PeerLost():
                pass  # every fetch is repeated by its own deadline, every message by PeerConnected

    def _is_penalised(self, peer: int) -> bool:
        return any(penalty.peer == peer for penalty in self._turn.penalties)

    def _on_message(self, message: PeerMessage, sender: int) -> None:
        match message:
            case Ack():
                self._batches.on_ack(message, sender, self._now, self._turn)
            case Batch():
                self._batches.on_batch(message, sender, self._now, self._turn)
            case OriginQuery():
                self._batches.on_origin_query(message, sender, self._turn)
            case OriginAnswer():
                self._batches.on_origin_answer(message, sender)
            case Statement():
                self._statements.on_statement(message, sender, self._turn)
            case _:
                self._step(into.received(sender, message))

    def _on_blocks(self, item: BlocksFetched) -> None:
        """Backfill: believe the answer as a whole, or nothing of it."""
        self._catchup.answered()
        final = self._finality.header
        blocks = [block for block in item.blocks if block.header.height > final.height]
        if not blocks:
            return
        try:
            chain, certificate = check_chain(blocks, final, self._rules)
        except BadBlocks as problem:
            self._turn.penalties.append(Penalty(item.sender, f"served blocks that do not hold: {problem}"))
            return
        for block in chain:
            self._branches.add(as_proposal(block, self._validators.leader(block.header.view)), asked=False)
            for batch in block.batches:
                self._batches.want(batch.header.digest, (item.sender,), self._now)
                self._batches.on_batch(batch, item.sender, self._now, self._turn)
        self._step(into.Witnessed(tuple([each for block in chain for each in block.justification.certificates])))
        self._step(into.CertificateReceived(item.sender, certificate))
        self._finality.on_finalized(certificate)

    # -- consensus ---------------------------------------------------------------------------

    def _step(self, event: into.Event) -> None:
        """Give the core an event, and whatever its effects make the application answer."""
        self._events.append(event)
        while self._events:
            event = self._events.popleft()
            if self._finality.diverged and not _answers_peers(event):
                continue
            for effect in self._core.step(event, self._now):
                self._carry_out(effect)

    def _carry_out(self, effect: out.Effect) -> None:
        turn = self._turn
        match effect:
            case out.Persist(record):
                if self._votes:
                    turn.vote_records.append(wire.encode_record(record))
            case out.Broadcast(message):
                if isinstance(message, Proposal):
                    self._store_own(message)
                turn.sends.append((None, message))
            case out.Send(to, message):
                turn.sends.append((to, message))
            case out.ViewEntered(view, _):
                self._builder.forget(view)
            case out.Build(view, parent, certificate, nullifications, _, at_once):
                self._builder.request(
                    BuildRequest(view, parent, certificate, nullifications, self._now.monotonic_ms, at_once)
                )
            case out.Verify(proposal):
                self._branches.add(proposal, asked=True)
            case out.FetchBlock(digest, _, sources):
                turn.fetches.append(FetchProposals(sources, (digest,)))
            case out.Certified(header):
                self._tip = header
            case out.Finalized(certificate, _, _):
                self._finality.on_finalized(certificate)
            case out.Penalise(sender, reason):
                turn.penalties.append(Penalty(sender, reason))
            case out.Alarm(kind, text):
                turn.notices.append(AlarmNotice(kind, text))
            case out.Report(evidence):
                turn.notices.append(AlarmNotice("evidence", self._in_words(evidence)))
                self._statements.found(evidence, turn)
            case out.RemoveBackupMarker():
                turn.remove_backup_marker = True

    def _in_words(self, evidence: Evidence) -> str:
        culprit, act = self._validators.members[evidence.culprit].id, evidence.kind.name.lower().replace("_", "-")
        return f"{culprit} broke the rules of consensus in view {evidence.vote.view}: {act}"

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
        for _ in range(SETTLE_ROUNDS_MAX):
            if not self._settle():
                break
        self._batches.flush(self._now, self._turn)
        if self._core.idle:
            self._progress_ms = self._now.monotonic_ms
        turn, self._turn = self._turn, Turn()
        return turn

    def _settle(self) -> bool:
        """One round; False when nothing followed."""
        branches, builder, finality, now = self._branches, self._builder, self._finality, self._now
        before = finality.header
        if finality.settle(now, self._turn):
            self._catchup.complete()
        else:
            self._catchup.need(finality.header.height + 1, now, self._turn)
        moved = finality.header is not before
        if moved:
            if finality.header.view > self._tip.view:
                self._tip = finality.header
            self._final_written = finality.header.digest
            self._progress_ms = now.monotonic_ms
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

    @property
    def deadline_ms(self) -> int | None:
        """Monotonic time at which a ``Tick`` is due."""
        times = (
            self._core.deadline_ms,
            self._builder.deadline_ms(self._tip, self._now),
            self._batches.deadline_ms(),
            self._catchup.deadline_ms(),
        )
        return min((time for time in times if time is not None), default=None)

    def execute_slice(self, now: Now) -> bool:
        """Execute one envelope of a finalized block; True while more is waiting."""
        self._now = now
        return self._finality.execute_slice(now, self._turn)

    # -- what others may ask -----------------------------------------------------------------

    @property
    def backlog_bytes(self) -> int:
        """Own envelopes not executed yet; admission refuses beyond its limit."""
        return self._batches.backlog_bytes

    @property
    def finalized_height(self) -> int:
        """Highest block that is final and in hand."""
        return self._finality.header.height

    @property
    def executed_height(self) -> int:
        """Last executed height."""
        return self._finality.executed_height

    @property
    def caught_up(self) -> bool:
        """Is everything known to be final executed, and may this origin make batches?"""
        return not self._finality.behind and self._batches.opened

    def live_records(self) -> list[bytes]:
        """What a rewritten vote log has to hold."""
        records = [wire.encode_record(record) for record in self._core.live_records()]
        return records + self._batches.live_records()

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
        return 0 if self._core.idle else now.monotonic_ms - self._progress_ms

    def missing_batches(self) -> list[bytes]:
        """Some batches that blocks wait for."""
        return self._branches.missing_batches()

    def own_batches(self) -> list[OwnBatch]:
        """Own batches that a quorum has not acknowledged, oldest first."""
        return self._batches.unacknowledged()

    def consensus_status(self) -> Status:
        """Where consensus stands."""
        return self._core.status()

    def status(self) -> dict[str, object]:
        """Where it stands, for ``node status``; ``node.reasons`` says what it waits for."""
        core = self._core.status()
        members = self._validators.members
        return {
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
            "backlog_bytes": self.backlog_bytes,
            "origin_open": self._batches.opened,
            "diverged": self._finality.diverged,
            "evidence": core.evidence_count,
        }


def _answers_peers(event: into.Event) -> bool:
    """A node that has diverged still answers what others ask after a start."""
    return isinstance(event, into.StartQueryReceived | into.WantReceived)
