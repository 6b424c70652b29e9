"""Leaders that end an epoch when they like, or do not when they must, or put blocks where only tails may stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from consensus.types import Header, Proposal, Vote, VoteKind
from consensus.votes import vote_message
from ledger import wire
from tests.support.epoch_cluster import Node, Send

NEXT = b"next" * 8


def forged_proposal(node: Node, proposal: Proposal, **changes: Any) -> Proposal:
    """The proposal with other header fields, and the leader's genuine vote for it."""
    known: dict[str, Any] = {each.name: getattr(proposal.header, each.name) for each in fields(Header)}
    header = wire.encode_header(**({name: v for name, v in known.items() if name not in ("digest", "raw")} | changes))
    chain_id, epoch, view, parent = node.cluster.genesis.chain_id, header.epoch, header.view, header.parent_view
    message = vote_message(chain_id, VoteKind.NOTARIZE, epoch, view, parent, header.digest)
    signature = node.sign(epoch, message)
    vote = Vote(VoteKind.NOTARIZE, epoch, view, parent, header.digest, proposal.vote.signer, signature)
    return Proposal(header, proposal.justification, proposal.payload, vote)


class EndsEarly(Node):
    """Its blocks end the epoch although nothing was approved."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Every own proposal names a next set."""
        for to, message in sends:
            if isinstance(message, Proposal) and not message.header.next_valset_hash:
                yield to, forged_proposal(self, message, next_valset_hash=NEXT)
            else:
                yield to, message


class NeverEnds(Node):
    """Its boundary blocks are ordinary ones, or name another set."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Every own boundary is spoilt, each view in another way."""
        for to, message in sends:
            if isinstance(message, Proposal) and message.header.next_valset_hash:
                other = b"" if message.header.view % 2 else NEXT
                yield to, forged_proposal(self, message, next_valset_hash=other)
            else:
                yield to, message


class GoesOn(Node):
    """On a boundary it builds ordinary blocks instead of tails."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Own tails become blocks one higher, and later."""
        for to, message in sends:
            if isinstance(message, Proposal) and self.is_tail(message):
                header = message.header
                yield (
                    to,
                    forged_proposal(self, message, height=header.height + 1, timestamp_ms=header.timestamp_ms + 5_000),
                )
            else:
                yield to, message

    def is_tail(self, proposal: Proposal) -> bool:
        """Whether its height is its parent's."""
        raw = self.blocks.proposal(proposal.header.parent_digest)
        return raw is not None and wire.decode_stored_proposal(raw).header.height == proposal.header.height
