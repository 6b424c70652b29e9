"""BlocksService: what a reader gets, and that it gets no more than it granted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from lossbook.v1 import block_pb2, blocks_pb2, blocks_pb2_grpc
from services.blocks import SUBSCRIPTIONS_PER_ORGANISATION_MAX, BlocksServicer
from services.pulse import Pulse
from services.sources import StoredBlock
from tests.support.insurers import INSURERS, SUPERVISOR
from tests.support.tls import identity, serving

BATCH = bytes(1000)


class FakeChain:
    """Blocks whose header is their height."""

    def __init__(self, height: int, first: int = 1) -> None:
        self.height = height
        self.first = first
        self.grown = Pulse()
        self.read: list[int] = []

    def grow(self, by: int = 1) -> None:
        self.height += by
        self.grown.beat()

    def finalized_height(self) -> int:
        return self.height

    def first_height(self) -> int:
        return self.first

    def block(self, height: int, *, with_batches: bool = True) -> StoredBlock | None:
        if not self.first <= height <= self.height:
            return None
        self.read.append(height)
        proposal = block_pb2.Proposal(header=b"header %d" % height, justification=b"why", payload=b"what")
        certificate = block_pb2.Certificate(view=height) if height % 2 == 0 else None
        return StoredBlock(
            proposal.SerializeToString(),
            [BATCH] if with_batches else [],
            certificate.SerializeToString() if certificate else b"",
        )

    def batch(self, digest: bytes) -> bytes | None:
        return None

    def proposal(self, digest: bytes) -> bytes | None:
        return None


Call = grpc.aio.StreamStreamCall[blocks_pb2.SubscribeRequest, blocks_pb2.SubscribeResponse]


def subscribed(
    chain: FakeChain,
    body: Callable[[Callable[..., Awaitable[Call]]], Awaitable[None]],
    heartbeat_s: float = 30.0,
) -> None:
    """Run ``body`` with a function that opens subscriptions against a real server."""

    async def main() -> None:
        servicer = BlocksServicer(chain, heartbeat_s=heartbeat_s, clock_ms=lambda: 77)
        registration = ("lossbook.v1.BlocksService", blocks_pb2_grpc.add_BlocksServiceServicer_to_server, servicer)
        reader = identity(SUPERVISOR, "replica")
        async with serving(INSURERS[0], registration) as (address, _), reader.channel(INSURERS[0].id, address) as ch:

            async def open_(**first: Any) -> Call:
                call = blocks_pb2_grpc.BlocksServiceStub(ch).Subscribe(metadata=reader.metadata)
                await call.write(blocks_pb2.SubscribeRequest(**first))
                return call

            async with asyncio.timeout(20):
                await body(open_)

    asyncio.run(main())


async def heights(call: Call, count: int) -> list[int]:
    found = []
    for _ in range(count):
        response = await call.read()
        assert isinstance(response, blocks_pb2.SubscribeResponse)
        found.append(int(response.block.header.split()[1]))
    return found


def test_blocks_come_from_the_height_asked_for_with_batches_and_certificates() -> None:
    async def body(open_: Callable[..., Awaitable[Call]]) -> None:
        call = await open_(from_height=3, credit_bytes=1 << 20)
        response = await call.read()
        assert isinstance(response, blocks_pb2.SubscribeResponse)
        block = response.block
        assert (block.header, block.justification, block.payload) == (b"header 3", b"why", b"what")
        assert list(block.batches) == [BATCH]
        assert not block.HasField("finalization")
        response = await call.read()
        assert isinstance(response, blocks_pb2.SubscribeResponse)
        assert response.block.finalization.view == 4
        call.cancel()

    subscribed(FakeChain(4), body)


def test_a_reader_of_headers_gets_no_batches() -> None:
    async def body(open_: Callable[..., Awaitable[Call]]) -> None:
        call = await open_(from_height=1, credit_bytes=1, headers_only=True)
        response = await call.read()
        assert isinstance(response, blocks_pb2.SubscribeResponse)
        assert not response.block.batches
        call.cancel()

    subscribed(FakeChain(1), body)


def test_new_blocks_follow_as_they_become_final() -> None:
    chain = FakeChain(1)

    async def body(open_: Callable[..., Awaitable[Call]]) -> None:
        call = await open_(from_height=1, credit_bytes=1 << 20)
        assert await heights(call, 1) == [1]
        chain.grow(2)
        assert await heights(call, 2) == [2, 3]
        call.cancel()

    subscribed(chain, body)


def test_without_credit_nothing_is_read_from_the_store_and_a_heartbeat_says_so() -> None:
    chain = FakeChain(100)

    async def body(open_: Callable[..., Awaitable[Call]]) -> None:
        call = await open_(from_height=1, credit_bytes=1500)  # a block has a little over 1,000 bytes
        assert await heights(call, 2) == [1, 2]
        response = await call.read()
        assert isinstance(response, blocks_pb2.SubscribeResponse)
        assert response.heartbeat.finalized_height == 100
        assert response.heartbeat.server_time_ms == 77
        assert chain.read == [1, 2]
        await call.write(blocks_pb2.SubscribeRequest(credit_bytes=5000))
        assert (await heights_skipping_heartbeats(call, 1)) == [3]
        call.cancel()

    subscribed(chain, body, heartbeat_s=0.01)


async def heights_skipping_heartbeats(call: Call, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        response = await call.read()
        assert isinstance(response, blocks_pb2.SubscribeResponse)
        if response.HasField("block"):
            found.append(int(response.block.header.split()[1]))
    return found


def test_a_block_larger_than_the_credit_arrives_and_what_it_overdrew_counts() -> None:
    chain = FakeChain(10)

    async def body(open_: Callable[..., Awaitable[Call]]) -> None:
        call = await open_(from_height=1, credit_bytes=1)
        assert await heights(call, 1) == [1]
        await call.write(blocks_pb2.SubscribeRequest(credit_bytes=500))  # still overdrawn
        await call.write(blocks_pb2.SubscribeRequest(credit_bytes=1000))
        assert await heights(call, 1) == [2]
        assert chain.read == [1, 2]
        call.cancel()

    subscribed(chain, body)


@pytest.mark.parametrize(
    ("first", "code", "advice"),
    [
        ({"from_height": 0}, grpc.StatusCode.INVALID_ARGUMENT, "1 or above"),
        ({"from_height": 2, "credit_bytes": 1}, grpc.StatusCode.OUT_OF_RANGE, "not held"),
    ],
)
def test_invalid_first_message_is_refused_with_advice(
    first: dict[str, int], code: grpc.StatusCode, advice: str
) -> None:
    async def body(open_: Callable[..., Awaitable[Call]]) -> None:
        call = await open_(**first)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
        assert error.value.code() is code
        assert advice in (error.value.details() or "")

    subscribed(FakeChain(9, first=5), body)


def test_one_member_cannot_take_all_places() -> None:
    async def body(open_: Callable[..., Awaitable[Call]]) -> None:
        calls = [await open_(from_height=1, credit_bytes=1) for _ in range(SUBSCRIPTIONS_PER_ORGANISATION_MAX)]
        for call in calls:
            await heights(call, 1)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await (await open_(from_height=1, credit_bytes=1)).read()
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()

    subscribed(FakeChain(1), body)


def test_a_reader_that_ended_its_side_gets_what_it_granted_and_then_the_end() -> None:
    async def body(open_: Callable[..., Awaitable[Call]]) -> None:
        call = await open_(from_height=1, credit_bytes=1500)
        await call.done_writing()
        assert await heights(call, 2) == [1, 2]
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK

    subscribed(FakeChain(10), body)


def test_subscriptions_end_when_the_daemon_leaves() -> None:
    async def main() -> None:
        servicer = BlocksServicer(FakeChain(0), heartbeat_s=30)

        async def requests() -> AsyncIterator[blocks_pb2.SubscribeRequest]:
            yield blocks_pb2.SubscribeRequest(from_height=1, credit_bytes=1)
            await asyncio.Event().wait()

        from services import auth
        from services.auth import Caller

        auth._caller.set(Caller("alpha", "client", True, True, True))
        stream = servicer.Subscribe(requests(), None)  # type: ignore[arg-type]
        waiting = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        servicer.close()
        async with asyncio.timeout(10):
            assert await waiting is None
        assert servicer.subscriptions == 0

    asyncio.run(main())
