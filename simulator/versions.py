"""How a node of a later minor version speaks: what today's nodes have to pass over, and to answer as ever.

There is one version of the protocol so far. What a later one may add without a new number (docs/protocol.md and ADR
0018) are fields that nobody here knows in messages that are not hashed, and kinds of messages that nobody here knows.
Hashed messages have one form, and stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import Message

from lossbook.v1 import peer_pb2

LATER_FIELD: Final = b"\xc0\x3e\x01"
"""Field 1000, a varint."""

LATER_KIND: Final = b"\xca\x3e\x05later"
"""A PeerMessage that holds field 1001 and no kind of today."""


def later_form(raw: bytes) -> bytes:
    """An encoded PeerMessage with a later field in it, and in the message of its kind where that is one."""
    message = peer_pb2.PeerMessage.FromString(raw)
    kind = message.WhichOneof("kind")
    inner = getattr(message, kind) if kind is not None else None
    if isinstance(inner, Message):
        inner.MergeFromString(LATER_FIELD)
    return message.SerializeToString() + LATER_FIELD


def later_packet(packet: Sequence[bytes]) -> list[bytes]:
    """What a turn has for one peer, and a message of a later kind before it."""
    return [LATER_KIND, *packet]
