"""An origin that strips the last signature of every envelope it orders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger.types import Batch
from ledger.wire import decode_envelope, encode_envelope
from tests.support.cluster import Node, Send
from tests.unit.node.byzantine_forging import forged_batch


class Stripper(Node):
    """See the module text."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Batches leave with stripped envelopes under a genuine batch signature."""
        for to, message in sends:
            if isinstance(message, Batch):
                yield to, forged_batch(self, message, [stripped(raw) for raw in message.envelopes])
            else:
                yield to, message


def stripped(raw: bytes) -> bytes:
    """The envelope with one signature less: the same id."""
    envelope = decode_envelope(raw)
    return encode_envelope(envelope.body, envelope.signatures[:-1])
