"""Carrying out a plan's faults, and ending them when the network heals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from consensus.effects import Effect, Persist
from consensus.events import Built, Event, Now
from consensus.records import OwnVote
from consensus.types import Certificate, Proposal, Vote, VoteKind
from node.turn import PeerMessage
from simulator.disk import Disk
from simulator.node import Boundary
from simulator.plan import Fault
from simulator.witness import Witness

if TYPE_CHECKING:
    from simulator.cluster import Cluster
    from simulator.node import Node
    from simulator.watch import Watch

MARKED: Final = "marked"
"""A copy that was made as backups are: with the marker that says so."""

RETRY_MS: Final = 100

AWAY_MS: Final = 1_200
"""So much longer than the node is unheard is the other one away."""

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
        self.across: set[int] = set()  #: nodes on whose disks an earlier epoch was put back
        self.after: set[int] = set()  #: nodes on whose disks a copy taken after a hand-over was put back
        self.lost: set[int] = set()  #: nodes whose disk was lost after a hand-over
        self._at_boundary: list[Fault] = []  #: what happens to the next blocks that end an epoch
        #: node -> what happens after it has entered a later epoch than this
        self._hand_over: dict[int, list[tuple[int, Callable[[], None]]]] = {}
        self._kinds: dict[str, Callable[[Fault], None]] = {
            "crash": self._crash,
            "crash-all": self._crash_all,
            "crash-all-after-nullify": self._await_nullify,
            "crash-at-boundary": self._await_boundary,
            "lose-finality": self._await_boundary,
            "lose-proposals": self._lose_proposals,
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
            "restore-across": self._restore_across,
            "restore-after": self._await_hand_over,
            "lose-disk": self._await_hand_over,
            "unheard": self._await_unheard,
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
            node.doom, node.doom_sends = Boundary(fault.where), fault.amount
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
            node.doom, node.doom_sends = Boundary(fault.where), fault.amount
            self._down_ms[node.index] = fault.for_ms
            self._later(DOOM_MS_MAX, self._crash_now, node, node.life)

    def _lose_proposals(self, fault: Fault) -> None:
        """Every leader is too slow for a while: batches are acknowledged, and wait to be listed."""
        self._count(fault.kind)
        self._cluster.loses = _proposes
        self._cluster.timeline.after(fault.for_ms, self._lose_nothing)

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
        self._replace(node, backup, marked=kind == "restore")

    def _replace(self, node: Node, disk: Disk, *, marked: bool) -> None:
        if node.up:
            node.crash()
        node.disk = disk
        node.disk.marker = marked
        self._watch.rewound(node.index)
        self._later(100, self._start, node)

    # -- disks, over a hand-over -------------------------------------------------------------------------

    def entered(self, node: Node) -> None:
        """See Witness: what waited for a hand-over happens a while after it."""
        for waiting in list(self._hand_over.get(node.index, ())):
            epoch, action = waiting
            if node.epoch > epoch and not self.healed:
                self._hand_over[node.index].remove(waiting)
                action()

    def _after_hand_over(self, node: Node, epoch: int, action: Callable[[], None]) -> None:
        self._hand_over.setdefault(node.index, []).append((epoch, action))

    def _restore_across(self, fault: Fault) -> None:
        """A copy of an epoch is put back in a later one."""
        node = self._cluster.nodes[fault.node]
        if not node.up:
            self._later(RETRY_MS, self._restore_across, fault)
            return
        node.stop()
        backup, epoch = node.disk.copied(), node.epoch
        self._after_hand_over(node, epoch, lambda: self._later(fault.for_ms, self._put_back_across, fault, backup))
        node.start()

    def _put_back_across(self, fault: Fault, backup: Disk) -> None:
        self._count(f"restore of an earlier epoch, {fault.where}")
        self.across.add(fault.node)
        self._replace(self._cluster.nodes[fault.node], backup, marked=fault.where == MARKED)

    def _await_hand_over(self, fault: Fault) -> None:
        node = self._cluster.nodes[fault.node]
        act = self._restore_after if fault.kind == "restore-after" else self._lose_disk
        self._after_hand_over(node, node.epoch, lambda: self._later(fault.for_ms, act, fault))

    def _await_unheard(self, fault: Fault) -> None:
        node = self._cluster.nodes[fault.node]
        self._after_hand_over(node, node.epoch, lambda: self._later(fault.amount, self._unheard, fault))

    def _unheard(self, fault: Fault) -> None:
        """Soon after a hand-over nobody hears what a node says, though it hears them; and another one is away."""
        network = self._cluster.network
        self._count(fault.kind)
        network.isolate(fault.other)
        everybody = list(range(network.n))
        for to in everybody:
            if to != fault.node:
                network.cut(fault.node, to)
        self._later(fault.for_ms, network.rejoin, fault.node, [to for to in everybody if to != fault.other])
        self._later(fault.for_ms + AWAY_MS, network.rejoin, fault.other, everybody)

    def _restore_after(self, fault: Fault) -> None:
        """A copy taken right after a hand-over is put back a while later."""
        node = self._cluster.nodes[fault.node]
        if not node.up or node.failed:
            self._later(RETRY_MS, self._restore_after, fault)
            return
        node.stop()
        backup = node.disk.copied()
        node.start()
        self._later(2 * fault.for_ms, self._put_back_after, fault, backup)

    def _put_back_after(self, fault: Fault, backup: Disk) -> None:
        self._count(f"restore after a hand-over, {fault.where}")
        self.after.add(fault.node)
        self._replace(self._cluster.nodes[fault.node], backup, marked=fault.where == MARKED)

    def _lose_disk(self, fault: Fault) -> None:
        """All is gone but, perhaps, the keys; ``amount``: they, too."""
        node, market = self._cluster.nodes[fault.node], self._cluster.market
        self._count(f"disk lost, {'with its keys' if fault.amount else 'keys kept'}, {fault.where}")
        self.lost.add(fault.node)
        if fault.amount:
            node.made += 1
            node.keys = market.keyring(node.index, node.made)
        self._replace(node, Disk(market.genesis.chain_id, node.id), marked=fault.where == MARKED)


def _proposes(message: PeerMessage) -> bool:
    return isinstance(message, Proposal)


def _makes_final(message: PeerMessage) -> bool:
    return isinstance(message, Vote | Certificate) and message.kind is VoteKind.FINALIZE
