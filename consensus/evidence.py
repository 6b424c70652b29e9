"""Proof that one validator broke the rules, as values anybody with the validator set can check (consensus.md §11)."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.types import Header, Justification, Vote


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
