"""What a turn's votes cost: ``python -m bench.votelog [--turns N] [--directory D]``.

Each turn appends records of the given sizes and syncs once, to a log in a temporary directory of ``--directory``
(default: the current one, because /tmp may lie in memory). Printed: microseconds a turn, by wall clock (median and 99th
percentile) and by processor time, beside a bare ``pwrite`` and ``fdatasync`` of as many bytes; and the time to open the
log again.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from store.votelog import VoteLog

CHAIN = bytes(32)
TURNS = {
    "one vote": [200],
    "vote and certificate of 4": [200, 450],
    "busy turn": [200, 450, 200, 450, 100, 100],
}


def measure(turn: Callable[[], None], turns: int) -> str:
    """Columns of one row: p50, p99, processor time, in microseconds."""
    walls: list[float] = []
    cpu = time.process_time()
    for _ in range(turns):
        began = time.perf_counter()
        turn()
        walls.append((time.perf_counter() - began) * 1e6)
    cpu = (time.process_time() - cpu) / turns * 1e6
    p99 = statistics.quantiles(walls, n=100)[98]
    return f"{statistics.median(walls):8.0f} {p99:8.0f} {cpu:8.1f}"


def bare(path: Path, size: int) -> tuple[int, Callable[[], None]]:
    """A descriptor, and a turn that appends ``size`` bytes to it and syncs."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    data = bytes(size)
    written = 0

    def turn() -> None:
        nonlocal written
        written += os.pwrite(descriptor, data, written)
        os.fdatasync(descriptor)

    return descriptor, turn


def main() -> None:
    """See the module text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--directory", type=Path, default=Path())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        print(f"{'microseconds a turn':<34} {'p50':>8} {'p99':>8} {'cpu':>8}")
        for number, (label, sizes) in enumerate(TURNS.items()):
            records = [bytes(size) for size in sizes]
            log = VoteLog.create(directory / f"votes-{number}", CHAIN, "alpha")

            def turn(log: VoteLog = log, records: list[bytes] = records) -> None:
                log.append(records)
                log.sync()

            print(f"{label:<34} {measure(turn, options.turns)}")
            descriptor, bare_turn = bare(directory / f"bare-{number}", sum(sizes))
            print(f"{'  bare write and fdatasync':<34} {measure(bare_turn, options.turns)}")
            os.close(descriptor)
            log.close()
            began = time.perf_counter()
            again = VoteLog.open(directory / f"votes-{number}", CHAIN, "alpha")
            took = (time.perf_counter() - began) * 1e3
            print(f"  opening {again.size_bytes / 1e6:.1f} MB: {took:.1f} ms")
            again.close()


if __name__ == "__main__":
    main()
