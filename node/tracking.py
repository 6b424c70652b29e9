"""Envelopes whose clients wait for news: from the door to FINAL, PROVEN or EXPIRED. Pure.

Every envelope taken at this gateway is followed until its receipt, so that the same id submitted again is not queued
again, and until it is final its bytes count as waiting. An id submitted elsewhere is followed while somebody here
asks for it. Nothing is followed for ever:

    FINAL      the entry goes, unless somebody waits for PROVEN; the receipt is in the state from then on
    PROVEN     the entry goes
    EXPIRED    finalized block time has passed not_after and no receipt came: none will ever come
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

import msgspec

from ledger.types import Receipt
from node.turn import AcceptedNotice, CertifiedRootNotice, ExecutedNotice, Stage

ENVELOPES_MAX: Final = 200_000
"""Followed at a time, some 500 bytes each: far above what a node orders within a client's patience."""


LAPSING_SLACK: Final = 1024
"""Stale entries of the queue of lapsing ids before it is made anew; most envelopes are final long before they lapse."""


class News(msgspec.Struct, frozen=True, gc=False):
    """What became of an envelope."""

    envelope_id: bytes
    stage: Stage
    batch_digest: bytes = b""  #: from ACCEPTED on, where this gateway's origin listed it
    receipt: Receipt | None = None  #: from FINAL on


Listener = Callable[[News], None]
"""Told of each stage up to the one it waits for; must not block, and never calls back into the tracker."""


class _Entry:
    __slots__ = ("batch_digest", "listeners", "not_after_ms", "receipt", "since_ms", "size", "stage")

    def __init__(self, not_after_ms: int, size: int, since_ms: int) -> None:
        self.not_after_ms = not_after_ms
        self.since_ms = since_ms
        self.size = size
        self.stage = Stage.PENDING
        self.batch_digest = b""
        self.receipt: Receipt | None = None
        self.listeners: list[tuple[Stage, Listener]] = []

    def news(self, envelope_id: bytes) -> News:
        return News(envelope_id, self.stage, self.batch_digest, self.receipt)


class Tracker:
    """The followed envelopes, by id."""

    def __init__(self, envelopes_max: int = ENVELOPES_MAX, on_final: Callable[[int], None] = lambda _: None) -> None:
        """``on_final`` is told when an envelope was taken, once it is final (``since_ms`` of ``follow``)."""
        self._envelopes_max = envelopes_max
        self._on_final = on_final
        self._entries: dict[bytes, _Entry] = {}
        self._lapsing: list[tuple[int, bytes]] = []  # heap of (not_after_ms, id)
        self._unproven: dict[int, list[bytes]] = {}  # executed height -> ids somebody waits for
        self.waiting_bytes = 0
        self.block_time_ms = 0  #: of the last executed block
        self.certified_height = 0  #: receipts up to here stand under a certified root

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        """No further envelope can be followed."""
        return len(self._entries) >= self._envelopes_max

    def find(self, envelope_id: bytes) -> News | None:
        """What is known of a followed envelope."""
        entry = self._entries.get(envelope_id)
        return None if entry is None else entry.news(envelope_id)

    def follow(self, envelope_id: bytes, not_after_ms: int, size: int = 0, since_ms: int = 0) -> None:
        """Follow an envelope that was taken here at ``since_ms`` (``size`` bytes) or that somebody asks for (0)."""
        entry = self._entries.get(envelope_id)
        if entry is None:
            self._entries[envelope_id] = _Entry(not_after_ms, size, since_ms)
            heapq.heappush(self._lapsing, (not_after_ms, envelope_id))
            if len(self._lapsing) > 2 * len(self._entries) + LAPSING_SLACK:
                self._lapsing = [(each.not_after_ms, key) for key, each in self._entries.items()]
                heapq.heapify(self._lapsing)
            self.waiting_bytes += size
        elif entry.size == 0 and entry.stage < Stage.FINAL:
            entry.size = size
            self.waiting_bytes += size

    def taken_here(self, envelope_id: bytes) -> bool:
        """Whether the envelope was queued by this gateway and is not final yet."""
        entry = self._entries.get(envelope_id)
        return entry is not None and entry.size > 0

    def listen(self, envelope_id: bytes, until: Stage, listener: Listener) -> News | None:
        """Tell ``listener`` of every later stage up to ``until``; answers what is known now (None: not followed)."""
        entry = self._entries.get(envelope_id)
        if entry is None:
            return None
        if entry.stage < until:
            entry.listeners.append((until, listener))
        return entry.news(envelope_id)

    def unlisten(self, envelope_id: bytes, listener: Listener) -> None:
        """The listener has gone; what only it asked for is dropped."""
        entry = self._entries.get(envelope_id)
        if entry is None:
            return
        entry.listeners = [(until, other) for until, other in entry.listeners if other != listener]
        if not entry.listeners and entry.size == 0:
            self._drop(envelope_id, entry)

    # -- what happened -----------------------------------------------------------------------

    def accepted(self, notice: AcceptedNotice) -> None:
        """A quorum holds these envelopes."""
        for envelope_id in notice.envelope_ids:
            entry = self._entries.get(envelope_id)
            if entry is not None and entry.stage is Stage.PENDING:
                entry.batch_digest = notice.batch_digest
                self._move(envelope_id, entry, Stage.ACCEPTED)

    def executed(self, notice: ExecutedNotice) -> None:
        """A block was executed: receipts are final, and its time may have passed what waits."""
        self.block_time_ms = max(self.block_time_ms, notice.block_time_ms)
        for receipt in notice.receipts:
            entry = self._entries.get(receipt.envelope_id)
            if entry is None or entry.stage >= Stage.FINAL:
                continue
            entry.receipt = receipt
            if entry.size:
                self._on_final(entry.since_ms)
            self.waiting_bytes -= entry.size
            entry.size = 0
            self._move(receipt.envelope_id, entry, Stage.FINAL)
            if not entry.listeners:
                self._drop(receipt.envelope_id, entry)
            elif notice.height <= self.certified_height:
                self._prove(receipt.envelope_id)
            else:
                self._unproven.setdefault(notice.height, []).append(receipt.envelope_id)
        self._expire()

    def certified(self, notice: CertifiedRootNotice) -> None:
        """Receipts up to ``state_height`` can be proved now."""
        self.certified_height = max(self.certified_height, notice.state_height)
        for height in sorted(height for height in self._unproven if height <= self.certified_height):
            for envelope_id in self._unproven.pop(height):
                self._prove(envelope_id)

    # -- inside ------------------------------------------------------------------------------

    def _prove(self, envelope_id: bytes) -> None:
        entry = self._entries.get(envelope_id)
        if entry is not None and entry.stage is Stage.FINAL:
            self._move(envelope_id, entry, Stage.PROVEN)
            self._drop(envelope_id, entry)

    def _expire(self) -> None:
        while self._lapsing and self._lapsing[0][0] < self.block_time_ms:
            _, envelope_id = heapq.heappop(self._lapsing)
            entry = self._entries.get(envelope_id)
            if entry is not None and entry.stage < Stage.FINAL and entry.not_after_ms < self.block_time_ms:
                self._move(envelope_id, entry, Stage.EXPIRED)
                self._drop(envelope_id, entry)

    def _move(self, envelope_id: bytes, entry: _Entry, stage: Stage) -> None:
        entry.stage = stage
        listeners, entry.listeners = entry.listeners, []
        news = entry.news(envelope_id)
        for until, listener in listeners:
            if stage < until and stage is not Stage.EXPIRED:
                entry.listeners.append((until, listener))
            listener(news)

    def _drop(self, envelope_id: bytes, entry: _Entry) -> None:
        self.waiting_bytes -= entry.size
        del self._entries[envelope_id]
