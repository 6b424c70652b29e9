"""Messages between validators: bytes to values and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.messages import NONCE_BYTES, START_ANSWER_VOTES_MAX, Muted, StartAnswer, StartQuery, Want
from consensus.types import Certificate, Vote, VoteKind
from crypto.merkle import EMPTY_ROOT
from ledger import wire
from ledger.types import Ack
from lossbook.v1 import block_pb2, peer_pb2
from node import peer_wire
from node.turn import OriginAnswer, OriginQuery, PeerMessage
from tests.support.evidence import statement
from tests.support.insurers import INSURERS, Ledger, policy_issue

LEDGER = Ledger()
NONCE = b"n" * NONCE_BYTES
DIGEST, SIGNATURE = b"d" * 32, b"s" * 64
VOTE = Vote(VoteKind.NOTARIZE, 0, 7, 6, DIGEST, 2, SIGNATURE)
CERTIFICATE = Certificate(VoteKind.FINALIZE, 0, 7, 6, DIGEST, (0, 2, 3), (SIGNATURE,) * 3)
ENVELOPE = LEDGER.envelope([policy_issue()])
BATCH = wire.decode_batch(
    wire.encode_batch(
        wire.encode_batch_header(
            chain_id=LEDGER.genesis.chain_id,
            epoch=0,
            origin=INSURERS[0].id,
            incarnation=1,
            sequence=1,
            previous=bytes(32),
            envelopes=[ENVELOPE.raw],
            attachment_root=EMPTY_ROOT,
        ),
        SIGNATURE,
        [ENVELOPE.raw],
    )
)
MESSAGES: list[PeerMessage] = [
    VOTE,
    Vote(VoteKind.NULLIFY, 0, 7, 0, b"", 1, SIGNATURE),
    CERTIFICATE,
    Want(0, 9),
    StartQuery(0, NONCE),
    StartAnswer(NONCE, 12, (VOTE,)),
    Muted(0, 17),
    BATCH,
    Ack(1, 0, 3, "alpha", 2, 5, DIGEST, SIGNATURE),
    OriginQuery(NONCE),
    OriginAnswer(NONCE, 4),
    statement(2),
]


def unpacked(request: bytes) -> list[PeerMessage]:
    return peer_wire.decode_all(peer_pb2.ExchangeRequest.FromString(request).messages)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_way(message: PeerMessage) -> None:
    (request,) = peer_wire.pack([peer_wire.encode(message)], 1 << 20)
    assert unpacked(request) == [message]


@given(st.lists(st.sampled_from(MESSAGES), max_size=30), st.integers(1, 5000))
def test_requests_hold_all_messages_in_order_up_to_their_limit(messages: list[PeerMessage], limit: int) -> None:
    requests = list(peer_wire.pack([peer_wire.encode(message) for message in messages], limit))
    assert [message for request in requests for message in unpacked(request)] == messages
    for request in requests:
        assert len(request) <= limit or len(unpacked(request)) == 1


def test_a_message_of_a_later_version_is_skipped() -> None:
    unknown = peer_pb2.PeerMessage.FromString(b"\xfa\x01\x01x")  # field 31
    assert peer_wire.decode(unknown) is None


@pytest.mark.parametrize(
    "message",
    [
        peer_pb2.PeerMessage(start_query=peer_pb2.StartQuery(nonce=b"short")),
        peer_pb2.PeerMessage(origin_query=peer_pb2.OriginQuery()),
        peer_pb2.PeerMessage(batch=b"\xff\xff"),
        peer_pb2.PeerMessage(vote=block_pb2.Vote(kind=block_pb2.VOTE_KIND_NOTARIZE, digest=b"short")),
        peer_pb2.PeerMessage(
            start_answer=peer_pb2.StartAnswer(
                nonce=NONCE, votes=[wire.encode_vote(VOTE)] * (START_ANSWER_VOTES_MAX + 1)
            )
        ),
    ],
)
def test_invalid_message_is_a_wire_error(message: peer_pb2.PeerMessage) -> None:
    with pytest.raises(wire.WireError):
        peer_wire.decode(message)
