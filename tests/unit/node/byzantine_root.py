"""A leader that lies about the state root."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.types import Proposal
from tests.support.cluster import Node, Send
from tests.unit.node.byzantine_forging import forged_proposal


class RootLiar(Node):
    """See the module text."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Own proposals commit to a state that nobody has."""
        for to, message in sends:
            if isinstance(message, Proposal):
                yield to, forged_proposal(self, message, state_root=b"lie!" * 8)
            else:
                yield to, message
