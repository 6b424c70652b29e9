"""The two clocks of a running node; pure code gets ``Now`` as an argument."""

from __future__ import annotations

import time

from consensus.events import Now


def now() -> Now:
    """Both clocks, read now."""
    return Now(monotonic_ms=time.monotonic_ns() // 1_000_000, wall_ms=time.time_ns() // 1_000_000)
