"""Signature checks for a daemon: in worker processes where they are many, inline where they are few.

    check(jobs)     fewer than POOL_MIN: here, in slices, so that the loop never stands still for long
                    otherwise: spread over the workers in chunks of at most CHUNK_JOBS

Never in threads: beside a busy main thread one gets a signature per 5 ms. A worker process is a plain child that
reads frames from its standard input and exits when that ends, so that nothing outlives a killed daemon. A worker
that dies is replaced, and its chunk is checked here: a crash costs time, never an answer.

Frame to a worker: length u32 big-endian, then a msgpack array of (public key, message, signature).
Frame back: one byte a job, 1 for good.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from crypto.keys import verify_many

POOL_MIN: Final = 32
"""Below this a call of a worker costs more than it saves (measured: 21-128 microseconds a call, 55-99 a check)."""

CHUNK_JOBS: Final = 256
"""About 20 ms of work: long enough to forget the call's cost, short enough to share among workers."""

CHUNK_BYTES: Final = 1 << 20
"""Messages of one frame; a single larger one (an envelope of 1 MiB) still goes alone."""

SLICE_JOBS: Final = 8
"""Checked inline before other tasks of the loop get their turn: below a millisecond."""

WORKERS_MAX: Final = 16
"""More would wait for the loop that feeds them."""

LENGTH_BYTES: Final = 4

Job = tuple[bytes, bytes, bytes]
"""(public key, message, signature), as ``crypto.keys.verify_many`` takes them."""


def default_workers() -> int:
    """One a processor but one, which the loop has; at least one."""
    return max(1, min(WORKERS_MAX, (os.cpu_count() or 1) - 1))


class VerificationPool:
    """Worker processes that check signatures; ``start`` before use, ``stop`` at the end.

    Args:
        workers: number of processes; 0 checks everything inline.
        on_worker_died: told of each worker that ended by itself, for the log.
    """

    def __init__(self, workers: int, on_worker_died: Callable[[int], None] = lambda _: None) -> None:
        if not 0 <= workers <= WORKERS_MAX:
            raise ValueError(f"{workers} verification workers; 0 to {WORKERS_MAX} are possible")
        self._workers = [_Worker(on_worker_died) for _ in range(workers)]

    async def start(self) -> None:
        """Start the processes."""
        for worker in self._workers:
            await worker.start()

    async def stop(self) -> None:
        """End the processes; checks that are still asked for are done inline."""
        workers, self._workers = self._workers, []
        for worker in workers:
            await worker.stop()

    async def check(self, jobs: Sequence[Job]) -> list[bool]:
        """Whether each signature is good, in order."""
        if len(jobs) < POOL_MIN or not self._workers:
            return await _inline(jobs)
        results = await asyncio.gather(*[self._least_busy().check(chunk) for chunk in self._chunks(jobs)])
        return [good for result in results for good in result]

    def _least_busy(self) -> _Worker:
        worker = min(self._workers, key=lambda w: w.waiting)
        worker.waiting += 1
        return worker

    def _chunks(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        """Consecutive runs, bounded in number and bytes, small enough that every worker gets some."""
        most = max(POOL_MIN // 2, min(CHUNK_JOBS, -(-len(jobs) // len(self._workers))))
        chunks: list[Sequence[Job]] = []
        start = size = 0
        for at, job in enumerate(jobs):
            if at > start and (at - start >= most or size + len(job[1]) > CHUNK_BYTES):
                chunks.append(jobs[start:at])
                start, size = at, 0
            size += len(job[1])
        chunks.append(jobs[start:])
        return chunks


class _Worker:
    """One child process, asked one chunk at a time."""

    def __init__(self, on_died: Callable[[int], None]) -> None:
        self.waiting = 0
        self._on_died = on_died
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.verification_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )

    async def stop(self) -> None:
        async with self._turn:
            process, self._process = self._process, None
            if process is None or process.stdin is None:
                return
            process.stdin.close()
            await process.wait()

    async def check(self, jobs: Sequence[Job]) -> Sequence[bool]:
        try:
            async with self._turn:
                answer = await self._ask(jobs)
            return await _inline(jobs) if answer is None else [byte == 1 for byte in answer]
        finally:
            self.waiting -= 1

    async def _ask(self, jobs: Sequence[Job]) -> bytes | None:
        """One byte a job; None where the worker could not answer."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        frame = msgspec.msgpack.encode(jobs)
        try:
            process.stdin.write(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
            await process.stdin.drain()
            return await process.stdout.readexactly(len(jobs))
        except (ConnectionError, asyncio.IncompleteReadError):
            self._on_died(await process.wait())
            await self.start()
            return None
        except asyncio.CancelledError:
            # The answer is still on its way and would be taken for the next chunk's.
            process.kill()
            await self.start()
            raise


async def _inline(jobs: Sequence[Job]) -> list[bool]:
    results: list[bool] = []
    for start in range(0, len(jobs), SLICE_JOBS):
        if start:
            await asyncio.sleep(0)
        results.extend(verify_many(jobs[start : start + SLICE_JOBS]))
    return results
