"""A connection to a node, and the calls that run on it.

gRPC cancels the calls of a channel that is closed. So a connection that is not to be used any more is given up: it
takes no new calls, those that run may end, and the last of them closes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from lossbook_sdk.profile import Node


class Link:
    """See the module text.

    Args:
        node: what it leads to.
        authority: the TLS authority it trusts, PEM.
        channel: to the node, under that authority alone.
    """

    __slots__ = ("_calls", "_given_up", "authority", "channel", "node")

    def __init__(self, node: Node, authority: bytes, channel: grpc.aio.Channel) -> None:
        self.node = node
        self.authority = authority
        self.channel = channel
        self._calls = 0
        self._given_up = False

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """While a call runs on it."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            await self._close_if_idle()

    async def give_up(self) -> None:
        """Nobody begins another call on it: closed now, or with the last call that runs."""
        self._given_up = True
        await self._close_if_idle()

    async def _close_if_idle(self) -> None:
        if self._given_up and not self._calls:
            await self.channel.close()
