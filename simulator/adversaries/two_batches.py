"""An origin that makes two batches for every position and shows each to half of the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger.types import Ack, Batch
from simulator.adversaries.liar import Liar, Send, to_each


class TwoBatches(Liar):
    """It acknowledges both; at most one can get a quorum."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Nodes with an odd index get the second batch, and an acknowledgement of it."""
        second: dict[bytes, bytes] = self.__dict__.setdefault("second", {})
        for to, message in sends:
            other: Batch | Ack | None = None
            if isinstance(message, Batch) and message.header.origin == self.id:
                self.lie("two batches at one position")
                other = self.batch(message, message.envelopes * 2)
                second[message.header.digest] = other.header.digest
            elif isinstance(message, Ack) and message.digest in second:
                other = self.ack(message, digest=second[message.digest])
            if other is None:
                yield to, message
                continue
            for target in to_each(self.others, to):
                yield target, other if target % 2 else message
