"""Sends, with everything it says, as much again of what costs the receiver most, at the edges of what is admitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.messages import Want
from consensus.types import VoteKind
from ledger.acks import HELD
from ledger.types import Ack, Batch
from node.turn import OriginQuery, PeerMessage
from simulator.adversaries.liar import Liar, Send

U64_MAX = 2**64 - 1
INCARNATIONS = 6


class Flooder(Liar):
    """All of it is genuinely signed, so that nothing of it can be penalised."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """The honest messages, and the flood behind them."""
        for to, message in sends:
            yield to, message
            if isinstance(message, Batch) and message.header.origin == self.id:
                for number in range(INCARNATIONS):
                    incarnation = message.header.incarnation + self.random.randint(1, 1000) + number
                    yield None, self.batch(message, message.envelopes, incarnation=incarnation, sequence=1)
        if sends:
            self.lie("floods")
            for message in self._flood():
                yield None, message

    def _flood(self) -> Iterable[PeerMessage]:
        """Acknowledgements of inventions, votes of all kinds around the window, questions."""
        noise = self.random.randbytes(32)
        for card in self.cluster.market.genesis.validators:
            like = Ack(
                HELD, self.epoch, 0, card.id, self.random.choice((1, 2**63)), self.random.randint(1, 99), noise, b""
            )
            yield self.ack(like)
        view, floor = self.core.view, self.core.floor_view
        for edge in (max(1, floor - 64), max(1, floor), view + 1, view + 2, U64_MAX - 1):
            for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
                yield self.vote(kind, edge, edge - 1, noise)
        yield Want(self.epoch, self.random.randint(0, view + 2))
        yield OriginQuery(noise)
