"""What an honest leader lists: batches that a quorum holds, or f + 1 for longer than 2D, as far as it was told."""

from __future__ import annotations

from collections import defaultdict

from simulator.oracles.base import AckFact, BatchFact, HeaderFact, Oracle, World


class Listing(Oracle):
    """Counts every acknowledgement that reached a node, each for its batch and all before it in its incarnation."""

    name = "listing"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._batches: dict[bytes, BatchFact] = {}
        self._early: dict[bytes, list[tuple[int, int, int, int]]] = defaultdict(list)
        #: node -> (epoch, digest) -> acker -> when this node first knew, by its monotonic clock
        self._known: dict[int, dict[tuple[int, bytes], dict[int, int]]] = defaultdict(dict)

    def started(self, node: int, rewound: bool, voting: bool) -> None:
        """What it was told it has forgotten."""
        self._known.pop(node, None)

    def batch(self, batch: BatchFact) -> None:
        """Now it is known what stands before it."""
        self._batches[batch.digest] = batch
        for node, epoch, acker, at_ms in self._early.pop(batch.digest, ()):
            self._mark(node, epoch, acker, batch.digest, at_ms)

    def ack(self, node: int, ack: AckFact, monotonic_ms: int) -> None:
        """See the class."""
        self._mark(node, ack.epoch, ack.acker, ack.digest, monotonic_ms)

    def _mark(self, node: int, epoch: int, acker: int, digest: bytes, at_ms: int) -> None:
        while True:
            times = self._known[node].setdefault((epoch, digest), {})
            if acker in times:
                return
            times[acker] = at_ms
            batch = self._batches.get(digest)
            if batch is None:
                self._early[digest].append((node, epoch, acker, at_ms))
                return
            previous = self._batches.get(batch.previous)
            if previous is None or previous.incarnation != batch.incarnation:
                return
            digest = previous.digest

    def built(self, node: int, header: HeaderFact, monotonic_ms: int) -> None:
        """See the class; what is said in one epoch counts in no other."""
        quorum, faulty_max = self.world.quorum(header.epoch), self.world.faulty_max(header.epoch)
        for digest in header.listed:
            times = sorted(self._known[node].get((header.epoch, digest), {}).values())
            weak = times[faulty_max] if len(times) > faulty_max else None
            held = len(times) >= quorum
            waited = weak is not None and monotonic_ms - weak >= 2 * self.world.delay_ms
            told = f"leader {node} lists {digest.hex()[:8]} on {len(times)} acknowledgements in view {header.view}"
            self.check(held or waited, told)
