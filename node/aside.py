"""Batches that lie on disk and in no memory: a leader's listing pushed them out (``BatchPool.evict``).

They wait there for a block that lists them. None stays for ever: once the chain has passed an origin's batch it can
never be listed, and one that this node has not acknowledged matters only as long as a block that may still become
final lists it. What it has acknowledged it promised to keep, so it acknowledges no more of an origin that has
``node.batches.ORIGIN_BYTES_MAX`` here.

So at most this lies on disk of one origin, unexecuted: ORIGIN_BYTES_MAX that memory holds as well, as much (and one
batch) acknowledged here, and what blocks above the last executed one list. What is known here is lost with the process:
each restart may leave so much on disk for good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set

from ledger.types import BatchHeader
from node.batches import Head, Known


class Aside:
    """See the module text."""

    def __init__(self) -> None:
        self._headers: dict[bytes, BatchHeader] = {}
        self._acknowledged: set[bytes] = set()
        self._bytes: Counter[str] = Counter()  #: of acknowledged ones, by origin

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._headers)

    def add(self, known: Known, *, promised: bool) -> None:
        """It leaves memory; ``promised``: this node acknowledged it."""
        header = known.batch.header
        self.discard(header.digest)
        self._headers[header.digest] = header
        if promised:
            self._acknowledged.add(header.digest)
            self._bytes[header.origin] += header.envelope_bytes

    def discard(self, digest: bytes) -> None:
        """It is back in memory, or gone from disk."""
        header = self._headers.pop(digest, None)
        if header is not None and digest in self._acknowledged:
            self._acknowledged.remove(digest)
            self._bytes[header.origin] -= header.envelope_bytes

    def acknowledged_bytes(self, origin: str) -> int:
        """Bytes of an origin that this node promised to keep."""
        return self._bytes[origin]

    def settle(
        self, executed: Mapping[str, Head], listed: Mapping[str, Set[bytes]], listable: Callable[[bytes], bool]
    ) -> list[bytes]:
        """A block was executed: digests that go from disk.

        Args:
            executed: heads after it, by origin.
            listed: of origins whose head moved: what was listed on the way; empty where that cannot be told.
            listable: whether a block that may become final lists this digest.
        """
        going = []
        for digest, header in list(self._headers.items()):
            if (header.incarnation, header.sequence) <= executed[header.origin].position:
                # Passed. Where it cannot be told what was listed it may be a part of the chain, and stays.
                if digest not in listed.get(header.origin, {digest}) and listed[header.origin]:
                    going.append(digest)
                self.discard(digest)
            elif digest not in self._acknowledged and not listable(digest):
                going.append(digest)
                self.discard(digest)
        return going
