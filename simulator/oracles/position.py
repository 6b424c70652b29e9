"""I9: floor and view of a node never go back, not even by a crash."""

from __future__ import annotations

from simulator.oracles.base import Oracle, World


class Position(Oracle):
    """Compared after every turn that is on disk; a disk put back from a copy begins anew."""

    name = "I9"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._at: dict[int, tuple[int, int]] = {}

    def started(self, node: int, rewound: bool, voting: bool) -> None:
        """See the class; who only observes keeps nothing."""
        if rewound or not voting:
            self._at.pop(node, None)

    def position(self, node: int, view: int, floor_view: int) -> None:
        """See the class."""
        before_view, before_floor = self._at.get(node, (0, 0))
        self.check(view >= before_view, f"node {node} went back from view {before_view} to {view}")
        self.check(floor_view >= before_floor, f"node {node}'s floor went back from {before_floor} to {floor_view}")
        self._at[node] = (view, floor_view)
