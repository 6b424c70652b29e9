"""The simulator's cluster with the tests' market: four insurers, real signatures, fair weather."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import msgspec

from consensus.events import Now
from crypto.keys import verify, verify_many
from ledger.genesis import Genesis
from simulator import cluster as simulator
from simulator.market import Market
from simulator.node import SETTINGS, Node, Send
from tests.support.insurers import INSURERS, market_genesis

__all__ = ["SETTINGS", "Cluster", "Node", "Send"]


class Cluster(simulator.Cluster):
    """Four validators of the test market.

    Args:
        seed: of delays and whatever else is drawn.
        genesis: another network of the same insurers.
        liars: what runs in place of an honest node, by signer index.
    """

    def __init__(
        self, seed: int, genesis: Genesis | None = None, liars: Mapping[int, type[Node]] | None = None
    ) -> None:
        keys = tuple(insurer.consensus_key for insurer in INSURERS if insurer.consensus_key is not None)
        super().__init__(Market(genesis or market_genesis(), keys, verify, verify_many), seed, liars=liars)
        self.random = Random(seed)

    @property
    def genesis(self) -> Genesis:
        """Of the network."""
        return self.market.genesis

    @property
    def now(self) -> Now:
        """Both clocks of everybody."""
        return self.nodes[0].now()

    def delay_up_to(self, ms: int) -> None:
        """How long a message may take."""
        self.network.weather = msgspec.structs.replace(self.network.weather, delay_ms_max=ms)

    def isolate(self, index: int) -> None:
        """Cut a node off in both directions."""
        self.network.isolate(index)

    def heal(self) -> None:
        """All links work again; streams reconnect."""
        for node in self.nodes:
            self.network.rejoin(node.index, list(range(len(self.nodes))))
