"""Gateways in memory, spoken to over gRPC without TLS: each says what its test tells it to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from crypto.hashing import TAG_ENVELOPE_ID, tagged
from ledger.acks import accepted_message
from ledger.codes import Code
from ledger.genesis import Genesis
from ledger.wire import decode_envelope, encode_receipt
from lossbook.v1 import gateway_pb2, gateway_pb2_grpc, query_pb2_grpc
from lossbook_sdk.channel import Connector
from lossbook_sdk.nodes import Backoff, Nodes
from lossbook_sdk.profile import Node
from lossbook_sdk.trust import Trust
from services.health import Health
from tests.support.insurers import INSURERS, market_genesis

Answer = Callable[[bytes, int], Awaitable[list[gateway_pb2.EnvelopeStatus]]]
"""(raw envelope, wanted stage) -> statuses, in order."""


class PlainConnector(Connector, frozen=True):
    """Dials without TLS: who is who is not what these tests are about."""

    def channel(self, node: Node) -> grpc.aio.Channel:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50)]
        return grpc.aio.insecure_channel(node.address, options=options)


class AnyQuery(query_pb2_grpc.QueryServiceServicer):
    """A QueryService of which a test overrides what it needs."""

    def __init_subclass__(cls) -> None:
        cls.__abstractmethods__ = frozenset()


class FakeGateway(gateway_pb2_grpc.GatewayServiceServicer):
    """Answers each envelope by ``answer``; remembers what it was sent."""

    def __init__(self, organisation: str, answer: Answer) -> None:
        self.organisation = organisation
        self.answer = answer
        self.seen: list[bytes] = []
        self.most_unanswered = 0
        self._unanswered = 0
        self._server: grpc.aio.Server | None = None
        self.port = 0
        self._came = asyncio.Condition()

    async def start(self, port: int = 0, query: query_pb2_grpc.QueryServiceServicer | None = None) -> None:
        """Listen; serving, as gRPC health says it, until ``set_serving(False)``."""
        self._server = grpc.aio.server()
        self._health = Health()
        self._health.add_to(self._server, ())
        await self._health.set_serving(True)
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(self, self._server)
        if query is not None:
            query_pb2_grpc.add_QueryServiceServicer_to_server(query, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        await self._health.set_serving(serving)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    @property
    def node(self) -> Node:
        return Node(self.organisation, f"127.0.0.1:{self.port}")

    async def saw(self, count: int) -> None:
        """Wait until so many envelopes have come."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.seen) >= count)

    async def _answer(self, raw: bytes, wait: int) -> list[gateway_pb2.EnvelopeStatus]:
        async with self._came:
            self.seen.append(raw)
            self._came.notify_all()
        self._unanswered += 1
        self.most_unanswered = max(self.most_unanswered, self._unanswered)
        try:
            return await self.answer(raw, wait)
        finally:
            self._unanswered -= 1

    async def Submit(  # noqa: N802
        self, request: gateway_pb2.SubmitRequest, context: Any
    ) -> gateway_pb2.SubmitResponse:
        statuses = await self._answer(request.envelope, request.wait)
        return gateway_pb2.SubmitResponse(status=statuses[-1])

    async def WaitReceipt(  # noqa: N802
        self, request: gateway_pb2.WaitReceiptRequest, context: Any
    ) -> gateway_pb2.WaitReceiptResponse:
        raise NotImplementedError

    async def SubmitStream(  # noqa: N802
        self, request_iterator: AsyncIterator[gateway_pb2.SubmitStreamRequest], context: Any
    ) -> AsyncIterator[gateway_pb2.SubmitStreamResponse]:
        outbox: asyncio.Queue[list[gateway_pb2.EnvelopeStatus] | None] = asyncio.Queue()
        tasks: set[asyncio.Task[None]] = set()

        async def one(raw: bytes, wait: int) -> None:
            await outbox.put(await self._answer(raw, wait))

        async def read() -> None:
            async for request in request_iterator:
                tasks.update(asyncio.create_task(one(raw, request.wait)) for raw in request.envelopes)
            await asyncio.gather(*tasks)
            await outbox.put(None)

        reader = asyncio.create_task(read())
        try:
            while (statuses := await outbox.get()) is not None:
                if statuses:
                    yield gateway_pb2.SubmitStreamResponse(statuses=statuses)
        finally:
            reader.cancel()
            for task in tasks:
                task.cancel()


def nodes_of(
    *gateways: FakeGateway, genesis: Genesis | None = None, clock_s: Callable[[], float] = time.monotonic
) -> Nodes:
    """The client's view of some gateways, in this order; back-off in milliseconds."""
    connector = PlainConnector(Trust(genesis or market_genesis()), b"", b"")
    nodes = [gateway.node for gateway in gateways]
    return Nodes(connector, nodes, clock_s=clock_s, backoff=lambda: Backoff(0.01, 0.05))


# -- answers -------------------------------------------------------------------------------------


def id_of(raw: bytes) -> bytes:
    return decode_envelope(raw).id


def final(raw: bytes, code: int = Code.OK, codes: tuple[int, ...] = (0,)) -> gateway_pb2.EnvelopeStatus:
    receipt = encode_receipt(
        envelope_id=id_of(raw), height=7, index=0, position=3, block_time_ms=1, code=code, operation_codes=codes
    )
    return gateway_pb2.EnvelopeStatus(envelope_id=id_of(raw), stage=gateway_pb2.STAGE_FINAL, receipt=receipt.raw)


def rejected(raw: bytes, code: int, retry_after_ms: int = 0) -> gateway_pb2.EnvelopeStatus:
    return gateway_pb2.EnvelopeStatus(
        envelope_id=id_of(raw),
        stage=gateway_pb2.STAGE_REJECTED,
        rejection=gateway_pb2.Rejection(code=code, text="because", retry_after_ms=retry_after_ms),
    )


def expired(raw: bytes) -> gateway_pb2.EnvelopeStatus:
    return gateway_pb2.EnvelopeStatus(envelope_id=id_of(raw), stage=gateway_pb2.STAGE_EXPIRED)


def accepted(raw: bytes, *, forged: bool = False) -> gateway_pb2.EnvelopeStatus:
    origin = INSURERS[0]
    assert origin.consensus_key is not None
    batch = tagged(TAG_ENVELOPE_ID, b"some batch")
    message = accepted_message(market_genesis().chain_id, 0, origin.id, batch, id_of(raw))
    key = origin.ledger_key if forged else origin.consensus_key
    return gateway_pb2.EnvelopeStatus(
        envelope_id=id_of(raw),
        stage=gateway_pb2.STAGE_ACCEPTED,
        accepted=gateway_pb2.Accepted(
            envelope_id=id_of(raw), origin=origin.id, epoch=0, batch_digest=batch, signature=key.sign(message)
        ),
    )


def always(*make: Callable[[bytes], gateway_pb2.EnvelopeStatus]) -> Answer:
    """The same answers for every envelope."""

    async def answer(raw: bytes, wait: int) -> list[gateway_pb2.EnvelopeStatus]:
        return [one(raw) for one in make]

    return answer


async def never(raw: bytes, wait: int) -> list[gateway_pb2.EnvelopeStatus]:
    """Says nothing at all."""
    await asyncio.Event().wait()
    return []
