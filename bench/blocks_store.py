"""Where batches lie: ``python -m bench.blocks_store [--batches N] [--bytes B] [--directory D]``.

Every batch is written and synced alone, as before an ack: into the block store (under arrival numbers, which lie below
the keys of its short rows), and for comparison under the batch's digest, and under arrival numbers above the short
rows. Printed: microseconds a batch by process CPU time, which counts LevelDB's compaction thread, and
by wall time; and microseconds to read one back.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from ledger.block_port import BatchWrite
from store.blocks import CACHE_BYTES, WRITE_BUFFER_BYTES, LevelBlockStore
from store.level import Level

Batch = tuple[bytes, bytes]


def batches(count: int, size: int) -> list[Batch]:
    """(digest, bytes) of incompressible batches that share most of their bytes, to fit in memory."""
    body = random.Random(7).randbytes(size - 8)
    return [(sha256(number.to_bytes(8, "big")).digest(), number.to_bytes(8, "big") + body) for number in range(count)]


def block_store(path: Path) -> tuple[Callable[[Batch], None], Callable[[bytes], bytes | None], Callable[[], None]]:
    """The product."""
    store = LevelBlockStore(path, bytes(32))
    return lambda batch: store.commit([BatchWrite(*batch)]), store.batch, store.close


def by_digest(path: Path) -> tuple[Callable[[Batch], None], Callable[[bytes], bytes | None], Callable[[], None]]:
    """Random keys: every compaction rewrites batches."""
    level = Level(path, WRITE_BUFFER_BYTES, CACHE_BYTES)
    return lambda batch: level.write({batch[0]: batch[1]}, sync=True), level.get, level.close


def numbers_above(path: Path) -> tuple[Callable[[Batch], None], Callable[[bytes], bytes | None], Callable[[], None]]:
    """Arrival numbers above the index: a file of new rows spans, and overlaps, all old batches."""
    level = Level(path, WRITE_BUFFER_BYTES, CACHE_BYTES)
    count = 0

    def write(batch: Batch) -> None:
        nonlocal count
        arrival = count.to_bytes(8, "big")
        level.write({b"v" + arrival: batch[1], b"b" + batch[0]: arrival}, sync=True)
        count += 1

    return write, lambda digest: level.get(b"v" + (level.get(b"b" + digest) or b"")), level.close


def main() -> None:
    """See the module text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=4000)
    parser.add_argument("--bytes", type=int, default=65_536)
    parser.add_argument("--directory", type=Path, default=Path())
    options = parser.parse_args()
    work = batches(options.batches, options.bytes)
    print(f"{'microseconds a batch':<34} {'cpu':>8} {'wall':>8} {'read':>8}")
    for label, make in (
        ("block store", block_store),
        ("under digests", by_digest),
        ("under numbers above the index", numbers_above),
    ):
        with tempfile.TemporaryDirectory(dir=options.directory) as name:
            write, read, close = make(Path(name) / "store")
            cpu, wall = time.process_time(), time.perf_counter()
            for batch in work:
                write(batch)
            wall = (time.perf_counter() - wall) / len(work) * 1e6
            sample = random.Random(1).sample(work, min(1000, len(work)))
            began = time.perf_counter()
            for digest, raw in sample:
                if read(digest) != raw:
                    raise SystemExit(f"{label}: a batch came back changed")
            reading = (time.perf_counter() - began) / len(sample) * 1e6
            close()
            cpu = (time.process_time() - cpu) / len(work) * 1e6 - reading * len(sample) / len(work)
            print(f"{label:<34} {cpu:8.0f} {wall:8.0f} {reading:8.0f}")


if __name__ == "__main__":
    main()
