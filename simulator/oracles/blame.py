"""I11, and its like for peers: nobody honest is ever blamed, and nobody honest alarms as if he were broken."""

from __future__ import annotations

from simulator.oracles.base import Oracle

EXPECTED_ALARMS = ("evidence", "muted")


class Blame(Oracle):
    """Evidence and penalties name liars only; with at most f of them no honest node diverges or sees a fork."""

    name = "I11"

    def evidence(self, node: int, culprit: int, text: str) -> None:
        """See the class."""
        self.check(culprit not in self.world.honest, f"node {node} accuses the honest node {culprit}: {text}")

    def penalty(self, node: int, peer: int, reason: str) -> None:
        """See the class."""
        self.check(peer not in self.world.honest, f"node {node} turns away the honest node {peer}: {reason}", "penalty")

    def alarm(self, node: int, kind: str, text: str) -> None:
        """See the class."""
        self.check(kind in EXPECTED_ALARMS, f"node {node}: {kind}: {text}", "alarm")
