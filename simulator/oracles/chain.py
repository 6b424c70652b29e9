"""I2, I7: the finalized chain has no forks and skips nothing that was final or is not nullified."""

from __future__ import annotations

from simulator.oracles.base import FINALIZE, NULLIFY, HeaderFact, Oracle, VoteFact, World


class Chain(Oracle):
    """One chain for all honest nodes, from what they call final and from quorums of F."""

    name = "I2"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._final_views: dict[tuple[int, int], bytes] = {}

    def vote(self, vote: VoteFact) -> None:
        """Quorums of F make a block final, whoever holds them."""
        if vote.kind == FINALIZE:
            box = self.world.boxes.get((vote.epoch, vote.view, FINALIZE, vote.parent_view, vote.digest), ())
            if len(box) >= self.world.quorum(vote.epoch):
                self._final_views[vote.epoch, vote.view] = vote.digest

    def final(self, node: int, height: int, digest: bytes) -> None:
        """Equal blocks at equal heights."""
        first = self.world.final.setdefault(height, digest)
        self.check(
            first == digest,
            f"height {height} is {digest.hex()[:8]} at node {node} and {first.hex()[:8]} elsewhere",
        )

    def finish(self) -> None:
        """Links, skipped views, and that every final view is on the one chain."""
        digests = {self.world.genesis.digest}
        for height in sorted(self.world.final):
            header = self.world.headers.get(self.world.final[height])
            if header is None:
                continue  # nobody here ever saw it whole
            digests.add(header.digest)
            parent = self.world.headers.get(header.parent_digest)
            self.check(header.height == height, f"the block of height {height} says {header.height}")
            if parent is not None:
                self._check_link(header, parent)
        highest = max(self.world.final, default=0)
        for (_, view), digest in self._final_views.items():
            header = self.world.headers.get(digest)
            while header is not None and self.world.is_tail(header):  # a final tail counts as what it repeats
                header = self.world.headers[header.parent_digest]
            if header is not None and header.height <= highest:
                self.check(header.digest in digests, f"the final block of view {view} is not on the chain")

    def _check_link(self, header: HeaderFact, parent: HeaderFact) -> None:
        before = self.world.final.get(parent.height, self.world.genesis.digest)
        self.check(before == parent.digest, f"height {header.height} does not follow the final {parent.height}")
        self.check(header.height == parent.height + 1, f"height {header.height} on {parent.height}")
        self.check(header.timestamp_ms > parent.timestamp_ms, f"time does not grow at height {header.height}")
        ended = bool(parent.next_set)
        told = f"height {header.height} of epoch {header.epoch} follows one of epoch {parent.epoch}"
        self.check(header.epoch == parent.epoch + ended, told, "epoch")
        parent_view = 0 if ended or parent.digest == self.world.genesis.digest else parent.view
        self.check(header.parent_view == parent_view, f"height {header.height} names another view of its parent")
        for view in range(parent_view + 1, header.view):
            self.check((header.epoch, view) not in self._final_views, f"final view {view} was skipped")
            voters = self.world.voters(header.epoch, view, NULLIFY)
            self.check(voters >= self.world.quorum(header.epoch), f"view {view} was skipped on {voters} X votes", "I7")
