"""The two clocks of a running node; pure code gets ``Now`` as an argument."""

from __future__ import annotations

import time
from collections.abc import Callable

from consensus.events import Now


def now() -> Now:
    """Both clocks, read now."""
    return Now(monotonic_ms=time.monotonic_ns() // 1_000_000, wall_ms=time.time_ns() // 1_000_000)


def wrong_by(offset_ms: int) -> Callable[[], Now]:
    """Both clocks, the wall clock off by so much: what a node with a wrong clock does can be tried on one machine."""

    def read() -> Now:
        right = now()
        return Now(monotonic_ms=right.monotonic_ms, wall_ms=right.wall_ms + offset_ms)

    return read
