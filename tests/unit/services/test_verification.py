"""Signature checks spread over worker processes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from crypto.keys import SigningKey
from ledger.wellformed import SignatureJob
from services.verification import POOL_MIN, VerificationPool

KEY = SigningKey.from_seed(bytes(32))


def jobs(count: int, bad: frozenset[int] = frozenset(), size: int = 40) -> list[SignatureJob]:
    made = []
    for at in range(count):
        message = at.to_bytes(4, "big") + bytes(size)
        signature = KEY.sign(message)
        made.append((KEY.public, message + (b"!" if at in bad else b""), signature))
    return made


def with_pool(
    workers: int, body: Callable[[VerificationPool], Awaitable[None]], on_died: Callable[[int], None] = lambda _: None
) -> None:
    async def main() -> None:
        pool = VerificationPool(workers, on_died)
        try:
            await body(pool)
        finally:
            await pool.stop()

    asyncio.run(main())


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, POOL_MIN - 1, POOL_MIN, 700])
def test_every_answer_stands_at_its_question(workers: int, count: int) -> None:
    bad = frozenset(at for at in (0, 5, 31, 300, 699) if at < count)

    async def body(pool: VerificationPool) -> None:
        assert await pool.check(jobs(count, bad)) == [at not in bad for at in range(count)]

    with_pool(workers, body)


def test_large_messages_are_spread_over_frames() -> None:
    async def body(pool: VerificationPool) -> None:
        assert await pool.check(jobs(POOL_MIN, frozenset({7}), size=1 << 18)) == [at != 7 for at in range(POOL_MIN)]

    with_pool(2, body)


def test_many_callers_at_once_get_their_own_answers() -> None:
    async def body(pool: VerificationPool) -> None:
        asked = [jobs(POOL_MIN + at, frozenset({at})) for at in range(8)]
        answers = await asyncio.gather(*[pool.check(each) for each in asked])
        for at, answer in enumerate(answers):
            assert answer == [job != at for job in range(POOL_MIN + at)]

    with_pool(2, body)


def test_a_killed_worker_is_replaced_and_its_work_is_done_all_the_same() -> None:
    died: list[int] = []

    async def body(pool: VerificationPool) -> None:
        assert await pool.check(jobs(100)) == [True] * 100
        (process,) = pool._processes
        asked = asyncio.create_task(pool.check(jobs(2000, frozenset({99}))))
        os.kill(process.pid, signal.SIGKILL)
        assert await asked == [at != 99 for at in range(2000)]
        assert process not in pool._processes

    with_pool(1, body, died.append)
    assert died == [-signal.SIGKILL]


def test_a_cancelled_caller_does_not_leave_its_answer_to_the_next() -> None:
    async def body(pool: VerificationPool) -> None:
        task = asyncio.create_task(pool.check(jobs(2000)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.check(jobs(50, frozenset({1}))) == [at != 1 for at in range(50)]

    with_pool(1, body)


def test_a_silly_number_of_workers_is_refused() -> None:
    with pytest.raises(ValueError):
        VerificationPool(1000)


def test_a_worker_ends_with_its_daemon_and_not_at_a_signal_to_the_group() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "services.verification_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    frame = msgspec.msgpack.encode(jobs(2, frozenset({1})))
    for _ in range(2):
        worker.stdin.write(len(frame).to_bytes(4, "big") + frame)
        worker.stdin.flush()
        assert worker.stdout.read(6) == b"\x00\x00\x00\x02\x01\x00"
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
    worker.stdin.close()
    assert worker.wait(10) == 0
    worker.stdout.close()
