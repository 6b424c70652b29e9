"""Background tasks do not fail in silence."""

import asyncio

import pytest

from services.tasks import Tasks


async def fail() -> None:
    raise ZeroDivisionError


async def forever() -> None:
    await asyncio.Event().wait()


def test_a_task_that_fails_is_heard_of() -> None:
    async def main() -> None:
        tasks = Tasks()
        tasks.start(forever())
        tasks.start(fail())
        async with asyncio.timeout(10):
            with pytest.raises(ZeroDivisionError):
                await tasks.watch()
        await tasks.stop()

    asyncio.run(main())


def test_tasks_that_end_or_are_stopped_are_no_defect() -> None:
    async def main() -> None:
        tasks = Tasks()
        ended: list[str] = []
        tasks.start(forever(), lambda: ended.append("forever"))
        tasks.start(asyncio.sleep(0), lambda: ended.append("sleep"))
        await asyncio.sleep(0)
        await tasks.stop()
        assert sorted(ended) == ["forever", "sleep"]
        assert not tasks._running
        assert not tasks._failed.is_set()

    asyncio.run(main())
