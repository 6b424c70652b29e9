"""Keeps everything it ever received and sends it again, to anybody, at any later time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simulator.adversaries.liar import Liar, Send

KEPT_MAX = 2_000
AGAIN = 3


class StaleReplayer(Liar):
    """Genuine messages of others, out of their time and from the wrong sender."""

    def receive(self, sender: int, packet: Sequence[bytes]) -> None:
        """Keep it."""
        kept: list[bytes] = self.__dict__.setdefault("kept", [])
        for raw in packet:
            if len(kept) < KEPT_MAX:
                kept.append(raw)
            else:
                kept[self.random.randrange(KEPT_MAX)] = raw
        super().receive(sender, packet)

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """With what it says, some of what it heard."""
        kept: list[bytes] = self.__dict__.get("kept", [])
        if sends and kept:
            self.lie("replays")
            for raw in self.random.choices(kept, k=AGAIN):
                self.cluster.transmit(self.index, self.random.choice(self.others), (raw,))
        return sends
