"""Telling any number of waiting coroutines that something changed."""

from __future__ import annotations

import asyncio


class Pulse:
    """Wakes everyone who waits now; who waits later waits for the next one.

    Take ``waiter()`` before looking at the state it announces: what changes between the look and the wait is then
    not missed.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def beat(self) -> None:
        """Wake all waiters."""
        self._event.set()
        self._event = asyncio.Event()

    def waiter(self) -> asyncio.Event:
        """An event that the next beat sets."""
        return self._event


async def wait_any(*events: asyncio.Event, timeout_s: float) -> bool:
    """Wait until one of the events is set; False when the time is over first."""
    if any(event.is_set() for event in events):
        return True
    if len(events) == 1:
        try:
            async with asyncio.timeout(timeout_s):
                await events[0].wait()
        except TimeoutError:
            return False
        return True
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return bool(done)
