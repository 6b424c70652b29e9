"""One authenticated validator that sends whatever it likes to running nodes: they live on, and it loses its reputation.

Three of four validators run; the test plays the fourth, with that one's keys. What each kind of message may hold on to
is counted in ``unit/node/test_memory_bounds.py``; here it is the whole process that is weighed.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from consensus.messages import Muted, StartQuery, Want
from consensus.types import Certificate, Vote, VoteKind
from consensus.votes import vote_message
from lossbook.v1 import gateway_pb2, peer_pb2
from node import peer_wire
from node.peers import METHOD
from node.reputation import MESSAGES_PER_S
from node.turn import OriginQuery, PeerMessage
from tests.process.network import INSURERS, Network
from tests.support.insurers import policy_issue

RUNNING = INSURERS[:3]
LIAR = INSURERS[3]
FLOOD_S = 8.0
GROWTH_MAX = 48 << 20
"""Of a process that takes and answers a flood: gRPC's and the allocator's own share is most of it."""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.create(tmp_path) as made:
        made.start_all(RUNNING)
        yield made
        for daemon in made.daemons.values():
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.said()


def index(network: Network, name: str) -> int:
    return [member.id for member in network.genesis.validator_set().members].index(name)


def vote(network: Network, kind: VoteKind, view: int, digest: bytes = b"") -> Vote:
    """Genuinely signed by the liar."""
    key = network.organisations[LIAR].consensus_key
    assert key is not None
    parent_view = max(0, view - 1) if digest else 0
    message = vote_message(network.genesis.chain_id, kind, 0, view, parent_view, digest)
    return Vote(kind, 0, view, parent_view, digest, index(network, LIAR), key.sign(message))


def request(*messages: PeerMessage) -> bytes:
    return b"".join(peer_wire.pack([peer_wire.encode(message) for message in messages], 1 << 30))


class Stream:
    """The liar's stream to one node; how it ended."""

    def __init__(self, network: Network, to: str, requests: Iterator[bytes]) -> None:
        self._channel = network.channel(to, caller=LIAR, role="node")
        self._over = threading.Event()
        exchange: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(METHOD)
        self._call = exchange(self._requests(requests), metadata=network.metadata())
        self.code: grpc.StatusCode | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _requests(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """These, and then the stream stays open."""
        yield from requests
        self._over.wait(60)

    def _read(self) -> None:
        try:
            for _ in self._call:
                pass
            self.code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            self.code = error.code()

    def ended(self) -> grpc.StatusCode | None:
        """Its status, once it has one."""
        self._reader.join(20)
        return self.code

    def close(self) -> None:
        self._over.set()
        self._call.cancel()
        self._reader.join(20)
        self._channel.close()


def resident_bytes(network: Network, name: str) -> int:
    """Of the daemon's process."""
    status = Path(f"/proc/{network.daemons[name].process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def issue(network: Network, to: str) -> gateway_pb2.EnvelopeStatus:
    return network.submit(to, network.envelope(to, policy_issue(policy_id=secrets.token_bytes(16))))


def offences(network: Network, name: str) -> object:
    return network.detail(name)["offences"]


def test_a_flood_of_useless_messages_fills_no_memory_and_stops_nothing(network: Network) -> None:
    far = [vote(network, VoteKind.NOTARIZE, 2**60 + at, bytes(31) + bytes([at])) for at in range(40)]
    past = [vote(network, VoteKind.NULLIFY, 1)] * 40
    asked: list[PeerMessage] = [Want(0, 1), StartQuery(0, bytes(32)), OriginQuery(bytes(32)), Muted(0, 2**63)]
    once = request(*far, *past, *(asked * 10))
    per_request = len(far) + len(past) + 10 * len(asked)
    assert issue(network, "alpha").stage == gateway_pb2.STAGE_FINAL
    before, until, sent = resident_bytes(network, "alpha"), time.monotonic() + FLOOD_S, 0

    def flood() -> Iterator[bytes]:
        nonlocal sent
        while time.monotonic() < until:
            sent += per_request
            yield once

    stream = Stream(network, "alpha", flood())
    took = []
    while time.monotonic() < until:
        began = time.monotonic()
        assert issue(network, "alpha").stage == gateway_pb2.STAGE_FINAL
        took.append(time.monotonic() - began)
    stream.close()
    assert sent > FLOOD_S * MESSAGES_PER_S, "it was a flood"
    assert len(took) > 3
    grown = resident_bytes(network, "alpha") - before
    assert grown < GROWTH_MAX, f"{grown >> 20} MiB after {sent} messages"
    assert int(str(network.detail("alpha")["mailbox_bytes"])) <= 8 << 20


FORGED: dict[str, Callable[[Network], bytes]] = {
    "a forged vote": lambda net: request(replace(vote(net, VoteKind.NULLIFY, 1), signature=bytes(64))),
    "a vote in another's name": lambda net: request(replace(vote(net, VoteKind.NULLIFY, 1), signer=index(net, "beta"))),
    "a forged certificate": lambda net: request(
        Certificate(VoteKind.NULLIFY, 0, 9, 0, b"", (0, 1, 2), (bytes(64),) * 3)
    ),
}


def test_forged_truncated_and_oversize_messages_cost_their_sender_its_reputation(network: Network) -> None:
    """Each kind at another node, as each costs a while of silence."""
    for name, (kind, make) in zip(RUNNING, FORGED.items(), strict=True):
        stream = Stream(network, name, iter([make(network)]))
        assert stream.ended() is grpc.StatusCode.INVALID_ARGUMENT, kind
        stream.close()
        assert offences(network, name) == {LIAR: 1}
        found = network.detail(name)["reasons"]
        assert isinstance(found, list)
        (reason,) = [reason for reason in found if reason["kind"] == "misbehaving"]
        assert f"{LIAR} for " in reason["text"]
        assert f'lossbook_peer_penalties_total{{peer="{LIAR}"}} 1.0' in network.metrics(name)
        again = Stream(network, name, iter([request(Want(0, 1))]))
        assert again.ended() is grpc.StatusCode.RESOURCE_EXHAUSTED, "it is not listened to for a while"
        again.close()
    for name in RUNNING:
        assert issue(network, name).stage == gateway_pb2.STAGE_FINAL


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff\xff",
        request(Want(0, 1)) + b"\x0a\x7f",
        peer_pb2.ExchangeRequest(messages=[peer_pb2.PeerMessage(batch=bytes(3 << 20))]).SerializeToString(),
    ],
    ids=["garbage", "truncated", "a batch larger than any"],
)
def test_what_no_decoder_reads_ends_the_stream(network: Network, raw: bytes) -> None:
    stream = Stream(network, "alpha", iter([raw]))
    assert stream.ended() is grpc.StatusCode.INVALID_ARGUMENT
    stream.close()
    assert offences(network, "alpha") == {LIAR: 1}
    assert issue(network, "alpha").stage == gateway_pb2.STAGE_FINAL
