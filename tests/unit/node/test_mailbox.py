"""The mailbox: order, bounds for each source, and a consumer that wakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from node.mailbox import SOURCE_INPUTS_MAX, TURN_BYTES_MAX, TURN_INPUTS_MAX, Mailbox
from node.turn import PeerConnected, Tick


def test_inputs_come_out_in_the_order_they_came_in() -> None:
    async def main() -> None:
        mailbox = Mailbox()
        await mailbox.put("a", 10, PeerConnected("peer-1"))
        mailbox.put_now(PeerConnected("peer-2"))
        await mailbox.put("b", 10, PeerConnected("peer-3"))
        assert mailbox.drain() == [PeerConnected("peer-1"), PeerConnected("peer-2"), PeerConnected("peer-3")]
        assert mailbox.drain() == []
        assert mailbox.held_bytes == 0

    asyncio.run(main())


def test_a_source_that_sends_too_much_waits_and_no_other_does() -> None:
    async def main() -> None:
        mailbox = Mailbox(source_bytes_max=100)
        await mailbox.put("greedy", 80, Tick())
        waiting = asyncio.ensure_future(mailbox.put("greedy", 30, Tick()))
        await mailbox.put("modest", 30, Tick())
        await asyncio.sleep(0)
        assert not waiting.done()
        mailbox.drain()
        await waiting
        assert mailbox.held_bytes == 30

    asyncio.run(main())


def test_an_input_above_the_bound_goes_through_alone() -> None:
    async def main() -> None:
        mailbox = Mailbox(source_bytes_max=100)
        await mailbox.put("a", 500, Tick())
        waiting = asyncio.ensure_future(mailbox.put("a", 1, Tick()))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert len(mailbox.drain()) == 1
        await waiting

    asyncio.run(main())


def test_a_turn_takes_a_bounded_part() -> None:
    async def main() -> None:
        mailbox = Mailbox()
        for at in range(TURN_INPUTS_MAX + 1):
            mailbox.put_now(PeerConnected(f"peer-{at}"))
        assert len(mailbox.drain()) == TURN_INPUTS_MAX
        assert mailbox.drain() == [PeerConnected(f"peer-{TURN_INPUTS_MAX}")]
        await mailbox.put("a", TURN_BYTES_MAX, Tick())
        await mailbox.put("b", 1, Tick())
        assert len(mailbox.drain()) == 1
        assert len(mailbox.drain()) == 1

    asyncio.run(main())


def test_the_consumer_wakes_for_an_input_a_wake_up_call_and_the_time() -> None:
    async def main() -> None:
        mailbox = Mailbox()
        wakes: list[Callable[[], None]] = [partial(mailbox.put_now, Tick()), mailbox.wake]
        for wake in wakes:
            waiting = asyncio.ensure_future(mailbox.wait(None))
            await asyncio.sleep(0)
            assert not waiting.done()
            wake()
            await waiting
            mailbox.drain()
        await mailbox.wait(0.001)

    asyncio.run(main())


def test_a_flood_of_one_source_delays_no_other() -> None:
    async def main() -> None:
        mailbox = Mailbox()
        for _ in range(10_000):
            await mailbox.put("flooder", 150, Tick())
        await mailbox.put("honest", 150, PeerConnected("peer-1"))
        mailbox.put_now(PeerConnected("peer-2"))
        taken = mailbox.drain()
        assert PeerConnected("peer-1") in taken
        assert PeerConnected("peer-2") in taken
        assert taken.count(Tick()) == SOURCE_INPUTS_MAX
        assert len(mailbox) == 10_000 - SOURCE_INPUTS_MAX

    asyncio.run(main())


def test_large_inputs_of_one_source_do_not_starve_another() -> None:
    async def main() -> None:
        mailbox = Mailbox()
        for at in range(2):
            await mailbox.put("flooder", TURN_BYTES_MAX, PeerConnected(f"peer-{at}"))
        await mailbox.put("honest", TURN_BYTES_MAX, Tick())
        assert mailbox.drain() == [PeerConnected("peer-0")]
        assert mailbox.drain() == [Tick()]
        assert mailbox.drain() == [PeerConnected("peer-1")]

    asyncio.run(main())


def test_what_waits_from_a_source_is_forgotten_and_its_room_is_free_again() -> None:
    async def main() -> None:
        mailbox = Mailbox(source_bytes_max=100)
        await mailbox.put("liar", 100, Tick())
        await mailbox.put("honest", 10, PeerConnected("peer-1"))
        waiting = asyncio.ensure_future(mailbox.put("liar", 50, PeerConnected("peer-2")))
        await asyncio.sleep(0)
        mailbox.discard("liar")
        mailbox.discard("nobody")
        await waiting
        assert mailbox.held_bytes == 60
        assert mailbox.drain() == [PeerConnected("peer-1"), PeerConnected("peer-2")]

    asyncio.run(main())
