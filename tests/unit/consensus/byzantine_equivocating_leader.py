"""Proposes two blocks in each of its views, each to one half, and votes for both."""

from __future__ import annotations

from dataclasses import replace

from consensus.effects import Broadcast, Effect
from consensus.types import Proposal
from tests.unit.consensus.byzantine import Liar
from tests.unit.consensus.support import N, rehash


class EquivocatingLeader(Liar):
    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Broadcast(Proposal() as proposal):
                header = rehash(replace(proposal.header, timestamp_ms=proposal.header.timestamp_ms + 1))
                other = replace(proposal, header=header, vote=self.forge(N, header.view, header))
                self.store.proposals[header.digest] = other
                half = len(self.others) // 2 + self.cluster.random.randint(0, 1)
                for position, to in enumerate(self.others):
                    first, second = (proposal, other) if position < half else (other, proposal)
                    self.whisper(to, first)
                    if self.cluster.random.random() < 0.5:
                        self.whisper(to, second.vote)
            case _:
                super().carry_out(effect)
