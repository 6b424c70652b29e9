"""An origin that makes two batches for every position and shows each to half of the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ledger.acks import ack_message
from ledger.types import Ack, Batch
from tests.support.cluster import Node, Send
from tests.unit.node.byzantine_forging import forged_batch


class TwoFaced(Node):
    """See the module text; it acknowledges both."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Nodes with an odd index get the second batch, and an acknowledgement of it."""
        for to, message in sends:
            if isinstance(message, Batch):
                other = forged_batch(self, message, message.envelopes * 2)
                self.second[message.header.digest] = other.header.digest
                yield from self.split(to, message, other)
            elif isinstance(message, Ack) and message.digest in self.second:
                unsigned = msgspec.structs.replace(message, digest=self.second[message.digest], signature=b"")
                signature = self.key.sign(ack_message(self.cluster.genesis.chain_id, unsigned))
                yield from self.split(to, message, msgspec.structs.replace(unsigned, signature=signature))
            else:
                yield to, message

    def split(self, to: int | None, even: Batch | Ack, odd: Batch | Ack) -> Iterable[Send]:
        """One to each half."""
        for target in range(len(self.cluster.nodes)) if to is None else (to,):
            if target != self.index:
                yield target, odd if target % 2 else even

    @property
    def second(self) -> dict[bytes, bytes]:
        """Digest shown to even nodes -> digest shown to odd ones."""
        found: dict[bytes, bytes] = self.__dict__.setdefault("_second", {})
        return found
