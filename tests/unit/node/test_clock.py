"""A node's clocks."""

from __future__ import annotations

import time

import pytest

from node import clock


@pytest.mark.parametrize("offset_ms", [-30_000, 30_000])
def test_a_clock_that_is_wrong_on_purpose_is_wrong_by_so_much_and_measures_spans_rightly(offset_ms: int) -> None:
    before = time.time_ns() // 1_000_000
    read = clock.wrong_by(offset_ms)()
    after = time.time_ns() // 1_000_000
    assert before + offset_ms <= read.wall_ms <= after + offset_ms
    assert abs(read.monotonic_ms - clock.now().monotonic_ms) < 5_000
