"""Waking waiters."""

import asyncio

from services.pulse import Pulse, wait_any


def test_a_beat_between_look_and_wait_is_not_missed() -> None:
    async def main() -> bool:
        pulse = Pulse()
        waiter = pulse.waiter()
        pulse.beat()
        return await wait_any(waiter, timeout_s=10)

    assert asyncio.run(main())


def test_a_later_waiter_does_not_see_an_earlier_beat() -> None:
    async def main() -> bool:
        pulse = Pulse()
        pulse.beat()
        return await wait_any(pulse.waiter(), timeout_s=0.001)

    assert not asyncio.run(main())


def test_any_of_several_wakes() -> None:
    async def main() -> bool:
        first, second = Pulse(), Pulse()
        waiting = asyncio.ensure_future(wait_any(first.waiter(), second.waiter(), timeout_s=10))
        await asyncio.sleep(0)
        second.beat()
        return await waiting

    assert asyncio.run(main())
