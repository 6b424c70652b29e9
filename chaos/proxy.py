"""Links as TCP proxies on the loopback interface: works everywhere, without any privilege.

The addresses on the validators' cards are the proxy's; each validator listens elsewhere. The proxy asks the kernel
who dialled (``sockets``), so every connection stands for one directed link each way, and TLS passes through unaltered.
What a proxy can do is less than what a network does, and this is where it differs:

    cut     What is sent into the link is held back until the cut heals, as TCP sends again until it arrives. The other
            direction goes on, while in a network it would starve for lack of acknowledgements. A new connection waits
            while either direction is cut, as SYN and its answer need both.
    loss    A proxy cannot lose packets. It makes of loss what TCP lets a program see: a piece of up to 16 KiB is held
            for the retransmission time-outs it would have cost (200 ms, doubling, one for each time in a row that it
            is lost); one lost seven times in a row resets the connection.
    delay   A piece arrives so much later. Order is kept, and pieces travel behind each other.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Final

from chaos.links import GOOD, Condition, Link
from chaos.sockets import Address, Owners

HOST: Final = "127.0.0.1"

PIECE_BYTES: Final = 16 << 10
PIECES_MAX: Final = 64
"""Of one direction of a connection, under way: beyond it the sender is not read, as with a full window."""

RETRANSMIT_S: Final = 0.2
"""The least retransmission time-out of Linux."""
LOST_IN_A_ROW_MAX: Final = 6

_Pieces = asyncio.Queue[tuple[float, bytes]]
"""(when it may arrive, bytes); no bytes: the sender ended."""


class Proxy:
    """All links of one machine.

    Args:
        pids: processes that run now, and whose endpoint each is.
        rng: draws losses.
    """

    def __init__(self, pids: Callable[[], dict[int, str]], rng: random.Random) -> None:
        self._pids = pids
        self._rng = rng
        self._owners = Owners()
        self._conditions: Mapping[Link, Condition] = {}
        self._changed = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.strangers = 0
        """Connections turned away because none of the endpoints had opened them."""
        self.connections = 0
        self.held_back = 0
        """Pieces that waited for a cut to heal, or as if they had been lost."""
        self.resets = 0
        """Connections given up because they lost too much in a row."""

    async def listen(self, port: int, target: str, target_port: int) -> None:
        """Stand before an endpoint: take connections at ``port`` and pass them on.

        Raises:
            OSError: the port is taken.
        """

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._pass_on(reader, writer, target, target_port))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._servers.append(await asyncio.start_server(accept, HOST, port, limit=PIECE_BYTES))

    def apply(self, conditions: Mapping[Link, Condition]) -> None:
        """From now on the links are like this; those not named are good."""
        self._conditions = conditions
        self._changed.set()
        self._changed = asyncio.Event()

    async def close(self) -> None:
        """End every connection."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._owners.close()

    # -- one connection ----------------------------------------------------------------------

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, port: int
    ) -> None:
        source = self._owner(writer.get_extra_info("peername")[:2], writer.get_extra_info("sockname")[:2])
        if source is None:
            self.strangers += 1
            _reset(writer)
            return
        self.connections += 1
        there, back = (source, target), (target, source)
        try:
            await self._open(there, back)
            onward_reader, onward_writer = await asyncio.open_connection(HOST, port, limit=PIECE_BYTES)
        except (OSError, _Reset):
            _reset(writer)
            return
        try:
            async with asyncio.TaskGroup() as group:
                for link, sender, receiver in ((there, reader, onward_writer), (back, onward_reader, writer)):
                    pieces: _Pieces = asyncio.Queue(PIECES_MAX)
                    group.create_task(self._take_in(sender, pieces, link))
                    group.create_task(self._deliver(pieces, receiver, link))
        except* (OSError, _Reset):  # one end is gone, or gave up: both ends see it
            _reset(writer)
            _reset(onward_writer)
        finally:
            writer.transport.abort()
            onward_writer.transport.abort()

    def _owner(self, dialler: Address, dialled: Address) -> str | None:
        return self._owners.of(dialler, dialled, self._pids())

    async def _open(self, there: Link, back: Link) -> None:
        """What the handshake takes: one packet each way."""
        for link in (there, back):
            await asyncio.sleep(self._way_s(link))
            await self._uncut(link)

    async def _take_in(self, reader: asyncio.StreamReader, pieces: _Pieces, link: Link) -> None:
        """One direction, until its sender ends it."""
        loop = asyncio.get_running_loop()
        due_s, piece = 0.0, b"-"
        while piece:
            try:
                piece = await reader.read(PIECE_BYTES)
            except ConnectionError:  # a process that was killed resets its connections: the other end hears of it too
                piece = b""
            due_s = max(due_s, loop.time() + self._way_s(link))
            await pieces.put((due_s, piece))

    async def _deliver(self, pieces: _Pieces, writer: asyncio.StreamWriter, link: Link) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, piece = await pieces.get()
            if due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())
            await self._uncut(link)
            if writer.transport.is_closing():
                raise _Reset
            if not piece:
                writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()

    async def _uncut(self, link: Link) -> None:
        self.held_back += self._conditions.get(link, GOOD).cut
        while self._conditions.get(link, GOOD).cut:
            await self._changed.wait()

    def _way_s(self, link: Link) -> float:
        """Seconds one piece takes now; _Reset where TCP would give up."""
        condition = self._conditions.get(link, GOOD)
        lost = 0
        while condition.loss and self._rng.random() < condition.loss:
            lost += 1
        self.held_back += lost > 0
        if lost > LOST_IN_A_ROW_MAX:
            self.resets += 1
            raise _Reset
        return condition.delay_ms / 1000 + RETRANSMIT_S * ((1 << lost) - 1)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection as TCP does when something is wrong."""
    if not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


class _Reset(Exception):
    """The connection is given up."""
