"""An origin that strips the last signature of envelopes it orders, or garbles one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger.types import Batch
from ledger.wire import decode_envelope, encode_envelope
from simulator.adversaries.liar import Liar, Send


class Stripper(Liar):
    """If such a copy were ordered it would use up the id, and burn the genuine envelope."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Batches leave with stripped envelopes under a genuine batch signature."""
        for to, message in sends:
            if isinstance(message, Batch) and message.header.origin == self.id:
                self.lie("strips co-signatures")
                yield to, self.batch(message, [stripped(raw) for raw in message.envelopes])
            else:
                yield to, message


def stripped(raw: bytes) -> bytes:
    """The envelope with one signature less: the same id."""
    envelope = decode_envelope(raw)
    return encode_envelope(envelope.body, envelope.signatures[:-1])
