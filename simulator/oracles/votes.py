"""I6: what one honest node may sign in one view, over all its lives: everything that ever left it."""

from __future__ import annotations

from collections import defaultdict

from simulator.oracles.base import FINALIZE, KIND_NAMES, NOTARIZE, NULLIFY, Oracle, VoteFact, World


class HonestVotes(Oracle):
    """At most one N and one F (so at most one proposal, too), never X with F, never N(c) with F(c')."""

    name = "I6"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._signed: dict[tuple[int, int, int], list[VoteFact]] = defaultdict(list)

    def vote(self, vote: VoteFact) -> None:
        """See the class."""
        if vote.signer not in self.world.honest:
            return
        earlier = self._signed[vote.signer, vote.epoch, vote.view]
        for other in earlier:
            kinds = {vote.kind, other.kind}
            told = f"node {vote.signer} in view {vote.view} signed {_said(other)} and {_said(vote)}"
            if NULLIFY in kinds:
                self.check(FINALIZE not in kinds, told)
                self.check(vote.kind != other.kind or vote.target == other.target, told)
            else:
                self.check(vote.target == other.target, told)
        earlier.append(vote)


def _said(vote: VoteFact) -> str:
    block = f"({vote.digest.hex()[:8]} on view {vote.parent_view})" if vote.kind in (NOTARIZE, FINALIZE) else ""
    return KIND_NAMES[vote.kind] + block
