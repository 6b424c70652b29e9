"""I10, and that headers tell the truth: equal roots at equal heights, and in every final header."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.oracles.base import Oracle, ReceiptFact, World


class Roots(Oracle):
    """Roots of honest nodes against each other, and against what final headers commit to."""

    name = "I10"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.roots: dict[int, tuple[bytes, bytes]] = {}

    def executed(self, node: int, height: int, roots: tuple[bytes, bytes], receipts: Sequence[ReceiptFact]) -> None:
        """See the class."""
        first = self.roots.setdefault(height, roots)
        self.check(first == roots, f"node {node} has other roots at height {height}")

    def finish(self) -> None:
        """Every final header commits to the roots that execution gave."""
        for height, digest in self.world.final.items():
            header = self.world.headers.get(digest)
            roots = self.roots.get(header.state_height) if header is not None else None
            if header is not None and roots is not None:
                told = f"final height {height} commits to other roots at {header.state_height}"
                self.check((header.state_root, header.receipts_root) == roots, told, "roots")
