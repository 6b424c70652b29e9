"""Two honest copies of one validator with one key, each talking to some of the others, and to others every second.

Bano and others, "Twins: BFT Systems Made Robust" (OPODIS 2021). The halves know nothing of each other; together they do
whatever an equivocator does, by honest code. ``simulator.twins`` enumerates what this one draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING

from node.turn import Fetch
from simulator.adversaries.liar import Liar, Send, to_each
from simulator.serving import Answer

if TYPE_CHECKING:
    from simulator.cluster import Cluster

SPLIT_MS = 700


class Half(Liar):
    """One of the two; it reaches those whom ``reach`` names."""

    def __init__(self, cluster: Cluster, index: int) -> None:
        super().__init__(cluster, index)
        self.reach = set(self.others)

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """To its part of the network only."""
        for to, message in sends:
            for target in to_each(self.others, to):
                if target in self.reach:
                    yield target, message


class Twins(Half):
    """This half, and the other one on a disk of its own."""

    def __init__(self, cluster: Cluster, index: int) -> None:
        super().__init__(cluster, index)
        self.twin = Half(cluster, index)
        self.twin.random = Random(f"{cluster.seed}/twin/{index}")

    def start(self) -> None:
        """Both."""
        self.twin.pace, self.twin.settings = self.pace, self.settings
        super().start()
        self.twin.start()
        self._split(self.life)

    def crash(self) -> None:
        """Both."""
        self.twin.crash()
        super().crash()

    def stop(self) -> None:
        """Both."""
        self.twin.stop()
        super().stop()

    def _split(self, life: int) -> None:
        """Who can talk to whom, from now on."""
        if life != self.life:
            return
        self.lie("runs twice")
        self.reach = {other for other in self.others if self.random.random() < 0.6}
        self.twin.reach = {other for other in self.others if other not in self.reach or self.random.random() < 0.3}
        for other in self.others:
            super().connected(other)
            self.twin.connected(other)
        self.cluster.timeline.after(SPLIT_MS, self._split, life)

    def receive(self, sender: int, packet: Sequence[bytes]) -> None:
        """To the halves that the sender can reach."""
        if sender in self.reach:
            super().receive(sender, packet)
        if sender in self.twin.reach:
            self.twin.receive(sender, packet)

    def connected(self, peer: int) -> None:
        """To both."""
        super().connected(peer)
        self.twin.connected(peer)

    def serve(self, fetch: Fetch) -> Answer:
        """Whatever one of them has."""
        answer = super().serve(fetch)
        return self.twin.serve(fetch) if answer.empty else answer
