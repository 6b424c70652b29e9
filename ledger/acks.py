"""What a validator signs about batches: acknowledgements and the word given to a client.

Both are made from values and never stored as bytes, so their signed bytes are a digest over a fixed
layout (big-endian, lengths before what varies), as with votes.
"""

from __future__ import annotations

import struct

from crypto.hashing import TAG_ACCEPTED, TAG_ACK, tagged
from ledger.types import Ack

HELD = 1  #: AckKind: synced to disk and checked


def ack_message(chain_id: bytes, ack: Ack) -> bytes:
    """32 bytes: digest of tag | chain_id | kind u8 | epoch u64 | acker u32 | len u16, origin |
    incarnation u64 | sequence u64 | batch digest."""
    origin = ack.origin.encode()
    return tagged(
        TAG_ACK,
        chain_id,
        struct.pack(">BQIH", ack.kind, ack.epoch, ack.acker, len(origin)),
        origin,
        struct.pack(">QQ", ack.incarnation, ack.sequence),
        ack.digest,
    )


def accepted_message(chain_id: bytes, epoch: int, origin: str, batch_digest: bytes, envelope_id: bytes) -> bytes:
    """32 bytes: digest of tag | chain_id | epoch u64 | len u16, origin | batch digest | envelope id."""
    name = origin.encode()
    return tagged(TAG_ACCEPTED, chain_id, struct.pack(">QH", epoch, len(name)), name, batch_digest, envelope_id)
