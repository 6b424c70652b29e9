"""A validator of the test cluster on a real disk: LevelDB, the vote log, and the daemon's own turn loop over them.

Every place where the process may end is a *boundary*: before and after each write and each sync of a store, before the
removal of the backup marker, before each single message. ``Faults`` counts them and ends the process at the n-th
(``crash_at``), or lets the n-th operation of a store fail (``fail_at``).

Two ways to end: ``kill`` leaves what the kernel has, ``power`` leaves what was synced and nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from consensus.events import Now
from consensus.records import MutedUntil, OwnVote
from consensus.types import Proposal, Vote, VoteKind
from ledger import wire
from ledger.block_port import BatchWrite, BlockWrite, ProposalWrite
from ledger.ports import BlockWrites
from ledger.types import Ack, Batch
from node.loop import TurnLoop
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.turn import Fetch, Notice, PeerMessage, Penalty
from node.validator import Validator
from simulator.cluster import Cluster
from simulator.node import Node
from store.blocks import LevelBlockStore
from store.errors import FailureKind, StoreError, StoreFailed
from store.faulty_files import SimulatedCrash
from store.files import OpenFile, OsFile, OsFiles
from store.state import LevelStateStore
from store.votelog import VoteLog
from tests.support.insurers import INSURERS

STORES = ("blocks", "state", "votes")


class Faults:
    """Counts the boundaries of a run and strikes at one of them."""

    def __init__(self) -> None:
        self.boundaries = 0
        self.names: list[str] = []  #: of each boundary so far
        self.may_fail: list[int] = []  #: those at which an operation of a store may fail
        self.crash_at: int | None = None
        self.fail_at: int | None = None
        self.number = errno.EIO  #: how it fails

    @property
    def crash_ahead(self) -> bool:
        """The process will end at a boundary that is still to come."""
        return self.crash_at is not None and self.boundaries < self.crash_at

    def boundary(self, name: str, *, store: bool = False) -> None:
        """The process may end here. ``store``: an operation of a store follows, which may fail."""
        self.boundaries += 1
        self.names.append(name)
        if store:
            self.may_fail.append(self.boundaries)
        if self.boundaries == self.crash_at:
            raise SimulatedCrash
        if self.boundaries == self.fail_at and store:
            raise OSError(self.number, "planted")


class FaultyOsFile:
    """``OpenFile`` of the operating system with boundaries."""

    def __init__(self, file: OpenFile, name: str, faults: Faults) -> None:
        self._file = file
        self._name = name
        self._faults = faults

    def write_at(self, offset: int, data: bytes) -> None:
        """See ``store.files``; half of it is there when the process ends, or the disk fails, within it."""
        try:
            self._faults.boundary(f"write {self._name}", store=True)
        except (SimulatedCrash, OSError):
            self._file.write_at(offset, data[: len(data) // 2])
            raise
        self._file.write_at(offset, data)

    def truncate(self, size: int) -> None:
        """See ``store.files``."""
        self._faults.boundary(f"truncate {self._name}", store=True)
        self._file.truncate(size)

    def datasync(self) -> None:
        """See ``store.files``."""
        self._faults.boundary(f"sync {self._name}", store=True)
        self._file.datasync()

    def close(self) -> None:
        """See ``store.files``."""
        self._file.close()


class FaultyOsFiles(OsFiles):
    """``Files`` of the operating system with boundaries in the files it opens."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def open(self, path: Path, *, create: bool = False) -> OsFile:
        """See ``store.files``."""
        opened = super().open(path, create=create)
        return FaultyOsFile(opened, path.name, self._faults)  # type: ignore[return-value]


class RealDisk:
    """LevelDB and the vote log in a directory, as ``simulator.disk.Disk`` is in memory.

    With ``power`` what was synced is copied beside it, and a crash goes back to the copies.
    """

    def __init__(self, home: Path, chain_id: bytes, owner: str, faults: Faults, said: Said, *, power: bool) -> None:
        self.home = home
        self.marker = False
        self.synced: list[bytes] = []
        self.error: StoreError | None = None  #: why it could not be opened
        self._chain_id = chain_id
        self._owner = owner
        self._faults = faults
        self._said = said
        self._power = power
        self._durable = home.with_name(f"{home.name}.durable")
        self._open: list[Callable[[], None]] = []
        home.mkdir()
        VoteLog.create(home / "votes", chain_id, owner).close()
        for store in STORES:
            (home / store).mkdir(exist_ok=True)
            if power:
                shutil.copytree(home / store, self._durable / store)

    def open_votes(self) -> VoteLog:
        """Everything, as the daemon opens it; the votes are handed out."""
        self.error = None
        try:
            blocks = LevelBlockStore(self.home / "blocks", self._chain_id)
            self._open.append(blocks.close)
            self.note_synced("blocks")
            states = LevelStateStore(self.home / "state")
            self._open.append(states.close)
            self.blocks, self.states = _Blocks(self, blocks), _States(self, states)
            votes = VoteLog.open(self.home / "votes", self._chain_id, self._owner, FaultyOsFiles(self._faults))
        except StoreError as error:
            self.error = error
            raise
        self._open += (votes._log.close, votes._head.close)
        self.note_synced("votes")
        self.votes = _Votes(self, votes)
        self._said.logged(votes.records())  # a sync that returned just before the end of the process
        self._said.unsynced.clear()
        return votes

    def crash(self, _: Random) -> None:
        """The process is gone: on disk stays what the kernel, or with ``power`` the disk, has."""
        while self._open:
            self._open.pop()()
        if self._power:
            for store in STORES:
                shutil.rmtree(self.home / store)
                shutil.copytree(self._durable / store, self.home / store)

    # -- for the stores ----------------------------------------------------------------------

    def guarded(self, name: str, write: Callable[[], None]) -> None:
        """A write of a LevelDB, which may not happen, and may fail."""
        try:
            self._faults.boundary(name, store=True)
        except OSError as error:
            raise StoreFailed(FailureKind.from_errno(error.errno), name, self.home) from error
        write()

    def note_synced(self, store: str) -> None:
        """What this store's files hold now survives a power cut, if one is still to come."""
        if self._power and self._faults.crash_ahead:
            shutil.rmtree(self._durable / store, ignore_errors=True)
            shutil.copytree(self.home / store, self._durable / store)

    def note_blocks(self, writes: Sequence[BlockWrite], *, sync: bool) -> None:
        """For ``Said``."""
        self._said.unsynced |= {write.digest for write in writes if isinstance(write, BatchWrite | ProposalWrite)}
        if sync:
            self.note_synced("blocks")
            self._said.stored |= self._said.unsynced
            self._said.unsynced.clear()
        self._faults.boundary("blocks: synced" if sync else "blocks: written")

    def note_votes(self, records: Sequence[bytes]) -> None:
        """For ``Said``."""
        self.note_synced("votes")
        self._said.logged(records)
        self._faults.boundary("votes: synced")

    def note_state(self, *, sync: bool) -> None:
        """A block's state is written."""
        if sync:
            self.note_synced("state")
        self._faults.boundary("state: written")


class _Through:
    """A store whose reads go through."""

    def __init__(self, disk: RealDisk, store: object) -> None:
        self._disk = disk
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Blocks(_Through):
    def commit(self, writes: Sequence[BlockWrite], *, sync: bool = True) -> None:
        self._disk.guarded("blocks: write", lambda: self._store.commit(writes, sync=sync))  # type: ignore[attr-defined]
        self._disk.note_blocks(writes, sync=sync)


class _States(_Through):
    def commit(self, writes: BlockWrites, *, sync: bool = False) -> None:
        self._disk.guarded("state: write", lambda: self._store.commit(writes, sync=sync))  # type: ignore[attr-defined]
        self._disk.note_state(sync=sync)


class _Votes(_Through):
    def __init__(self, disk: RealDisk, log: VoteLog) -> None:
        super().__init__(disk, log)
        self._log = log
        self._pending: list[bytes] = []

    def append(self, payloads: Sequence[bytes]) -> None:
        self._pending += payloads
        self._log.append(payloads)

    def sync(self) -> None:
        self._log.sync()
        pending, self._pending = self._pending, []
        self._disk.note_votes(pending)


class _Outbox:
    """Where the effects go; every message to every peer is a boundary of its own."""

    def __init__(self, node: DiskNode) -> None:
        self._node = node

    def send(self, sends: Sequence[tuple[str | None, PeerMessage]]) -> None:
        node = self._node
        for to, message in sends:
            for target in node.cluster.others(node.index) if to is None else (node.cluster.market.index(to),):
                node.faults.boundary(f"send {type(message).__name__}")
                node.said.sent(message)
                node.cluster.transmit(node.index, target, (node.encode(message),))

    def notify(self, notices: Sequence[Notice]) -> None:
        self._node.notices.extend(notices)

    def check(self, batch: Batch) -> None:
        self._node.cluster.timeline.after(self._node.pace.check_ms, self._node._checked, batch, self._node.life)

    def fetch(self, fetch: Fetch) -> None:
        self._node.fetcher.fetch(fetch)

    def penalise(self, penalty: Penalty) -> None:
        self._node._penalise(penalty)


class DiskNode(Node):
    """See the module text."""

    disk: RealDisk  # type: ignore[assignment]

    def __init__(self, cluster: Cluster, index: int, home: Path, *, power: bool = False) -> None:
        super().__init__(cluster, index)
        self.faults = Faults()
        self.said = Said(index)
        self.disk = RealDisk(home, cluster.market.genesis.chain_id, self.id, self.faults, self.said, power=power)
        self.error: StoreError | None = None  #: of the store that failed
        self._events = asyncio.new_event_loop()
        self._loop: TurnLoop | None = None

    @property
    def ended(self) -> bool:
        """The process is gone, or a store failed and nothing is driven any more until somebody restarts it."""
        return not self.up or self.failed

    def start(self) -> None:
        """From what is on disk; the process may end on the way."""
        self.error = None
        try:
            super().start()
        except SimulatedCrash:
            self.close()
        except StoreError as error:
            self.error = error
            self.close()
        else:
            self.error = self.disk.error

    def _start_again(self, life: int) -> None:
        """The test does it."""

    def _assemble(self, nonce: bytes, now: Now) -> Validator:
        validator = super()._assemble(nonce, now)
        self._loop = TurnLoop(
            validator=validator,
            mailbox=Mailbox(),
            blocks=self.disk.blocks,
            imports=self.disk.states,
            votes=self.disk.votes,
            outbox=_Outbox(self),
            metrics=Metrics(),
            remove_marker=self._remove_marker,
            now=self.now,
        )
        return validator

    def _remove_marker(self) -> None:
        self.faults.boundary("marker: remove")
        self.disk.marker = False

    def _turn(self) -> None:
        """One turn of the daemon's own loop."""
        loop, inbox = self._loop, self._inbox
        assert loop is not None
        self._inbox = []
        try:
            self._events.run_until_complete(loop._turn(inbox))
        except StoreError as error:
            self.error = error
            raise
        self._more = loop._executing or loop._effects_wait
        self._schedule_next()

    def close(self) -> None:
        """The process is gone."""
        if self._loop is not None:
            self._loop._io.shutdown(wait=True)
        self.up = False
        self.life += 1
        self.disk.crash(self.random)

    def crash(self) -> None:
        """The power fails, or the process is killed."""
        if self._loop is not None:
            self._loop._io.shutdown(wait=True)
        super().crash()

    def dispose(self) -> None:
        """The test is over."""
        self.close()
        self._events.close()


class Said:
    """Everything one validator ever put on disk or on the wire, through all restarts, and what must hold of it.

    Arithmetic of its own; it knows no rule of the product.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        self._votes: dict[tuple[VoteKind, int], bytes] = {}  #: (kind, view) -> digest
        self._acks: dict[tuple[str, int, int], bytes] = {}
        self._blocks: dict[int, bytes] = {}  #: view -> digest of the own proposal
        self._batches: dict[tuple[int, int], bytes] = {}  #: own position -> digest
        self._records: set[bytes] = set()
        self.stored: set[bytes] = set()  #: digests of batches and proposals that are durable
        self.unsynced: set[bytes] = set()
        self.muted_until = 0

    def logged(self, records: Sequence[bytes]) -> None:
        """These records are durable."""
        self._records |= set(records)
        for raw in records:
            match wire.decode_record(raw):
                case OwnVote(vote):
                    self._voted(vote)
                case MutedUntil() as muted:
                    self.muted_until = max(self.muted_until, muted.view)
                case wire.AckedRecord() as acked:
                    self._once(self._acks, (acked.origin, acked.incarnation, acked.sequence), acked.digest)

    def sent(self, message: PeerMessage) -> None:
        """This message leaves now."""
        match message:
            case Vote():
                self._vote_leaves(message)
            case Proposal():
                self._vote_leaves(message.vote)
                if message.vote.signer == self._index:
                    self._once(self._blocks, message.header.view, message.header.digest)
                    assert message.header.digest in self.stored, "a block left before it was stored"
            case Ack():
                record = wire.AckedRecord(message.origin, message.incarnation, message.sequence, message.digest)
                assert wire.encode_record(record) in self._records, "an acknowledgement left before it was logged"
                assert message.digest in self.stored, "an acknowledgement left before its batch was stored"
                self._once(self._acks, (message.origin, message.incarnation, message.sequence), message.digest)
            case Batch() if message.header.origin == INSURERS[self._index].id:
                assert message.header.digest in self.stored, "an own batch left before it was stored"
                header = message.header
                self._once(self._batches, (header.incarnation, header.sequence), header.digest)

    def _vote_leaves(self, vote: Vote) -> None:
        if vote.signer == self._index:
            assert wire.encode_record(OwnVote(vote)) in self._records, "a vote left before it was logged"
            self._voted(vote)

    def _voted(self, vote: Vote) -> None:
        if vote.signer != self._index:
            return
        self._once(self._votes, (vote.kind, vote.view), vote.digest)
        notarized = self._votes.get((VoteKind.NOTARIZE, vote.view))
        finalized = self._votes.get((VoteKind.FINALIZE, vote.view))
        nullified = (VoteKind.NULLIFY, vote.view) in self._votes
        assert not (nullified and finalized is not None), f"X and F in view {vote.view}"
        assert None in (notarized, finalized) or notarized == finalized, f"N and F for two blocks in view {vote.view}"

    def _once(self, said: dict, key: object, digest: bytes) -> None:  # type: ignore[type-arg]
        assert said.setdefault(key, digest) == digest, f"two different things said at {key}"
