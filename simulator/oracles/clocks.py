"""R4's clock bounds: an honest vote for another leader's block agrees with the voter's own clock."""

from __future__ import annotations

from simulator.oracles.base import NULLIFY, HeaderFact, Oracle

STREAK_MAX = 64


class Clocks(Oracle):
    """Block time at most delta ahead, and at most delta and two certification time-outs (as grown by then) behind."""

    name = "clock"

    def notarized(self, node: int, header: HeaderFact, wall_ms: int, floor_view: int) -> None:
        """See the class; a tail repeats the time of the block it follows."""
        world = self.world
        if world.is_tail(header):
            return
        first = max(floor_view + 1, header.view - STREAK_MAX)
        streak = sum(
            world.voters(header.epoch, view, NULLIFY) >= world.quorum(header.epoch)
            for view in range(first, header.view)
        )
        timeout_ms = 3 * world.delay_ms
        for _ in range(streak):
            timeout_ms = min(timeout_ms * 3 // 2, world.timeout_ms_max)
        ahead_ms = header.timestamp_ms - wall_ms
        told = f"node {node} votes in view {header.view} for a block {ahead_ms} ms ahead of its clock"
        self.check(-(world.clock_delta_ms + 2 * timeout_ms) <= ahead_ms <= world.clock_delta_ms, told)
