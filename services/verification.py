"""Signature checks beside the event loop: in worker processes where there are many, inline where there are few.

A check takes 50-100 microseconds and the loop must not stand still for a batch of them. Threads are no way out:
beside a busy main thread one gets a signature per 5 ms, the interpreter's switch interval. So:

* below ``POOL_MIN``: here, in slices that give way to the loop;
* else: in messages of at most ``JOBS_PER_MESSAGE`` to processes, which are started at the first need.

A worker is a plain child that reads from its standard input and ends when that does, so that nothing outlives a daemon
that was killed. One that dies is started again and its work done again; work that killed two is done here.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from crypto.keys import verify_many
from ledger.wellformed import SignatureJob
from services.logs import get_logger

POOL_MIN: Final = 32
"""A message to a worker costs 30-60 microseconds; from here on that is below two for each signature."""

SLICE_JOBS: Final = 8
"""Signatures between two looks at the loop: below one millisecond."""

JOBS_PER_MESSAGE: Final = 256
"""15-25 ms of work: two workers share a full batch."""

MESSAGE_BYTES: Final = 1 << 20
"""Signed bytes of one message, so that a few large envelopes do not become one huge write; one alone may be larger."""

MESSAGES_IN_FLIGHT: Final = 2
"""Per worker: it goes on with the second while the first one's answer is on its way."""

MESSAGES_WAITING_MAX: Final = 64
"""Behind them callers wait: their own bounds then slow down who sends."""

RESTART_S_MIN: Final = 0.1
RESTART_S_MAX: Final = 5.0
"""Back-off between starts of a worker that keeps dying."""

END_S_MAX: Final = 2.0
"""A worker ends within its message, some 25 ms; one that does not is killed."""

WORKERS_MAX: Final = 16
"""More would wait for the loop that feeds them."""

_encode = msgspec.msgpack.Encoder().encode
_log = get_logger("verification")


def default_workers() -> int:
    """One a processor but one, which the loop has; at least one."""
    return max(1, min(WORKERS_MAX, (os.cpu_count() or 1) - 1))


class _Message:
    __slots__ = ("answer", "deaths", "jobs")

    def __init__(self, jobs: Sequence[SignatureJob]) -> None:
        self.jobs = jobs
        self.answer: asyncio.Future[Sequence[bool]] = asyncio.get_running_loop().create_future()
        self.deaths = 0


class VerificationPool:
    """Checks signatures; see the module text.

    Args:
        workers: processes; 0: everything inline.
        on_worker_died: told the exit status of each worker that ended by itself.
    """

    def __init__(self, workers: int, on_worker_died: Callable[[int], None] = lambda _: None) -> None:
        if not 0 <= workers <= WORKERS_MAX:
            raise ValueError(f"{workers} verification workers; 0 to {WORKERS_MAX} are possible")
        self._count = workers
        self._on_worker_died = on_worker_died
        self._queue: asyncio.Queue[_Message] = asyncio.Queue(MESSAGES_WAITING_MAX)
        self._returned: deque[_Message] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._processes: set[asyncio.subprocess.Process] = set()

    async def check(self, jobs: Sequence[SignatureJob]) -> list[bool]:
        """Whether each signature is good, in order."""
        if len(jobs) < POOL_MIN or self._count == 0:
            return await _inline(jobs)
        self._start()
        messages = [_Message(part) for part in _parts(jobs)]
        try:
            for message in messages:
                await self._queue.put(message)
            return [good for message in messages for good in await message.answer]
        except asyncio.CancelledError:
            for message in messages:
                message.answer.cancel()  # a worker skips it, or its answer is dropped
            raise

    async def start(self) -> None:
        """Start the processes now, rather than at the first need."""
        self._start()

    async def stop(self) -> None:
        """End the workers. Calls that still wait are cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        while not self._queue.empty():
            self._queue.get_nowait().answer.cancel()

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._run_worker()) for _ in range(self._count)]

    async def _run_worker(self) -> None:
        delay = RESTART_S_MIN
        while True:
            in_flight: deque[_Message] = deque()
            try:
                served = await self._run_process(in_flight)
            except asyncio.CancelledError:
                for message in in_flight:
                    message.answer.cancel()
                raise
            if served:
                delay = RESTART_S_MIN
            _log.warning("verification worker died; starting another", in_flight=len(in_flight))
            for message in in_flight:
                await self._give_back(message)
            await asyncio.sleep(delay)
            delay = min(delay * 2, RESTART_S_MAX)

    async def _give_back(self, message: _Message) -> None:
        message.deaths += 1
        if message.deaths < 2:
            self._returned.append(message)
            return
        results = await _inline(message.jobs)
        if not message.answer.done():
            message.answer.set_result(results)

    async def _run_process(self, in_flight: deque[_Message]) -> int:
        """Feed one process until it dies; the number of messages it answered."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # no module of the current directory can stand in for ours
            "-m",
            "services.verification_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._processes.add(process)
        served = 0
        places = asyncio.Semaphore(MESSAGES_IN_FLIGHT)
        feeder = asyncio.create_task(self._feed(process, in_flight, places))
        try:
            reader = process.stdout
            while reader is not None:
                head = await reader.readexactly(4)
                answer = await reader.readexactly(int.from_bytes(head, "big"))
                message = in_flight.popleft()
                if not message.answer.done():
                    message.answer.set_result([byte == 1 for byte in answer])
                served += 1
                places.release()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it died; the caller starts another
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            self._processes.discard(process)
            status = await _end(process)
        self._on_worker_died(status)
        return served

    async def _feed(
        self, process: asyncio.subprocess.Process, in_flight: deque[_Message], places: asyncio.Semaphore
    ) -> None:
        writer = process.stdin
        while writer is not None:
            await places.acquire()
            message = self._returned.popleft() if self._returned else await self._queue.get()
            if message.answer.done():
                places.release()
                continue
            in_flight.append(message)
            raw = _encode(message.jobs)
            writer.write(len(raw).to_bytes(4, "big") + raw)
            try:
                await writer.drain()
            except ConnectionError:
                return  # the reading side sees the end, too, and deals with it


async def _end(process: asyncio.subprocess.Process) -> int:
    """Let it end with its input. Killing it at once would reap it behind asyncio's back, and its status be lost."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_S_MAX):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()


def _parts(jobs: Sequence[SignatureJob]) -> Iterator[Sequence[SignatureJob]]:
    """Consecutive runs, bounded in number and bytes."""
    start = size = 0
    for at, (_, message, _) in enumerate(jobs):
        if at > start and (at - start >= JOBS_PER_MESSAGE or size + len(message) > MESSAGE_BYTES):
            yield jobs[start:at]
            start, size = at, 0
        size += len(message)
    yield jobs[start:]


async def _inline(jobs: Sequence[SignatureJob]) -> list[bool]:
    results: list[bool] = []
    for at in range(0, len(jobs), SLICE_JOBS):
        results += verify_many(jobs[at : at + SLICE_JOBS])
        if len(results) < len(jobs):
            await asyncio.sleep(0)
    return results
