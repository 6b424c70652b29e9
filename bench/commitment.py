"""What committing a block's writes costs: ``python -m bench.commitment [--leaves N]``.

Blocks of 1,000 writes of 200-byte records, 3 of 4 to keys that exist, are committed to an empty state and to one of N
leaves (default 200,000), in LevelDB in a temporary directory. Printed: microseconds a write, by process CPU time (which
counts LevelDB's background thread) and by wall time, for the commitment and for the store; the time to reopen; and the
time of a proof.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ledger.commitment import verify
from ledger.state import State, Table
from store.state import LevelStateStore

T = TypeVar("T")

WRITES = 1_000
BLOCKS = 20


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A record of some 200 bytes."""

    number: int
    payload: bytes


TABLE = Table(1, Record)


class Bench:
    """One state under load."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.random = random.Random(7)
        self.store = LevelStateStore(path)
        self.state = State.open(self.store)
        self.keys: list[bytes] = []

    def block(self, share_new: float) -> tuple[float, float, float, float]:
        """(commit CPU, commit wall, store CPU, store wall) in seconds, of one block."""
        for number in range(WRITES):
            if not self.keys or self.random.random() < share_new:
                self.keys.append(self.random.randbytes(16))
                key = self.keys[-1]
            else:
                key = self.random.choice(self.keys)
            self.state.put(TABLE, key, Record(number, self.random.randbytes(190)))
        height = self.state.height + 1
        receipts = [self.random.randbytes(150) for _ in range(10)]
        writes, commit_cpu, commit_wall = timed(lambda: self.state.commit(height, height, receipts))
        _, store_cpu, store_wall = timed(lambda: self.store.commit(writes))
        return commit_cpu, commit_wall, store_cpu, store_wall

    def measure(self) -> None:
        """Print the cost of a write at the present size."""
        leaves = self.state.head.leaf_count if self.state.head else 0
        spent = [sum(column) for column in zip(*(self.block(0.25) for _ in range(BLOCKS)), strict=True)]
        names = ("commit cpu", "wall", "store cpu", "wall")
        each = ", ".join(
            f"{name} {seconds / BLOCKS / WRITES * 1e6:.2f}" for name, seconds in zip(names, spent, strict=True)
        )
        print(f"{leaves:>9,} leaves: microseconds a write: {each}")

    def reopen(self) -> None:
        """Print the time to open and to prove."""
        self.store.close()
        self.store, _, _ = timed(lambda: LevelStateStore(self.path))
        self.state, cpu, wall = timed(lambda: State.open(self.store))
        head = self.state.head
        if head is None:
            return
        print(f"{head.leaf_count:>9,} leaves: reopened in {wall:.2f} s ({cpu / head.leaf_count * 1e6:.2f} us a leaf)")
        sample = self.random.sample(self.keys, 200)
        at, root = head.height - 3, self.store.height_record(head.height - 3)
        known = [key for key in sample if root and self.state.get(TABLE, key)]
        proofs, cpu, _ = timed(lambda: [self.state.prove(TABLE, key, at) for key in known[:50]])
        if root is not None:
            _, check, _ = timed(lambda: [verify(proof, root.state_root) for proof in proofs])
            print(f"a proof: {cpu / len(proofs) * 1e6:.0f} us to make, {check / len(proofs) * 1e6:.0f} us to verify")


def timed(call: Callable[[], T]) -> tuple[T, float, float]:
    """(result, process CPU seconds, wall seconds)."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=200_000)
    leaves = parser.parse_args().leaves
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(directory + "/state")
        bench.measure()
        while bench.state.head and bench.state.head.leaf_count < leaves:
            bench.block(0.5)
        bench.measure()
        bench.reopen()


if __name__ == "__main__":
    main()
