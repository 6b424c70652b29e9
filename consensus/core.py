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
Once the boundary block, or a tail after it, is final: rest; answer each message of the epoch with that Finalization

Deviations from the paper, each with its reason:

* A header commits to a *justification*: the parent's certificate and a nullification for every view skipped. In the
  paper dummy blocks stand for skipped views; here conflicting finality convicts f+1 nodes from headers and certificates
  alone (consensus.md §11).
* A Notarization moves the view only once the block is certified here (body in hand, valid): finality must imply that
  the data can be had. Certifying goes on after the view was nullified, or two halves could refuse each other's parents.
* Nullifying does not need a timer where the block is provably bad or the leader itself gave up.
* An idle network is silent (R12); the paper's never is.
* An epoch ends with a boundary block; what is built on it before it is final are empty tails, so that finality never
  depends on who votes next (consensus.md §9).
* Received certificates are sent on only if they brought news to this node's view or floor; laggards are answered (R11).

Where the rules are: R2 ``proposing``; R3 and fetching ``intake``; R4, R6, R7 and the timers ``voting``; R5, R8-R10
``tally``; R11, sending again and the start-up query ``helping``. ``signer`` refuses what no rule may ever sign. This
module takes one event after another and applies the rules until none applies.

The order in which effects are carried out is in ``consensus.effects``. What this module never does: read a clock, draw
randomness, hash a header, touch a file, depend on dictionary order of anything a peer controls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from consensus.config import Config
from consensus.effects import Certified, Effect, Finalized, ViewEntered
from consensus.events import (
    BlockFetched,
    BuildRefused,
    Built,
    CertificateReceived,
    Event,
    HeadersStored,
    MutedReceived,
    Now,
    PeerConnected,
    ProposalReceived,
    StartAnswerReceived,
    Started,
    StartQueryReceived,
    Tick,
    Verified,
    VoteReceived,
    WantReceived,
    Witnessed,
    Work,
)
from consensus.helping import Helper
from consensus.intake import Intake
from consensus.invariant import invariant
from consensus.ports import Headers, Signatures
from consensus.proposing import Proposer
from consensus.records import Record
from consensus.restore import live_records
from consensus.state import State
from consensus.status import Status, status_of
from consensus.tally import Tally
from consensus.types import Certificate, Header, ValidatorSet, VoteKind
from consensus.voting import Voter

SETTLE_PASSES_MAX: Final = 10_000
"""Passes over the rules in one step; each pass changes something, so more is a loop."""


class Core:
    """One validator's (or observer's) consensus in one epoch. Not thread-safe; one driver calls it."""

    def __init__(self, state: State) -> None:
        """Use ``restore``."""
        self._state = state
        self._tally = Tally(state)
        self._intake = Intake(state, self._tally)
        self._voter = Voter(state, self._tally)
        self._proposer = Proposer(state, self._tally)
        self._helper = Helper(state, self._tally)
        self._handlers: dict[type, Callable[[Any], None]] = {
            Started: self._on_started,
            Tick: self._on_tick,
            Work: self._on_work,
            HeadersStored: self._on_headers_stored,
            PeerConnected: self._helper.on_connected,
            ProposalReceived: self._intake.on_proposal,
            VoteReceived: self._helper.on_vote,
            CertificateReceived: self._tally.on_certificate,
            Witnessed: self._tally.on_witnessed,
            WantReceived: self._helper.on_want,
            StartQueryReceived: self._helper.on_start_query,
            StartAnswerReceived: self._helper.on_start_answer,
            MutedReceived: self._helper.on_muted,
            BlockFetched: self._intake.on_fetched,
            Built: self._proposer.on_built,
            BuildRefused: self._proposer.on_refused,
            Verified: self._intake.on_verified,
        }

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
            own_index: signer index; None for an observer, which follows certificates and never signs, and for a member
                without the key of its seat.
            genesis: header of the epoch's genesis, view 0: the chain's genesis, or the boundary of the epoch before.
            records: the vote log, oldest first; records of other epochs are passed over.
        """
        state = State(config, validators, own_index, genesis, headers, signatures, now)
        state.recover(records)
        return cls(state)

    # -- taking events ---------------------------------------------------------------------

    def step(self, event: Event, now: Now) -> list[Effect]:
        """Take one event; ``effects`` says in which order to carry out what it returns."""
        state = self._state
        invariant(state.startup is not None or isinstance(event, Started), "the first event has to be Started")
        state.now = Now(max(now.monotonic_ms, state.now_ms), now.wall_ms)
        state.activity.advance(state.now_ms, busy=state.pace.armed_ms is not None)
        if state.ended is None:
            self._handlers[type(event)](event)
            self._settle()
            self._proposer.propose()
            self._helper.send_again()
        else:
            self._rest(event)
        out, state.out = state.out, []
        return out

    def _rest(self, event: Event) -> None:
        """The epoch is over: votes still tell who broke the rules, and whoever is late is shown the end."""
        match event:
            case ProposalReceived() | VoteReceived() | CertificateReceived():
                self._handlers[type(event)](event)
                self._helper.show_end(event)
            case Witnessed():
                self._handlers[Witnessed](event)
            case WantReceived() | StartQueryReceived():
                self._helper.show_end(event)
            case PeerConnected():
                self._helper.show_end_to(event.peer)

    def _settle(self) -> None:
        """The rules that follow from state, until none applies."""
        rules = (
            self._finish_start,
            self._intake.find,
            self._intake.place,
            self._voter.certify,
            self._voter.notarize,
            self._voter.watch,
            self._voter.nullify,
        )
        for _ in range(SETTLE_PASSES_MAX):
            if self._state.ended is not None:
                return
            changed = [rule() for rule in rules]  # every rule in every pass
            if not any(changed):
                return
        invariant(False, "the rules do not come to rest")

    def _finish_start(self) -> bool:
        if not self._helper.finish_start():
            return False
        for found in list(self._state.rounds.ascending()):
            self._voter.finalize(found)  # certified while nothing could be signed
        return True

    def _on_started(self, event: Started) -> None:
        state = self._state
        self._helper.begin(event)
        state.out.append(ViewEntered(state.view, state.leader))
        self._intake.reload()
        if state.floor is not None:
            header = state.blocks.header(state.floor.digest)
            state.out.append(Finalized(state.floor, (header,) if header is not None else (), complete=False))
        highest = state.blocks.header(state.highest_certified()[0])
        if state.unfinalized and highest is not None:
            state.out.append(Certified(highest))
        state.look_for_end()
        if state.ended is None:
            self._helper.resume()
        elif state.floor is not None:
            state.broadcast(state.floor)

    def _on_work(self, event: Work) -> None:
        self._state.work = event.pending

    def _on_headers_stored(self, _event: HeadersStored) -> None:
        self._state.blocks.look_again = True
        self._state.look_for_end()

    def _on_tick(self, _event: Tick) -> None:
        """Every step looks at the time."""

    # -- outside view ----------------------------------------------------------------------

    @property
    def deadline_ms(self) -> int | None:
        """Monotonic time at which the next ``Tick`` is due; None while nothing waits for time."""
        if self._state.ended is not None:
            return None
        startup = self._state.startup
        waiting = [
            self._state.pace.deadline_ms,
            self._voter.clock_wait_ms,
            self._proposer.at_once_ms,
            self._proposer.want_at_ms,
            startup.ask_again_ms if startup is not None and not startup.done else None,
            *self._intake.fetches.values(),
        ]
        return min((at_ms for at_ms in waiting if at_ms is not None), default=None)

    @property
    def idle(self) -> bool:
        """Nothing to do (R12): no timers run."""
        return self._state.pace.armed_ms is None

    @property
    def view(self) -> int:
        """The current view."""
        return self._state.view

    @property
    def floor(self) -> Certificate | None:
        """Highest Finalization; None while only the genesis is final."""
        return self._state.floor

    @property
    def floor_view(self) -> int:
        """View of the floor, 0 for the genesis."""
        return self._state.floor_view

    @property
    def ended(self) -> Header | None:
        """The boundary block, once it is final: the core rests, and only answers who is late."""
        return self._state.ended

    def certificate(self, kind: VoteKind, view: int) -> Certificate | None:
        """A certificate held, for whoever serves blocks or answers questions."""
        found = self._state.rounds.get(view)
        return found.certificates.get(kind) if found else None

    def live_records(self) -> list[Record]:
        """The records from which ``restore`` makes this state again: what a rewritten vote log has to hold."""
        state = self._state
        return live_records(state.rounds, state.validators.epoch, state.own_index, state.signer.muted_until)

    def status(self) -> Status:
        """Where it stands, what it waits for."""
        return status_of(self._state, tuple(self._intake.fetches))
