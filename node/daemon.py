"""The validator's daemon: opens its home, joins the pure validator with the world, and ends cleanly.

    open     lock the home, check genesis, keys and certificate, open the stores, restore the validator
    start    listen, dial the others, drive turns
    run      until SIGTERM or Ctrl-C, or until a snapshot has come in: then it is opened again, in the same process
    close    take nothing new, finish the turn, sync, close

Whatever keeps it from starting is one line that says what to do. A damaged vote log keeps it from voting only: it
observes. A store that fails while it runs ends voting, not reading (node/loop.py). Anything else that fails inside is
a defect and ends the process, exit status 1.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import signal
import time
from typing import Any, Final

import uvloop

from consensus.messages import NONCE_BYTES
from contracts.dispatch import CONTRACTS
from crypto import keyfile, tls
from crypto.keys import verify
from ledger.cards import GenesisError
from ledger.evidence import breaches
from ledger.ports import StoreError as StateStoreError
from ledger.snapshot_making import SnapshotShelf
from lossbook.v1 import blocks_pb2_grpc, gateway_pb2_grpc, peer_pb2_grpc, query_pb2_grpc, sealed_pb2_grpc
from node import clock
from node.admission import RoomKeeper
from node.assembly import assemble
from node.checking import BatchChecker
from node.config import NodeConfig
from node.diagnosis import Diagnosis
from node.epoch import Sign
from node.fetcher import Fetcher
from node.gateway import GatewayServicer, Voucher
from node.intake import Intake
from node.key_keeper import KeyKeeper
from node.loop import TurnLoop
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.neighbours import Neighbours, others_of
from node.outbox import NodeOutbox
from node.own_home import OwnHome, StartError, at_home
from node.peers import Peers, PeerServicer
from node.reader import NodeReader
from node.receipt_index import ReceiptIndex
from node.status import NodeStatus
from node.tracking import Tracker
from node.turn import Tick
from services.auth import Authenticator
from services.blocks import BlocksServicer
from services.health import Health
from services.http import HttpServer
from services.identity import Identity
from services.logs import configure, get_logger
from services.members import Members, members_of
from services.own_home import NoCertificate
from services.query import QueryServicer
from services.sealed import SealedServicer
from services.server import ListenError, Server
from services.settings import SettingError
from services.state_reader import FinalHeaders
from services.stored_chain import StoredChain
from services.sync import SyncServicer
from services.tasks import Tasks
from services.verification import VerificationPool
from store.backup import clear_backup_marker, has_backup_marker
from store.errors import StoreError

READY_EVERY_S: Final = 0.25
"""How often readiness is looked at."""

GC_THRESHOLDS: Final = (50_000, 50, 100)
"""Automatic collection at its defaults costs 2 microseconds an operation; hot values are not tracked (``gc=False``)."""

READING: Final = (
    "lossbook.v1.QueryService",
    "lossbook.v1.BlocksService",
    "lossbook.v1.SyncService",
    "lossbook.v1.SealedService",
)
"""Answered as long as the daemon runs, also while it does not vote."""

_log = get_logger("node")


class Node:
    """One validator's daemon. ``Node.open``, ``start``, then ``close``; ``run`` does all of it."""

    def __init__(self, config: NodeConfig, home: OwnHome) -> None:
        """Join the parts; use ``open``."""
        self._config = config
        self._opened = home
        self._home = home.stores.home
        self._own = self._home.organisation
        self._genesis, self._stores, self._state = home.genesis, home.stores, home.state
        self._vote_problem = home.vote_problem
        self._began = time.monotonic()
        offset_ms = config.settings.unsafe.clock_offset_ms
        self._now = clock.wrong_by(offset_ms) if offset_ms else clock.now
        self.metrics = Metrics()
        self._mailbox = Mailbox()
        self._health = Health(reading=READING)
        self._tasks = Tasks()
        self._index = ReceiptIndex(self._home.index, self._genesis.chain_id)
        self._pool = VerificationPool(config.settings.verification.workers, lambda _: self.metrics.workers_died.inc())
        self._build()

    @classmethod
    def open(cls, config: NodeConfig, passphrase: str | None) -> Node:
        """Everything from disk.

        Raises:
            StartError, GenesisError, KeyFileError, TlsIdentityError, StoreError: each says what to do.
        """
        home = OwnHome.open(config.home, passphrase)
        try:
            return cls(config, home)
        except BaseException:
            home.close()
            raise

    # -- joining the parts -------------------------------------------------------------------

    def _build(self) -> None:
        genesis, stores, settings = self._genesis, self._stores, self._config.settings
        voting = stores.votes is not None
        for organisation, count in breaches(self._state).items():
            self.metrics.breaches.labels(organisation).set(count)
        head = self._state.head
        added = self._index.catch_up(head.receipt_count if head is not None else 0, stores.state.receipt_blobs)
        if added:
            _log.info("indexed receipts", count=added)
        self.validator = assemble(
            genesis=genesis,
            organisation=self._own,
            voting=voting,
            keys=self._opened.keys,
            verify=verify,
            state=self._state,
            state_store=stores.state,
            blocks=stores.blocks,
            contracts=CONTRACTS,
            log_records=stores.votes.records() if stores.votes is not None else (),
            settings=settings.consensus.settings(),
            origin_nonce=secrets.token_bytes(NONCE_BYTES),
            now=self._now(),
        )
        self._members = Members(genesis.chain_id, members_of(self._state))
        self._identity = Identity(
            self._own,
            (self._home.tls / "leaf.pem").read_bytes(),
            (self._home.tls / "leaf.key").read_bytes(),
            self._members,
        )
        others = others_of(self._members, self._own)
        self._chain = StoredChain(stores.blocks, lambda: stores.blocks.finalized_height() or genesis.height)
        self._peers = Peers(others, self._identity, self._mailbox, self.metrics, self._tasks)
        self._peer_servicer = PeerServicer(
            others,
            self._mailbox,
            self.metrics,
            on_heard=self._peers.wake,
        )
        self._fetcher = Fetcher(others, self._identity, self._mailbox, self.metrics, self._tasks)
        followers = (self._peers, self._peer_servicer, self._fetcher)
        self._neighbours = Neighbours(self._own, self._state, self._members, followers)
        self._tracker = Tracker(on_final=self._on_final)
        self._outbox = NodeOutbox(
            peers=self._peers,
            servicer=self._peer_servicer,
            fetcher=self._fetcher,
            checker=BatchChecker(genesis.chain_id, self._pool),
            tracker=self._tracker,
            index=self._index,
            mailbox=self._mailbox,
            metrics=self.metrics,
            on_finalized=self._chain.grown.beat,
            on_members=self._neighbours.follow,
            tasks=self._tasks,
        )
        self.loop = TurnLoop(
            validator=self.validator,
            mailbox=self._mailbox,
            blocks=stores.blocks,
            imports=stores.state,
            votes=stores.votes,
            outbox=self._outbox,
            metrics=self.metrics,
            remove_marker=lambda: clear_backup_marker(self._home.path),
            now=self._now,
        )
        self._keeper = KeyKeeper(
            organisation=self._own,
            keys=self._opened.keys,
            state=self._state,
            tasks=self._tasks,
            on_made=lambda: self._mailbox.put_now(Tick()),
        )
        self._diagnosis = Diagnosis(
            own=self._own,
            validator=self.validator,
            loop=self.loop,
            peers=self._peers,
            servicer=self._peer_servicer,
            settings=settings.consensus.settings(),
            observing=self._vote_problem,
            keeper=self._keeper,
            neighbours=self._neighbours,
            certificate_ends=self._opened.certificate_ends,
            home=self._home.path,
            now=self._now,
        )
        self._status = NodeStatus(
            validator=self.validator,
            loop=self.loop,
            vote_problem=self._vote_problem,
            neighbours=self._neighbours,
            diagnosis=self._diagnosis,
            counters=self._counters,
        )
        self._build_services()

    def _build_services(self) -> None:
        genesis, settings = self._genesis, self._config.settings
        reader = NodeReader(
            self._state,
            self._chain,
            organisation=self._own,
            chain_id=genesis.chain_id,
            index=self._index,
            detail=self._status.detail,
        )
        room = RoomKeeper(
            settings.gateway.waiting_bytes_max, settings.gateway.rate_bytes_s, settings.gateway.burst_bytes
        )
        intake = Intake(
            chain_id=genesis.chain_id,
            ledger=reader,
            tracker=self._tracker,
            room=room,
            pool=self._pool,
            mailbox=self._mailbox,
            metrics=self.metrics,
            closed=self._status.closed,
        )
        self._gateway = GatewayServicer(
            intake=intake,
            tracker=self._tracker,
            ledger=reader,
            voucher=Voucher(genesis.chain_id, self._own, self._seat),
            proof_of=reader.receipt_proof_of,
        )
        self._blocks_servicer = BlocksServicer(self._chain)
        self._server = Server(
            self._identity,
            Authenticator(self._members, own=self._identity),
            self._health,
            reflection_on=settings.listen.reflection,
            on_refused=self._on_refused,
        )
        add = self._server.add
        add("lossbook.v1.PeerService", peer_pb2_grpc.add_PeerServiceServicer_to_server, self._peer_servicer)
        headers = FinalHeaders(self._chain, self._state)
        sync = SyncServicer(self._chain, SnapshotShelf(self._state, headers, time.monotonic))
        add("lossbook.v1.SyncService", peer_pb2_grpc.add_SyncServiceServicer_to_server, sync)
        add(
            "lossbook.v1.SealedService",
            sealed_pb2_grpc.add_SealedServiceServicer_to_server,
            SealedServicer(self._opened.sealed),
        )
        add("lossbook.v1.GatewayService", gateway_pb2_grpc.add_GatewayServiceServicer_to_server, self._gateway)
        add("lossbook.v1.QueryService", query_pb2_grpc.add_QueryServiceServicer_to_server, QueryServicer(reader))
        add("lossbook.v1.BlocksService", blocks_pb2_grpc.add_BlocksServiceServicer_to_server, self._blocks_servicer)
        self._http = HttpServer(self.metrics.registry, lambda: self.loop.alive, self._status.checks)

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, dial, and drive turns.

        Raises:
            ListenError: an address cannot be had; nothing runs then.
        """
        listen = self._config.settings.listen
        if listen.http:
            await self._http.start(listen.http)
        await self._server.start([listen.peer, listen.public])
        marked = has_backup_marker(self._home.path)
        self.validator.start(self._now(), secrets.token_bytes(NONCE_BYTES), restored_from_backup=marked)
        self._tracker.block_time_ms = self._state.head.timestamp_ms if self._state.head is not None else 0
        self._peers.start()
        self._turns = asyncio.create_task(self.loop.run())
        self._tasks.start(self._watch())
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        _log.info(
            "node started",
            organisation=self._own,
            network=self._genesis.name,
            chain_id=self._genesis.chain_id,
            peer=listen.peer,
            public=listen.public,
            http=listen.http or "none",
            height=self._state.height,
            voting=self._stores.votes is not None,
        )
        if self._config.settings.unsafe.clock_offset_ms:
            _log.warning("the clock is wrong on purpose", offset_ms=self._config.settings.unsafe.clock_offset_ms)

    async def wait(self, stop: asyncio.Event) -> bool:
        """Until ``stop`` is set, or a snapshot waits to be installed: True, and the node has to be opened again.

        A failed store does not end it, a defect does, by its own exception.
        """
        stopping, defects = asyncio.create_task(stop.wait()), asyncio.create_task(self._tasks.watch())
        waiting: set[asyncio.Task[Any]] = {stopping, defects, self._turns}
        try:
            while not stopping.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if self.loop.installs:
                    return True
        finally:
            stopping.cancel()
            defects.cancel()
        return False

    @property
    def snapshot_bytes(self) -> int:
        """That came of snapshots in this life, used or not."""
        return self._fetcher.snapshot_bytes

    async def close(self) -> None:
        """End cleanly: the running turn is carried out to its end, then everything is closed."""
        _log.info("node stops", height=self._state.height)
        await self._health.set_serving(False, reading=False)
        self.loop.stop()
        await asyncio.gather(self._turns, return_exceptions=True)
        await self._tasks.stop()
        self._blocks_servicer.close()
        self._peer_servicer.close()
        await self._fetcher.close()
        await self._server.stop()
        await self._http.stop()
        await self._pool.stop()

    def close_stores(self) -> None:
        """Close what is on disk and release the home.

        Raises:
            StoreError: the last sync failed.
        """
        self._index.close()
        self._opened.close()

    # -- inside ------------------------------------------------------------------------------

    def _seat(self) -> tuple[int, Sign] | None:
        epoch = self.validator.epoch
        return (epoch.number, epoch.sign) if epoch.own is not None else None

    def _counters(self) -> dict[str, object]:
        """What the running parts count, for ``node status``."""
        return {
            "blocks_from": self._chain.first_height(),
            "waiting_envelopes": len(self._tracker),
            "waiting_bytes": self._tracker.waiting_bytes,
            "mailbox_bytes": self._mailbox.held_bytes,
            "subscriptions": self._blocks_servicer.subscriptions,
            "uptime_s": int(time.monotonic() - self._began),
        }

    async def _watch(self) -> None:
        await self._health.set_serving(False)
        while True:
            if self.loop.error is not None:
                self._gateway.halt()
            else:
                self._keeper.settle()
            free = self._diagnosis.free_bytes()
            self.metrics.free_bytes.set(-1 if free is None else free)
            if self._status.ready != self._health.serving:
                await self._health.set_serving(self._status.ready)
                _log.info("ready" if self._status.ready else "not ready", height=self._state.height)
            await asyncio.sleep(READY_EVERY_S)

    def _on_refused(self, reason: str, peer: str, text: str) -> None:
        self.metrics.refused.labels(reason).inc()
        _log.warning("call refused", reason=reason, peer=peer, text=text)

    def _on_final(self, since_ms: int) -> None:
        self.metrics.finality.observe((time.monotonic_ns() // 1_000_000 - since_ms) / 1000)


EXPECTED: Final = (
    StartError,
    NoCertificate,
    ListenError,
    SettingError,
    GenesisError,
    keyfile.KeyFileError,
    tls.TlsIdentityError,
    StoreError,
    StateStoreError,
    OSError,
)
"""What an operator can do something about; the text says what."""


async def _main(config: NodeConfig, passphrase: str | None) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while await _live(Node.open(config, passphrase), stop):
        pass
    return 0


async def _live(node: Node, stop: asyncio.Event) -> bool:
    """One life of the node; whether another one begins, on the snapshot that has come in."""
    try:
        await node.start()
        try:
            again = await node.wait(stop)
            if again:
                _log.info("a snapshot has come in; the node is opened on it", came_bytes=node.snapshot_bytes)
            return again
        finally:
            await node.close()
    finally:
        node.close_stores()


def run(config: NodeConfig, passphrase: str | None = None) -> int:
    """Run a node until it is told to stop; the exit status: 0 clean, 1 it could not start or had to stop."""
    configure(config.settings.log.format, config.settings.log.level)
    try:
        return uvloop.run(_main(config, passphrase))
    except EXPECTED as error:
        _log.error("node cannot run", problem=at_home(error, config.home))
    except Exception:  # noqa: BLE001 - the last line of defence: it is logged, and the process ends
        _log.exception("node stopped by a defect; its home is as the last finished turn left it")
    return 1
