"""An origin that serves its batches to f + 1 nodes only, itself among them, and to nobody who asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger import wire
from ledger.types import Batch
from node.turn import Fetch
from simulator.adversaries.liar import Liar, Send
from simulator.serving import Answer


class ServesFew(Liar):
    """It must not stall the rest for ever: who holds a batch passes it on."""

    @property
    def favoured(self) -> list[int]:
        """f others."""
        n = self.cluster.market.n
        return [(self.index + step) % n for step in range(1, 1 + (n - 1) // 3)]

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Own batches go to few, everything else is honest."""
        for to, message in sends:
            if isinstance(message, Batch) and message.header.origin == self.id:
                self.lie("serves few")
                for target in self.favoured:
                    if to in (None, target):
                        yield target, message
            else:
                yield to, message

    def serve(self, fetch: Fetch) -> Answer:
        """Nothing of its own."""
        answer = super().serve(fetch)
        return Answer(
            batches=tuple(raw for raw in answer.batches if wire.decode_batch(raw).header.origin != self.id),
            proposals=answer.proposals,
            blocks=answer.blocks,
        )
