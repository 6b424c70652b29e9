"""A gateway that lies on the wire: it forwards a node's blocks, and from a signal on alters one operation in one block.

It has the certificate of the organisation whose node it stands before, as a machine of that organisation could. The
validators know nothing of it. What the replica has to do: refuse the block, name its height and this organisation, and
follow another node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from crypto import keyfile, tls
from ledger.genesis import Genesis
from lossbook.v1 import block_pb2, blocks_pb2, blocks_pb2_grpc, envelope_pb2
from services.auth import Authenticator
from services.health import Health
from services.identity import Identity
from services.members import Members
from services.server import Server

LEAF_VALIDITY = timedelta(hours=1)
"""Longer than the demonstration may take."""


def alter(block: block_pb2.Block) -> bool:
    """Change one operation of the block in place, all else as it was; False if it holds none."""
    for at, raw_batch in enumerate(block.batches):
        batch = block_pb2.Batch.FromString(raw_batch)
        for place, raw_envelope in enumerate(batch.envelopes):
            envelope = envelope_pb2.Envelope.FromString(raw_envelope)
            body = envelope_pb2.EnvelopeBody.FromString(envelope.body)
            if not body.operations:
                continue
            operation = body.operations[0]
            part = getattr(operation, operation.WhichOneof("kind") or "policy_issue")
            part.asserted_date_days += 1
            envelope.body = body.SerializeToString(deterministic=True)
            batch.envelopes[place] = envelope.SerializeToString(deterministic=True)
            block.batches[at] = batch.SerializeToString(deterministic=True)
            return True
    return False


class ForgingGateway(blocks_pb2_grpc.BlocksServiceServicer):
    """Forwards Subscribe calls to a node; ``arm`` makes it alter the next block that holds an operation, once."""

    def __init__(self, genesis: Genesis, office: Path, organisation: str, upstream: str) -> None:
        """``upstream`` is the node's own host:port; the office holds the organisation's ledger key."""
        key = keyfile.load(office / "keys" / "ledger.key", None, "ledger")
        leaf, leaf_key = tls.issue_leaf(key, organisation, "node", datetime.now(UTC), LEAF_VALIDITY)
        members = Members.from_genesis(genesis)
        self.organisation = organisation
        self.altered_height = 0
        """Height of the block it altered; 0: none yet."""
        self._identity = Identity(organisation, leaf, leaf_key, members)
        self._upstream = upstream
        self._armed = False
        self._server = Server(self._identity, Authenticator(members), Health(), on_refused=lambda *_: None)
        self._server.add("lossbook.v1.BlocksService", blocks_pb2_grpc.add_BlocksServiceServicer_to_server, self)

    async def start(self, address: str) -> None:
        """Listen there."""
        await self._server.start([address])

    async def stop(self) -> None:
        """End all streams."""
        await self._server.stop(0.1)

    def arm(self) -> None:
        """From now on: the next block with an operation is altered."""
        self._armed = not self.altered_height

    async def Subscribe(  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[blocks_pb2.SubscribeRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[blocks_pb2.SubscribeResponse]:
        """Forward both ways."""
        async with self._identity.channel(self.organisation, self._upstream) as channel:
            call = blocks_pb2_grpc.BlocksServiceStub(channel).Subscribe(metadata=self._identity.metadata)
            pump = asyncio.create_task(_pump(request_iterator, call))
            try:
                async for response in call:
                    if self._armed and response.HasField("block") and alter(response.block):
                        self._armed = False
                        self.altered_height = _height(response.block)
                    yield response
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")
            finally:
                pump.cancel()
                call.cancel()


async def _pump(requests: AsyncIterator[Any], call: Any) -> None:
    async for request in requests:
        await call.write(request)
    await call.done_writing()


def _height(block: block_pb2.Block) -> int:
    return block_pb2.Header.FromString(block.header).height
