"""Proof that one validator broke the rules, as values anybody with the validator set can check (consensus.md §11)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from consensus.justification import HeaderRules
from consensus.types import Header, Justification, Vote, VoteKind
from consensus.votes import VoteChecker


class EvidenceKind(enum.IntEnum):
    """The five ways to break the rules provably. Numbers are committed and never change their meaning."""

    TWO_NOTARIZE = 1
    """N/N for different blocks."""
    TWO_FINALIZE = 2
    """F/F for different blocks."""
    NULLIFY_AND_FINALIZE = 3
    """X with F."""
    NOTARIZE_AND_FINALIZE = 4
    """N(c) with F(c') for different blocks."""
    FALSE_JUSTIFICATION = 5
    """N over a header whose committed justification does not allow its parent."""


_KIND_OF = {
    frozenset({VoteKind.NOTARIZE}): EvidenceKind.TWO_NOTARIZE,
    frozenset({VoteKind.FINALIZE}): EvidenceKind.TWO_FINALIZE,
    frozenset({VoteKind.NULLIFY, VoteKind.FINALIZE}): EvidenceKind.NULLIFY_AND_FINALIZE,
    frozenset({VoteKind.NOTARIZE, VoteKind.FINALIZE}): EvidenceKind.NOTARIZE_AND_FINALIZE,
}


@dataclass(frozen=True, slots=True)
class ConflictingVotes:
    """Two votes of one validator in one view that no honest node signs together.

    N/N or F/F for different blocks, X with F, or N(c) with F(c') for different blocks. The votes say which.
    """

    first: Vote
    second: Vote

    @property
    def vote(self) -> Vote:
        """A vote that names culprit, epoch and view."""
        return self.first

    @property
    def culprit(self) -> int:
        """Signer index."""
        return self.first.signer

    @property
    def kind(self) -> EvidenceKind:
        """Which of the five; only for votes that do conflict."""
        return _KIND_OF[frozenset({self.first.kind, self.second.kind})]


@dataclass(frozen=True, slots=True)
class FalseJustification:
    """A notarize vote over a header whose committed justification does not allow its parent."""

    vote: Vote
    header: Header
    justification: Justification
    """Its digest is the one the header commits to."""
    problem: str = field(default="", compare=False)
    """What is wrong with it, in words; empty where nobody has looked yet."""

    @property
    def culprit(self) -> int:
        """Signer index."""
        return self.vote.signer

    @property
    def kind(self) -> EvidenceKind:
        """Which of the five."""
        return EvidenceKind.FALSE_JUSTIFICATION


Evidence = ConflictingVotes | FalseJustification


def conflict(a: Vote, b: Vote) -> bool:
    """Whether no honest node signs both. The votes are of one signer, epoch and view.

    N with X is legal (a node may time out after it notarized), and so is N(c) with F(c).
    """
    kinds = {a.kind, b.kind}
    if VoteKind.NULLIFY in kinds:
        return VoteKind.FINALIZE in kinds
    return a.target != b.target


def conflicts(vote: Vote, held: Mapping[VoteKind, Mapping[int, Vote]]) -> list[ConflictingVotes]:
    """Evidence that a verified vote makes with the first vote of each kind held of its signer in its view."""
    found = []
    for by_signer in held.values():
        other = by_signer.get(vote.signer)
        if other is not None and conflict(other, vote):
            found.append(ConflictingVotes(other, vote))
    return found


def evidence_problem(evidence: Evidence, rules: HeaderRules, checker: VoteChecker) -> str | None:
    """Why the evidence convicts nobody; None if it does.

    Args:
        rules, checker: of the epoch that the votes name.
    """
    if evidence.vote.epoch != rules.validators.epoch:
        return "votes of another epoch"
    if isinstance(evidence, ConflictingVotes):
        return _conflict_problem(evidence, checker)
    return _false_justification_problem(evidence, rules, checker)


def _conflict_problem(evidence: ConflictingVotes, checker: VoteChecker) -> str | None:
    first, second = evidence.first, evidence.second
    if (first.signer, first.epoch, first.view) != (second.signer, second.epoch, second.view):
        return "the votes are not of one validator in one view"
    if not conflict(first, second):
        return "an honest validator may sign both votes"
    return checker.vote_problem(first) or checker.vote_problem(second)


def _false_justification_problem(evidence: FalseJustification, rules: HeaderRules, checker: VoteChecker) -> str | None:
    vote, header, justification = evidence.vote, evidence.header, evidence.justification
    if vote.kind is not VoteKind.NOTARIZE:
        return "not a notarize vote"
    if (vote.view, vote.parent_view, vote.digest) != (header.view, header.parent_view, header.digest):
        return "the vote is for another header"
    if justification.digest != header.justification_digest:
        return "the justification is not the one the header commits to"
    problem = checker.vote_problem(vote)
    if problem:
        return problem
    false = rules.justification_problem(
        header, justification, lambda certificate: checker.certificate_problem(certificate, lambda _: False)
    )
    return None if false else "the justification allows the parent"
