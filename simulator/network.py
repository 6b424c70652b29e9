"""Packets between nodes: a link for each ordered pair, with weather, cuts and clogs.

A packet holds what one turn has for one peer, encoded; or one message, where the weather splits turns. A link that lost
something is mended after a while, as a broken stream is dialled again: its sender is told ``PeerConnected``. Each link
draws from a stream of randomness of its own, so that taking a fault out of a plan leaves the other links as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

import msgspec

from simulator.timeline import Timeline

Packet = tuple[bytes, ...]
"""Encoded peer messages, in order."""

PERMILLE: Final = 1000


class Weather(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How badly packets travel."""

    delay_ms_min: int = 1
    delay_ms_max: int = 20
    drop_permille: int = 0
    duplicate_permille: int = 0
    late_permille: int = 0
    """Packets that take up to ``late_ms_max`` instead."""
    late_ms_max: int = 400
    in_order: bool = True
    """A later packet never overtakes an earlier one of its link, as on one stream."""
    split: bool = False
    """Every message travels alone."""
    mend_ms_max: int = 600
    """A link that lost something is dialled again within this time."""


FAIR: Final = Weather()


class _Link:
    __slots__ = ("broken", "clogged", "cut", "last_ms", "random", "waiting")

    def __init__(self, random: Random) -> None:
        self.random = random
        self.last_ms = 0
        self.cut = False
        self.clogged = False
        self.waiting: list[Packet] = []
        self.broken = False  #: lost something, and will be dialled again


class Network:
    """See the module text.

    Args:
        deliver: called with sender, receiver, packet.
        connected: called with sender and receiver when a link was dialled again.
    """

    def __init__(
        self,
        timeline: Timeline,
        n: int,
        seed: str,
        deliver: Callable[[int, int, Packet], None],
        connected: Callable[[int, int], None],
    ) -> None:
        self._timeline = timeline
        self._deliver = deliver
        self._connected = connected
        self.n = n
        self.weather = FAIR
        self.counts: Counter[str] = Counter()  #: faults that came to pass, by kind
        self._links = {(a, b): _Link(Random(f"{seed}/link/{a}/{b}")) for a in range(n) for b in range(n) if a != b}

    # -- travelling --------------------------------------------------------------------------

    def send(self, sender: int, to: int, messages: Packet, after_ms: int = 0) -> None:
        """Put what one turn has for one peer on its way, ``after_ms`` from now."""
        if self.weather.split:
            for message in messages:
                self._send(sender, to, (message,), after_ms)
        else:
            self._send(sender, to, messages, after_ms)

    def _send(self, sender: int, to: int, packet: Packet, after_ms: int) -> None:
        link, weather = self._links[sender, to], self.weather
        if link.clogged:
            link.waiting.append(packet)
            self.counts["clogged"] += 1
            return
        if link.cut:
            self.counts["cut"] += 1
            return
        random = link.random
        if weather.drop_permille and random.randrange(PERMILLE) < weather.drop_permille:
            self.counts["drop"] += 1
            self._break(sender, to)
            return
        self._travel(sender, to, packet, after_ms)
        if weather.duplicate_permille and random.randrange(PERMILLE) < weather.duplicate_permille:
            self.counts["duplicate"] += 1
            self._travel(sender, to, packet, after_ms)

    def _travel(self, sender: int, to: int, packet: Packet, after_ms: int) -> None:
        link = self._links[sender, to]
        at_ms = self._timeline.now_ms + after_ms + self.delay(sender, to)
        if self.weather.in_order:
            at_ms = max(at_ms, link.last_ms)
        elif at_ms < link.last_ms:
            self.counts["reorder"] += 1
        link.last_ms = max(at_ms, link.last_ms)
        self._timeline.at(at_ms, self._arrive, sender, to, packet)

    def delay(self, sender: int, to: int) -> int:
        """How long something takes from one to the other, ms."""
        random, weather = self._links[sender, to].random, self.weather
        if weather.late_permille and random.randrange(PERMILLE) < weather.late_permille:
            self.counts["delay"] += 1
            return random.randint(weather.delay_ms_max, max(weather.delay_ms_max, weather.late_ms_max))
        return random.randint(weather.delay_ms_min, weather.delay_ms_max)

    def _arrive(self, sender: int, to: int, packet: Packet) -> None:
        if self._links[sender, to].cut:
            self.counts["cut"] += 1
        else:
            self._deliver(sender, to, packet)

    def _break(self, sender: int, to: int) -> None:
        link = self._links[sender, to]
        if not link.broken:
            link.broken = True
            self._timeline.after(link.random.randint(1, self.weather.mend_ms_max), self._mend, sender, to)

    def _mend(self, sender: int, to: int) -> None:
        link = self._links[sender, to]
        if not link.broken:
            return
        link.broken = False
        if not link.cut:
            self._connected(sender, to)

    def dial_again(self, sender: int, to: int, after_ms: int) -> None:
        """The receiver ended the stream: what is sent meanwhile is lost, then the sender dials."""
        self._links[sender, to].broken = True
        self._timeline.after(after_ms, self._mend, sender, to)

    # -- faults ------------------------------------------------------------------------------

    def reachable(self, sender: int, to: int) -> bool:
        """Whether anything gets through this way now."""
        link = self._links[sender, to]
        return not link.cut and not link.clogged

    def cut(self, sender: int, to: int) -> None:
        """Lose everything in this direction."""
        self._links[sender, to].cut = True

    def join(self, sender: int, to: int) -> None:
        """End a cut; the stream is dialled again."""
        link = self._links[sender, to]
        if link.cut:
            link.cut = False
            link.broken = False
            self._connected(sender, to)

    def clog(self, sender: int, to: int) -> None:
        """Hold everything in this direction."""
        self._links[sender, to].clogged = True

    def unclog(self, sender: int, to: int) -> None:
        """Let go of all that was held, in order."""
        link = self._links[sender, to]
        link.clogged = False
        waiting, link.waiting = link.waiting, []
        for packet in waiting:
            self._send(sender, to, packet, 0)

    def isolate(self, index: int) -> None:
        """Cut a node off in both directions."""
        for other in range(self.n):
            if other != index:
                self.cut(index, other)
                self.cut(other, index)

    def rejoin(self, index: int, others: list[int]) -> None:
        """End the cuts and clogs between a node and these others."""
        for other in others:
            if other != index:
                for a, b in ((index, other), (other, index)):
                    self.unclog(a, b)
                    self.join(a, b)
