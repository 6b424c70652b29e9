"""What one core knows, and what all its rules share: reading it, entering a view, putting effects out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from consensus.blocks import Blocks
from consensus.config import Config
from consensus.effects import Alarm, Broadcast, Effect, EpochEnded, Penalise, Persist, Report, Send, ViewEntered
from consensus.events import Now
from consensus.evidence import Evidence
from consensus.justification import HeaderRules
from consensus.messages import Message, Muted
from consensus.ports import Headers, Signatures
from consensus.records import MutedUntil, Record
from consensus.restore import replay
from consensus.rounds import Round, Rounds
from consensus.signer import Signer
from consensus.startup import StartUp
from consensus.timers import STREAK_MAX, Activity, Pacemaker
from consensus.types import Certificate, Header, ValidatorSet, Vote, VoteKind
from consensus.votes import VoteChecker

LEFT_VIEWS_KEPT: Final = 8
"""Blocks of so many views left behind are kept: their Notarizations may be under way."""


class State:
    """Durable and volatile state of one node (consensus.md §2), and the effects of the step in progress."""

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
        self.config = config
        self.validators = validators
        self.own_index = own_index
        self.genesis = genesis
        self.rules = HeaderRules(config.protocol_version, config.chain_id, validators, genesis)
        self.checker = VoteChecker(config.chain_id, validators, signatures)
        self.signer = Signer(config.chain_id, validators.epoch, own_index, signatures)
        self.rounds = Rounds()
        self.blocks = Blocks(genesis, headers)
        self.pace = Pacemaker(config, now.monotonic_ms)
        self.activity = Activity(config, validators.n, own_index, now.monotonic_ms)
        self.startup: StartUp | None = None
        self.now = now
        self.out: list[Effect] = []
        self.view = 1  #: the current view
        self.floor: Certificate | None = None  #: highest Finalization; None: the genesis
        self.certified_view = 0  #: highest view whose block is certified here or final
        self.top_certificate_view = 0  #: highest view a certificate is held of
        self.uncertified: set[int] = set()  #: views above the floor with a Notarization not certified here
        self.work = False  #: R12 (b) or (c), as the application says
        self.ended: Header | None = None  #: the block that ends the epoch, once it is final
        self.evidence_count = 0
        self.muted_peers: dict[int, int] = {}  #: validator -> view up to which it signs nothing, as it says itself
        self.clocks: dict[int, tuple[int, int]] = {}  #: leader -> its last block's view, ms ahead of the own clock

    def recover(self, records: Iterable[Record]) -> None:
        """Fresh state becomes what the records say (consensus.md §5)."""
        self.signer.muted_until = replay(records, self.validators.epoch, self.rounds)
        for found in self.rounds.ascending():
            if found.finalized:
                self.floor = found.finalized
        self.certified_view = self.floor_view
        for found in self.rounds.ascending():
            if found.certificates:
                self.top_certificate_view = found.view
            if found.view > self.floor_view and found.certified is not None:
                self.certified_view = found.view
            elif found.view > self.floor_view and found.notarized is not None:
                self.uncertified.add(found.view)
                if found.rejected is not None:
                    self.signer.stopped = f"the block of view {found.view} was found invalid although it is notarized"
            if found.certified is not None or found.nullified or found.finalized:
                self.view = max(self.view, found.view + 1)
        self.rounds.prune(self.window_start)
        self.pace.enter(self.now.monotonic_ms, self.streak())

    # -- reading ---------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """Monotonic time of this step."""
        return self.now.monotonic_ms

    @property
    def floor_view(self) -> int:
        """View of the floor, 0 for the genesis."""
        return self.floor.view if self.floor else 0

    @property
    def floor_digest(self) -> bytes:
        """Header digest of the highest finalized block."""
        return self.floor.digest if self.floor else self.genesis.digest

    @property
    def window_start(self) -> int:
        """Votes and certificates of lower views are not admitted (consensus.md §2)."""
        return max(1, self.floor_view - self.config.retention_views)

    @property
    def leader(self) -> int:
        """Leader of the current view."""
        return self.validators.leader(self.view)

    @property
    def current(self) -> Round | None:
        """The current view's round, if anything is known of it."""
        return self.rounds.get(self.view)

    @property
    def unfinalized(self) -> bool:
        """R12 (a): the highest certified block is not final."""
        return self.certified_view > self.floor_view

    @property
    def reachable_view(self) -> int:
        """The highest view that anybody honest can have entered, as far as certificates held here tell."""
        return self.top_certificate_view + 1

    def own(self, found: Round | None, kind: VoteKind) -> Vote | None:
        """This node's vote of a kind in a round."""
        return self.signer.own(found, kind)

    def highest_certified(self) -> tuple[bytes, Certificate | None]:
        """Digest and certificate of what a leader builds on; no certificate for the genesis."""
        found = self.rounds.get(self.certified_view)
        if self.certified_view == self.floor_view or found is None or found.certified is None:
            return self.floor_digest, self.floor
        return found.certified, found.finalized or found.notarized

    def highest_signed_view(self) -> int:
        """Highest view this node has signed anything in, 0 if none (of those it still holds)."""
        signed = (found.view for found in self.rounds.ascending() if any(self.own(found, kind) for kind in VoteKind))
        return max(signed, default=0)

    def parent_certified(self, header: Header) -> bool:
        """R4, R6: the parent is certified here or is the floor; nothing below the floor is ever built on."""
        if header.parent_view == self.floor_view:
            return header.parent_digest == self.floor_digest
        found = self.rounds.get(header.parent_view)
        return header.parent_view > self.floor_view and found is not None and found.certified == header.parent_digest

    def missing_nullifications(self) -> list[int]:
        """Views between the highest certified and the current one without a Nullification."""
        rounds = ((view, self.rounds.get(view)) for view in range(self.certified_view + 1, self.view))
        return [view for view, found in rounds if found is None or found.nullified is None]

    def streak(self) -> int:
        """Nullified views since the floor, the latest ones: the back-off's exponent (consensus.md §4)."""
        first = max(self.floor_view + 1, self.view - STREAK_MAX)
        rounds = (self.rounds.get(view) for view in range(first, self.view))
        return sum(found is not None and found.nullified is not None for found in rounds)

    # -- verifying -------------------------------------------------------------------------

    def _known(self, vote: Vote) -> bool:
        found = self.rounds.get(vote.view)
        return found is not None and found.knows(vote)

    def vote_problem(self, vote: Vote) -> str | None:
        """None if the vote is genuine; a vote verified before costs nothing."""
        return None if self._known(vote) else self.checker.vote_problem(vote)

    def certificate_problem(self, certificate: Certificate) -> str | None:
        """None if the certificate is genuine; votes verified before cost nothing."""
        return self.checker.certificate_problem(certificate, self._known)

    # -- changing --------------------------------------------------------------------------

    def enter(self, view: int) -> None:
        """R1: forward only."""
        if view > self.view:
            self.view = view
            self.pace.enter(self.now_ms, self.streak())
            self._forget_left_behind()
            self.out.append(ViewEntered(view, self.leader))

    def look_for_end(self) -> None:
        """Rest, if what is final ends the epoch (consensus.md §9): nothing in it can matter any more."""
        if self.ended is not None or self.floor is None:
            return
        self.ended = self.blocks.boundary(self.floor.digest)
        if self.ended is not None:
            self.signer.ended = True
            self.pace.rest()
            self.uncertified.clear()
            self.out.append(EpochEnded(self.ended, self.floor))

    def _forget_left_behind(self) -> None:
        """Drop blocks of earlier views that no quorum notarized; should it turn out so, they are fetched (R5)."""
        self.blocks.forget(
            [
                block.header.digest
                for block in self.blocks.ascending()
                if self.floor_view < block.header.view < self.view - LEFT_VIEWS_KEPT
                and not block.false_justification
                and ((found := self.rounds.get(block.header.view)) is None or found.notarized is None)
            ]
        )

    def persist(self, record: Record) -> None:
        """Into the vote log, before anything of this turn leaves."""
        self.out.append(Persist(record))

    def broadcast(self, message: Message) -> None:
        """To every other validator."""
        self.out.append(Broadcast(message))

    def send(self, peer: int, message: Message) -> None:
        """To one validator."""
        self.out.append(Send(peer, message))

    def penalise(self, peer: int, reason: str) -> None:
        """The peer sent what no honest node sends."""
        self.out.append(Penalise(peer, reason))

    def report(self, evidence: Evidence) -> None:
        """Somebody provably broke the rules."""
        self.evidence_count += 1
        self.out.append(Report(evidence))

    def stop(self, kind: str, text: str) -> None:
        """Never sign again: either this node is broken, or more than f are. An operator has to look."""
        if self.signer.stopped is None:
            self.signer.stopped = text
        self.out.append(Alarm(kind, text))

    def mute(self, until_view: int, why: str) -> None:
        """Sign nothing in views up to this one, across restarts."""
        if until_view > self.signer.muted_until:
            self.signer.muted_until = until_view
            self.persist(MutedUntil(self.validators.epoch, until_view))
            self.broadcast(Muted(self.validators.epoch, until_view))
            self.out.append(Alarm("muted", f"Nothing is signed in views up to {until_view}: {why}"))
