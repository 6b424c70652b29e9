"""Clients: they submit policies to the gateways, some of them twice, some with little patience."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from ledger.organisations import find_organisation
from ledger.types import Envelope
from simulator.market import FakeMarket, policy
from simulator.plan import Load
from simulator.signatures import FakeKey

if TYPE_CHECKING:
    from simulator.cluster import Cluster

PERMILLE: Final = 1000
BRIEF_MS: Final = (500, 6_000)
LONG_MS: Final = 600_000
AGAIN_MS: Final = 1_500


class Clients:
    """Submits until it is told to stop.

    Args:
        joined: those who joined hand in, too.

    Brief envelopes expire by themselves, the others not within a run.
    """

    def __init__(self, cluster: Cluster, market: FakeMarket, load: Load, seed: str, *, joined: bool = False) -> None:
        self._cluster = cluster
        self._market = market
        self._load = load
        self._joined = joined
        self._random = Random(f"{seed}/clients")
        self._stopped = False
        self.keys: dict[int, tuple[FakeKey, ...]] = {}
        """The signing keys of an organisation's clients, where they are not the first ones any more."""
        self.not_after: dict[bytes, int] = {}
        """Every envelope ever made: id -> not_after."""

    def start(self) -> None:
        """The first one comes soon."""
        self._next()

    def stop(self) -> None:
        """No more."""
        self._stopped = True

    def submit_one(self, gateway: int) -> bytes:
        """One envelope, by hand, though the rest has stopped; its id."""
        number = len(self.not_after) + 1
        not_after_ms = self._market.genesis.time_ms + self._cluster.timeline.now_ms + LONG_MS
        envelope = self._market.envelope(gateway, number, not_after_ms, [policy(number)], self.keys.get(gateway))
        self.not_after[envelope.id] = envelope.not_after_ms
        self._cluster.nodes[gateway].submit(envelope)
        return envelope.id

    def _next(self) -> None:
        self._cluster.timeline.after(self._random.randint(1, 2 * self._load.every_ms), self._submit)

    def _submit(self) -> None:
        if self._stopped:
            return
        number = len(self.not_after) + 1
        random, by = self._random, self._by()
        brief = random.randrange(PERMILLE) < self._load.brief_permille
        patience_ms = random.randint(*BRIEF_MS) if brief else LONG_MS
        true_ms = self._market.genesis.time_ms + self._cluster.timeline.now_ms
        envelope = self._market.envelope(by, number, true_ms + patience_ms, [policy(number)], self.keys.get(by))
        self.not_after[envelope.id] = envelope.not_after_ms
        self._hand_in(by, envelope)
        if random.randrange(PERMILLE) < self._load.again_permille:
            self._cluster.timeline.after(AGAIN_MS, self._hand_in, random.randrange(self._market.n), envelope)
        self._next()

    def _by(self) -> int:
        """Whose client is next: of those who take part from the beginning, and of those who have joined."""
        n = self._market.n
        by = self._random.randrange(len(self._market.members) if self._joined else n)
        node = self._cluster.nodes[by]
        known = by < n or (node.life > 0 and find_organisation(node.state, node.id) is not None)
        return by if known else by % n

    def _hand_in(self, gateway: int, envelope: Envelope) -> None:
        node = self._cluster.nodes[gateway]
        if node.up and node.votes is not None and not node.failed and not self._stopped:
            node.submit(envelope)
