"""Batches that lie on disk and in no memory: a leader's listing pushed them out (``BatchPool.evict``), or a start found
them there (``leftovers``).

They wait there for a block that lists them. None stays for ever: once the chain has passed an origin's batch it can
never be listed, and one that this node has not acknowledged matters only as long as a block that may still become
final lists it. What it has acknowledged it promised to keep, so it acknowledges no more of an origin that has
``node.batches.ORIGIN_BYTES_MAX`` here.

So at most this lies on disk of one origin, unexecuted: ORIGIN_BYTES_MAX that memory holds as well, as much (and one
batch) acknowledged here, and what blocks above the last executed one list. A start goes through what waits on disk
(``BlockStore.waiting``): what the chain has passed goes, what is neither in the acknowledged chain nor passed is here
again. Which of it was acknowledged is not known any more, so all of it counts as that, up to the bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import islice

import msgspec

from ledger import wire
from ledger.types import BatchHeader
from node.batches import NO_HEAD, Head, StoredBatches
from node.epoch import Epoch

LEFTOVERS_MAX = 1 << 14  #: gone through at a start; what is left over waits for the next


class Aside:
    """See the module text."""

    def __init__(self) -> None:
        self._headers: dict[bytes, BatchHeader] = {}
        self._acknowledged: set[bytes] = set()
        self._bytes: Counter[str] = Counter()  #: of acknowledged ones, by origin

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._headers)

    def add(self, header: BatchHeader, *, promised: bool) -> None:
        """It leaves memory, or was found on disk; ``promised``: this node acknowledged it."""
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
            executed: heads after it, by origin; none of one whose seat lies in blocks to be executed again.
            listed: of origins whose head moved: what was listed on the way; empty where that cannot be told.
            listable: whether a block that may become final lists this digest.
        """
        going = []
        for digest, header in list(self._headers.items()):
            if (header.incarnation, header.sequence) <= executed.get(header.origin, NO_HEAD).position:
                # Passed. Where it cannot be told what was listed it may be a part of the chain, and stays.
                if digest not in listed.get(header.origin, {digest}) and listed[header.origin]:
                    going.append(digest)
                self.discard(digest)
            elif digest not in self._acknowledged and not listable(digest):
                going.append(digest)
                self.discard(digest)
        return going


class Leftovers(msgspec.Struct, frozen=True):
    """What a start found of batches that no final block lists."""

    beside: list[BatchHeader]
    """They may still be listed, and are not in the chain that is acknowledged."""
    going: list[bytes]
    """Digests of those that can never be listed any more."""


def leftovers(
    stored: StoredBatches, executed: Mapping[str, Head], acked: Mapping[str, Head], epoch: Epoch, own: str
) -> Leftovers:
    """Go through what waits on disk.

    Args:
        stored: the block store's batches.
        executed: last listed batch of every origin in executed state.
        acked: acknowledged heads; what lies between the two stays.
        epoch: the present one.
        own: this node's organisation: what it acknowledged of its own stays until it is made anew.
    """
    found = [wire.decode_batch(raw).header for raw in map(stored.batch, islice(stored.waiting(), LEFTOVERS_MAX)) if raw]
    headers = {header.digest: header for header in found}
    in_chain: set[bytes] = set()
    for head in acked.values():
        digest = head.digest
        while (header := headers.get(digest)) is not None and digest not in in_chain:
            in_chain.add(digest)
            digest = header.previous
    left = Leftovers([], [])
    for header in found:
        passed = (header.incarnation, header.sequence) <= executed.get(header.origin, NO_HEAD).position
        if passed or (epoch.is_past(header.epoch) and not (header.digest in in_chain and header.origin == own)):
            left.going.append(header.digest)
        elif header.digest not in in_chain:
            left.beside.append(header)
    return left
