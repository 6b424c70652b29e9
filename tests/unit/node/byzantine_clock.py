"""A leader that antedates its blocks as far as the rule "after the parent" lets it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.types import Proposal
from ledger import wire
from tests.support.cluster import Node, Send
from tests.unit.node.byzantine_forging import forged_proposal


class Antedater(Node):
    """See the module text."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Own proposals are one millisecond younger than their parent, whatever the time is."""
        for to, message in sends:
            if isinstance(message, Proposal):
                raw = self.blocks.proposal(message.header.parent_digest)
                parent = self.genesis_header if raw is None else wire.decode_stored_proposal(raw).header
                yield to, forged_proposal(self, message, timestamp_ms=parent.timestamp_ms + 1)
            else:
                yield to, message
