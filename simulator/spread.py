"""One function over many arguments, spread over processes: results come in order, whoever finishes first.

Ctrl-C is for the process that waits: those of the pool do not hear it. When nobody wants further results they end at
once, also in the middle; and they end with the process they work for, however that ends.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from typing import Final, TypeVar

A = TypeVar("A")
R = TypeVar("R")

WAITING_PER_JOB: Final = 8
"""Tasks handed out beyond those that run; work may be endless."""


class WorkerLost(Exception):
    """A process of the pool ended by itself: somebody killed it, or memory ran out. What it was at is not done."""

    def __init__(self) -> None:
        super().__init__(
            "a worker process was killed, or ran out of memory, in the middle of its work: run it again, with fewer "
            "--jobs if memory is short"
        )


def spread(
    function: Callable[[A], R], work: Iterable[A], jobs: int, *, nice: int = 0
) -> Generator[tuple[A, R], None, None]:
    """Every argument with its result, in order of ``work``.

    Args:
        function: of a module, so that another process finds it.
        jobs: processes.
        nice: how much lower their priority is.

    Raises:
        WorkerLost: see there. What the function raises comes as it is.
    """
    before = set(active_children())
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin, initargs=(nice,))
    waiting: deque[tuple[A, Future[R]]] = deque()
    finished = False
    try:
        for argument in work:
            waiting.append((argument, pool.submit(function, argument)))
            if len(waiting) > WAITING_PER_JOB * jobs:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
        finished = True
    except BrokenProcessPool as error:
        raise WorkerLost from error
    finally:
        if not finished:
            for worker in set(active_children()) - before:
                worker.terminate()
        pool.shutdown(cancel_futures=True)


def _begin(nice: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(nice)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
