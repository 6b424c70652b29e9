"""A link on which a handshake takes long is no dead link: one attempt is given the time it needs."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from lossbook_sdk import channel as sdk
from services.limits import CHANNEL_OPTIONS

LISTENED_S = 1.0
"""Ten times what an attempt was once given."""


@pytest.mark.parametrize("options", [CHANNEL_OPTIONS, sdk._OPTIONS], ids=["daemons", "clients"])
def test_a_server_that_takes_its_time_is_not_dialled_again_and_again(options: tuple[tuple[str, int], ...]) -> None:
    async def attempts() -> int:
        dialled: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: dialled.append(writer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            answers: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/nobody/Answers")
            with pytest.raises(grpc.aio.AioRpcError):
                await answers(b"", timeout=LISTENED_S, wait_for_ready=True)
        for writer in dialled:
            writer.close()
        server.close()
        return len(dialled)

    assert asyncio.run(attempts()) == 1
