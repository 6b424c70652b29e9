"""One digest for each position: what an honest node acknowledges, over all its lives."""

from __future__ import annotations

from simulator.oracles.base import AckFact, Oracle, World


class Acks(Oracle):
    """Two acknowledgements of one node for one position would let two batches have Q holders."""

    name = "acks"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._said: dict[tuple[int, str, int, int], bytes] = {}
        self._rewound: set[int] = set()

    def started(self, node: int, rewound: bool, voting: bool) -> None:
        """Whose disk was put back has forgotten, and is one of the f."""
        if rewound or not voting:
            self._rewound.add(node)

    def ack(self, node: int, ack: AckFact, monotonic_ms: int) -> None:
        """See the class."""
        if ack.acker in self.world.honest and ack.acker not in self._rewound:
            first = self._said.setdefault((ack.acker, ack.origin, ack.incarnation, ack.sequence), ack.digest)
            where = f"{ack.origin}/{ack.incarnation}/{ack.sequence}"
            self.check(first == ack.digest, f"node {ack.acker} acknowledges two batches at {where}")
