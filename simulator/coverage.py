"""What a run exercised: rules R1-R12, the corner cases of docs/consensus.md, each kind of liar. Counted from outside.

A campaign whose runs never met one of ``REQUIRED`` proved nothing about it, and fails where coverage is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from consensus import effects as out
from consensus import events as into
from consensus.core import Core
from consensus.effects import Effect
from consensus.events import Event, Now
from consensus.evidence import ConflictingVotes, FalseJustification
from consensus.records import BuiltBlock, Certification, HeldCertificate, OwnVote
from consensus.state import State
from consensus.types import Certificate, ValidatorSet, Vote, VoteKind
from node.turn import ExecutedNotice, PeerMessage, Penalty, Turn
from simulator.adversaries import LIARS
from simulator.faults import Faults
from simulator.node import Node
from simulator.plan import CHANGES, Plan
from simulator.witness import Witness

N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE

RULES: Final = tuple(f"R{number}" for number in range(1, 13))

CASES: Final = (
    "N then X",
    "X then no F",
    "F then no X",
    "two triggers, one X",
    "skipped view without nullification",
    "notarized and nullified",
    "execution deferred",
    "certified after X",
    "all crash after X",
    "notarization of an unseen block",
    "invalid block",
    "body withheld",
    "X that points to a parent",
    "certificate far ahead",
    "leader equivocates",
    "unknown signer",
    "proposal met again after a restart",
    "halves lack each other's certificates",
)
"""One for each row of the table of corner cases."""

RECORDED: Final = "evidence: recorded"
"""An honest node executed a block that records a breach of consensus."""

LATER: Final = "wire: later minor version"
"""A message with fields that nobody knows reached an honest node, which took it."""

SET_CASES: Final = (
    "leader dead at the boundary",
    "vote for a tail",
    "late member shown the end of its epoch",
    "member signs again in the next epoch",
    "liar in both sets",
    "liar leaves",
    "liar joins",
    "copy of an earlier epoch put back",
    "copy put back after a hand-over",
    "lost disk, back by a snapshot",
    "lost key, replaced by a change",
)
"""Of changes of the set (docs/consensus.md). A liar counts where it lied in the sets in question; who lost a disk, or
part of it, where it signs again."""

FOLLOWED: Final = "set: hand-over verified from the genesis"
"""By what an honest node shows at the end."""

INSTALLED: Final = "snapshot: installed"
"""An honest node was so far behind that it fetched the state, and began again on it."""

REQUIRED: Final = (
    *RULES,
    *(f"case: {name}" for name in CASES),
    *(f"liar: {name}" for name in LIARS),
    RECORDED,
    *(f"change: {name}" for name in CHANGES),
    *(f"set: {name}" for name in SET_CASES),
    FOLLOWED,
    LATER,
    INSTALLED,
)

DEFERRED: Final = 2
"""A header whose state height lies this far below its own builds on a parent that may not be final."""


class Coverage(Witness):
    """Counts for one run; honest nodes only, but for the lies."""

    def __init__(self, plan: Plan, faults: Faults) -> None:
        self.counts: Counter[str] = Counter()
        self._faults = faults
        self._contested = plan.contested
        self._lied_in: set[tuple[str, int]] = set()  #: (organisation, epoch) that lied where it had a seat
        self._left: set[tuple[str, int]] = set()
        self._liars = {liar.node: liar.kind for liar in plan.liars}
        self._later = frozenset(plan.later)
        self._signed_in: dict[int, int] = {}  #: node -> epoch of its last vote
        self._view_before = 0

    def lied(self, node: Node, kind: str) -> None:
        """See Witness."""
        self.counts[f"liar: {self._liars.get(node.index, kind)}"] += 1
        if not self._contested or (node.id, node.epoch) in self._lied_in:
            return
        epoch = node.validator.epoch
        if epoch.own is not None:
            self._lied_in.add((node.id, epoch.number))
            self.counts["set: liar in both sets"] += (node.id, epoch.number - 1) in self._lied_in
            self.counts["set: liar joins"] += epoch.before is not None and not _sits(node.id, epoch.before)

    def entered(self, node: Node) -> None:
        """See Witness."""
        if not self._contested or not node.honest:
            return
        epoch = node.validator.epoch
        for organisation, lied_in in self._lied_in:
            if lied_in == epoch.number - 1 and not _sits(organisation, epoch.validators):
                self._left.add((organisation, lied_in))
        self.counts["set: liar leaves"] = len(self._left)

    def delivered(self, node: Node, sender: int, messages: Sequence[PeerMessage]) -> None:
        """See Witness."""
        if sender in self._later and node.honest:
            self.counts[LATER] += len(messages)

    def sent(self, node: Node, to: int | None, message: PeerMessage) -> None:
        """See Witness."""
        if node.epoch and isinstance(message, Certificate) and message.epoch < node.epoch and node.honest:
            self.counts["set: late member shown the end of its epoch"] += 1

    def penalised(self, node: Node, penalty: Penalty) -> None:
        """See Witness."""
        if "names its view only" in penalty.reason:
            self._case("X that points to a parent")
        elif "not in the validator set" in penalty.reason:
            self._case("unknown signer")

    def turned(self, node: Node, turn: Turn) -> None:
        """See Witness."""
        if node.honest:
            self.counts[INSTALLED] += turn.install
            self.counts["set: lost disk, back by a snapshot"] += turn.install and node.index in self._faults.lost
            self.counts[RECORDED] += sum(
                len(notice.breaches) for notice in turn.notices if isinstance(notice, ExecutedNotice)
            )

    def stepping(self, node: Node, event: Event, now: Now) -> None:
        """See Witness."""
        self._view_before = node.core.view

    def stepped(self, node: Node, event: Event, effects: Sequence[Effect], now: Now) -> None:
        """See Witness."""
        if not node.honest:
            return
        self._event(node.core, event, effects)
        for effect in effects:
            match effect:
                case out.ViewEntered():
                    self.counts["R1"] += 1
                case out.Persist(OwnVote(vote)):
                    self._voted(state_of(node.core), vote, effects)
                    self._voted_in(node, vote)
                case out.Persist(HeldCertificate(certificate)):
                    self._held(state_of(node.core), certificate)
                case out.Persist(Certification(_, view, _, True)):
                    self.counts["R6"] += 1
                    state = state_of(node.core)
                    if state.own(state.rounds.get(view), X) is not None:
                        self._case("certified after X")
                        self._case("X then no F")
                case out.Finalized():
                    self.counts["R9"] += 1
                case out.Build(at_once=True):
                    self.counts["R12"] += 1
                case out.Report(evidence):
                    self._reported(evidence)

    def _case(self, name: str) -> None:
        self.counts[f"case: {name}"] += 1

    def _event(self, core: Core, event: Event, effects: Sequence[Effect]) -> None:
        match event:
            case into.Work():
                self.counts["R12"] += 1
            case into.Started():
                state = state_of(core)
                for effect in effects:
                    if isinstance(effect, out.Verify):
                        found = state.rounds.get(effect.proposal.header.view)
                        if state.own(found, N) is not None:
                            self._case("proposal met again after a restart")
            case into.ProposalReceived(_, proposal):
                found = state_of(core).rounds.get(proposal.header.view)
                if found is not None and found.slot == proposal.header.digest:
                    self.counts["R3"] += 1
            case into.CertificateReceived(_, certificate):
                if certificate.kind is X and certificate.view < self._view_before and _holds_now(effects, certificate):
                    self._case("halves lack each other's certificates")
                if certificate.view >= self._view_before and core.view > self._view_before:
                    self.counts["R10"] += 1
                    if certificate.view > self._view_before + 1:
                        self._case("certificate far ahead")
            case into.WantReceived():
                self._helped(effects)
            case into.VoteReceived(_, vote) if vote.kind is X:
                self._nullify_received(state_of(core), vote, effects)

    def _nullify_received(self, state: State, vote: Vote, effects: Sequence[Effect]) -> None:
        if vote.view < self._view_before:
            self._helped(effects)
        found = state.rounds.get(vote.view)
        if state.own(found, F) is not None:
            self._case("F then no X")
        if vote.signer == state.validators.leader(vote.view) and state.own(found, X) is not None:
            self._case("two triggers, one X")

    def _helped(self, effects: Sequence[Effect]) -> None:
        if any(isinstance(each, out.Send) and isinstance(each.message, Certificate) for each in effects):
            self.counts["R11"] += 1

    def _voted(self, state: State, vote: Vote, effects: Sequence[Effect]) -> None:
        found = state.rounds.get(vote.view)
        if vote.kind is N:
            own = any(isinstance(each, out.Persist) and isinstance(each.record, BuiltBlock) for each in effects)
            self.counts["R2" if own else "R4"] += 1
            header = state.blocks.header(vote.digest)
            if header is not None and header.height - header.state_height >= DEFERRED:
                self._case("execution deferred")
        elif vote.kind is F:
            self.counts["R6"] += 1
        else:
            self.counts["R7"] += 1
            if state.own(found, N) is not None:
                self._case("N then X")
            block = state.blocks.get(found.slot) if found is not None and found.slot is not None else None
            if block is not None and block.bad:
                self._case("invalid block")
            elif block is not None and not block.good:
                self._case("body withheld")

    def _voted_in(self, node: Node, vote: Vote) -> None:
        """A vote for a tail, or the first one in an epoch that a change of the set began."""
        block = state_of(node.core).blocks.get(vote.digest) if vote.kind is N else None
        if block is not None and block.boundary is not None:
            self.counts["set: vote for a tail"] += 1
        if vote.epoch > self._signed_in.get(node.index, 0):
            self.counts["set: member signs again in the next epoch"] += node.index in self._signed_in
        self._signed_in[node.index] = vote.epoch
        self.counts["set: copy of an earlier epoch put back"] += node.index in self._faults.across
        self.counts["set: copy put back after a hand-over"] += node.index in self._faults.after
        self.counts["set: lost key, replaced by a change"] += node.made > 1

    def _held(self, state: State, certificate: Certificate) -> None:
        found = state.rounds.get(certificate.view)
        if certificate.kind is N:
            self.counts["R5"] += 1
            if state.blocks.get(certificate.digest) is None:
                self._case("notarization of an unseen block")
        elif certificate.kind is X:
            self.counts["R8"] += 1
        if found is not None and found.notarized is not None and found.nullified is not None:
            self._case("notarized and nullified")

    def _reported(self, evidence: object) -> None:
        match evidence:
            case ConflictingVotes(first, second) if first.kind is N and second.kind is N:
                self._case("leader equivocates")
            case FalseJustification():
                self._case("skipped view without nullification")


def _sits(organisation: str, validators: ValidatorSet) -> bool:
    return any(member.id == organisation for member in validators.members)


def _holds_now(effects: Sequence[Effect], certificate: Certificate) -> bool:
    return any(isinstance(each, out.Persist) and each.record == HeldCertificate(certificate) for each in effects)


def state_of(core: Core) -> State:
    """What a core knows, for whoever only looks."""
    return core._state


def missing(counts: dict[str, int]) -> list[str]:
    """What had to be exercised, and was not."""
    return [name for name in REQUIRED if not counts.get(name)]
