"""Virtual time: what happens next, in one thread."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Timeline:
    """A queue of actions by time (ms); actions of one time run in the order in which they were put in."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.events = 0  #: actions that have run
        self._queue: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = 0

    def at(self, time_ms: int, action: Callable[..., None], *arguments: object) -> None:
        """Run the action at a time; one that has passed means now."""
        self._order += 1
        heapq.heappush(self._queue, (max(time_ms, self.now_ms), self._order, action, arguments))

    def after(self, delay_ms: int, action: Callable[..., None], *arguments: object) -> None:
        """Run the action later."""
        self.at(self.now_ms + delay_ms, action, *arguments)

    def run(self, until_ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Advance to a time, or until a condition holds (looked at before every action); whether it holds."""
        queue = self._queue
        while queue and queue[0][0] <= until_ms:
            if until is not None and until():
                return True
            self.now_ms, _, action, arguments = heapq.heappop(queue)
            self.events += 1
            action(*arguments)
        self.now_ms = max(self.now_ms, until_ms)
        return until() if until is not None else False
