"""One validator and its driver: the same turns as ``node.loop`` drives, carried out in virtual time.

A turn: what lies in the inbox goes to the validator, its effects are carried out (blocks, vote log, sends), finalized
blocks are executed, and the next turn comes when something arrives, when the deadline is reached, or at once if there
is more to do. The power may fail at every boundary between two effects (``Boundary``).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from consensus.core import Core
from consensus.effects import Effect
from consensus.events import Event, Now
from contracts.dispatch import CONTRACTS
from ledger.block_port import FinalizedWrite
from ledger.ports import StoreError
from ledger.snapshot_making import SnapshotShelf
from ledger.state import State
from ledger.types import Batch, Block, Envelope
from ledger.wire import WireError
from node import peer_wire
from node.assembly import Settings, assemble
from node.epoch import Epoch
from node.instance import Instance
from node.opening import open_state
from node.turn import (
    AlarmNotice,
    BatchesFetched,
    BlocksFetched,
    Input,
    Notice,
    PeerConnected,
    PeerMessage,
    PeerMessages,
    Penalty,
    Submitted,
    Tick,
    Turn,
)
from node.validator import Validator
from simulator.clock import Clock
from simulator.disk import Disk
from simulator.fetching import Fetcher
from simulator.serving import Answer, StoredBlocks, block_at, serve
from simulator.versions import later_form, later_packet
from store.errors import VoteLogDamaged
from store.faulty_files import SimulatedCrash
from store.votelog import VoteLog

if TYPE_CHECKING:
    from node.turn import Fetch
    from simulator.cluster import Cluster

SETTINGS: Final = Settings(delay_ms=100, retry_ms=200, skip_ms=1_500, timeout_ms_max=3_000, heartbeat_ms=5_000)
"""A fifth of the daemon's: the same proportions, more views a second."""

MUTE_MS: Final = 2_000
"""Who sent what no honest node sends is not listened to for so long."""

START_AGAIN_MS: Final = 250
"""A process that could not start is started again after this."""

Send = tuple[int | None, PeerMessage]


class Boundary(enum.StrEnum):
    """Where the power may fail within a turn."""

    BEFORE_BLOCKS = "before-blocks"
    IN_BLOCK_SYNC = "in-block-sync"
    BETWEEN_SYNCS = "between-syncs"
    IN_VOTE_SYNC = "in-vote-sync"
    BEFORE_SENDS = "before-sends"
    BETWEEN_SENDS = "between-sends"
    AFTER_SENDS = "after-sends"
    IN_EXECUTION = "in-execution"
    IN_ROTATION = "in-rotation"


class Pace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast a node works, ms."""

    turn_ms: int = 0
    """From the first arrival to the turn that takes it."""
    sync_ms: int = 0
    """A turn that writes holds its sends and the next turn back for so long."""
    check_ms: int = 1
    """Until a batch is checked."""
    slice_envelopes: int = 64
    """Executed in one turn."""
    rotate_bytes: int = 32 << 20
    """The vote log is rewritten above this."""


class Node:
    """A validator, its disk and its clocks. The Byzantine ones derive from it."""

    honest = True

    def __init__(self, cluster: Cluster, index: int) -> None:
        self.cluster = cluster
        self.index = index
        self.id = cluster.market.member(index)
        self.keys = cluster.market.keyring(index)
        self.made = 1  #: how often its keys were made: again once they were lost
        self.random = Random(f"{cluster.seed}/node/{index}")
        self.clock = Clock()
        self.pace = Pace()
        self.settings = SETTINGS
        self.disk = Disk(cluster.market.genesis.chain_id, self.id)
        self.fetcher = Fetcher(self)
        self.up = False
        self.life = 0  #: counts starts; what was on its way to an earlier life is lost
        self.failed = False  #: a store refused: nothing is driven any more, questions are answered
        self.damaged = False  #: its vote log is, so it only observes
        self.doom: Boundary | None = None  #: where the power will fail
        self.doom_sends = 0  #: after how many peers more than one, where it fails between two sends
        self.died_at = ""  #: where the last crash was
        self.epoch = 0  #: the one its validator is in
        self.core: Core  #: of that epoch, once it was started
        self.later = False  #: it speaks as a later minor version does
        self.paused = False
        self.notices: list[Notice] = []
        self.penalties: list[Penalty] = []
        self.alarms: list[AlarmNotice] = []
        self._inbox: list[Input] = []
        self._muted_until: dict[int, int] = {}
        self._turn_at: int | None = None
        self._busy_until = 0
        self._more = False
        self._installs = False

    # -- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, or start again, from what is on disk."""
        cluster, now = self.cluster, self.now()
        self.life += 1
        self._inbox.clear()
        self._muted_until.clear()
        self._turn_at, self._busy_until, self._more = None, 0, True
        self.fetcher.forget()
        self.votes: VoteLog | None = None
        self.failed, self.damaged, problem = False, False, ""
        try:
            self.votes = self.disk.open_votes()
            self._compare_votes(self.votes)
        except VoteLogDamaged as error:
            self.damaged, problem = True, str(error)
        except StoreError as error:  # the process ends with these words, and its supervisor starts it again
            cluster.witness.stopped_voting(self, str(error))
            cluster.timeline.after(START_AGAIN_MS, self._start_again, self.life)
            return
        market, disk = cluster.market, self.disk
        self.state: State = open_state(market.genesis, disk.states, disk.blocks, market.verify_many)
        final = StoredBlocks(disk.blocks, self.state)
        self.shelf = SnapshotShelf(self.state, final, lambda: cluster.timeline.now_ms / 1000)
        nonce = self.life.to_bytes(16, "big") + self.index.to_bytes(16, "big")
        self.validator = self._assemble(nonce, now)
        self.up = True
        cluster.witness.started(self)
        cluster.witness.entered(self)
        if problem:
            cluster.witness.stopped_voting(self, problem)
        self.validator.start(now, nonce, restored_from_backup=self.disk.marker)
        cluster.connect(self)
        self._schedule(cluster.timeline.now_ms)

    def _compare_votes(self, votes: VoteLog) -> None:
        """Whatever was synced has to be there; the last turn's records may be, if its sync came through."""
        held = set(votes.records())
        self.cluster.witness.reopened(self, sum(record not in held for record in self.disk.synced))

    def _start_again(self, life: int) -> None:
        if life == self.life and not self.up:
            self.start()

    def _assemble(self, nonce: bytes, now: Now) -> Validator:
        market = self.cluster.market
        validator = assemble(
            genesis=market.genesis,
            organisation=self.id,
            voting=self.votes is not None,
            keys=self.keys,
            verify=market.verify,
            state=self.state,
            state_store=self.disk.states,
            blocks=self.disk.blocks,
            contracts=CONTRACTS,
            log_records=self.votes.records() if self.votes is not None else (),
            settings=self.settings,
            origin_nonce=nonce,
            now=now,
        )
        epochs, self.epoch = validator._epochs, validator.epoch.number
        begin = epochs.instance
        self._observe(validator._present)

        def observed(epoch: Epoch, now: Now) -> Instance:
            instance = begin(epoch, now)
            self._observe(instance)
            return instance

        epochs.instance = observed  # type: ignore[method-assign]
        return validator

    def _observe(self, instance: Instance) -> None:
        """The core of the present epoch; those before it rest."""
        core = self.core = instance.core
        self.epoch = instance.number
        step = core.step

        def observed(event: Event, now: Now) -> list[Effect]:
            if core is not self.core:
                return step(event, now)  # of an epoch that is over
            witness = self.cluster.witness
            witness.stepping(self, event, now)
            effects = step(event, now)
            witness.stepped(self, event, effects, now)
            return effects

        core.step = observed  # type: ignore[method-assign]

    def crash(self) -> None:
        """The power fails: memory is gone, and what was not synced may be."""
        if not self.up:
            return
        self.up = False
        self.doom = None
        self.life += 1
        self.paused = False
        self.disk.crash(self.random)
        self.cluster.witness.crashed(self)
        self.died_at = ""

    def stop(self) -> None:
        """It ends in good order: everything is on disk."""
        if self.up:
            if self.votes is not None and not self.failed:
                self.votes.close()
            self.up = self.paused = False
            self.life += 1
            self.cluster.witness.crashed(self)

    def now(self) -> Now:
        """What its clocks show."""
        return self.clock.now(self.cluster.timeline.now_ms)

    # -- what comes in -----------------------------------------------------------------------

    def give(self, item: Input) -> None:
        """Put an input into the inbox; a turn will take it."""
        if self.up and not self.failed:
            self._inbox.append(item)
            self._schedule(self.cluster.timeline.now_ms + self.pace.turn_ms)

    def block(self, height: int) -> Block:
        """A final block as it is served; LookupError where a part of it is not here."""
        block = block_at(self.disk.blocks, height)
        if block is None:
            raise LookupError(f"block {height} is not at node {self.index}")
        return block

    @property
    def finalized_height(self) -> int:
        """Highest final block; 0 while it was never started."""
        return self.validator.finalized_height if self.life else 0

    @property
    def signing(self) -> str:
        """``signing``, ``muted``, ``starting``, ``stopped``, ``observer``; or ``down``."""
        return str(self.validator.status()["signing"]) if self.up and not self.failed else "down"

    def give_to_life(self, life: int, item: Input) -> None:
        """An input on its way, unless the node was started again meanwhile."""
        if life == self.life:
            self.give(item)

    def submit(self, *envelopes: Envelope) -> None:
        """Envelopes from clients, admitted."""
        self.give(Submitted(envelopes))

    def receive(self, sender: int, packet: Sequence[bytes]) -> None:
        """A packet arrives; bytes no honest node sends cost their sender its stream."""
        if not self.up or self.cluster.timeline.now_ms < self._muted_until.get(sender, 0):
            return
        try:
            messages = [value for raw in packet if (value := self.cluster.decode(raw)) is not None]
        except WireError as error:
            self._penalise(Penalty(self.cluster.market.member(sender), str(error)))
            return
        self.give(PeerMessages(self.cluster.market.member(sender), messages))

    # -- turns -------------------------------------------------------------------------------

    def _schedule(self, at_ms: int) -> None:
        at_ms = max(at_ms, self._busy_until)
        if self._turn_at is None or at_ms < self._turn_at:
            self._turn_at = at_ms
            self.cluster.timeline.at(at_ms, self._due, at_ms, self.life)

    def _due(self, at_ms: int, life: int) -> None:
        if life != self.life or at_ms != self._turn_at:
            return
        self._turn_at = None
        if not self.up or self.paused or self.failed:
            return
        try:
            self._turn()
        except SimulatedCrash:
            self.crash()
        except StoreError as error:
            self.failed = True
            self.cluster.witness.stopped_voting(self, str(error))

    def _turn(self) -> None:
        validator, now = self.validator, self.now()
        inbox, self._inbox = self._inbox, []
        for item in inbox:
            if isinstance(item, PeerMessages):
                self.cluster.witness.delivered(self, self.cluster.market.index(item.sender), item.messages)
            elif isinstance(item, BatchesFetched):
                self.cluster.witness.delivered(self, self.cluster.market.index(item.sender), item.batches)
            elif isinstance(item, BlocksFetched):
                batches = [batch for block in item.blocks for batch in block.batches]
                self.cluster.witness.delivered(self, self.cluster.market.index(item.sender), batches)
            validator.handle(item, now)
        if not inbox:
            validator.handle(Tick(), now)
        turn = validator.take_turn()
        self._carry_out(turn)
        if self._installs:  # the same process opens its stores again, on the snapshot that has come in
            self.stop()
            self.start()
            return
        self._execute(now)
        self._more = self._more or any(isinstance(write, FinalizedWrite) for write in turn.block_writes)
        self._schedule_next()

    def _execute(self, now: Now) -> None:
        validator, before, epoch = self.validator, self.validator.executed_height, self.epoch
        more = True
        for _ in range(self.pace.slice_envelopes):
            more = validator.execute_slice(now)
            if not more:
                break
        if self.epoch != epoch:
            self.cluster.witness.entered(self)
        if validator.executed_height != before:
            self._pass(Boundary.IN_EXECUTION)
        self._more = more or validator.executed_height != before

    def _schedule_next(self) -> None:
        now_ms = self.cluster.timeline.now_ms
        if self._more or self._inbox:
            self._schedule(now_ms + self.pace.turn_ms)
            return
        deadline_ms = self.validator.deadline_ms
        if deadline_ms is not None:
            self._schedule(max(self.clock.when(deadline_ms), now_ms + 1))

    def _carry_out(self, turn: Turn) -> None:
        """In the order of ``node.turn``."""
        cluster, wrote = self.cluster, bool(turn.block_writes or turn.vote_records)
        self._pass(Boundary.BEFORE_BLOCKS)
        if turn.block_writes:
            if turn.sync_blocks and self.doom is Boundary.IN_BLOCK_SYNC:
                self.disk.write_blocks(turn.block_writes, sync=False)
                self._pass(Boundary.IN_BLOCK_SYNC)
            self.disk.write_blocks(turn.block_writes, sync=turn.sync_blocks)
        if turn.vote_records:
            self._pass(Boundary.BETWEEN_SYNCS)
            self._log(turn.vote_records)
        if turn.remove_backup_marker:
            self.disk.marker = False
        cluster.note(self.index, turn)
        index = cluster.market.index
        sends = [(None if to is None else index(to), message) for to, message in turn.sends]
        self._send(sends, self.pace.sync_ms if wrote else 0)
        for penalty in turn.penalties:
            self._penalise(penalty)
        for batch in turn.checks:
            cluster.timeline.after(self.pace.check_ms, self._checked, batch, self.life)
        for fetch in turn.fetches:
            self.fetcher.fetch(fetch)
        self.notices.extend(turn.notices)
        self.alarms += [notice for notice in turn.notices if isinstance(notice, AlarmNotice)]
        for rows in turn.import_rows:
            self.disk.states.import_rows(rows)
        cluster.witness.turned(self, turn)
        self._installs = turn.install
        if wrote:
            self._busy_until = cluster.timeline.now_ms + self.pace.sync_ms

    def _log(self, records: Sequence[bytes]) -> None:
        if self.votes is None:
            raise AssertionError("an observer has something to sign")
        if self.doom is Boundary.IN_VOTE_SYNC:
            self.doom = None
            self.died_at = Boundary.IN_VOTE_SYNC.value
            self.disk.crash_in_vote_sync(self.random)
        self.votes.append(records)
        self.votes.sync()
        self.disk.synced += records
        if self.votes.size_bytes > self.pace.rotate_bytes:
            live = self.validator.live_records()
            if self.doom is Boundary.IN_ROTATION:
                self.doom, self.died_at = None, Boundary.IN_ROTATION.value
                self.disk.crash_in_rotation(self.random)
            self.votes.rotate(live)
            self.disk.synced = list(live)
            self.cluster.witness.rotated(self)

    def _send(self, sends: Sequence[Send], after_ms: int) -> None:
        """What a turn has for one peer travels together; the power may fail between two peers."""
        cluster = self.cluster
        packets: dict[int, list[bytes]] = {}
        self._pass(Boundary.BEFORE_SENDS)
        for to, message in self.outgoing(sends):
            cluster.witness.sent(self, to, message)
            if cluster.loses(message):
                continue
            raw = self.encode(message)
            for target in cluster.others(self.index) if to is None else (to,):
                packets.setdefault(target, []).append(raw)
        for at, (target, packet) in enumerate(packets.items()):
            if self.doom is not None and at > self.doom_sends:
                self._pass(Boundary.BETWEEN_SENDS)
            cluster.transmit(self.index, target, tuple(later_packet(packet) if self.later else packet), after_ms)
        self._pass(Boundary.AFTER_SENDS)

    def _pass(self, boundary: Boundary) -> None:
        if self.doom is boundary:
            self.died_at = boundary.value
            raise SimulatedCrash

    def _penalise(self, penalty: Penalty) -> None:
        self.penalties.append(penalty)
        peer = self.cluster.market.index(penalty.peer)
        self._muted_until[peer] = self.cluster.timeline.now_ms + MUTE_MS
        self.cluster.network.dial_again(peer, self.index, MUTE_MS + 1)
        self.cluster.witness.penalised(self, penalty)

    def _checked(self, batch: Batch, life: int) -> None:
        if life == self.life:
            self.give(self.cluster.check(batch))

    # -- for others ----------------------------------------------------------------------------

    def encode(self, message: PeerMessage) -> bytes:
        """As it travels."""
        raw = peer_wire.encode(message)
        return later_form(raw) if self.later else raw

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """What leaves of what a turn sends: all of it, unless a subclass lies."""
        return sends

    def serve(self, fetch: Fetch) -> Answer:
        """What it answers to whoever lacks something; a node whose store failed still reads."""
        return serve(self.disk.blocks, self.shelf, fetch)

    def connected(self, peer: int) -> None:
        """Its stream to a peer is up."""
        self.give(PeerConnected(self.cluster.market.member(peer)))

    def pause(self) -> None:
        """It stands still, as under a long garbage collection; what arrives waits."""
        self.paused = True

    def resume(self) -> None:
        """It goes on."""
        self.paused = False
        self._turn_at = None
        self._schedule(self.cluster.timeline.now_ms)
