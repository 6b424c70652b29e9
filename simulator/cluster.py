"""A whole network in one thread: nodes, links, time, and one seed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final

from ledger import wire
from ledger.codes import Code
from ledger.types import Batch, Envelope
from ledger.wellformed import read_envelope, signature_jobs
from lossbook.v1 import peer_pb2
from node import peer_wire
from node.turn import BatchChecked, PeerMessage, Turn
from simulator.market import Market
from simulator.network import Network, Packet
from simulator.node import Node
from simulator.timeline import Timeline
from simulator.witness import Witness

DECODED_KEPT: Final = 4096
"""Decoded messages kept by their bytes: a broadcast reaches many, and its value is immutable."""

_STAMP = struct.Struct(">QH")


class Cluster:
    """See the module text.

    Args:
        market: who takes part.
        seed: of everything that is drawn.
        liars: what runs in place of an honest node, by signer index.
        witness: who watches.
    """

    def __init__(
        self,
        market: Market,
        seed: int | str = 0,
        *,
        liars: Mapping[int, type[Node]] | None = None,
        witness: Witness | None = None,
    ) -> None:
        self.market = market
        self.seed = seed
        self.witness = witness or Witness()
        self.timeline = Timeline()
        self.network = Network(self.timeline, len(market.members), str(seed), self._deliver, self._connected)
        self.loses: Callable[[PeerMessage], bool] = lambda message: (
            False
        )  #: what the network swallows, whoever sends it
        self.effects = sha256()  #: over all effects and sends, in order
        everybody = range(len(market.members))
        self._others = [tuple(j for j in everybody if j != i) for i in everybody]
        self._decode = lru_cache(DECODED_KEPT)(_decode)
        self._check = lru_cache(DECODED_KEPT)(self._check_bytes)
        self.nodes: list[Node] = [(liars or {}).get(index, Node)(self, index) for index in everybody]

    # -- for nodes -----------------------------------------------------------------------------

    def others(self, index: int) -> tuple[int, ...]:
        """Everybody else."""
        return self._others[index]

    def transmit(self, sender: int, to: int, packet: Packet, after_ms: int = 0) -> None:
        """Put a packet on its way."""
        self.effects.update(_STAMP.pack(self.timeline.now_ms, sender << 8 | to) + b"".join(packet))
        self.network.send(sender, to, packet, after_ms)

    def note(self, index: int, turn: Turn) -> None:
        """A turn's writes are on disk."""
        digests = [write.digest for write in turn.block_writes]
        self.effects.update(b"".join([_STAMP.pack(self.timeline.now_ms, index), *digests, *turn.vote_records]))

    def decode(self, raw: bytes) -> PeerMessage | None:
        """The value of a message's bytes; the same bytes are decoded once.

        Raises:
            WireError: no honest node sends this.
        """
        return self._decode(raw)

    def check(self, batch: Batch) -> BatchChecked:
        """What a verification worker answers (``node.checking``); the same bytes are checked once."""
        return self._check(batch)

    def _check_bytes(self, batch: Batch) -> BatchChecked:
        refused = BatchChecked(batch.header.digest, False, ())
        envelopes: list[Envelope] = []
        for raw in batch.envelopes:
            envelope = read_envelope(raw, self.market.genesis.chain_id)
            if isinstance(envelope, Code) or not all(self.market.verify_many(signature_jobs(envelope))):
                return refused
            envelopes.append(envelope)
        return BatchChecked(batch.header.digest, True, tuple(envelopes))

    def connect(self, node: Node) -> None:
        """A node has started: streams come up in both directions, where there is a way."""
        for other in self.nodes:
            if other.index != node.index and other.up:
                for a, b in ((node, other), (other, node)):
                    if self.network.reachable(a.index, b.index):
                        a.connected(b.index)

    def _deliver(self, sender: int, to: int, packet: Packet) -> None:
        self.nodes[to].receive(sender, packet)

    def _connected(self, sender: int, to: int) -> None:
        if self.nodes[sender].up and self.nodes[to].up:
            self.nodes[sender].connected(to)

    # -- for whoever drives it -------------------------------------------------------------------

    @property
    def honest(self) -> list[Node]:
        """All that do not lie."""
        return [node for node in self.nodes if node.honest]

    def start(self) -> None:
        """All nodes that are down."""
        for node in self.nodes:
            if not node.up:
                node.start()

    def run(self, duration_ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; True as soon as ``until`` holds."""
        return self.timeline.run(self.timeline.now_ms + duration_ms, until)


def _decode(raw: bytes) -> PeerMessage | None:
    return peer_wire.decode(wire.parse(peer_pb2.PeerMessage, raw))
