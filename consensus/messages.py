"""What validators say to each other, as values (``peer.proto``)."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.types import Certificate, Proposal, Vote

NONCE_BYTES = 32
START_ANSWER_VOTES_MAX = 256
"""Votes in one answer: three kinds of the most recent views; older ones add nothing to the bound."""


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for the best certificates of a view, and for the Finalization of the floor (R11)."""

    epoch: int
    view: int


@dataclass(frozen=True, slots=True)
class StartQuery:
    """A node that starts, or enters an epoch, asks what it may have signed in it before (consensus.md §5)."""

    epoch: int
    nonce: bytes
    """Fresh bytes of this start and epoch, ``NONCE_BYTES`` long: an answer to another query says nothing."""


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """Given at once by every node, also by one that waits for answers itself. Not a vote."""

    nonce: bytes
    highest_signed_view: int
    """Highest view in which the answering node has signed anything."""
    votes: tuple[Vote, ...]
    """Votes of the asking node that the answering node holds, highest view first."""


@dataclass(frozen=True, slots=True)
class Muted:
    """A node that may have forgotten votes tells up to which view it signs nothing, so that others know whom they
    wait for. It proves nothing and decides nothing."""

    epoch: int
    until_view: int


Message = Proposal | Vote | Certificate | Want | StartQuery | StartAnswer | Muted
