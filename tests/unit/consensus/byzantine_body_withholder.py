"""Proposes blocks whose body only some get, and never serves one."""

from __future__ import annotations

from consensus.effects import Broadcast, Effect
from consensus.types import Proposal
from tests.unit.consensus.byzantine import Liar


class BodyWithholder(Liar):
    lucky = 1
    """How many others get the body at once; the rest can have it from those who voted, after a while."""

    def carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Broadcast) and isinstance(effect.message, Proposal):
            digest = effect.message.header.digest
            unlucky = self.others[:]
            self.cluster.random.shuffle(unlucky)
            self.cluster.withheld[digest] = set(unlucky[self.lucky :])
            if self.lucky > 1:
                self.cluster.at(500, self._leak, digest)
        super().carry_out(effect)

    def _leak(self, digest: bytes) -> None:
        """Others that hold the body serve it."""
        self.cluster.withheld.pop(digest, None)
        for node in self.cluster.nodes:
            node.judge()

    def serves(self, digest: bytes) -> bool:
        return False


class LateBody(BodyWithholder):
    """A quorum gets the body: the block is notarized, and the others have to fetch it."""

    lucky = 2
