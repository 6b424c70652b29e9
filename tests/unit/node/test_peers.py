"""Streams and fetches between two nodes on this machine, with real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

import services.identity
from consensus.messages import Want
from consensus.types import Vote, VoteKind
from ledger import wire
from lossbook.v1 import block_pb2, peer_pb2, peer_pb2_grpc
from node import peers as peers_module
from node import reputation
from node.fetcher import Fetcher
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.peers import Link, Peers, PeerServicer
from node.turn import (
    BatchesFetched,
    FetchBatches,
    FetchBlocks,
    FetchFailed,
    FetchProposals,
    Input,
    PeerConnected,
    PeerLost,
    PeerMessages,
)
from services.limits import CHANNEL_OPTIONS, REQUEST_BYTES_MAX
from services.pulse import Pulse
from services.sources import StoredBlock
from services.sync import SyncServicer
from services.tasks import Tasks
from tests.support.insurers import INSURERS, Organisation
from tests.support.snapshots import NoSnapshots
from tests.support.tls import identity, market_members, serving
from tests.unit.node.test_peer_wire import BATCH

ALPHA, BETA, GAMMA = INSURERS[0], INSURERS[1], INSURERS[2]


async def inputs(mailbox: Mailbox, count: int) -> list[Input]:
    """The next inputs, as they come."""
    found: list[Input] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            await mailbox.wait(None)
            found += mailbox.drain()
    return found


class Receiver:
    """BETA's node, as far as peers see it."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()
        self.metrics = Metrics()
        self.servicer = PeerServicer({ALPHA.id, GAMMA.id}, self.mailbox, self.metrics)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        registration = (
            "lossbook.v1.PeerService",
            peer_pb2_grpc.add_PeerServiceServicer_to_server,
            self.servicer,
        )
        async with serving(BETA, registration) as (address, _):
            yield address


@asynccontextmanager
async def dialling(address: str, organisation: Organisation = ALPHA) -> AsyncIterator[tuple[Peers, Mailbox, Metrics]]:
    mailbox, metrics = Mailbox(), Metrics()
    tasks = Tasks()
    peers = Peers({BETA.id: address}, identity(organisation), mailbox, metrics, tasks)
    peers.start()
    try:
        yield peers, mailbox, metrics
    finally:
        await tasks.stop()


def test_messages_of_a_turn_arrive_in_order_from_the_authenticated_sender() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with receiver.listening() as address, dialling(address) as (peers, mailbox, _):
            assert await inputs(mailbox, 1) == [PeerConnected(BETA.id)]
            peers.send([(None, Want(0, 1)), (BETA.id, Want(0, 2)), (GAMMA.id, Want(0, 3)), (None, BATCH)])
            (received,) = await inputs(receiver.mailbox, 1)
            assert received == PeerMessages(ALPHA.id, [Want(0, 1), Want(0, 2), BATCH])

    asyncio.run(main())


def test_many_messages_of_one_request_are_handed_over_in_parts() -> None:
    views = range(2 * peers_module.MESSAGES_PER_INPUT + 1)
    messages = [peer_pb2.PeerMessage(want=peer_pb2.Want(view=view)) for view in views]

    async def main() -> None:
        receiver = Receiver()
        async with receiver.listening() as address:
            raw = peer_pb2.ExchangeRequest(messages=messages).SerializeToString()
            sending = asyncio.create_task(exchange(address, ALPHA, raw))
            parts = await inputs(receiver.mailbox, 3)
            sending.cancel()
        assert all(len(part.messages) <= peers_module.MESSAGES_PER_INPUT for part in parts)  # type: ignore[union-attr]
        assert [message for part in parts for message in part.messages] == [Want(0, view) for view in views]  # type: ignore[union-attr]

    asyncio.run(main())


def test_what_waits_from_a_peer_that_lied_is_not_looked_at() -> None:
    async def main() -> None:
        receiver = Receiver()
        await receiver.mailbox.put(ALPHA.id, 10, PeerMessages(ALPHA.id, [Want(0, 1)]))
        await receiver.mailbox.put(GAMMA.id, 10, PeerMessages(GAMMA.id, [Want(0, 2)]))
        receiver.servicer.penalise(ALPHA.id, "lied")
        assert receiver.mailbox.drain() == [PeerMessages(GAMMA.id, [Want(0, 2)])]

    asyncio.run(main())


def test_a_peer_that_comes_back_is_dialled_again_and_announced() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with receiver.listening() as address, dialling(address) as (peers, mailbox, _):
            assert await inputs(mailbox, 1) == [PeerConnected(BETA.id)]
            receiver.servicer.close()
            assert await inputs(mailbox, 1) == [PeerLost(BETA.id)]
            assert not peers.links[BETA.id].connected
            receiver.servicer._closed = False
            assert await inputs(mailbox, 1) == [PeerConnected(BETA.id)]

    asyncio.run(main())


def test_a_peer_that_was_heard_of_is_dialled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "BACKOFF_S_MIN", 1000.0)

    async def main() -> None:
        receiver = Receiver()
        receiver.servicer.close()
        paused = asyncio.Event()
        async with receiver.listening() as address, dialling(address) as (peers, mailbox, _):
            monkeypatch.setattr(peers.links[BETA.id], "_note", lambda _: paused.set())
            await paused.wait()  # it was turned away
            receiver.servicer._closed = False
            peers.wake(BETA.id)
            assert await inputs(mailbox, 1) == [PeerConnected(BETA.id)]

    asyncio.run(main())


def test_a_peer_that_drops_streams_is_dialled_less_and_less_often_however_loud_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[tuple[float, bool]] = []

    async def main() -> None:
        receiver = Receiver()
        enough = asyncio.Event()

        async def pause(link: Link, seconds: float, *, cut_short: bool) -> None:
            pauses.append((seconds, cut_short))
            if len(pauses) == 12:
                enough.set()

        def drop(organisation: str) -> None:
            receiver.servicer._end(organisation, grpc.StatusCode.ABORTED, "dropped")

        monkeypatch.setattr(Link, "_pause", pause)
        monkeypatch.setattr(random, "uniform", lambda least, most: 1.0)
        async with receiver.listening() as address, dialling(address) as (peers, mailbox, _):
            while not enough.is_set():
                for item in await inputs(mailbox, 1):
                    if isinstance(item, PeerConnected):
                        peers.wake(BETA.id)
                        drop(ALPHA.id)

    asyncio.run(main())
    seconds = [seconds for seconds, _ in pauses]
    assert not any(cut_short for _, cut_short in pauses)
    assert seconds[0] == peers_module.BACKOFF_S_MIN
    assert seconds == sorted(seconds)
    assert seconds[-1] == peers_module.BACKOFF_S_MAX


@pytest.mark.parametrize("seated", [True, False])
def test_a_member_without_a_seat_is_dialled_seldom_until_it_is_heard_of(
    monkeypatch: pytest.MonkeyPatch, seated: bool
) -> None:
    members = market_members()
    members.update(replace(each, is_validator=each.is_validator and (seated or each.id != BETA.id)) for each in members)
    pauses: list[tuple[float, bool]] = []

    async def main() -> None:
        link = Link(BETA.id, "127.0.0.1:9", identity(ALPHA, members=members), Mailbox(), Metrics())
        enough = asyncio.Event()

        async def pause(_: Link, seconds: float, *, cut_short: bool) -> None:
            pauses.append((seconds, cut_short))
            if len(pauses) == 16:
                enough.set()
                await asyncio.Event().wait()

        async def refused() -> None:
            raise TimeoutError

        monkeypatch.setattr(Link, "_pause", pause)
        monkeypatch.setattr(link, "_stream", refused)
        monkeypatch.setattr(random, "uniform", lambda least, most: 1.0)
        dialling = asyncio.create_task(link.run())
        await enough.wait()
        dialling.cancel()

    asyncio.run(main())
    assert all(cut_short for _, cut_short in pauses), "it is dialled at once when it is heard of"
    longest = peers_module.BACKOFF_S_MAX if seated else peers_module.BACKOFF_SEATLESS_S_MAX
    assert max(seconds for seconds, _ in pauses) == pauses[15][0] == longest


def test_being_heard_of_cuts_a_pause_short_only_where_it_may() -> None:
    async def main() -> float:
        link = Link(BETA.id, "", identity(ALPHA), Mailbox(), Metrics())
        link.wake()
        await link._pause(1000.0, cut_short=True)
        link.wake()
        began = asyncio.get_running_loop().time()
        await link._pause(0.1, cut_short=False)
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(main()) >= 0.1


def test_messages_to_a_peer_that_is_away_are_dropped_not_kept() -> None:
    async def main() -> None:
        async with dialling("127.0.0.1:9") as (peers, _, _):  # the discard port: nobody listens
            peers.send([(None, BATCH)] * 1000)
            assert peers.links[BETA.id]._queued_bytes == 0

    asyncio.run(main())


def test_a_peer_too_slow_loses_its_stream_and_is_resent_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "QUEUE_BYTES_MAX", 2 * len(BATCH.raw))

    async def main() -> None:
        receiver = Receiver()
        async with receiver.listening() as address, dialling(address) as (peers, mailbox, metrics):
            await inputs(mailbox, 1)
            peers.send([(None, BATCH)] * 10)
            assert await inputs(mailbox, 2) == [PeerLost(BETA.id), PeerConnected(BETA.id)]
            resets = metrics.registry.get_sample_value("lossbook_peer_resets_total", {"peer": BETA.id})
            assert resets == 1

    asyncio.run(main())


async def exchange(address: str, organisation: Organisation, raw: bytes) -> grpc.StatusCode:
    """Send one request as this organisation's node; how the call ended."""
    caller = identity(organisation)
    async with caller.channel(BETA.id, address) as channel:
        stream: Any = channel.stream_stream(peers_module.METHOD)
        call = stream(metadata=caller.metadata)
        try:
            with contextlib.suppress(asyncio.InvalidStateError):  # refused before anything was sent: gRPC says so here
                await call.write(raw)
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        code: grpc.StatusCode = await call.code()
        return code


def request(*messages: peer_pb2.PeerMessage) -> bytes:
    return peer_pb2.ExchangeRequest(messages=messages).SerializeToString()


VOTE = wire.encode_vote(Vote(VoteKind.NULLIFY, 0, 1, 0, b"", 0, bytes(64)))
OFFENCES = {
    "garbage": b"\xff\xff\xff\xff",
    "cut short": request(peer_pb2.PeerMessage(batch=BATCH.raw))[:-1],
    "a batch cut short": request(peer_pb2.PeerMessage(batch=BATCH.raw[:-1])),
    "a vote without its digest": request(
        peer_pb2.PeerMessage(vote=block_pb2.Vote(kind=block_pb2.VOTE_KIND_NOTARIZE, view=1))
    ),
    "a signature too long": request(peer_pb2.PeerMessage(ack=block_pb2.Ack(signature=bytes(65)))),
    "too many votes in an answer": request(
        peer_pb2.PeerMessage(start_answer=peer_pb2.StartAnswer(nonce=bytes(32), votes=[VOTE] * 257))
    ),
    "a nonce too long": request(peer_pb2.PeerMessage(origin_query=peer_pb2.OriginQuery(nonce=bytes(33)))),
}


@pytest.mark.parametrize("offence", OFFENCES)
def test_invalid_messages_cost_the_peer_its_stream_for_a_while(offence: str) -> None:
    async def main() -> None:
        receiver = Receiver()
        async with receiver.listening() as address, asyncio.timeout(20):
            assert await exchange(address, ALPHA, OFFENCES[offence]) is grpc.StatusCode.INVALID_ARGUMENT
            assert await exchange(address, ALPHA, b"") is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert receiver.metrics.registry.get_sample_value("lossbook_peer_penalties_total", {"peer": ALPHA.id}) == 1
        standing = receiver.servicer.standing(ALPHA.id)
        assert standing.offences == 1
        assert standing.reason
        assert standing.ignored_s > 0
        assert receiver.servicer.standing(GAMMA.id).offences == 0, "and nobody else anything"
        assert not receiver.mailbox.drain()

    asyncio.run(main())


def test_a_peer_that_does_not_stop_sending_loses_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reputation, "MESSAGES_BURST", 100)
    monkeypatch.setattr(reputation, "MESSAGES_PER_S", 0)
    wants = [peer_pb2.PeerMessage(want=peer_pb2.Want(view=7))] * 101

    async def main() -> None:
        receiver = Receiver()
        async with receiver.listening() as address, asyncio.timeout(20):
            assert await exchange(address, ALPHA, request(*wants)) is grpc.StatusCode.INVALID_ARGUMENT
        assert receiver.servicer.standing(ALPHA.id).reason == "sends more messages than any honest node"

    asyncio.run(main())


def test_a_request_larger_than_any_ends_the_stream_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = [(key, 64 << 20 if key.endswith("send_message_length") else value) for key, value in CHANNEL_OPTIONS]
    monkeypatch.setattr(services.identity, "CHANNEL_OPTIONS", tuple(unlimited))

    async def main() -> None:
        receiver = Receiver()
        async with receiver.listening() as address, asyncio.timeout(20):
            large = request(peer_pb2.PeerMessage(batch=bytes(REQUEST_BYTES_MAX)))
            assert await exchange(address, ALPHA, large) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not receiver.mailbox.drain()

    asyncio.run(main())


def test_invalid_peer_that_is_no_other_validator_is_refused() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with receiver.listening() as address, asyncio.timeout(20):
            assert await exchange(address, INSURERS[3], b"") is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(main())


def test_a_second_stream_of_a_peer_replaces_the_first() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with receiver.listening() as address, dialling(address) as (_, mailbox, _):
            assert await inputs(mailbox, 1) == [PeerConnected(BETA.id)]
            async with dialling(address) as (_, second, _):
                assert await inputs(second, 1) == [PeerConnected(BETA.id)]
                assert await inputs(mailbox, 1) == [PeerLost(BETA.id)]

    asyncio.run(main())


def test_two_processes_with_one_identity_are_known_as_such_on_both_sides() -> None:
    async def main() -> None:
        receiver = Receiver()
        told = asyncio.Event()
        async with receiver.listening() as address, dialling(address) as (one, first, _):
            assert await inputs(first, 1) == [PeerConnected(BETA.id)]
            assert receiver.servicer.twins(ALPHA.id) == ()
            async with dialling(address) as (other, _, _), asyncio.timeout(20):
                links = (one.links[BETA.id], other.links[BETA.id])
                opened = receiver.servicer._on_heard

                def heard(organisation: str) -> None:
                    opened(organisation)
                    if receiver.servicer.twins(ALPHA.id) and any(link.speaks_of_a_twin for link in links):
                        told.set()

                receiver.servicer._on_heard = heard
                await told.wait()
        assert receiver.servicer.twins(ALPHA.id) == ("127.0.0.1", "127.0.0.1")
        assert receiver.servicer.twins(GAMMA.id) == ()

    asyncio.run(main())


# -- fetching ------------------------------------------------------------------------------


class Store:
    """What a source holds."""

    def __init__(self, batches: Sequence[bytes] = (), lie: bytes | None = None) -> None:
        self.batches = dict.fromkeys([BATCH.header.digest], batches[0]) if batches else {}
        self.lie = lie
        self.grown = Pulse()

    def finalized_height(self) -> int:
        return 0

    def first_height(self) -> int:
        return 1

    def block(self, height: int, *, with_batches: bool = True) -> StoredBlock | None:
        return None

    def batch(self, digest: bytes) -> bytes | None:
        return self.lie or self.batches.get(digest)

    def proposal(self, digest: bytes) -> bytes | None:
        return self.lie or None


def fetched(stores: Sequence[Store], fetch: Any, count: int = 1) -> list[Input]:
    """What comes back when INSURERS[1], [2], ... serve these stores."""

    async def main() -> list[Input]:
        addresses: dict[str, str] = {}
        mailbox = Mailbox()

        async def serve(at: int, then: Callable[[], Any]) -> list[Input]:
            if at == len(stores):
                found: list[Input] = await then()
                return found
            registration = (
                "lossbook.v1.SyncService",
                peer_pb2_grpc.add_SyncServiceServicer_to_server,
                SyncServicer(stores[at], NoSnapshots()),
            )
            async with serving(INSURERS[at + 1], registration) as (address, _):
                addresses[INSURERS[at + 1].id] = address
                return await serve(at + 1, then)

        async def ask() -> list[Input]:
            tasks = Tasks()
            fetcher = Fetcher(addresses, identity(ALPHA), mailbox, Metrics(), tasks)
            fetcher.fetch(fetch)
            if stores:
                fetcher.fetch(fetch)  # the same again: made once
            try:
                return await inputs(mailbox, count)
            finally:
                await tasks.stop()
                await fetcher.close()

        return await serve(0, ask)

    return asyncio.run(main())


DIGEST = BATCH.header.digest


def test_the_next_source_is_asked_when_the_first_has_it_not() -> None:
    fetch = FetchBatches((BETA.id, GAMMA.id), (DIGEST,))
    assert fetched([Store(), Store([BATCH.raw])], fetch) == [BatchesFetched(GAMMA.id, (BATCH,))]


def test_the_next_source_is_asked_when_the_first_answers_nonsense() -> None:
    fetch = FetchBatches((BETA.id, GAMMA.id), (DIGEST,))
    assert fetched([Store(lie=b"\xff\xff"), Store([BATCH.raw])], fetch) == [BatchesFetched(GAMMA.id, (BATCH,))]


def test_a_batch_that_was_not_asked_for_is_not_handed_in() -> None:
    fetch = FetchBatches((BETA.id,), (b"x" * 32,))
    assert fetched([Store(lie=BATCH.raw)], fetch) == [FetchFailed(fetch, BETA.id)]


@pytest.mark.parametrize(
    "fetch", [FetchBatches((BETA.id,), (DIGEST,)), FetchProposals((BETA.id,), (DIGEST,)), FetchBlocks((BETA.id,), 1)]
)
def test_what_nobody_has_fails_once_all_sources_were_asked(fetch: Any) -> None:
    assert fetched([Store()], fetch) == [FetchFailed(fetch, BETA.id)]


def test_a_fetch_from_nobody_but_oneself_fails_at_once() -> None:
    fetch = FetchBatches((ALPHA.id,), (DIGEST,))
    assert fetched([], fetch) == [FetchFailed(fetch, ALPHA.id)]


def test_a_lying_proposal_is_not_handed_in() -> None:
    raw = block_pb2.Proposal(header=b"\xff").SerializeToString()
    fetch = FetchProposals((BETA.id,), (DIGEST,))
    assert fetched([Store(lie=raw)], fetch) == [FetchFailed(fetch, BETA.id)]
