"""Proof that one validator broke the rules, as values anybody with the validator set can check (consensus.md §11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consensus.types import Header, Justification, Vote, VoteKind


@dataclass(frozen=True, slots=True)
class ConflictingVotes:
    """Two votes of one validator in one view that no honest node signs together.

    N/N or F/F for different blocks, X with F, or N(c) with F(c') for different blocks. The votes say which.
    """

    first: Vote
    second: Vote

    @property
    def culprit(self) -> int:
        """Signer index."""
        return self.first.signer


@dataclass(frozen=True, slots=True)
class FalseJustification:
    """A notarize vote over a header whose committed justification does not allow its parent."""

    vote: Vote
    header: Header
    justification: Justification
    """Its digest is the one the header commits to."""
    problem: str
    """What is wrong with it, in words."""

    @property
    def culprit(self) -> int:
        """Signer index."""
        return self.vote.signer


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
