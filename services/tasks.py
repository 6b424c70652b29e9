"""Background work of a daemon that must not fail in silence.

A task that nobody awaits keeps its exception to itself until it is collected. Tasks started here tell one place: the
daemon waits for it and ends, because what such a task was for no longer happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """Running background tasks, and the first defect among them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._failed = asyncio.Event()
        self._defect: BaseException | None = None

    def start(self, work: Coroutine[Any, Any, None], on_end: Callable[[], None] = lambda: None) -> Callable[[], bool]:
        """Run in the background; ``on_end`` is called however it ends. What is returned cancels it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(lambda _: on_end())
        task.add_done_callback(self._ended)
        return task.cancel

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._defect is None:
            self._defect = error
            self._failed.set()

    async def watch(self) -> None:
        """Wait for the first task that fails, and raise what it raised."""
        await self._failed.wait()
        if self._defect is not None:
            raise self._defect

    async def stop(self) -> None:
        """Cancel what runs and wait for its end."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
