"""Work spread over processes: in order, told where one is lost, nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from simulator.spread import WorkerLost, spread


def square(number: int) -> int:
    return number * number


def end_by_itself(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_results_come_in_the_order_of_the_work_and_work_may_be_endless() -> None:
    results = spread(square, count(), jobs=2)
    assert [next(results) for _ in range(40)] == [(number, number * number) for number in range(40)]
    results.close()
    assert not multiprocessing.active_children()


def test_a_worker_that_was_killed_is_told() -> None:
    with pytest.raises(WorkerLost, match="was killed, or ran out of memory"):
        list(spread(end_by_itself, range(4), jobs=1))
    assert not multiprocessing.active_children()


ORPHANS = """
import sys
sys.path.insert(0, {root!r})
from simulator.spread import spread
from tests.unit.simulator.test_spread import pid_after

if __name__ == "__main__":
    results = spread(pid_after, [0.0, 60.0], jobs=1)
    print(next(results)[1], flush=True)
    next(results)
"""


def runs(pid: int) -> bool:
    """Whether a process is there, and not only its exit status that nobody took."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_workers_end_with_the_process_they_work_for(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS.format(root=str(Path(__file__).parents[3])))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        parent.kill()
    deadline = time.monotonic() + 20
    while runs(worker):
        assert time.monotonic() < deadline, "the worker outlived the process that waited for it"
        time.sleep(0.02)
