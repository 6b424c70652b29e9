"""BlocksService: following the chain, with flow control by credit.

    first message   from_height, credit_bytes, headers_only
    later messages  credit_bytes: so many bytes more

The server sends while the credit left is above zero; the block that uses it up may overdraw it (so a block larger
than what a careful reader grants at a time still arrives), and what it overdrew counts. Without credit nothing is
sent but heartbeats: a slow reader is slowed, never dropped, and costs no memory, because blocks are read from the
store one at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import grpc

from lossbook.v1 import block_pb2, blocks_pb2, blocks_pb2_grpc
from services.auth import Caller, caller_of
from services.pulse import Pulse, wait_any
from services.sources import ChainSource, StoredBlock

HEARTBEAT_S: Final = 5.0
"""Silence after which a reader is told that the server lives; below the keepalive a proxy would cut."""

SUBSCRIPTIONS_MAX: Final = 64
"""Readers at a time: each costs a task and one block in memory."""

SUBSCRIPTIONS_PER_ORGANISATION_MAX: Final = 16
"""So that one member cannot take all places."""

CREDIT_BYTES_MAX: Final = 1 << 40
"""Credit is a number here, not a buffer; the bound keeps it a sane number."""


def block_message(stored: StoredBlock) -> block_pb2.Block:
    """The message of a stored block; its parts are passed on as the bytes they are."""
    proposal = block_pb2.Proposal.FromString(stored.proposal)
    return block_pb2.Block(
        header=proposal.header,
        justification=proposal.justification,
        payload=proposal.payload,
        batches=stored.batches,
        finalization=block_pb2.Certificate.FromString(stored.finalization) if stored.finalization else None,
        tails=[_tail_message(raw) for raw in stored.tails],
    )


def _tail_message(raw: bytes) -> block_pb2.JustifiedHeader:
    proposal = block_pb2.Proposal.FromString(raw)
    return block_pb2.JustifiedHeader(header=proposal.header, justification=proposal.justification)


class _Subscription:
    """What one reader has granted so far."""

    __slots__ = ("closed", "credit", "granted")

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.granted = Pulse()
        self.closed = False

    def grant(self, credit_bytes: int) -> None:
        self.credit = min(self.credit + credit_bytes, CREDIT_BYTES_MAX)
        self.granted.beat()

    async def read_grants(self, requests: AsyncIterator[blocks_pb2.SubscribeRequest]) -> None:
        async for request in requests:
            self.grant(request.credit_bytes)
        self.closed = True
        self.granted.beat()


class BlocksServicer(blocks_pb2_grpc.BlocksServiceServicer):
    """Serves finalized blocks from a ``ChainSource``."""

    def __init__(
        self,
        source: ChainSource,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._source = source
        self._heartbeat_s = heartbeat_s
        self._clock_ms = clock_ms
        self._open: dict[str, int] = {}
        self._closing = Pulse()
        self._closed = False

    @property
    def subscriptions(self) -> int:
        """Readers now."""
        return sum(self._open.values())

    def close(self) -> None:
        """End all subscriptions: the daemon is leaving."""
        self._closed = True
        self._closing.beat()

    async def Subscribe(  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[blocks_pb2.SubscribeRequest],
        context: grpc.aio.ServicerContext[blocks_pb2.SubscribeRequest, blocks_pb2.SubscribeResponse],
    ) -> AsyncIterator[blocks_pb2.SubscribeResponse]:
        """See blocks.proto."""
        caller = caller_of(context)
        first = await anext(aiter(request_iterator), None)
        if first is None or first.from_height < 1:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "the first message must name from_height, 1 or above (the genesis, height 0, is a file, not a block)",
            )
            return
        if first.from_height < self._source.first_height():
            await context.abort(
                grpc.StatusCode.OUT_OF_RANGE,
                f"blocks below {self._source.first_height()} are not held here: follow a node or replica that has them",
            )
        if not self._admit(caller):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"too many subscriptions (at most {SUBSCRIPTIONS_PER_ORGANISATION_MAX} an organisation, "
                f"{SUBSCRIPTIONS_MAX} in all): close one, or follow another node",
            )
        subscription = _Subscription(0)
        subscription.grant(first.credit_bytes)
        grants = asyncio.create_task(subscription.read_grants(request_iterator))
        try:
            async for response in self._follow(subscription, first.from_height, headers_only=first.headers_only):
                yield response
        finally:
            grants.cancel()
            self._release(caller)

    async def _follow(
        self, subscription: _Subscription, height: int, *, headers_only: bool
    ) -> AsyncIterator[blocks_pb2.SubscribeResponse]:
        source = self._source
        while not self._closed:
            granted, grown, closing = subscription.granted.waiter(), source.grown.waiter(), self._closing.waiter()
            if subscription.credit > 0 and height <= source.finalized_height():
                stored = source.block(height, with_batches=not headers_only)
                if stored is None:  # pruned meanwhile; the reader starts again and is told
                    return
                response = blocks_pb2.SubscribeResponse(block=block_message(stored))
                subscription.credit -= response.ByteSize()
                yield response
                height += 1
                continue
            if subscription.closed and subscription.credit <= 0:
                return  # no more credit can come
            if not await wait_any(granted, grown, closing, timeout_s=self._heartbeat_s):
                yield self._heartbeat()

    def _heartbeat(self) -> blocks_pb2.SubscribeResponse:
        return blocks_pb2.SubscribeResponse(
            heartbeat=blocks_pb2.Heartbeat(
                finalized_height=self._source.finalized_height(), server_time_ms=self._clock_ms()
            )
        )

    def _admit(self, caller: Caller) -> bool:
        held = self._open.get(caller.organisation, 0)
        if self._closed or held >= SUBSCRIPTIONS_PER_ORGANISATION_MAX or self.subscriptions >= SUBSCRIPTIONS_MAX:
            return False
        self._open[caller.organisation] = held + 1
        return True

    def _release(self, caller: Caller) -> None:
        self._open[caller.organisation] -= 1
