"""A leader that antedates its blocks as far as the rule "after the parent" lets it, or postdates them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.types import Proposal
from simulator.adversaries.liar import Liar, Send

AHEAD_MS = 60_000


class Antedater(Liar):
    """Insurance cover begins at block time: who could choose it would choose when a loss was covered."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Own proposals are one millisecond younger than their parent, or a minute ahead."""
        for to, message in sends:
            if isinstance(message, Proposal) and message.vote.signer == self.seat:
                parent = self.core._state.blocks.header(message.header.parent_digest)
                ahead = self.random.random() < 0.2
                time_ms = message.header.timestamp_ms + AHEAD_MS if ahead or parent is None else parent.timestamp_ms + 1
                self.lie("postdates" if ahead else "antedates")
                yield to, self.proposal(message, timestamp_ms=time_ms)
            else:
                yield to, message
