"""Simplex as a pure state machine: (state, event, now) -> (state, effects).

Protocol: Chan and Pass, "Simplex Consensus: A Simple and Fast Consensus Protocol" (IACR ePrint 2023/463), with the
leader rotating round robin, one block per view, Ed25519 certificates with listed signers. The rules R1-R12, corner
cases and invariants are those of docs/consensus.md. Validators n, faults f = floor((n-1)/3), quorum Q = n - f.

Per view v this node keeps: the votes it saw (N notarize, X nullify, F finalize), the certificates (Q votes of a kind
for one tuple), the leader's *slot* (the digest it proposed), what it certified and what it built.

On entering v (forward only):                                                                                  [R1]
    the timers 2D (proposal) and 3D (certified block) run from the moment there is work, a proposal or a vote   [R12]
    leader long silent while a quorum is active: expire
On being leader(v):                                                                                            [R2]
    parent := highest certified block, of view p; nullifications of all views between p and v in hand, else ask for them
    ask the application to build, once; with no Finalization of the parent D after entering: even an empty block [R12 a]
    on Built: log block and own N; broadcast the proposal
On the leader's N (in a proposal or alone):                                                                    [R3]
    first digest: slot(v) := digest; a second one: slot equivocated, evidence, never N or F in v
While the slot's block is placed, verified, builds on a certified parent not below the floor, and the clock agrees: [R4]
    v current, neither X nor N cast: log and broadcast N
    (block provably bad: expire v at once)
On Q votes N, or a Notarization from anyone:                                                                   [R5, R10]
    log and broadcast it once; slot(v) := its digest (differs: equivocated); fetch the block if it is missing
When a notarized block is placed, verified, and its parent certified, v above the floor, v current or long past:  [R6]
    certified; enter v+1; no X here, slot not equivocated, no own N for another digest: log and broadcast F
    (provably bad: log that, alarm, stop signing)
On expiry of v (timer, leader's own X, bad block), F not cast:                                                 [R7]
    log and broadcast X; then every retry interval send again what this node last said, and why it is in v
On Q votes X, or a Nullification from anyone: log, broadcast once, enter v+1; own X is not required          [R8, R10]
On Q votes F, or a Finalization from anyone:                                                                   [R9, R10]
    log, broadcast once; floor := max; tell the application; enter v+1 if behind
On an X or a Want for a view this node has left: answer with its best certificate and the floor's Finalization   [R11]

Deviations from the paper, each with its reason:

* A header commits to a *justification*: the parent's certificate and a nullification for every view skipped. In the
  paper dummy blocks stand for skipped views; here conflicting finality convicts f+1 nodes from headers and certificates
  alone (consensus.md §11).
* A Notarization moves the view only once the block is certified here (body in hand, valid): finality must imply that
  the data can be had. Certifying goes on after the view was nullified, or two halves could refuse each other's parents.
* Nullifying does not need a timer where the block is provably bad or the leader itself gave up.
* An idle network is silent (R12); the paper's never is.
* Received certificates are sent on only if they brought news to this node's view or floor; laggards are answered (R11).

The order in which effects are carried out is in ``consensus.effects``. What this module never does: read a clock, draw
randomness, hash a header, touch a file, depend on dictionary order of anything a peer controls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from consensus.blocks import Block, Blocks
from consensus.config import Config
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
    ViewEntered,
)
from consensus.events import (
    BlockFetched,
    BuildRefused,
    Built,
    CertificateReceived,
    Event,
    HeadersStored,
    Now,
    PeerConnected,
    ProposalReceived,
    StartAnswerReceived,
    Started,
    StartQueryReceived,
    Tick,
    Verdict,
    Verified,
    VoteReceived,
    WantReceived,
    Work,
)
from consensus.evidence import Evidence, FalseJustification
from consensus.invariant import invariant
from consensus.justification import HeaderRules
from consensus.messages import START_ANSWER_VOTES_MAX, Message, StartAnswer, StartQuery, Want
from consensus.ports import Headers, Signatures
from consensus.records import BuiltBlock, Certification, HeldCertificate, MutedUntil, OwnVote, Record
from consensus.restore import live_records, replay
from consensus.rounds import Round, Rounds
from consensus.signer import Signer
from consensus.startup import StartUp
from consensus.status import Status
from consensus.timers import STREAK_MAX, Activity, Budget, Pacemaker
from consensus.types import Certificate, Header, Proposal, Target, ValidatorSet, Vote, VoteKind
from consensus.votes import VoteChecker, shape_problem

N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE

NULLIFICATION: Final[Target] = (0, b"")
SETTLE_ROUNDS_MAX: Final = 10_000
"""Passes over the rules in one step; each pass changes something, so more is a loop."""
HELP_PER_INTERVAL: Final = 32
"""Answers to one peer per retry interval (R11): a node catching up asks for a view at a time."""
WANTS_AT_ONCE: Final = 8
"""Missing nullifications asked for at a time."""
RESENT_FINALIZE_VOTES_MAX: Final = 16
"""Own F votes sent again: finalizing the highest finalizes the rest."""
RESENT_VIEWS_MAX: Final = 256
"""Views searched for them."""


class Core:
    """One validator's (or observer's) consensus in one epoch. Not thread-safe; one driver calls it."""

    def __init__(
        self,
        config: Config,
        validators: ValidatorSet,
        own_index: int | None,
        genesis: Header,
        headers: Headers,
        signatures: Signatures,
        now: Now,
    ) -> None:
        self._config = config
        self._validators = validators
        self._own_index = own_index
        self._genesis = genesis
        self._rules = HeaderRules(config.protocol_version, config.chain_id, validators, genesis)
        self._checker = VoteChecker(config.chain_id, validators, signatures)
        self._signer = Signer(config.chain_id, validators.epoch, own_index, signatures)
        self._rounds = Rounds()
        self._blocks = Blocks(genesis, headers)
        self._pace = Pacemaker(config, now.monotonic_ms)
        self._activity = Activity(config, validators.n, own_index, now.monotonic_ms)
        self._budget = Budget(HELP_PER_INTERVAL, config.retry_ms)
        self._startup: StartUp | None = None
        self._now = now
        self._out: list[Effect] = []
        self._view = 1
        self._floor: Certificate | None = None
        self._certified_view = 0
        self._top_certificate_view = 0
        self._uncertified: set[int] = set()  #: views above the floor with a Notarization not certified here
        self._fetches: dict[bytes, int] = {}  #: digest -> when to ask again
        self._look = False  #: a parent's header may have become known
        self._offer: tuple[int, bytes, bool] | None = None  #: the last ``Build``: view, parent, at once
        self._want_at_ms: int | None = None
        self._clock_wait_ms: int | None = None
        self._work = False
        self._evidence_count = 0

    @classmethod
    def restore(
        cls,
        config: Config,
        validators: ValidatorSet,
        own_index: int | None,
        genesis: Header,
        records: Iterable[Record],
        headers: Headers,
        signatures: Signatures,
        now: Now,
    ) -> Core:
        """The core as its records left it; no records: as at genesis. The first event has to be ``Started``.

        Args:
            own_index: signer index; None for an observer, which follows certificates and never signs.
            genesis: header of the epoch's genesis, view 0.
            records: the vote log, oldest first.
        """
        core = cls(config, validators, own_index, genesis, headers, signatures, now)
        core._recover(records)
        return core

    def _recover(self, records: Iterable[Record]) -> None:
        self._signer.muted_until = replay(records, self._rounds)
        for found in self._rounds.ascending():
            if found.finalized:
                self._floor = found.finalized
        self._certified_view = self.floor_view
        for found in self._rounds.ascending():
            if found.certificates:
                self._top_certificate_view = found.view
            if found.view > self.floor_view and found.certified is not None:
                self._certified_view = found.view
            elif found.view > self.floor_view and found.notarized is not None:
                self._uncertified.add(found.view)
                if found.rejected is not None:
                    self._signer.stopped = f"the block of view {found.view} was found invalid although it is notarized"
            if found.certified is not None or found.nullified or found.finalized:
                self._view = max(self._view, found.view + 1)
        self._rounds.prune(self._window_start)
        self._pace.enter(self._now.monotonic_ms, self._streak())

    # -- outside view ----------------------------------------------------------------------

    def step(self, event: Event, now: Now) -> list[Effect]:
        """Take one event; ``effects`` says in which order to carry out what it returns."""
        invariant(self._startup is not None or isinstance(event, Started), "the first event has to be Started")
        self._now = Now(max(now.monotonic_ms, self._now.monotonic_ms), now.wall_ms)
        self._activity.advance(self._now.monotonic_ms, self._pace.armed_ms is not None)
        self._HANDLERS[type(event)](self, event)
        self._settle()
        self._send_again()
        out, self._out = self._out, []
        return out

    @property
    def deadline_ms(self) -> int | None:
        """Monotonic time at which the next ``Tick`` is due; None while nothing waits for time."""
        waiting = [self._pace.deadline_ms, self._clock_wait_ms, self._build_at_once_ms, self._want_at_ms]
        waiting += self._fetches.values()
        if self._startup is not None and not self._startup.done:
            waiting.append(self._startup.ask_again_ms)
        return min((at_ms for at_ms in waiting if at_ms is not None), default=None)

    @property
    def view(self) -> int:
        """The current view."""
        return self._view

    @property
    def floor(self) -> Certificate | None:
        """Highest Finalization; None while only the genesis is final."""
        return self._floor

    @property
    def floor_view(self) -> int:
        """View of the floor, 0 for the genesis."""
        return self._floor.view if self._floor else 0

    @property
    def floor_digest(self) -> bytes:
        """Header digest of the highest finalized block."""
        return self._floor.digest if self._floor else self._genesis.digest

    def certificate(self, kind: VoteKind, view: int) -> Certificate | None:
        """A certificate held, for whoever serves blocks or answers questions."""
        found = self._rounds.get(view)
        return found.certificates.get(kind) if found else None

    def live_records(self) -> list[Record]:
        """The records from which ``restore`` makes this state again: what a rewritten vote log has to hold."""
        return live_records(self._rounds, self._own_index, self._signer.muted_until)

    def status(self) -> Status:
        """Where it stands, what it waits for."""
        startup, header = self._startup, self._blocks.header(self.floor_digest)
        signing = self._signer.state
        if signing == "signing" and self._view <= self._signer.muted_until:
            signing = "muted"
        return Status(
            epoch=self._validators.epoch,
            view=self._view,
            leader=self._validators.leader(self._view),
            floor_view=self.floor_view,
            floor_height=header.height if header else None,
            certified_view=self._certified_view,
            signing=signing,
            start_answers=(len(startup.credible(self._reachable_view)), startup.needed) if startup else (0, 0),
            muted_until_view=self._signer.muted_until,
            idle=self._pace.armed_ms is None,
            silent=self._activity.silent(),
            missing=tuple(self._missing()),
            evidence_count=self._evidence_count,
        )

    def _missing(self) -> list[str]:
        """What progress waits for, in words."""
        missing = [f"block {digest.hex()[:16]}" for digest in self._fetches]
        missing += [f"nullification of view {view}" for view in self._missing_nullifications()[:WANTS_AT_ONCE]]
        for block in self._blocks.ascending():
            if block.header.view > self.floor_view and block.bad is None and not block.good:
                what = "verdict on" if block.placed else "parent header of"
                missing.append(f"{what} block {block.header.digest.hex()[:16]} of view {block.header.view}")
        found = self._rounds.get(self._view)
        if self._pace.armed_ms is not None and (found is None or found.slot is None):
            missing.append(f"proposal of leader {self._validators.leader(self._view)} for view {self._view}")
        if found is not None and found.slot is not None and not found.notarized:
            missing.append(f"votes for view {self._view}: {len(found.votes[N])} of {self._validators.quorum}")
        return missing

    # -- effects ---------------------------------------------------------------------------

    def _persist(self, record: Record) -> None:
        self._out.append(Persist(record))

    def _broadcast(self, message: Message) -> None:
        self._out.append(Broadcast(message))

    def _report(self, evidence: Evidence) -> None:
        self._evidence_count += 1
        self._out.append(Report(evidence))

    def _stop(self, kind: str, text: str) -> None:
        """Never sign again: either this node is broken, or more than f are. An operator has to look."""
        if self._signer.stopped is None:
            self._signer.stopped = text
        self._out.append(Alarm(kind, text))

    # -- the rules that follow from state, until none applies -----------------------------------

    def _settle(self) -> None:
        for _ in range(SETTLE_ROUNDS_MAX):
            changed = [
                self._finish_start(),
                self._find_blocks(),
                self._place_blocks(),
                self._certify_blocks(),
                self._notarize(),
                self._check_expiry(),
                self._nullify(),
            ]
            if not any(changed):
                break
        else:
            invariant(False, "the rules do not come to rest")
        self._propose()

    @property
    def _unfinalized(self) -> bool:
        """R12 (a): the highest certified block is not final."""
        return self._certified_view > self.floor_view

    def _enter(self, view: int) -> None:
        """R1: forward only."""
        if view <= self._view:
            return
        self._view = view
        self._want_at_ms = None
        self._pace.enter(self._now.monotonic_ms, self._streak())
        self._out.append(ViewEntered(view, self._validators.leader(view)))

    def _streak(self) -> int:
        """Nullified views since the floor, the latest ones: the back-off's exponent (consensus.md §4)."""
        first = max(self.floor_view + 1, self._view - STREAK_MAX)
        rounds = (self._rounds.get(view) for view in range(first, self._view))
        return sum(found is not None and found.nullified is not None for found in rounds)

    # R2

    def _propose(self) -> None:
        """R2: ask for a block on the highest certified one."""
        if not self._may_propose():
            self._want_at_ms = None
            return
        missing = self._missing_nullifications()
        if missing:
            self._ask_for(missing)
            return
        self._want_at_ms = None
        parent_digest, certificate = self._highest_certified()
        parent = self._blocks.header(parent_digest)
        if parent is None:
            return  # the floor's header is being backfilled
        at_once = self._unfinalized and self._now.monotonic_ms >= self._pace.entered_ms + self._config.delay_ms
        offer = (self._view, parent_digest, at_once)
        if self._offer in (offer, (self._view, parent_digest, True)):
            return
        self._offer = offer
        skipped = range(self._certified_view + 1, self._view)
        nullifications = tuple(self._rounds.at(view).certificates[X] for view in skipped)
        self._out.append(Build(self._view, parent, certificate, nullifications, at_once))

    def _may_propose(self) -> bool:
        if self._validators.leader(self._view) != self._own_index or not self._signer.may_sign(self._view):
            return False
        found = self._rounds.get(self._view)
        untouched = found is None or (found.built is None and not self._signer.own(found, N))
        return untouched and not self._pace.expired

    @property
    def _build_at_once_ms(self) -> int | None:
        """When the leader stops waiting for the parent's Finalization (R12 a)."""
        if not self._unfinalized or self._offer != (self._view, self._highest_certified()[0], False):
            return None
        return self._pace.entered_ms + self._config.delay_ms if self._may_propose() else None

    def _highest_certified(self) -> tuple[bytes, Certificate | None]:
        found = self._rounds.get(self._certified_view)
        if self._certified_view == self.floor_view or found is None or found.certified is None:
            return self.floor_digest, self._floor
        return found.certified, found.finalized or found.notarized

    def _missing_nullifications(self) -> list[int]:
        """Views between the highest certified and the current one without a Nullification."""
        rounds = ((view, self._rounds.get(view)) for view in range(self._certified_view + 1, self._view))
        return [view for view, found in rounds if found is None or found.nullified is None]

    def _ask_for(self, views: list[int]) -> None:
        now_ms = self._now.monotonic_ms
        if self._want_at_ms is None or now_ms >= self._want_at_ms:
            self._want_at_ms = now_ms + self._config.retry_ms
            for view in views[:WANTS_AT_ONCE]:
                self._broadcast(Want(self._validators.epoch, view))

    def _on_built(self, event: Built) -> None:
        header, offer = event.header, self._offer
        answers = offer is not None and offer[:2] == (event.view, header.parent_digest)
        if event.view != self._view or not answers or not self._may_propose():
            return  # the view or the parent is no longer the one that was asked for
        found = self._rounds.at(self._view)
        proposal = self._sign_proposal(event, found)
        self._add_own_block(proposal)
        found.built = header.digest
        self._persist(BuiltBlock(self._view, header.digest))
        self._utter(proposal.vote, found, proposal)

    def _sign_proposal(self, event: Built, found: Round) -> Proposal:
        header = event.header
        problem = self._rules.header_problem(header)
        invariant(problem is None and header.view == self._view, f"the application built a bad header: {problem}")
        invariant(
            event.justification.digest == header.justification_digest, "the header commits to another justification"
        )
        problem = self._rules.justification_problem(header, event.justification, self._certificate_problem)
        invariant(problem is None, f"the application built a bad justification: {problem}")
        vote = self._signer.sign(N, found, (header.parent_view, header.digest))
        return Proposal(header, event.justification, event.payload, vote)

    def _add_own_block(self, proposal: Proposal) -> None:
        block = Block(proposal)
        parent = self._blocks.header(proposal.header.parent_digest)
        problem = "unknown parent" if parent is None else self._rules.placement_problem(proposal, parent)
        invariant(problem is None, f"the application built a bad header: {problem}")
        block.placed = block.asked = True
        block.verdict = Verdict.VALID  # the application made it, body and root
        self._blocks.add(block)

    def _on_build_refused(self, event: BuildRefused) -> None:
        if event.view == self._view and self._may_propose():
            self._pace.expire(self._now.monotonic_ms)

    # R3, R4

    def _on_proposal(self, event: ProposalReceived) -> None:
        proposal, sender = event.proposal, event.sender
        header, vote = proposal.header, proposal.vote
        self._activity.heard(sender)
        if header.epoch != self._validators.epoch or header.view <= self.floor_view:
            return
        problem = self._proposal_problem(proposal)
        if problem:
            self._out.append(Penalise(sender, problem))
            return
        found = self._rounds.get(header.view)
        if self._blocks.get(header.digest) is None and (
            found is None or found.slot in (None, header.digest) or header.digest in self._fetches
        ):
            block = self._judge(proposal)
            if block.problem is not None and header.view > self._view + 1:
                self._out.append(Penalise(sender, block.problem))
                return
            self._take_block(block)
        if self.floor_view < header.view <= self._view + 1 or self._blocks.get(header.digest) is not None:
            self._activity.heard(vote.signer)
            self._count(vote)

    def _proposal_problem(self, proposal: Proposal) -> str | None:
        """What only the sender can be blamed for: parts that do not belong together, a vote not the leader's."""
        header, vote = proposal.header, proposal.vote
        if (vote.kind, vote.epoch, vote.view, vote.target) != (
            N,
            header.epoch,
            header.view,
            (header.parent_view, header.digest),
        ):
            return "the vote of the proposal is not for its header"
        if vote.signer != self._validators.leader(vote.view):
            return "the vote of the proposal is not its leader's"
        if proposal.justification.digest != header.justification_digest:
            return "the justification is not the one the header commits to"
        return self._vote_problem(vote)

    def _judge(self, proposal: Proposal) -> Block:
        """A new block, with what can be proven against it at once."""
        block = Block(proposal)
        block.problem = self._rules.header_problem(proposal.header)
        if block.problem is None:
            block.problem = self._rules.justification_problem(
                proposal.header, proposal.justification, self._certificate_problem
            )
            block.false_justification = block.problem is not None
        return block

    def _take_block(self, block: Block) -> None:
        """Keep a judged block; its justification's certificates act like any others (R10)."""
        header, justification = block.header, block.proposal.justification
        self._blocks.add(block)
        self._fetches.pop(header.digest, None)
        self._look = True
        if block.problem is None:
            if justification.parent is not None:
                self._hold(justification.parent)
            for nullification in justification.nullifications:
                self._hold(nullification)
        elif block.false_justification:
            for vote in self._rounds.at(header.view).votes_for(N, (header.parent_view, header.digest)):
                self._report_false_justification(vote)

    def _report_false_justification(self, vote: Vote) -> None:
        block = self._blocks.get(vote.digest)
        if vote.kind is not N or block is None or not block.false_justification:
            return
        reported = self._rounds.at(vote.view).reported
        if (vote.signer, None) not in reported:
            reported.add((vote.signer, None))
            justification = block.proposal.justification
            self._report(FalseJustification(vote, block.header, justification, block.problem or ""))

    def _on_fetched(self, event: BlockFetched) -> None:
        header = event.proposal.header
        self._activity.heard(event.sender)
        if header.digest not in self._fetches:
            return
        if event.proposal.justification.digest != header.justification_digest:
            self._out.append(Penalise(event.sender, "the justification is not the one the header commits to"))
            return
        self._take_block(self._judge(event.proposal))

    def _on_headers_stored(self, _event: HeadersStored) -> None:
        self._look = True

    def _place_blocks(self) -> bool:
        """Compare blocks with their parents; what fits goes to the application, parents first."""
        if not self._look:
            return False
        self._look = False
        placed = False
        for block in self._blocks.unplaced():
            parent = self._blocks.header(block.header.parent_digest)
            if parent is None:
                continue
            block.problem = self._rules.placement_problem(block.proposal, parent)
            block.placed = block.problem is None
            placed = True
            if block.placed and not block.asked:
                block.asked = True
                self._out.append(Verify(block.proposal))
        return placed

    def _on_verified(self, event: Verified) -> None:
        block = self._blocks.get(event.digest)
        if block is None:
            return
        view = block.header.view
        found = self._rounds.get(view)
        if block.verdict is not None and block.verdict is not event.verdict:
            # Possible only after a restart, where the verdict is the log's: the state behind it has changed.
            self._stop("divergence", f"the block of view {view} was {block.verdict.value}, is {event.verdict.value}")
        elif event.verdict is Verdict.INVALID and found is not None and found.certified == event.digest:
            self._stop("divergence", f"the certified block of view {view} was found invalid")
        block.verdict = event.verdict

    def _notarize(self) -> bool:
        """R4: vote for the block in the current view's slot."""
        self._clock_wait_ms = None
        found = self._rounds.get(self._view)
        if found is None or found.slot is None or found.equivocated or not self._signer.may_sign(self._view):
            return False
        if any(self._signer.own(found, kind) for kind in VoteKind):
            return False
        block = self._blocks.get(found.slot)
        if block is None or not block.good or not self._parent_certified(block.header):
            return False
        if not self._clock_agrees(block.header):
            return False
        self._cast(N, found, (block.header.parent_view, block.header.digest))
        return True

    def _parent_certified(self, header: Header) -> bool:
        """R4, R6: the parent is certified here or is the floor; nothing below the floor is ever built on."""
        if header.parent_view == self.floor_view:
            return header.parent_digest == self.floor_digest
        found = self._rounds.get(header.parent_view)
        return header.parent_view > self.floor_view and found is not None and found.certified == header.parent_digest

    def _clock_agrees(self, header: Header) -> bool:
        """R4, for voters only: a block from the future is waited for, one long past is not voted for."""
        ahead_ms = header.timestamp_ms - self._now.wall_ms
        delta_ms = self._config.clock_delta_ms
        if ahead_ms > delta_ms:
            self._clock_wait_ms = self._now.monotonic_ms + ahead_ms - delta_ms
            return False
        return ahead_ms >= -(delta_ms + 2 * self._pace.certification_ms)

    # -- R5, R8, R9, R10: votes and certificates -------------------------------------------------

    @property
    def _window_start(self) -> int:
        """Votes and certificates of lower views are not admitted."""
        return max(1, self.floor_view - self._config.retention_views)

    def _vote_problem(self, vote: Vote) -> str | None:
        found = self._rounds.get(vote.view)
        if found is not None and found.knows(vote):
            return None
        return self._checker.vote_problem(vote)

    def _certificate_problem(self, certificate: Certificate) -> str | None:
        def known(vote: Vote) -> bool:
            found = self._rounds.get(vote.view)
            return found is not None and found.knows(vote)

        return self._checker.certificate_problem(certificate, known)

    def _on_vote(self, event: VoteReceived) -> None:
        vote, sender = event.vote, event.sender
        self._activity.heard(sender)
        problem = shape_problem(vote)
        if problem:
            self._out.append(Penalise(sender, problem))
            return
        if vote.epoch != self._validators.epoch or vote.view > self._view + 1:
            return
        if vote.view >= self._window_start:
            problem = self._vote_problem(vote)
            if problem:
                self._out.append(Penalise(sender, problem))
                return
            self._count(vote)
        if vote.kind is X and (vote.view < self._view or not (self._unfinalized or self._work)):
            self._help(sender, vote.view)

    def _count(self, vote: Vote) -> None:
        """Count a verified vote; a quorum makes a certificate."""
        found = self._rounds.at(vote.view)
        self._notice_own(vote, found)
        for evidence in found.count(vote):
            self._report(evidence)
        if vote.kind is N:
            if vote.signer == self._validators.leader(vote.view):
                found.fill_slot(vote.digest)
            self._report_false_justification(vote)
        if vote.kind in found.certificates:
            return
        box = found.votes_for(vote.kind, vote.target)
        if len(box) >= self._validators.quorum:
            signers, signatures = tuple(v.signer for v in box), tuple(v.signature for v in box)
            parent_view, digest = vote.target
            self._hold(
                Certificate(vote.kind, vote.epoch, vote.view, parent_view, digest, signers, signatures), formed=True
            )

    def _notice_own(self, vote: Vote, found: Round) -> None:
        """A genuine vote of this node that its log lacks: the log is older than what was signed (consensus.md §5)."""
        if vote.signer != self._own_index or vote.view < self.floor_view:
            return
        own = self._signer.own(found, vote.kind)
        if own is not None:
            if own.target != vote.target:
                self._stop("forgotten-vote", f"this node signed two {vote.kind.name} votes in view {vote.view}")
            return
        found.count(vote)
        self._persist(OwnVote(vote))
        if self._startup is not None and not self._startup.done:
            self._startup.lost_view = max(self._startup.lost_view, vote.view)
        else:
            self._mute(max(vote.view, self._view) + 1, "a vote of this node that its log does not hold came back")

    def _on_certificate(self, event: CertificateReceived) -> None:
        certificate, sender = event.certificate, event.sender
        self._activity.heard(sender)
        if certificate.epoch != self._validators.epoch or certificate.view < self._window_start:
            return
        found = self._rounds.get(certificate.view)
        held = found.certificates.get(certificate.kind) if found is not None else None
        if held is not None and held.target == certificate.target:
            return
        problem = self._certificate_problem(certificate)
        if problem:
            self._out.append(Penalise(sender, f"certificate: {problem}"))
            return
        self._hold(certificate)

    def _hold(self, certificate: Certificate, formed: bool = False) -> None:
        """A genuine certificate: R5, R8 or R9, whoever it came from."""
        view, kind = certificate.view, certificate.kind
        if view < self._window_start:
            return
        found = self._rounds.at(view)
        for vote in certificate.votes():
            self._notice_own(vote, found)
            for evidence in found.count(vote):
                self._report(evidence)
            if kind is N and vote.signer == self._validators.leader(view):
                found.fill_slot(vote.digest)
            self._report_false_justification(vote)
        held = found.certificates.get(kind)
        if held is not None:
            if held.target != certificate.target:
                self._stop("fork", f"two certificates of kind {kind.name} for different blocks in view {view}")
            return
        found.certificates[kind] = certificate
        self._top_certificate_view = max(self._top_certificate_view, view)
        self._persist(HeldCertificate(certificate))
        if formed or view >= self._view or (kind is F and view > self.floor_view):
            self._broadcast(certificate)
        if kind is N:
            self._hold_notarization(found, certificate)
        elif kind is X:
            self._enter(view + 1)
        else:
            self._hold_finalization(certificate)

    def _hold_notarization(self, found: Round, certificate: Certificate) -> None:
        """R5: authoritative for the slot, even against what the leader told this node."""
        if found.slot not in (None, certificate.digest):
            found.equivocated = True
        found.slot = certificate.digest
        if certificate.view > self.floor_view:
            self._uncertified.add(certificate.view)

    def _hold_finalization(self, certificate: Certificate) -> None:
        """R9: the certified block and all its ancestors are final."""
        if certificate.view <= self.floor_view:
            return
        headers, outcome = self._blocks.chain(certificate, self.floor_view, self.floor_digest)
        if outcome == "fork":
            self._stop(
                "fork", f"the Finalization of view {certificate.view} contradicts that of view {self.floor_view}"
            )
            return
        for header in headers:
            block = self._blocks.get(header.digest)
            if block is not None and block.bad:
                self._stop("divergence", f"the finalized block of view {header.view} is invalid here: {block.bad}")
        self._floor = certificate
        self._uncertified = {view for view in self._uncertified if view > certificate.view}
        self._out.append(Finalized(certificate, tuple(headers), outcome == "complete"))
        self._certified_view = max(self._certified_view, certificate.view)
        self._rounds.prune(self._window_start)
        self._blocks.prune(certificate.view)
        self._look = True
        self._enter(certificate.view + 1)

    # R6

    def _certify_blocks(self) -> bool:
        changed = False
        for view in sorted(self._uncertified):
            if view not in self._uncertified:
                continue  # finalized meanwhile
            found = self._rounds.at(view)
            notarized = found.notarized
            block = self._blocks.get(notarized.digest) if notarized else None
            if block is None:
                continue
            if block.bad:
                changed |= self._reject(found, block)
            elif block.good and self._parent_certified(block.header):
                self._certify(found, block)
                changed = True
        return changed

    def _certify(self, found: Round, block: Block) -> None:
        self._uncertified.discard(found.view)
        if found.rejected is not None:
            self._signer.stopped = None  # restarted with what was broken repaired: the block is valid after all
        found.certified, found.rejected = block.header.digest, None
        self._persist(Certification(found.view, block.header.digest, True))
        if found.view > self._certified_view:
            self._certified_view = found.view
            self._out.append(Certified(block.header))
        self._enter(found.view + 1)
        self._finalize(found)

    def _finalize(self, found: Round) -> None:
        """R6: vote F for a certified block, unless this node said or saw anything else in the view."""
        digest = found.certified
        if digest is None or found.view <= self.floor_view or not self._signer.may_sign(found.view):
            return
        notarize, nullify, finalize = (self._signer.own(found, kind) for kind in (N, X, F))
        if nullify or finalize or found.equivocated or (notarize and notarize.digest != digest):
            return
        notarized = found.notarized
        if notarized is not None:
            self._cast(F, found, notarized.target)

    def _reject(self, found: Round, block: Block) -> bool:
        """A notarized block is provably bad: this node is broken, or more than f others are."""
        if found.rejected is not None and self._signer.stopped is not None:
            return False
        found.rejected = block.header.digest
        self._persist(Certification(found.view, block.header.digest, False))
        self._stop("divergence", f"the notarized block of view {found.view} is invalid here: {block.bad}")
        return True

    def _cast(self, kind: VoteKind, found: Round, target: Target) -> None:
        """Sign, log, send and count one vote."""
        vote = self._signer.sign(kind, found, target)
        self._utter(vote, found, vote)

    def _utter(self, vote: Vote, found: Round, message: Vote | Proposal) -> None:
        found.count(vote)  # first: what is in the boxes is what this node knows it signed
        self._persist(OwnVote(vote))
        self._broadcast(message)
        self._count(vote)

    # -- R1, R7, R12: time ---------------------------------------------------------------------

    def _check_expiry(self) -> bool:
        """Arm the timers while there is a reason to (R12), and give the view up when there is one (R1, R4, R7)."""
        found = self._rounds.get(self._view)
        touched = found is not None and found.touched
        leader = self._validators.leader(self._view)
        self._pace.arm(self._unfinalized or self._work or touched, self._now.monotonic_ms)
        self._pace.leader_seen = found is not None and found.slot is not None
        if self._pace.expired:
            return False
        block = self._blocks.get(found.slot) if found is not None and found.slot is not None else None
        hopeless = (
            self._pace.due(self._now.monotonic_ms)
            or (block is not None and block.bad is not None)
            or (found is not None and leader in found.votes[X])
            or (self._pace.armed_ms is not None and self._activity.skip(leader, self._validators.quorum))
        )
        if hopeless:
            self._pace.expire(self._now.monotonic_ms)
        return hopeless

    def _nullify(self) -> bool:
        """R7: X, once, unless F was cast."""
        if not self._pace.expired or not self._signer.may_sign(self._view):
            return False
        found = self._rounds.at(self._view)
        if self._signer.own(found, X) or self._signer.own(found, F):
            return False
        self._cast(X, found, NULLIFICATION)
        return True

    def _send_again(self) -> None:
        """R7 and the start-up query: what stays unanswered is sent again."""
        now_ms = self._now.monotonic_ms
        startup = self._startup
        if startup is not None and not startup.done and now_ms >= startup.ask_again_ms:
            startup.ask_again_ms = now_ms + self._config.retry_ms
            self._broadcast(StartQuery(startup.nonce))
        if self._pace.retry_due(now_ms):
            for message in self._latest():
                self._broadcast(message)
            if self._signer.own(self._rounds.get(self._view), X) is None:
                self._broadcast(Want(self._validators.epoch, self._view))  # no X of ours makes them help us

    def _latest(self) -> list[Message]:
        """What this node last said, and the certificates that brought it here."""
        messages: list[Message] = list(self._guides())
        if self._own_index is None:
            return messages
        for view in range(self._view - 1, max(self.floor_view, self._view - 1 - RESENT_VIEWS_MAX), -1):
            vote = self._signer.own(self._rounds.get(view), F)
            if vote is not None:
                messages.append(vote)
            if len(messages) >= RESENT_FINALIZE_VOTES_MAX:
                break
        found = self._rounds.get(self._view)
        notarize, nullify = self._signer.own(found, N), self._signer.own(found, X)
        if notarize is not None:
            block = self._blocks.get(notarize.digest)
            built = found is not None and found.built == notarize.digest
            messages.append(block.proposal if built and block is not None else notarize)
        if nullify is not None:
            messages.append(nullify)
        return messages

    def _guides(self) -> list[Certificate]:
        """Certificates that bring a laggard to this node's view: the floor's, the parent's, the one it entered by."""
        guides = [self._floor, self._highest_certified()[1]]
        before = self._rounds.get(self._view - 1)
        if before is not None:
            guides.append(before.best)
        unique: list[Certificate] = []
        for guide in guides:
            if guide is not None and guide not in unique:
                unique.append(guide)
        return unique

    # -- R11: help -------------------------------------------------------------------------------

    def _on_want(self, event: WantReceived) -> None:
        self._activity.heard(event.sender)
        if event.want.epoch == self._validators.epoch:
            self._help(event.sender, event.want.view)

    def _help(self, peer: int, view: int) -> None:
        """R11: every certificate of the view, and those that bring the peer here."""
        if not self._budget.take(peer, self._now.monotonic_ms):
            return
        found = self._rounds.get(view)
        answers = [certificate for _, certificate in sorted(found.certificates.items())] if found else []
        for certificate in answers + [guide for guide in self._guides() if guide not in answers]:
            self._out.append(Send(peer, certificate))

    def _on_connected(self, event: PeerConnected) -> None:
        """An idle network sends nothing: a peer that was away learns here what it missed."""
        startup = self._startup
        if startup is not None and not startup.done and event.peer not in startup.answers:
            self._out.append(Send(event.peer, StartQuery(startup.nonce)))
        for message in self._latest():
            self._out.append(Send(event.peer, message))

    # -- blocks known by digest only ------------------------------------------------------------

    def _find_blocks(self) -> bool:
        """R5, R6: get the blocks of Notarizations (and of votes by more than f) that were never proposed to us."""
        found_any = False
        now_ms = self._now.monotonic_ms
        wanted = self._wanted_blocks()
        self._fetches = {digest: at_ms for digest, at_ms in self._fetches.items() if digest in wanted}
        for digest, (view, sources) in wanted.items():
            at_ms = self._fetches.get(digest)
            if at_ms is not None and now_ms < at_ms:
                continue
            stored = self._blocks.stored(digest)
            if stored is not None:
                self._take_block(self._judge(stored))
                found_any = True
                continue
            self._fetches[digest] = now_ms + self._config.retry_ms
            self._out.append(FetchBlock(digest, view, sources))
        return found_any

    def _wanted_blocks(self) -> dict[bytes, tuple[int, tuple[int, ...]]]:
        wanted: dict[bytes, tuple[int, tuple[int, ...]]] = {}
        for view in sorted(self._uncertified):
            notarized = self._rounds.at(view).notarized
            if notarized is not None and self._blocks.get(notarized.digest) is None:
                wanted[notarized.digest] = (view, self._sources(view, notarized.signers))
        found = self._rounds.get(self._view)
        if found is not None and found.slot is not None and self._blocks.get(found.slot) is None:
            voters = tuple(vote.signer for vote in found.votes[N].values() if vote.digest == found.slot)
            if len(voters) > self._validators.f:
                wanted.setdefault(found.slot, (self._view, self._sources(self._view, tuple(sorted(voters)))))
        return wanted

    def _sources(self, view: int, holders: tuple[int, ...]) -> tuple[int, ...]:
        """Who claims to have the block: its leader first, then who voted for it."""
        leader = self._validators.leader(view)
        ordered = (leader, *(index for index in holders if index != leader))
        return tuple(index for index in ordered if index != self._own_index)

    # -- start (consensus.md §5) ------------------------------------------------------------------

    def _on_started(self, event: Started) -> None:
        invariant(self._startup is None, "started twice")
        now_ms = self._now.monotonic_ms
        needed = self._validators.quorum - 1 if self._own_index is not None else 0
        self._startup = StartUp(event.nonce, needed, event.restored_from_backup, now_ms)
        self._out.append(ViewEntered(self._view, self._validators.leader(self._view)))
        self._reload_blocks()
        if self._signer.own(self._rounds.get(self._view), X) is not None:
            self._pace.expire(now_ms)
        for message in self._latest():
            self._broadcast(message)

    def _reload_blocks(self) -> None:
        """Blocks this node voted for, built or certified come back from the store, and their votes stand."""
        if self._floor is not None:
            header = self._blocks.header(self._floor.digest)
            self._out.append(Finalized(self._floor, (header,) if header is not None else (), complete=False))
        for found in list(self._rounds.ascending()):
            if found.view < self.floor_view:
                continue
            own = self._signer.own(found, N)
            for digest in dict.fromkeys((found.certified, found.slot, found.built, own.digest if own else None)):
                stored = self._blocks.stored(digest) if digest is not None else None
                if stored is None or self._blocks.get(stored.header.digest) is not None:
                    continue
                block = self._judge(stored)
                if digest == found.certified:
                    block.verdict = Verdict.VALID
                self._take_block(block)
        header = self._blocks.header(self._highest_certified()[0])
        if self._unfinalized and header is not None:
            self._out.append(Certified(header))

    def _on_start_query(self, event: StartQueryReceived) -> None:
        """Answer at once, whatever this node waits for itself; answers are not votes."""
        self._activity.heard(event.sender)
        if not self._budget.take(event.sender, self._now.monotonic_ms):
            return
        for guide in self._guides():  # first: the answer counts only if its view is known to be reachable
            self._out.append(Send(event.sender, guide))
        votes: list[Vote] = []
        for found in reversed(list(self._rounds.ascending())):
            votes += [by_signer[event.sender] for by_signer in found.votes.values() if event.sender in by_signer]
            if len(votes) >= START_ANSWER_VOTES_MAX:
                break
        answer = StartAnswer(event.query.nonce, self._highest_signed_view(), tuple(votes[:START_ANSWER_VOTES_MAX]))
        self._out.append(Send(event.sender, answer))

    def _highest_signed_view(self) -> int:
        signed = (
            found.view for found in self._rounds.ascending() for kind in VoteKind if self._signer.own(found, kind)
        )
        return max(signed, default=0)

    def _on_start_answer(self, event: StartAnswerReceived) -> None:
        startup, answer, sender = self._startup, event.answer, event.sender
        self._activity.heard(sender)
        if startup is None or answer.nonce != startup.nonce or sender == self._own_index:
            return
        for vote in answer.votes[:START_ANSWER_VOTES_MAX]:
            genuine = vote.signer == self._own_index and vote.epoch == self._validators.epoch
            if not genuine or self._vote_problem(vote) is not None:
                self._out.append(Penalise(sender, "answers a start-up query with votes that are not the asker's"))
                return
        for vote in answer.votes[:START_ANSWER_VOTES_MAX]:
            if vote.view >= self._window_start:
                self._notice_own(vote, self._rounds.at(vote.view))
        startup.answers[sender] = answer.highest_signed_view

    @property
    def _reachable_view(self) -> int:
        """The highest view that anybody honest can have entered, as far as certificates held here tell."""
        return self._top_certificate_view + 1

    def _finish_start(self) -> bool:
        startup = self._startup
        if startup is None or startup.done:
            return False
        bound = startup.bound(self._reachable_view, max(self._highest_signed_view(), self._view - 1))
        if bound is None:
            return False
        startup.done = True
        if bound:
            why = "restored from a backup" if startup.restored_from_backup else "others hold votes that its log lacks"
            self._mute(bound, f"this node was {why}" if startup.restored_from_backup else why)
        if startup.restored_from_backup:
            self._out.append(RemoveBackupMarker())
        self._signer.ready = True
        for found in list(self._rounds.ascending()):
            self._finalize(found)
        return True

    def _mute(self, until_view: int, why: str) -> None:
        if until_view > self._signer.muted_until:
            self._signer.muted_until = until_view
            self._persist(MutedUntil(until_view))
            self._out.append(Alarm("muted", f"Nothing is signed in views up to {until_view}: {why}"))

    def _on_work(self, event: Work) -> None:
        self._work = event.pending

    def _on_tick(self, _event: Tick) -> None:
        """Time is looked at in every step."""

    _HANDLERS: Final[dict[type, Callable[[Core, Any], None]]] = {
        Started: _on_started,
        Tick: _on_tick,
        PeerConnected: _on_connected,
        ProposalReceived: _on_proposal,
        VoteReceived: _on_vote,
        CertificateReceived: _on_certificate,
        WantReceived: _on_want,
        StartQueryReceived: _on_start_query,
        StartAnswerReceived: _on_start_answer,
        BlockFetched: _on_fetched,
        Built: _on_built,
        BuildRefused: _on_build_refused,
        Verified: _on_verified,
        HeadersStored: _on_headers_stored,
        Work: _on_work,
    }
