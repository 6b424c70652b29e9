"""I11, and its like for peers: nobody honest is ever blamed, or alarms as if broken or forgetful."""

from __future__ import annotations

from simulator.oracles.base import Oracle, World

EXPECTED_ALARMS = ("evidence", "muted")


class Blame(Oracle):
    """Evidence, its records and penalties name liars only, and one block records a breach, for all.

    With at most f liars no honest node diverges or sees a fork.
    """

    name = "I11"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._recorded: dict[tuple[int, tuple[int, int, int]], int] = {}
        self._rewound: set[int] = set()

    def started(self, node: int, rewound: bool, voting: bool) -> None:
        """Whose disk was put back, or damaged, may miss votes ever after."""
        if rewound or not voting:
            self._rewound.add(node)

    def evidence(self, node: int, culprit: int, text: str) -> None:
        """See the class."""
        self.check(culprit not in self.world.honest, f"node {node} accuses the honest node {culprit}: {text}")

    def recorded(self, node: int, culprit: int, act: tuple[int, int, int], height: int) -> None:
        """See the class."""
        self.check(culprit not in self.world.honest, f"node {node} records {act} of the honest node {culprit}")
        first = self._recorded.setdefault((culprit, act), height)
        self.check(first == height, f"the breach {act} of {culprit} is recorded at heights {first} and {height}")

    def penalty(self, node: int, peer: int, reason: str) -> None:
        """See the class."""
        self.check(peer not in self.world.honest, f"node {node} turns away the honest node {peer}: {reason}", "penalty")

    def alarm(self, node: int, kind: str, text: str) -> None:
        """See the class."""
        self.check(kind in EXPECTED_ALARMS, f"node {node}: {kind}: {text}", "alarm")
        forgot = kind == "muted" and node not in self._rewound
        self.check(not forgot, f"node {node}, whose disk lost nothing: {text}", "memory")
