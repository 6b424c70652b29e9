"""Carrying out a plan's faults, and ending them when the network heals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from consensus.effects import Effect, Persist
from consensus.events import Built, Event, Now
from consensus.records import OwnVote
from consensus.types import Certificate, Vote, VoteKind
from node.turn import PeerMessage
from simulator.node import Boundary
from simulator.plan import Fault
from simulator.witness import Witness

if TYPE_CHECKING:
    from simulator.cluster import Cluster
    from simulator.disk import Disk
    from simulator.node import Node
    from simulator.watch import Watch

DOOM_MS_MAX: Final = 700
"""A crash planned for a boundary that is not passed within this time comes anyway."""


class Faults(Witness):
    """The faults of one run; nothing begins or ends by itself once ``healed`` is set."""

    def __init__(self, cluster: Cluster, watch: Watch) -> None:
        self._cluster = cluster
        self._watch = watch
        self.counts: Counter[str] = Counter()
        self.healed = False
        self._down_ms: dict[int, int] = {}  #: node -> how long it stays down after the crash that is due
        self._nullified: dict[int, int] = {}  #: node -> highest view it gave up
        self._crash_all_after: Fault | None = None
        self._at_boundary: list[Fault] = []  #: what happens to the next blocks that end an epoch
        self._kinds: dict[str, Callable[[Fault], None]] = {
            "crash": self._crash,
            "crash-all": self._crash_all,
            "crash-all-after-nullify": self._await_nullify,
            "crash-at-boundary": self._await_boundary,
            "lose-finality": self._await_boundary,
            "pause": self._pause,
            "cut": self._cut,
            "isolate": self._isolate,
            "split": self._split,
            "clog": self._clog,
            "jump": self._jump,
            "drift": self._drift,
            "disk-full": self._disk_full,
            "sync-error": self._sync_error,
            "blocks-error": self._blocks_error,
            "flip": self._flip,
            "restore": self._restore,
            "restore-unmarked": self._restore,
        }

    def plan(self, faults: Sequence[Fault]) -> None:
        """Put them on the timeline."""
        for fault in faults:
            self._cluster.timeline.at(fault.at_ms, self._begin, fault)

    def _begin(self, fault: Fault) -> None:
        if not self.healed:
            self._kinds[fault.kind](fault)

    def _later(self, delay_ms: int, action: Callable[..., None], *arguments: object) -> None:
        def unless_healed() -> None:
            if not self.healed:
                action(*arguments)

        self._cluster.timeline.after(delay_ms, unless_healed)

    def _count(self, kind: str) -> None:
        self.counts[kind] += 1

    # -- crashes -----------------------------------------------------------------------------------

    def _crash(self, fault: Fault) -> None:
        node = self._cluster.nodes[fault.node]
        if node.up and node.doom is None:
            node.doom = Boundary(fault.where)
            self._down_ms[node.index] = fault.for_ms
            self._later(DOOM_MS_MAX, self._crash_now, node, node.life)

    def _crash_now(self, node: Node, life: int) -> None:
        if node.up and node.life == life:
            node.crash()

    def crashed(self, node: Node) -> None:
        """See Witness: who crashed comes back after a while."""
        down_ms = self._down_ms.pop(node.index, None)
        if down_ms is not None:
            self._count(f"crash {node.died_at}" if node.died_at else "crash")
            self._later(down_ms, self._start, node)

    def _start(self, node: Node) -> None:
        if not node.up:
            node.start()

    def _crash_all(self, fault: Fault) -> None:
        self._count(fault.kind)
        for node in self._cluster.nodes:
            if node.up:
                self._down_ms[node.index] = fault.for_ms
                node.crash()

    def _await_nullify(self, fault: Fault) -> None:
        self._crash_all_after = fault

    def _await_boundary(self, fault: Fault) -> None:
        self._at_boundary.append(fault)

    def stepped(self, node: Node, event: Event, effects: Sequence[Effect], now: Now) -> None:
        """See Witness: the leader of a block that ends an epoch dies with it, or nobody learns for a while who would
        make it final; everybody crashes right after a quorum gave up the same view."""
        if self._at_boundary and not self.healed and isinstance(event, Built) and event.header.next_valset_hash:
            self._end_epoch(node, self._at_boundary.pop(0))
        if self._crash_all_after is None or self.healed:
            return
        for effect in effects:
            if isinstance(effect, Persist) and isinstance(effect.record, OwnVote):
                vote = effect.record.vote
                if vote.kind is VoteKind.NULLIFY:
                    self._nullified[node.index] = vote.view
                    same = [index for index, view in self._nullified.items() if view == vote.view]
                    if 3 * len(same) > 2 * len(self._cluster.nodes):
                        fault, self._crash_all_after = self._crash_all_after, None
                        self._later(1, self._crash_all, fault)

    def _end_epoch(self, node: Node, fault: Fault) -> None:
        """The node has just built the block that ends an epoch."""
        self._count(fault.kind)
        if fault.kind == "lose-finality":
            self._cluster.loses = _makes_final
            self._cluster.timeline.after(fault.for_ms, self._lose_nothing)
        else:
            node.doom = Boundary(fault.where)
            self._down_ms[node.index] = fault.for_ms
            self._later(DOOM_MS_MAX, self._crash_now, node, node.life)

    def _lose_nothing(self) -> None:
        self._cluster.loses = lambda message: False

    # -- links, clocks, pauses -----------------------------------------------------------------------

    def _pause(self, fault: Fault) -> None:
        node = self._cluster.nodes[fault.node]
        if node.up and not node.paused:
            self._count(fault.kind)
            node.pause()
            self._later(fault.for_ms, node.resume)

    def _cut(self, fault: Fault) -> None:
        network = self._cluster.network
        self._count(fault.kind)
        network.cut(fault.node, fault.other)
        self._later(fault.for_ms, network.join, fault.node, fault.other)

    def _isolate(self, fault: Fault) -> None:
        network = self._cluster.network
        self._count(fault.kind)
        network.isolate(fault.node)
        self._later(fault.for_ms, network.rejoin, fault.node, list(range(network.n)))

    def _split(self, fault: Fault) -> None:
        """``amount`` is the set of those on one side, as bits."""
        network = self._cluster.network
        self._count(fault.kind)
        sides = [[i for i in range(network.n) if fault.amount >> i & 1 == side] for side in (0, 1)]
        for a in sides[0]:
            for b in sides[1]:
                network.cut(a, b)
                network.cut(b, a)
        for a in sides[0]:
            self._later(fault.for_ms, network.rejoin, a, sides[1])

    def _clog(self, fault: Fault) -> None:
        network = self._cluster.network
        self._count(fault.kind)
        network.clog(fault.node, fault.other)
        self._later(fault.for_ms, network.unclog, fault.node, fault.other)

    def _jump(self, fault: Fault) -> None:
        clock = self._cluster.nodes[fault.node].clock
        self._count(fault.kind)
        clock.jump(fault.amount)
        self._later(fault.for_ms, clock.jump, -fault.amount)

    def _drift(self, fault: Fault) -> None:
        self._count(fault.kind)
        self._cluster.nodes[fault.node].clock.drift(self._cluster.timeline.now_ms, fault.amount)

    # -- disks -----------------------------------------------------------------------------------------

    def _disk_full(self, fault: Fault) -> None:
        node = self._cluster.nodes[fault.node]
        self._count(fault.kind)
        node.disk.fill(fault.amount)
        self._later(fault.for_ms, self._repair, node)

    def _sync_error(self, fault: Fault) -> None:
        node = self._cluster.nodes[fault.node]
        self._count(fault.kind)
        node.disk.fail_vote_sync()
        self._later(fault.for_ms, self._repair, node)

    def _blocks_error(self, fault: Fault) -> None:
        node = self._cluster.nodes[fault.node]
        self._count(fault.kind)
        node.disk.fail_blocks()
        self._later(fault.for_ms, self._repair, node)

    def _repair(self, node: Node) -> None:
        """What an operator does: make room, and start the node again if it had stopped voting."""
        node.disk.mend()
        if node.up and node.failed:
            node.stop()
            node.start()

    def _flip(self, fault: Fault) -> None:
        """A bit of the vote log turns while the node is down; it must find out."""
        node = self._cluster.nodes[fault.node]
        self._count(fault.kind)
        if node.up:
            node.crash()
        node.disk.flip(node.random)
        self._later(fault.for_ms, self._start, node)

    def _restore(self, fault: Fault) -> None:
        """A copy of the disk is put back later; the marker every backup writes is there, or was lost."""
        node = self._cluster.nodes[fault.node]
        if node.up:
            node.stop()
            backup = node.disk.copied()
            node.start()
            self._later(fault.for_ms, self._put_back, node, backup, fault.kind)

    def _put_back(self, node: Node, backup: Disk, kind: str) -> None:
        self._count(kind)
        if node.up:
            node.crash()
        node.disk = backup
        node.disk.marker = kind == "restore"
        self._watch.rewound(node.index)
        self._later(100, self._start, node)


def _makes_final(message: PeerMessage) -> bool:
    return isinstance(message, Vote | Certificate) and message.kind is VoteKind.FINALIZE
