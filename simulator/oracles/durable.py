"""Nothing is said before it is on disk, and nothing that was on disk is missing from an opened log."""

from __future__ import annotations

from simulator.oracles.base import Oracle


class Durable(Oracle):
    """An acknowledged batch and a block voted for are synced; an opened vote log holds every synced record."""

    name = "durable"

    def uttered(self, node: int, what: str, durable: bool) -> None:
        """An honest node says that it holds something."""
        self.check(durable, f"node {node} speaks for {what} before it is on disk")

    def reopened(self, node: int, missing: int) -> None:
        """An honest node opened its vote log, after whatever happened to it; how many synced records are not in it."""
        self.check(missing == 0, f"the vote log of node {node} opens without {missing} of its synced records")
