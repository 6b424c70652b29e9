"""Nothing is said before it is on disk, and nothing that was on disk is missing from an opened log."""

from __future__ import annotations

from simulator.oracles.base import Oracle, World


class Durable(Oracle):
    """An acknowledged batch and a block voted for are synced; an opened vote log holds every synced record; what a node
    called final is on its disk whenever it starts again."""

    name = "durable"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._told: dict[int, int] = {}  #: node -> highest height that it told its clients is final

    def started(self, node: int, rewound: bool, voting: bool) -> None:
        """Whose disk was put back, or lost, begins anew."""
        if rewound:
            self._told.pop(node, None)

    def told_final(self, node: int, height: int) -> None:
        """See the class."""
        self._told[node] = max(height, self._told.get(node, 0))

    def holds_final(self, node: int, height: int) -> None:
        """See the class."""
        told = self._told.get(node, 0)
        self.check(height >= told, f"node {node} called height {told} final, and starts with {height}")

    def uttered(self, node: int, what: str, durable: bool) -> None:
        """An honest node says that it holds something."""
        self.check(durable, f"node {node} speaks for {what} before it is on disk")

    def reopened(self, node: int, missing: int) -> None:
        """An honest node opened its vote log, after whatever happened to it; how many synced records are not in it."""
        self.check(missing == 0, f"the vote log of node {node} opens without {missing} of its synced records")
