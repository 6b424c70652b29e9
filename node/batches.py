"""Batches a validator knows, linked into their origins' chains.

A batch enters as bytes of its origin, waits for its check (signature of every envelope), and is then
part of its origin's chain: position = (incarnation, sequence), ``previous`` names its parent. This
module keeps what is known; ``node.dissemination`` decides what to say about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from ledger import wire
from ledger.types import Batch, BatchHeader, Envelope

ORIGIN_BYTES_MAX = 16 << 20  #: of one origin in memory, unexecuted: some seconds of full load
ORIGIN_BATCHES_MAX = 1024  #: likewise, for many small ones: their siblings are gone through at every turn


class Head(msgspec.Struct, frozen=True, gc=False):
    """Where an origin's chain stands, on a branch or in executed state."""

    incarnation: int
    sequence: int
    digest: bytes

    @property
    def position(self) -> tuple[int, int]:
        """(incarnation, sequence), in the order of the chain."""
        return (self.incarnation, self.sequence)


NO_HEAD = Head(0, 0, bytes(32))


class Misplaced(Exception):
    """A batch that is held does not stand where somebody says it does."""


def extends(head: Head, header: BatchHeader) -> bool:
    """May this batch be listed, or acknowledged, right after ``head``?"""
    if header.previous != head.digest:
        return False
    if header.incarnation == head.incarnation:
        return header.sequence == head.sequence + 1
    return header.incarnation > head.incarnation and header.sequence == 1


class Known:
    """A batch in memory and who holds it."""

    __slots__ = ("ackers", "batch", "checked", "envelopes", "weak_since_ms")

    def __init__(self, batch: Batch, envelopes: tuple[Envelope, ...] | None, *, checked: bool) -> None:
        self.batch = batch
        self.envelopes = envelopes
        self.checked = checked
        self.ackers = 0  #: bitmask of signer indexes of the present epoch
        self.weak_since_ms: int | None = None  #: when f + 1 were first seen to hold it


def envelopes_of(known: Known) -> tuple[Envelope, ...]:
    """Decoded envelopes of a checked batch."""
    if known.envelopes is None:
        known.envelopes = tuple([wire.decode_envelope(raw) for raw in known.batch.envelopes])
    return known.envelopes


class StoredBatches(Protocol):
    """What is needed of the block store: a stored batch was checked before it was stored."""

    def batch(self, digest: bytes) -> bytes | None:
        """Serialized Batch."""

    def waiting(self) -> Iterator[bytes]:
        """Digests of those that no final block lists."""


class BatchPool:
    """All batches that are not executed yet, by digest and by parent."""

    def __init__(self, stored: StoredBatches, decode: Callable[[bytes], Batch]) -> None:
        self._stored = stored
        self._decode = decode
        self._known: dict[bytes, Known] = {}
        self._children: dict[bytes, list[bytes]] = {}
        self._bytes: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def get(self, digest: bytes) -> Known | None:
        """From memory, else from disk."""
        known = self._known.get(digest)
        if known is None and (raw := self._stored.batch(digest)) is not None:
            known = self.add(self._decode(raw), None, checked=True)
        return known

    def at(self, digest: bytes, position: tuple[str, int, int]) -> Known | None:
        """From memory, else from disk, the batch that stands there: (origin, incarnation, sequence).

        Raises:
            Misplaced: it stands elsewhere; nothing was brought into memory, so nobody's claims can fill it with what
                was executed long ago.
        """
        held = self._known.get(digest)
        known = held or self.get(digest)
        if known is not None and known.batch.header.position != position:
            if held is None:
                self.drop(digest)
            raise Misplaced
        return known

    def in_memory(self, digest: bytes) -> Known | None:
        """From memory only."""
        return self._known.get(digest)

    def add(self, batch: Batch, envelopes: tuple[Envelope, ...] | None, *, checked: bool) -> Known:
        """Keep a batch until it is executed or overtaken."""
        known = Known(batch, envelopes, checked=checked)
        header = batch.header
        self._known[header.digest] = known
        self._children.setdefault(header.previous, []).append(header.digest)
        self._bytes[header.origin] += header.envelope_bytes
        self._counts[header.origin] += 1
        return known

    def drop(self, digest: bytes) -> None:
        """Forget a batch; what is on disk stays."""
        known = self._known.pop(digest, None)
        if known is None:
            return
        header = known.batch.header
        self._bytes[header.origin] -= header.envelope_bytes
        self._counts[header.origin] -= 1
        siblings = self._children[header.previous]
        siblings.remove(digest)
        if not siblings:
            del self._children[header.previous]

    def bytes_of(self, origin: str) -> int:
        """Bytes of envelopes of this origin that are held in memory."""
        return self._bytes[origin]

    def count_of(self, origin: str) -> int:
        """Batches of this origin that are held in memory."""
        return self._counts[origin]

    def has_room(self, header: BatchHeader, bytes_max: int, count_max: int) -> bool:
        """Would its origin stay within these bounds with this batch?"""
        size = self._bytes[header.origin] + header.envelope_bytes
        return size <= bytes_max and self._counts[header.origin] < count_max

    def evict(self, origin: str, head: bytes, bytes_max: int, count_max: int) -> list[Known]:
        """Forget this origin's oldest stored batches that are not in the chain down from ``head``, to below the bounds.

        They are on disk, and come back from there for a block that lists them.
        """
        evicted: list[Known] = []
        chain: set[bytes] = set()
        while (known := self._known.get(head)) is not None:
            chain.add(head)
            head = known.batch.header.previous
        for digest, known in list(self._known.items()):
            if self._bytes[origin] <= bytes_max and self._counts[origin] <= count_max:
                break
            if known.batch.header.origin == origin and known.checked and digest not in chain:
                self.drop(digest)
                evicted.append(known)
        return evicted

    def successors(self, origin: str, head: Head) -> Iterator[Known]:
        """Checked batches that extend ``head``, highest incarnation first."""
        found = [
            known
            for digest in self._children.get(head.digest, ())
            if (known := self._known[digest]).checked
            and known.batch.header.origin == origin
            and extends(head, known.batch.header)
        ]
        found.sort(key=lambda known: known.batch.header.position, reverse=True)
        return iter(found)

    def all(self) -> list[Known]:
        """Everything in memory."""
        return list(self._known.values())

    def of_origin(self, origin: str) -> list[Known]:
        """In chain order."""
        return sorted(
            (known for known in self._known.values() if known.batch.header.origin == origin),
            key=lambda known: known.batch.header.position,
        )

    def overtaken(self, origin: str, head: Head) -> list[bytes]:
        """Digests of this origin at or below ``head``: listed there, or never to be listed."""
        return [
            digest
            for digest, known in self._known.items()
            if (header := known.batch.header).origin == origin
            and (header.incarnation, header.sequence) <= head.position
        ]
