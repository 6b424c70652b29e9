"""A leader that lies about the state root, or about the receipts root."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from consensus.types import Proposal
from simulator.adversaries.liar import Liar, Send


class RootLiar(Liar):
    """A wrong root in a proposal costs the leader its view, and halts nobody."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Own proposals commit to a state that nobody has."""
        for to, message in sends:
            if isinstance(message, Proposal) and message.vote.signer == self.seat:
                self.lie("false root")
                which = self.random.choice(("state_root", "receipts_root"))
                changes: dict[str, Any] = {which: b"lie!" * 8}
                yield to, self.proposal(message, **changes)
            else:
                yield to, message
