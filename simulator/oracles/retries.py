"""R7 and R12: what is said again while a view lasts, own X and the own F that nothing has finalized yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from simulator.oracles.base import FINALIZE, NULLIFY, Oracle, VoteFact, World


class Retries(Oracle):
    """Without them a network whose votes were lost once stands still until something new is to be said."""

    name = "retry"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._said: dict[tuple[int, int], set[tuple[int, int]]] = defaultdict(set)
        self._rewound: set[int] = set()

    def started(self, node: int, rewound: bool, voting: bool) -> None:
        """Whose disk was put back cannot say again what it forgot."""
        if rewound or not voting:
            self._rewound.add(node)

    def vote(self, vote: VoteFact) -> None:
        """What there is to say again."""
        self._said[vote.signer, vote.kind].add((vote.epoch, vote.view))

    def retried(self, node: int, epoch: int, view: int, floor_view: int, sent: Collection[tuple[int, int]]) -> None:
        """A node sends again, in its view, these (kind, view)."""
        if node in self._rewound:
            return
        if (epoch, view) in self._said[node, NULLIFY]:
            self.check((NULLIFY, view) in sent, f"node {node} retries in view {view} without its X")
        finalized = [at for of, at in self._said[node, FINALIZE] if of == epoch and floor_view < at < view]
        if finalized:
            last = max(finalized)
            self.check((FINALIZE, last) in sent, f"node {node} retries in view {view} without its F of view {last}")
