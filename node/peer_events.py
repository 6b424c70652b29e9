"""Which epoch a message belongs to, and whether its sender knows how that epoch ended."""

from __future__ import annotations

from consensus.messages import Message, Muted, StartQuery, Want
from consensus.types import Certificate, Proposal, Vote, VoteKind
from ledger.types import Ack


def epoch_of(message: Message) -> int | None:
    """The epoch in which a message means something; None for an answer, whose nonce says it."""
    match message:
        case Vote() | Certificate() | Want() | StartQuery() | Muted():
            return message.epoch
        case Proposal():
            return message.header.epoch
        case _:
            return None


def shows_end(message: Message | Ack, end: Certificate) -> bool:
    """Whether whoever sent this knows how its epoch ended."""
    if not isinstance(message, Certificate):
        return False
    return message.kind is VoteKind.FINALIZE and message.view >= end.view
