"""A validator that votes for two blocks in every view in which it votes, and for its own doubles, too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256

from consensus.types import Vote, VoteKind
from consensus.votes import vote_message
from tests.support.cluster import Node, Send


class DoubleVoter(Node):
    """See the module text; everybody gets both."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """With every vote for a block, one of the same kind for a block that is not there."""
        for to, message in sends:
            yield to, message
            if isinstance(message, Vote) and message.kind is not VoteKind.NULLIFY:
                yield to, self.double(message)

    def double(self, vote: Vote) -> Vote:
        """The same vote for another block, genuinely signed."""
        other = replace(vote, digest=sha256(vote.digest).digest())
        message = vote_message(
            self.cluster.genesis.chain_id, other.kind, other.epoch, other.view, other.parent_view, other.digest
        )
        return replace(other, signature=self.key.sign(message))
