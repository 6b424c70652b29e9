"""What is known of each view: votes, certificates, the leader's slot, what was certified here.

Bounded: a round holds at most three votes and three certificates of each validator's making, and rounds exist only
for views from ``floor - retention`` to ``current + 1``, or views a quorum has certified.
"""

from __future__ import annotations

from collections.abc import Iterator

from consensus.evidence import ConflictingVotes, conflicts
from consensus.types import Certificate, Target, Vote, VoteKind


class Round:
    """One view."""

    __slots__ = (
        "built",
        "certificates",
        "certified",
        "equivocated",
        "rejected",
        "reported",
        "slot",
        "view",
        "votes",
    )

    def __init__(self, view: int) -> None:
        self.view = view
        #: First verified vote of each signer, by kind. A second, different one is evidence and never counted.
        self.votes: dict[VoteKind, dict[int, Vote]] = {kind: {} for kind in VoteKind}
        self.certificates: dict[VoteKind, Certificate] = {}
        #: Digest the leader voted for (or a Notarization named); R3.
        self.slot: bytes | None = None
        #: The leader signed two digests: never N or F here.
        self.equivocated = False
        #: Digest of the block this node built here; R2.
        self.built: bytes | None = None
        #: Digest this node certified here; R6.
        self.certified: bytes | None = None
        #: Digest this node found invalid although it is notarized.
        self.rejected: bytes | None = None
        #: Evidence already reported: (signer, kinds).
        self.reported: set[tuple[int, frozenset[VoteKind] | None]] = set()

    def knows(self, vote: Vote) -> bool:
        """Whether exactly this vote, signature included, was verified before."""
        held = self.votes[vote.kind].get(vote.signer)
        if held is not None and held == vote:
            return True
        certificate = self.certificates.get(vote.kind)
        if certificate is None or certificate.target != vote.target or vote.signer not in certificate.signers:
            return False
        return certificate.signatures[certificate.signers.index(vote.signer)] == vote.signature

    def has_voted(self, vote: Vote) -> bool:
        """Whether a vote of this signer for this tuple was counted, whatever its signature."""
        held = self.votes[vote.kind].get(vote.signer)
        return held is not None and held.target == vote.target

    def count(self, vote: Vote) -> list[ConflictingVotes]:
        """Count a verified vote, unless its signer has one of its kind here; evidence not reported before."""
        fresh = []
        for evidence in conflicts(vote, self.votes):
            key = (vote.signer, frozenset((evidence.first.kind, evidence.second.kind)))
            if key not in self.reported:
                self.reported.add(key)
                fresh.append(evidence)
        self.votes[vote.kind].setdefault(vote.signer, vote)
        return fresh

    def votes_for(self, kind: VoteKind, target: Target) -> list[Vote]:
        """The box of one tuple: at most one vote per signer, ascending."""
        return [vote for _, vote in sorted(self.votes[kind].items()) if vote.target == target]

    def fill_slot(self, digest: bytes) -> None:
        """The leader voted for this digest (R3), or a Notarization names it (R5)."""
        if self.slot is not None and self.slot != digest:
            self.equivocated = True
        elif self.slot is None:
            self.slot = digest

    @property
    def notarized(self) -> Certificate | None:
        """The Notarization, if held."""
        return self.certificates.get(VoteKind.NOTARIZE)

    @property
    def nullified(self) -> Certificate | None:
        """The Nullification, if held."""
        return self.certificates.get(VoteKind.NULLIFY)

    @property
    def finalized(self) -> Certificate | None:
        """The Finalization, if held."""
        return self.certificates.get(VoteKind.FINALIZE)

    @property
    def best(self) -> Certificate | None:
        """What lets a node leave this view: Finalization, else Nullification, else Notarization (R7)."""
        return self.finalized or self.nullified or self.notarized

    @property
    def touched(self) -> bool:
        """Whether anybody is known to have done something in this view (arms the timers, R12)."""
        return self.slot is not None or any(self.votes.values()) or bool(self.certificates)


class Rounds:
    """Rounds by view."""

    def __init__(self) -> None:
        self._rounds: dict[int, Round] = {}

    def at(self, view: int) -> Round:
        """The round of a view, made if new."""
        found = self._rounds.get(view)
        if found is None:
            found = self._rounds[view] = Round(view)
        return found

    def get(self, view: int) -> Round | None:
        """The round of a view, if anything is known of it."""
        return self._rounds.get(view)

    def ascending(self) -> Iterator[Round]:
        """All rounds, lowest view first."""
        for view in sorted(self._rounds):
            yield self._rounds[view]

    def prune(self, below: int) -> None:
        """Forget the rounds of views below."""
        if any(view < below for view in self._rounds):
            self._rounds = {view: found for view, found in self._rounds.items() if view >= below}
