"""Inputs that wait for the next turn, bounded by bytes for each source.

A source that sends faster than turns are taken waits (and with it its stream, by gRPC's own flow control); it takes
no room from others, and no time: sources take turns, each with a share, so that a flood delays only who sends it.
Results of work the validator itself asked for are bounded by that work and never wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final

from node.turn import Input

SOURCE_BYTES_MAX: Final = 8 << 20
"""Of one source: four batches of the largest size, and far above what one turn takes."""

TURN_BYTES_MAX: Final = 4 << 20
"""Handed over in one turn, so that a turn stays short; a single larger input still goes."""

TURN_INPUTS_MAX: Final = 512
"""Likewise, for many small ones."""

SOURCE_INPUTS_MAX: Final = 32
"""Of one source in one turn: with ``node.peers.MESSAGES_PER_INPUT`` some 50 ms of signature checks."""

_ASKED_FOR: Final = ""  #: the source of what has no size


class Mailbox:
    """One consumer, many producers, one event loop."""

    def __init__(self, source_bytes_max: int = SOURCE_BYTES_MAX) -> None:
        self._source_bytes_max = source_bytes_max
        self._items: dict[str, deque[tuple[int, Input]]] = {}
        self._ready: deque[str] = deque()  #: the sources of ``_items``, next one first
        self._count = 0
        self._held: dict[str, int] = {}
        self._space: dict[str, asyncio.Event] = {}
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return self._count

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
        self._add(source, size, item)

    def put_now(self, item: Input) -> None:
        """Add an input that was asked for, or that has no size."""
        self._add(_ASKED_FOR, 0, item)

    def _add(self, source: str, size: int, item: Input) -> None:
        queue = self._items.get(source)
        if queue is None:
            queue = self._items[source] = deque()
            self._ready.append(source)
        queue.append((size, item))
        self._count += 1
        self._filled.set()

    def discard(self, source: str) -> None:
        """Forget what waits from a source that is not listened to any more."""
        dropped = self._items.pop(source, None)
        if dropped is None:
            return
        self._ready.remove(source)
        self._count -= len(dropped)
        self._release(source, sum(size for size, _ in dropped))

    def wake(self) -> None:
        """Let the consumer look again."""
        self._filled.set()

    def drain(self) -> list[Input]:
        """What is handed over in this turn: each source's oldest first, the sources in turn."""
        taken: list[Input] = []
        total = 0
        shares: Counter[str] = Counter()
        later: list[str] = []
        while self._ready and len(taken) < TURN_INPUTS_MAX:
            source = self._ready[0]
            queue = self._items[source]
            size, item = queue[0]
            if taken and total + size > TURN_BYTES_MAX:
                break
            self._ready.popleft()
            queue.popleft()
            taken.append(item)
            total += size
            shares[source] += 1
            if not queue:
                del self._items[source]
            elif source == _ASKED_FOR or shares[source] < SOURCE_INPUTS_MAX:
                self._ready.append(source)
            else:
                later.append(source)
            if source != _ASKED_FOR:
                self._release(source, size)
        self._ready.extend(later)
        self._count -= len(taken)
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
