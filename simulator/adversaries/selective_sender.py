"""Follows the rules, but each message reaches only some others, another set each time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simulator.adversaries.liar import Liar, Send


class SelectiveSender(Liar):
    """What it says is true; who hears it is its choice."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Broadcasts go to one other, or to a random part."""
        for to, message in sends:
            if to is not None:
                yield to, message
                continue
            self.lie("tells some")
            count = self.random.choice((1, 1, len(self.others) - 1))
            for target in self.random.sample(self.others, count):
                yield target, message
