"""Messages between validators: bytes of peer.proto to the values of ``node.turn`` and back.

One ``ExchangeRequest`` carries all that one turn has for a peer. A broadcast is encoded once, and its bytes go to
every peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from consensus.messages import NONCE_BYTES, START_ANSWER_VOTES_MAX, Muted, StartAnswer, StartQuery, Want
from consensus.types import Certificate, Proposal, Vote
from ledger import wire
from ledger.types import Ack, Batch, Statement
from lossbook.v1 import peer_pb2
from node.turn import OriginAnswer, OriginQuery, PeerMessage

FRAME_OVERHEAD: Final = 8  #: tag and length in front of a message inside an ExchangeRequest, at most


def encode(message: PeerMessage) -> bytes:
    """Serialized PeerMessage."""
    return _ENCODERS[type(message)](message).SerializeToString()


def pack(messages: Iterable[bytes], limit_bytes: int) -> Iterator[bytes]:
    """Serialized ExchangeRequests holding the given PeerMessages in order, each request up to the limit.

    A single message above the limit gets a request of its own. Field 1, length-delimited: protobuf lets repeated
    messages be written one after another, so nothing is parsed or copied twice here.
    """
    parts: list[bytes] = []
    size = 0
    for raw in messages:
        if parts and size + len(raw) + FRAME_OVERHEAD > limit_bytes:
            yield b"".join(parts)
            parts, size = [], 0
        parts += (b"\x0a", _varint(len(raw)), raw)
        size += len(raw) + FRAME_OVERHEAD
    if parts:
        yield b"".join(parts)


def decode(message: peer_pb2.PeerMessage) -> PeerMessage | None:
    """The value of one message; None for a kind of a later version, which is skipped.

    Raises:
        WireError: no honest sender makes it.
    """
    kind = message.WhichOneof("kind")
    decoder = _DECODERS.get(kind) if kind is not None else None
    return decoder(message) if decoder is not None else None


def decode_all(messages: Iterable[peer_pb2.PeerMessage]) -> list[PeerMessage]:
    """Values of all messages of known kinds, in order.

    Raises:
        WireError: one of them no honest sender makes.
    """
    return [value for message in messages if (value := decode(message)) is not None]


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _nonce(what: str, nonce: bytes) -> bytes:
    if len(nonce) != NONCE_BYTES:
        raise wire.WireError(what, f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    return nonce


def _start_answer(answer: peer_pb2.StartAnswer) -> StartAnswer:
    if len(answer.votes) > START_ANSWER_VOTES_MAX:
        raise wire.WireError("StartAnswer", f"{len(answer.votes)} votes, at most {START_ANSWER_VOTES_MAX}")
    votes: Sequence[Vote] = [wire.decode_vote(vote) for vote in answer.votes]
    return StartAnswer(_nonce("StartAnswer", answer.nonce), answer.highest_signed_view, tuple(votes))


_M = peer_pb2.PeerMessage

_ENCODERS: Final[dict[type, Callable[[Any], peer_pb2.PeerMessage]]] = {
    Proposal: lambda m: _M(proposal=wire.encode_proposal(m)),
    Vote: lambda m: _M(vote=wire.encode_vote(m)),
    Certificate: lambda m: _M(certificate=wire.encode_certificate(m)),
    Want: lambda m: _M(want=peer_pb2.Want(epoch=m.epoch, view=m.view)),
    StartQuery: lambda m: _M(start_query=peer_pb2.StartQuery(nonce=m.nonce, epoch=m.epoch)),
    StartAnswer: lambda m: _M(
        start_answer=peer_pb2.StartAnswer(
            nonce=m.nonce,
            highest_signed_view=m.highest_signed_view,
            votes=[wire.encode_vote(vote) for vote in m.votes],
        )
    ),
    Muted: lambda m: _M(muted=peer_pb2.Muted(epoch=m.epoch, until_view=m.until_view)),
    Batch: lambda m: _M(batch=m.raw),
    Ack: lambda m: _M(ack=wire.encode_ack(m)),
    OriginQuery: lambda m: _M(origin_query=peer_pb2.OriginQuery(nonce=m.nonce)),
    OriginAnswer: lambda m: _M(origin_answer=peer_pb2.OriginAnswer(nonce=m.nonce, incarnation=m.incarnation)),
    Statement: lambda m: _M(statement=m.raw),
}

_DECODERS: Final[dict[str, Callable[[peer_pb2.PeerMessage], PeerMessage]]] = {
    "proposal": lambda m: wire.decode_proposal(m.proposal),
    "vote": lambda m: wire.decode_vote(m.vote),
    "certificate": lambda m: wire.decode_certificate(m.certificate),
    "want": lambda m: Want(m.want.epoch, m.want.view),
    "start_query": lambda m: StartQuery(m.start_query.epoch, _nonce("StartQuery", m.start_query.nonce)),
    "start_answer": lambda m: _start_answer(m.start_answer),
    "muted": lambda m: Muted(m.muted.epoch, m.muted.until_view),
    "batch": lambda m: wire.decode_batch(m.batch),
    "ack": lambda m: wire.decode_ack(m.ack),
    "origin_query": lambda m: OriginQuery(_nonce("OriginQuery", m.origin_query.nonce)),
    "origin_answer": lambda m: OriginAnswer(_nonce("OriginAnswer", m.origin_answer.nonce), m.origin_answer.incarnation),
    "statement": lambda m: wire.decode_statement(m.statement),
}
