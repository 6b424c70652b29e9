"""The snapshots a node has offered lately, each held still while it is fetched."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from ledger.snapshot_making import BlockSource, PinnedSnapshot, pin
from ledger.state import State

PIN_EVERY_S: Final = 10.0
"""A newer one is pinned at most so often: who asks more often gets the last one."""

PINS_MAX: Final = 4
"""Pinned at a time, a bit a leaf and 64 bytes a twig each: below 10 MB at ten million leaves. One that had to go is no
loss: what was fetched of it counts under the next."""


class SnapshotSource(Protocol):
    """What SyncService asks of whoever has a state."""

    def offer(self) -> PinnedSnapshot:
        """The newest snapshot that can be proved; ProofUnavailable."""

    def find(self, height: int) -> PinnedSnapshot | None:
        """One that was offered, unless newer ones took its place."""


class SnapshotShelf:
    """``SnapshotSource`` over a state and its finalized blocks.

    Args:
        state: at its last executed height; a block may be open on it.
        source: finalized blocks.
        clock_s: monotonic seconds.
    """

    def __init__(self, state: State, source: BlockSource, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._source = source
        self._clock_s = clock_s
        self._pinned_s = -PIN_EVERY_S
        self._pins: OrderedDict[int, PinnedSnapshot] = OrderedDict()

    def offer(self) -> PinnedSnapshot:
        """See SnapshotSource."""
        now = self._clock_s()
        if not self._pins or now - self._pinned_s >= PIN_EVERY_S:
            pinned = pin(self._state, self._source)
            self._pinned_s = now
            self._pins[pinned.height] = pinned
            self._pins.move_to_end(pinned.height)
            if len(self._pins) > PINS_MAX:
                self._pins.popitem(last=False)
        return next(reversed(self._pins.values()))

    def find(self, height: int) -> PinnedSnapshot | None:
        """See SnapshotSource."""
        return self._pins.get(height)
