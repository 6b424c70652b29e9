"""Votes for two blocks in every view in which it votes: N with N, F with F, and both with each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from consensus.types import Vote, VoteKind
from simulator.adversaries.liar import Liar, Send


class TwoVotes(Liar):
    """The second block does not even exist; the votes for it are evidence all the same."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """With every vote for a block, one of the same kind for a block that is not there."""
        for to, message in sends:
            yield to, message
            if isinstance(message, Vote) and message.kind is not VoteKind.NULLIFY:
                self.lie("votes for two blocks")
                yield to, self.vote(message.kind, message.view, message.parent_view, sha256(message.digest).digest())
