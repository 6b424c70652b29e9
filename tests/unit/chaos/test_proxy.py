"""Links as TCP proxies: what a good link carries, and what each fault does to it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from chaos.links import CLIENTS, Condition
from chaos.proxy import Proxy
from cli.local import free_ports

THERE, BACK = (CLIENTS, "alpha"), ("alpha", CLIENTS)


class Never(random.Random):
    """Draws that lose nothing, or everything."""

    def __init__(self, *draws: float) -> None:
        super().__init__()
        self.draws = list(draws)

    def random(self) -> float:
        return self.draws.pop(0) if self.draws else 1.0


@asynccontextmanager
async def link(rng: random.Random | None = None, owner: int | None = None) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy before a server that echoes; the port to dial."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
        writer.close()

    front, behind = free_ports(2)
    server = await asyncio.start_server(echo, "127.0.0.1", behind)
    proxy = Proxy(lambda: {owner or os.getpid(): CLIENTS}, rng or Never())
    await proxy.listen(front, "alpha", behind)
    try:
        yield proxy, front
    finally:
        await proxy.close()
        server.close()


async def said_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> bytes:
    writer.write(text)
    return await reader.readexactly(len(text))


async def none_yet(answer: Awaitable[object]) -> asyncio.Future[object]:
    """The same, still without an answer after some turns of the loop and a blink."""
    waiting: asyncio.Future[object] = asyncio.ensure_future(answer)
    done, _ = await asyncio.wait({waiting}, timeout=0.1)
    assert not done
    return waiting


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def test_a_good_link_carries_everything_both_ways_and_its_end() -> None:
    async def test() -> None:
        async with link() as (proxy, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            large = random.Random(1).randbytes(3 << 20)
            assert await said_back(reader, writer, large) == large
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            assert (proxy.connections, proxy.held_back, proxy.resets, proxy.strangers) == (1, 0, 0, 0)

    run(test)


@pytest.mark.parametrize("cut", [THERE, BACK], ids=["there", "back"])
def test_what_is_sent_into_a_cut_arrives_once_it_heals(cut: tuple[str, str]) -> None:
    async def test() -> None:
        async with link() as (proxy, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await said_back(reader, writer, b"before") == b"before"
            proxy.apply({cut: Condition(cut=True)})
            waiting = await none_yet(said_back(reader, writer, b"during"))
            proxy.apply({})
            assert await waiting == b"during"
            writer.close()

    run(test)


def test_a_one_way_cut_leaves_the_other_way_open() -> None:
    async def test() -> None:
        async with link() as (proxy, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await said_back(reader, writer, b"quick") == b"quick"
            proxy.apply({BACK: Condition(delay_ms=100)})
            writer.write(b"asked before")
            await asyncio.sleep(0.05)  # the answer is under way, the question has arrived
            proxy.apply({THERE: Condition(cut=True)})
            assert await reader.readexactly(12) == b"asked before"
            writer.close()

    run(test)


@pytest.mark.parametrize("cut", [THERE, BACK], ids=["there", "back"])
def test_a_connection_is_made_only_when_both_ways_are_open(cut: tuple[str, str]) -> None:
    async def test() -> None:
        async with link() as (proxy, port):
            proxy.apply({cut: Condition(cut=True)})
            reader, writer = await asyncio.open_connection("127.0.0.1", port)  # the kernel answers for the proxy
            waiting = await none_yet(said_back(reader, writer, b"hello"))
            proxy.apply({})
            assert await waiting == b"hello"
            writer.close()

    run(test)


def test_a_delay_is_added_to_each_way_and_keeps_the_order() -> None:
    async def test() -> None:
        async with link() as (proxy, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await said_back(reader, writer, b"quick") == b"quick"
            proxy.apply({THERE: Condition(delay_ms=100), BACK: Condition(delay_ms=100)})
            began_s = asyncio.get_running_loop().time()
            writer.write(b"one")
            await asyncio.sleep(0)
            assert await said_back(reader, writer, b"two") == b"one"
            assert asyncio.get_running_loop().time() - began_s >= 0.2
            assert await reader.readexactly(3) == b"two"
            writer.close()

    run(test)


def test_a_lost_piece_costs_retransmission_time_outs() -> None:
    async def test() -> None:
        async with link(Never()) as (proxy, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await said_back(reader, writer, b"quick") == b"quick"
            proxy._rng = Never(0.0, 0.0, 0.9)  # lost twice in a row: 200 and 400 ms
            proxy.apply({THERE: Condition(loss=0.3)})
            began_s = asyncio.get_running_loop().time()
            assert await said_back(reader, writer, b"slow") == b"slow"
            assert asyncio.get_running_loop().time() - began_s >= 0.6
            assert (proxy.held_back, proxy.resets) == (1, 0)
            writer.close()

    run(test)


def test_a_piece_lost_again_and_again_resets_the_connection() -> None:
    async def test() -> None:
        async with link() as (proxy, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await said_back(reader, writer, b"quick") == b"quick"
            proxy._rng = Never(*[0.0] * 7)
            proxy.apply({THERE: Condition(loss=0.3)})
            writer.write(b"never")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert proxy.resets == 1
            writer.close()

    run(test)


def test_invalid_strangers_are_turned_away() -> None:
    async def test() -> None:
        async with link(owner=1) as (proxy, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with pytest.raises(ConnectionResetError):
                await said_back(reader, writer, b"hello")
            assert (proxy.strangers, proxy.connections) == (1, 0)
            writer.close()

    run(test)


def test_a_validator_that_is_down_refuses() -> None:
    async def test() -> None:
        (front, behind) = free_ports(2)
        proxy = Proxy(lambda: {os.getpid(): CLIENTS}, Never())
        await proxy.listen(front, "alpha", behind)
        reader, writer = await asyncio.open_connection("127.0.0.1", front)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await proxy.close()

    run(test)
