"""Sends forged and stale certificates, votes in others' names, and answers to start-up queries that lie."""

from __future__ import annotations

from dataclasses import replace

from consensus.effects import Broadcast, Effect, Send
from consensus.messages import StartAnswer
from consensus.types import Certificate, VoteKind
from tests.unit.consensus.byzantine import Liar
from tests.unit.consensus.support import X


class Forger(Liar):
    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(to, StartAnswer() as answer):
                super().carry_out(Send(to, replace(answer, highest_signed_view=1 << 40)))
            case Broadcast():
                super().carry_out(effect)
                view = self.running.view + self.cluster.random.randrange(1_000)
                quorum = self.cluster.oracle.quorum
                digest = b"" if (kind := self.cluster.random.choice(list(VoteKind))) is X else bytes(32)
                forged = Certificate(kind, 0, view, 0, digest, tuple(range(quorum)), (bytes(64),) * quorum)
                super().carry_out(Broadcast(forged))
                victim = self.cluster.random.choice(self.others)
                super().carry_out(Broadcast(replace(self.forge(X, self.running.view), signer=victim)))
            case _:
                super().carry_out(effect)
