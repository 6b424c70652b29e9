"""Follows the rules, but each message reaches only one other validator, another one each time."""

from __future__ import annotations

from consensus.effects import Broadcast, Effect
from tests.unit.consensus.byzantine import Liar


class SelectiveSender(Liar):
    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Broadcast(message):
                self.whisper(self.cluster.random.choice(self.others), message)
            case _:
                super().carry_out(effect)
