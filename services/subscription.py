"""The reading side of BlocksService: blocks of one server, paced by credit.

The server may send ``CREDIT_BYTES`` beyond what the reader has taken: a slow reader slows the server down and holds a
bounded amount of bytes. Whatever the server does wrong with the connection comes out as ``FeedLost``; what it says in
the blocks is judged by the reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import grpc
import msgspec

from ledger.types import Block
from ledger.wire import decode_block
from lossbook.v1 import blocks_pb2, blocks_pb2_grpc
from services.dial_problem import problem_of
from services.identity import Identity

CREDIT_BYTES: Final = 8 << 20
"""Two blocks of default size on their way while one is checked."""

GRANT_BYTES: Final = 1 << 20
"""Credit is given back in portions: a message for each small block would cost more than the block."""


class FeedLost(Exception):
    """The server could not be reached, refused, ended the stream or fell silent.

    Attributes:
        organisation: whose server it is.
    """

    def __init__(self, organisation: str, reason: str) -> None:
        super().__init__(reason)
        self.organisation = organisation


class ServerHeartbeat(msgspec.Struct, frozen=True):
    """Sent when nothing else was for a while."""

    finalized_height: int
    server_time_ms: int


async def subscribe(
    identity: Identity,
    organisation: str,
    address: str,
    from_height: int,
    *,
    silence_s: float,
    headers_only: bool = False,
    authority: bytes | None = None,
) -> AsyncGenerator[Block | ServerHeartbeat, None]:
    """Blocks from a height on, as they come; ends only by an exception or by being closed.

    Args:
        identity: own leaf; the server must show the organisation's.
        organisation: whom to follow.
        address: host:port.
        from_height: first height wanted, at least 1.
        headers_only: without batches.
        silence_s: without a message for so long the server counts as lost; above its heartbeat.
        authority: trust this one instead of the organisation's, as it is known here.

    Raises:
        FeedLost: see there.
        WireError: a block does not decode.
    """
    async with identity.channel(organisation, address, authority=authority) as channel:
        call = blocks_pb2_grpc.BlocksServiceStub(channel).Subscribe(metadata=identity.metadata)
        try:
            first = blocks_pb2.SubscribeRequest(
                from_height=from_height, credit_bytes=CREDIT_BYTES, headers_only=headers_only
            )
            await call.write(first)
            owed = 0
            while True:
                # Not wait_for: in Python 3.11 it loses a cancellation that comes together with a message.
                async with asyncio.timeout(silence_s):
                    response = await call.read()
                if not isinstance(response, blocks_pb2.SubscribeResponse):  # grpc.aio.EOF
                    raise FeedLost(organisation, "the server ended the stream")
                if not response.HasField("block"):
                    yield ServerHeartbeat(response.heartbeat.finalized_height, response.heartbeat.server_time_ms)
                    continue
                yield decode_block(response.block)
                owed += response.ByteSize()
                if owed >= GRANT_BYTES:
                    await call.write(blocks_pb2.SubscribeRequest(credit_bytes=owed))
                    owed = 0
        except TimeoutError as error:
            raise FeedLost(organisation, f"no message for {silence_s:g} s") from error
        except grpc.aio.AioRpcError as error:
            problem = problem_of(organisation, address, error.code(), error.details() or "")
            raise FeedLost(organisation, problem.text) from error
        except asyncio.InvalidStateError as error:
            raise FeedLost(organisation, "the stream broke") from error
        finally:
            call.cancel()
