"""K, as the members decided: who lags so far behind in execution lists nothing (R4)."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.oracles.base import Oracle, ReceiptFact, World


class Limits(Oracle):
    """Every final block that lists a batch commits to a state at most K below it, by the K that holds at its height."""

    name = "limit"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._asked: dict[bytes, tuple[int, int, int]] = {}  #: envelope -> (epoch, height from which it holds, K)
        self._ballots: dict[bytes, tuple[bytes, int]] = {}
        self._made: dict[bytes, tuple[int, int, int]] = {}  #: proposal -> what it asks for, as it was executed
        self._for_it: dict[bytes, set[int]] = {}
        self._limits: dict[int, int] = {}  #: height -> K from there on

    def limit(self, envelope_id: bytes, epoch: int, height: int, k: int) -> None:
        """A client proposes a K; or, without an envelope, the genesis names it."""
        if envelope_id:
            self._asked[envelope_id] = (epoch, height, k)
        else:
            self._limits[height] = k

    def ballot(self, envelope_id: bytes, proposal_id: bytes, voter: int) -> None:
        """See ``Oracle``."""
        self._ballots[envelope_id] = (proposal_id, voter)

    def executed(self, node: int, height: int, roots: tuple[bytes, bytes], receipts: Sequence[ReceiptFact]) -> None:
        """Which proposals and ballots count."""
        for receipt in receipts:
            found = self._ballots.get(receipt.envelope_id)
            if found is None or not receipt.succeeded:
                continue
            proposal_id, voter = found
            if receipt.envelope_id in self._asked:
                self._made[proposal_id] = self._asked[receipt.envelope_id]
            if proposal_id in self._made or receipt.envelope_id in self._asked:
                self._count(proposal_id, voter)

    def _count(self, proposal_id: bytes, voter: int) -> None:
        epoch, height, k = self._made[proposal_id]
        members = self.world.sets[epoch]
        voters = self._for_it.setdefault(proposal_id, set())
        voters.add(voter)
        if 3 * len(voters & set(members)) > 2 * len(members):
            self._limits[height] = k

    def finish(self) -> None:
        """See the class."""
        for height, digest in self.world.final.items():
            header = self.world.headers.get(digest)
            if header is None or not header.listed or not self._limits:
                continue
            k = self._limits[max(each for each in self._limits if each <= height)]
            behind = height - header.state_height
            self.check(behind <= k, f"height {height} lists batches {behind} above its state; K is {k}")
