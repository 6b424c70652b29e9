"""One node's clocks: they drift against true time, and the wall clock jumps."""

from __future__ import annotations

from typing import Final

from consensus.events import Now
from simulator.market import GENESIS_TIME_MS

_MILLION: Final = 1_000_000


class Clock:
    """Both clocks of a node as functions of true time (ms since the run began). Integers only."""

    def __init__(self) -> None:
        self._drift_ppm = 0
        self._since_ms = 0  #: true time of the last change of drift
        self._base_ms = 1_000  #: monotonic time then
        self.wall_offset_ms = 0

    def now(self, true_ms: int) -> Now:
        """What the node reads."""
        monotonic = self._monotonic(true_ms)
        return Now(monotonic, GENESIS_TIME_MS + monotonic + self.wall_offset_ms)

    def when(self, monotonic_ms: int) -> int:
        """True time at which the monotonic clock shows this, or just after."""
        elapsed = monotonic_ms - self._base_ms
        rate = _MILLION + self._drift_ppm
        return self._since_ms + -(-elapsed * _MILLION // rate)

    def drift(self, true_ms: int, ppm: int) -> None:
        """From now on both clocks run faster (or, below zero, slower) by so many parts per million."""
        self._base_ms, self._since_ms = self._monotonic(true_ms), true_ms
        self._drift_ppm = ppm

    def jump(self, offset_ms: int) -> None:
        """The wall clock is set; the monotonic one never goes back."""
        self.wall_offset_ms += offset_ms

    def mend(self, true_ms: int) -> None:
        """The wall clock is set right, and the drift ends."""
        self.drift(true_ms, 0)
        self.wall_offset_ms = true_ms + 1_000 - self._base_ms

    def _monotonic(self, true_ms: int) -> int:
        return self._base_ms + (true_ms - self._since_ms) * (_MILLION + self._drift_ppm) // _MILLION
