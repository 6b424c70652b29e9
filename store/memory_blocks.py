"""A block store that forgets what was not synced: for tests and the simulator. Same promises as ``store/blocks.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from ledger.block_port import (
    BatchDrop,
    BatchWrite,
    BlockWrite,
    FinalizedWrite,
    FirstHeightWrite,
    ProposalWrite,
)
from ledger.invariant import invariant
from store.errors import ContradictoryWrite, StoreError


class MemoryBlockStore:
    """``BlockStore`` in dictionaries. A restart is ``crash`` and going on with the same object."""

    def __init__(self) -> None:
        self._commits: list[list[BlockWrite]] = []
        self._synced = 0
        self._fault: StoreError | None = None
        self._clear()

    # -- faults ----------------------------------------------------------------------------

    def fail_next_commit(self, error: StoreError | None) -> None:
        """Let every commit fail with this error until ``crash``; None heals."""
        self._fault = error

    def crash(self, random: Random) -> None:
        """Lose a random number of the newest unsynced commits, as LevelDB's log does in a power cut."""
        self._fault = None
        del self._commits[random.randint(self._synced, len(self._commits)) :]
        self._synced = len(self._commits)
        self._clear()
        for writes in self._commits:
            self._apply(writes)

    def is_durable(self, digest: bytes) -> bool:
        """Whether no crash can take the batch or proposal of this digest."""
        unsynced = {write.digest for writes in self._commits[self._synced :] for write in writes}
        return (digest in self._batches or digest in self._proposals) and digest not in unsynced

    # -- BlockStore ------------------------------------------------------------------------

    def batch(self, digest: bytes) -> bytes | None:
        """See ``BlockStore``."""
        return self._batches.get(digest)

    def has_batch(self, digest: bytes) -> bool:
        """See ``BlockStore``."""
        return digest in self._batches

    def waiting(self) -> Iterator[bytes]:
        """See ``BlockStore``."""
        return iter(sorted(self._waiting))

    def proposal(self, digest: bytes) -> bytes | None:
        """See ``BlockStore``."""
        return self._proposals.get(digest)

    def has_proposal(self, digest: bytes) -> bool:
        """See ``BlockStore``."""
        return digest in self._proposals

    def finalized_height(self) -> int | None:
        """See ``BlockStore``."""
        return max(self._heights, default=None)

    def first_height(self) -> int:
        """See ``BlockStore``."""
        return self._first

    def digest_at(self, height: int) -> bytes | None:
        """See ``BlockStore``."""
        return self._heights[height][0] if height in self._heights else None

    def finalization(self, height: int) -> bytes | None:
        """See ``BlockStore``."""
        return (self._heights[height][1] or None) if height in self._heights else None

    def finalized(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """See ``BlockStore``."""
        heights = sorted(height for height in self._heights if first <= height <= last)
        return ((height, self._heights[height][0]) for height in heights)

    def commit(self, writes: Sequence[BlockWrite], *, sync: bool = True) -> None:
        """See ``BlockStore``."""
        if self._fault is not None:
            raise self._fault
        self._check(writes)
        if not writes:
            return
        self._apply(writes)
        self._commits.append(list(writes))
        if sync:
            self._synced = len(self._commits)

    def close(self) -> None:
        """See ``BlockStore``."""

    # -- inside ----------------------------------------------------------------------------

    def _clear(self) -> None:
        self._batches: dict[bytes, bytes] = {}
        self._waiting: set[bytes] = set()
        self._proposals: dict[bytes, bytes] = {}
        self._heights: dict[int, tuple[bytes, bytes]] = {}
        self._first = 1

    def _check(self, writes: Sequence[BlockWrite]) -> None:
        """All guards before the first change."""
        decided: dict[int, bytes] = {}
        for write in writes:
            invariant(len(write.digest) == 32, "a digest is 32 bytes")
            if isinstance(write, FinalizedWrite):
                first = self.digest_at(write.height) or decided.setdefault(write.height, write.digest)
                if first != write.digest:
                    raise ContradictoryWrite(f"height {write.height}", first, write.digest)

    def _apply(self, writes: Sequence[BlockWrite]) -> None:
        for write in writes:
            if isinstance(write, BatchWrite):
                if write.digest not in self._batches:
                    self._batches[write.digest] = write.raw
                    self._waiting.add(write.digest)
            elif isinstance(write, ProposalWrite):
                self._proposals.setdefault(write.digest, write.raw)
            elif isinstance(write, BatchDrop):
                self._batches.pop(write.digest, None)
                self._waiting.discard(write.digest)
            elif isinstance(write, FirstHeightWrite):
                self._first = write.height
            else:
                _, certificate = self._heights.get(write.height, (b"", b""))
                self._heights[write.height] = (write.digest, certificate or write.certificate)
                self._waiting.difference_update(write.batches)
