"""Inputs that wait for the next turn, bounded by bytes for each source.

A source that sends faster than turns are taken waits (and with it its stream, by gRPC's own flow control); it takes
no room from others. Results of work the validator itself asked for are bounded by that work and never wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from node.turn import Input

SOURCE_BYTES_MAX: Final = 8 << 20
"""Of one source: four batches of the largest size, and far above what one turn takes."""

TURN_BYTES_MAX: Final = 4 << 20
"""Handed over in one turn, so that a turn stays short; a single larger input still goes."""

TURN_INPUTS_MAX: Final = 512
"""Likewise, for many small ones."""


class Mailbox:
    """One consumer, many producers, one event loop."""

    def __init__(self, source_bytes_max: int = SOURCE_BYTES_MAX) -> None:
        self._source_bytes_max = source_bytes_max
        self._items: deque[tuple[str, int, Input]] = deque()
        self._held: dict[str, int] = {}
        self._space: dict[str, asyncio.Event] = {}
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def held_bytes(self) -> int:
        """Bytes of all sources together."""
        return sum(self._held.values())

    async def put(self, source: str, size: int, item: Input) -> None:
        """Add an input of ``size`` bytes; waits while its source holds as much as it may."""
        while self._held.get(source, 0) > 0 and self._held[source] + size > self._source_bytes_max:
            space = self._space.setdefault(source, asyncio.Event())
            space.clear()
            await space.wait()
        self._held[source] = self._held.get(source, 0) + size
        self._items.append((source, size, item))
        self._filled.set()

    def put_now(self, item: Input) -> None:
        """Add an input that was asked for, or that has no size."""
        self._items.append(("", 0, item))
        self._filled.set()

    def wake(self) -> None:
        """Let the consumer look again."""
        self._filled.set()

    def drain(self) -> list[Input]:
        """What is handed over in this turn, oldest first."""
        taken: list[Input] = []
        total = 0
        while self._items and len(taken) < TURN_INPUTS_MAX:
            source, size, item = self._items[0]
            if taken and total + size > TURN_BYTES_MAX:
                break
            self._items.popleft()
            total += size
            taken.append(item)
            if source:
                self._release(source, size)
        if not self._items:
            self._filled.clear()
        return taken

    def _release(self, source: str, size: int) -> None:
        left = self._held[source] - size
        if left:
            self._held[source] = left
        else:
            del self._held[source]
        if (space := self._space.get(source)) is not None:
            space.set()

    async def wait(self, timeout_s: float | None) -> None:
        """Until something is there, at most ``timeout_s``."""
        if self._items:
            return
        self._filled.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._filled.wait()
        except TimeoutError:
            return
