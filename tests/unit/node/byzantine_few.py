"""An origin that serves its batches to f + 1 nodes only, itself among them, and to nobody who asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger import wire
from ledger.types import Batch
from node.turn import BatchesFetched, Fetch, FetchBatches, Input
from tests.support.cluster import Node, Send


class ServesFew(Node):
    """See the module text; f = 1, so it serves one other node."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Own batches go to one node, everything else is honest."""
        favoured = (self.index + 1) % len(self.cluster.nodes)
        for to, message in sends:
            if isinstance(message, Batch) and wire.decode_batch(message.raw).header.origin == self.origin:
                if to in (None, favoured):
                    yield favoured, message
            else:
                yield to, message

    def serve(self, fetch: Fetch) -> Input | None:
        """Nothing of its own."""
        answer = super().serve(fetch)
        if isinstance(fetch, FetchBatches) and isinstance(answer, BatchesFetched):
            others = [batch for batch in answer.batches if batch.header.origin != self.origin]
            return BatchesFetched(self.index, others) if others else None
        return answer

    @property
    def origin(self) -> str:
        """Its organisation."""
        return self.cluster.genesis.validators[self.index].id
