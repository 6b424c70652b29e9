"""A node that sends, with everything it says, as much again of what costs the receiver most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from consensus.messages import Want
from consensus.types import Vote, VoteKind
from consensus.votes import vote_message
from ledger.acks import HELD, ack_message
from ledger.types import Ack, Batch
from node.turn import OriginQuery
from tests.support.cluster import Node, Send
from tests.unit.node.byzantine_forging import forged_batch


class Flooder(Node):
    """See the module text; all of it is genuinely signed, so that nothing is penalised."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """The honest messages, and the flood behind them."""
        for to, message in sends:
            yield to, message
            if isinstance(message, Batch):
                for number in range(2, 12):
                    yield None, forged_batch(self, message, message.envelopes, incarnation=1000 + number, sequence=1)
        if sends:
            self.round = self.__dict__.get("round", 0) + 1
            yield from ((None, message) for message in self.flood())

    def flood(self) -> Iterable[Vote | Ack | Want | OriginQuery]:
        """Acknowledgements of inventions for every origin, votes of all kinds, questions."""
        chain_id, validators = self.cluster.genesis.chain_id, self.cluster.genesis.validators
        for number, validator in enumerate(validators):
            digest = bytes([self.index, number]) * 8 + self.round.to_bytes(16, "big")
            ack = Ack(HELD, 0, self.index, validator.id, 2**63, self.round, digest, b"")
            yield msgspec.structs.replace(ack, signature=self.key.sign(ack_message(chain_id, ack)))
        for view in (1, self.round, 2**64 - 2):
            digest = self.round.to_bytes(32, "big")
            for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
                signature = self.key.sign(vote_message(chain_id, kind, 0, view, view - 1, digest))
                yield Vote(kind, 0, view, view - 1, digest, self.index, signature)
        yield Want(0, self.round)
        yield OriginQuery(self.round.to_bytes(32, "big"))
