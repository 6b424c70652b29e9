"""Sends forged certificates, votes in others' names, malformed votes, and start-up answers that lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from consensus.messages import StartAnswer
from consensus.types import Certificate, VoteKind
from ledger import wire
from lossbook.v1 import peer_pb2
from node.turn import PeerMessage
from simulator.adversaries.liar import Liar, Send

NEVER = 1 << 40
FAR = 1_000


class Forger(Liar):
    """Everything in it is caught by a signature, a count or a range; each costs it the stream."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """The honest messages, and one forgery with some of them."""
        for to, message in sends:
            if isinstance(message, StartAnswer):
                self.lie("names a view that does not exist")
                yield to, replace(message, highest_signed_view=NEVER)
                continue
            yield to, message
            if self.random.random() < 0.1:
                forged = self._forged()
                if forged is not None:
                    yield self.random.choice(self.others), forged

    def _forged(self) -> PeerMessage | None:
        n, quorum = self.size, self.size - 1
        kind = self.random.choice(list(VoteKind))
        digest = b"" if kind is VoteKind.NULLIFY else self.random.randbytes(32)
        view = self.core.view + self.random.randrange(FAR)
        match self.random.randrange(5):
            case 0:
                self.lie("certificate that nobody signed")
                return self.forged_certificate(kind, view, digest, range(quorum))
            case 1:
                self.lie("certificate with a signer out of range")
                return self.forged_certificate(kind, view, digest, [*range(n - quorum, n - 1), n])
            case 2:
                self.lie("certificate of too few")
                own = self.vote(VoteKind.NULLIFY, view)
                return Certificate(own.kind, self.epoch, view, 0, b"", (self.seat,), (own.signature,))
            case 3:
                self.lie("vote in another's name")
                return replace(self.vote(VoteKind.NULLIFY, self.core.view), signer=self.random.choice(self.others))
            case _:
                self._pointing_nullify()
                return None

    def _pointing_nullify(self) -> None:
        """A nullify vote that points to a parent: no value can say that, bytes can."""
        self.lie("nullify vote that points to a parent")
        message = peer_pb2.PeerMessage(vote=wire.encode_vote(self.vote(VoteKind.NULLIFY, self.core.view)))
        message.vote.parent_view, message.vote.digest = 1, bytes(32)
        raw = message.SerializeToString()
        self.cluster.transmit(self.index, self.random.choice(self.others), (raw,))
