"""I9: floor and view of a node never go back, not even by a crash."""

from __future__ import annotations

from simulator.oracles.base import Oracle, World


class Position(Oracle):
    """Compared after every turn that is on disk, in each epoch by itself: what a crash takes of execution may hold its
    boundary. A disk put back from a copy begins anew."""

    name = "I9"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._at: dict[tuple[int, int], tuple[int, int]] = {}

    def started(self, node: int, rewound: bool, voting: bool) -> None:
        """See the class; who only observes keeps nothing."""
        if rewound or not voting:
            for at in [at for at in self._at if at[0] == node]:
                del self._at[at]

    def position(self, node: int, epoch: int, view: int, floor_view: int) -> None:
        """See the class."""
        before_view, before_floor = self._at.get((node, epoch), (0, 0))
        self.check(view >= before_view, f"node {node} went back from view {before_view} to {view}")
        self.check(floor_view >= before_floor, f"node {node}'s floor went back from {before_floor} to {floor_view}")
        self._at[node, epoch] = (view, floor_view)
