"""Votes N, X and F for everything it sees, at once, and X with every vote it casts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.types import Proposal, Vote, VoteKind
from simulator.adversaries.liar import Liar, Send, to_each


class DoubleVoter(Liar):
    """X with F in one view: what no honest node signs."""

    def receive(self, sender: int, packet: Sequence[bytes]) -> None:
        """All votes for every proposal, in an order of their own for everybody."""
        for raw in packet:
            message = self.read(raw)
            if isinstance(message, Proposal) and self.up:
                self.lie("votes N, X and F")
                for to in self.others:
                    votes = [self.vote_for(kind, message.header) for kind in VoteKind]
                    self.random.shuffle(votes)
                    self.at_once(to, *votes)
        super().receive(sender, packet)

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """And an X with every vote."""
        for to, message in sends:
            yield to, message
            if isinstance(message, Vote) and message.kind is not VoteKind.NULLIFY:
                self.lie("votes X beside")
                for target in to_each(self.others, to):
                    if self.random.random() < 0.5:
                        yield target, self.vote(VoteKind.NULLIFY, message.view)
