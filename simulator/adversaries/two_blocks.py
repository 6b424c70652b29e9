"""Proposes two blocks in each of its views, each to one half, and votes for both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.types import Proposal
from simulator.adversaries.liar import Liar, Send


class TwoBlocks(Liar):
    """The equivocating leader."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """One half gets one, the other half the other; some get both votes."""
        for to, message in sends:
            if to is not None or not isinstance(message, Proposal) or message.vote.signer != self.seat:
                yield to, message
                continue
            self.lie("two blocks in one view")
            other = self.proposal(message, timestamp_ms=message.header.timestamp_ms + 1)
            self._keep(other)
            half = len(self.others) // 2 + self.random.randint(0, 1)
            for at, target in enumerate(self.others):
                first, second = (message, other) if at < half else (other, message)
                yield target, first
                if self.random.random() < 0.3:
                    yield target, second.vote

    def _keep(self, proposal: Proposal) -> None:
        """So that whoever wants the second one can have it here."""
        self.validator._branches.add(proposal, asked=False)
