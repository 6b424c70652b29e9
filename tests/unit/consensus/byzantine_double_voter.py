"""Votes X, N and F for everything it sees, at once."""

from __future__ import annotations

from consensus.effects import Broadcast, Effect
from consensus.messages import Message
from consensus.types import Proposal, Vote
from tests.unit.consensus.byzantine import Liar
from tests.unit.consensus.support import F, N, X


class DoubleVoter(Liar):
    def receive(self, sender: int, message: Message) -> None:
        if isinstance(message, Proposal):
            header = message.header
            for to in self.others:
                votes = [
                    self.forge(N, header.view, header),
                    self.forge(X, header.view),
                    self.forge(F, header.view, header),
                ]
                self.cluster.random.shuffle(votes)
                self.whisper(to, *votes)
        super().receive(sender, message)

    def carry_out(self, effect: Effect) -> None:
        super().carry_out(effect)
        if isinstance(effect, Broadcast) and isinstance(effect.message, Vote):
            super().carry_out(Broadcast(self.forge(X, effect.message.view)))
