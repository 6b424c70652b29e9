"""Acknowledges every batch it hears of and keeps none: never stores, never serves what it says it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger.types import Ack, Batch
from node.turn import Fetch, FetchBatches
from simulator.adversaries.liar import Liar, Send
from simulator.serving import Answer


class FalseAcker(Liar):
    """One of the Q that made a client hear ACCEPTED held nothing."""

    def receive(self, sender: int, packet: Sequence[bytes]) -> None:
        """An acknowledgement for a batch or for whatever somebody else acknowledges."""
        for raw in packet:
            message = self.read(raw)
            if not self.up:
                break
            if isinstance(message, Batch):
                header = message.header
                like = Ack(1, header.epoch, 0, header.origin, header.incarnation, header.sequence, header.digest, b"")
                self._acknowledge(like)
            elif isinstance(message, Ack) and message.acker == self.seat_of(sender):
                self._acknowledge(message)
        super().receive(sender, packet)

    def _acknowledge(self, like: Ack) -> None:
        self.lie("acknowledges what it does not hold")
        for to in self.others:
            self.at_once(to, self.ack(like))

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Everything else is honest."""
        return sends

    def serve(self, fetch: Fetch) -> Answer:
        """No batch."""
        return Answer() if isinstance(fetch, FetchBatches) else super().serve(fetch)
