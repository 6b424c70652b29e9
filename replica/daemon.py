"""The replica's process: home, stores, follower, servers, signals.

    start    lock the home, open the stores, listen; a port taken or a home in use is one clear line
    run      follow, until SIGTERM or SIGINT
    stop     no new calls, running ones end, verification workers end, stores close

It holds no vote and no consensus key, and takes no submissions: whatever happens to it, the chain goes on.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from contracts.dispatch import CONTRACTS
from crypto.keyfile import KeyFileError
from crypto.tls import TlsIdentityError
from ledger.cards import GenesisError
from ledger.checkpoints import CheckpointError
from ledger.genesis import Genesis, load_genesis
from ledger.ports import StoreError
from ledger.state import StateView
from ledger.types import Block
from lossbook_sdk.pins import read_pin
from replica.checkpoint import FILE_NAME, Pinned
from replica.config import ReplicaConfig, sources_of, validators_to_follow
from replica.errors import ReplicaConfigError, ReplicaStateError
from replica.execute import ReplicaExecutor
from replica.follow import SILENCE_S, Follower
from replica.index import Index
from replica.introductions import Introductions, known_epochs
from replica.introductions import follow as introduced
from replica.metrics import Metrics
from replica.reading import ReplicaReader
from replica.sources import Source, Sources
from replica.verify import VerifiedBlock
from services.auth import Authenticator
from services.books import ensure_books
from services.health import Health
from services.http import Check, HttpServer
from services.identity import Identity
from services.introduction import Introduced, introduce
from services.logs import configure, get_logger
from services.members import Members, members_of
from services.own_home import NoCertificate, ensure_leaf, ledger_key_in_use
from services.read_only import add_read_only_services
from services.server import ListenError, Server
from services.settings import SettingError
from services.subscription import ServerHeartbeat
from services.verification import VerificationPool
from store.home import Home, HomeKind, open_all, open_home

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_VERIFICATION_FAILED: Final = 4

STUCK_S: Final = 30.0
"""The loop did not turn for so long: /livez says so."""

READY_LAG_BLOCKS: Final = 100
"""A replica further behind than this answers old news: /readyz says so. Five seconds of blocks under full load."""

LEAF_WARNING_DAYS: Final = 14
"""A certificate that ends sooner is a finding in /readyz, so that somebody renews it."""

CARD_REPLACED: Final = (
    "a vote has put another ledger key on the card of this organisation, and the certificate in use is of the key "
    "before: put the new key into the home as keys/ledger.key, the new card as card.json, and restart"
)

_log = get_logger("replica")

EXPECTED: Final = (
    CheckpointError,
    GenesisError,
    KeyFileError,
    ListenError,
    NoCertificate,
    ReplicaConfigError,
    ReplicaStateError,
    SettingError,
    StoreError,
    TlsIdentityError,
    OSError,
)
"""What an operator can cure; each text says how. Anything else is a defect and shows its traceback."""

GC_THRESHOLDS: Final = (50_000, 50, 100)
"""Automatic collection at its defaults costs 2 microseconds an operation; hot values are not tracked (``gc=False``)."""


def run(config: ReplicaConfig, passphrase: str | None = None) -> int:
    """Run a replica until SIGTERM or SIGINT; the process's exit status.

    Args:
        config: its home and settings.
        passphrase: of the ledger key, for renewing the certificate; None: a certificate near its end is only warned of.

    Returns:
        0 after a signal; 1 where it could not start or its stores failed; 4 after a divergence.
    """
    configure(config.settings.log.format, config.settings.log.level)
    try:
        return uvloop.run(_main(config, passphrase))
    except EXPECTED as error:
        _log.error("replica cannot run", problem=_at_home(error, config.home))
    except Exception:  # noqa: BLE001 - the last line of defence: it is logged, and the process ends
        _log.exception("replica stopped by a defect; its home is as the last executed block left it")
    return EXIT_FAILED


def _at_home(error: Exception, home: Path) -> str:
    """What it says, with the commands as they are typed for this home."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}. Nothing was changed; put it right and start again."
    # The stores' texts speak of nodes, which have the same stores.
    text = str(error).replace("`lossbook node resync`", f"`lossbook replica resync --home {home}`")
    return text.replace("`lossbook doctor`", f"`lossbook doctor --home {home}`")


async def _main(config: ReplicaConfig, passphrase: str | None) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        replica = await Replica.start(config, passphrase, stack)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        return await replica.serve(stop)


class Replica:
    """A running replica; made by ``start``, which puts everything that must be closed on the stack."""

    def __init__(
        self,
        home: Home,
        config: ReplicaConfig,
        follower: Follower,
        executor: ReplicaExecutor,
        metrics: Metrics,
        members: Members,
        leaf_ends: datetime,
    ) -> None:
        self._home = home
        self._follows_all = not config.settings.follow.sources
        self._members = members
        self._follower = follower
        self._executor = executor
        self._metrics = metrics
        self._leaf_ends = leaf_ends
        self._authority = self._own_authority()
        self._turned = time.monotonic()
        self._health: Health | None = None
        self.public_port = 0
        self.http_port = 0

    @classmethod
    async def start(cls, config: ReplicaConfig, passphrase: str | None, stack: AsyncExitStack) -> Replica:
        """Open everything and listen.

        Raises:
            EXPECTED: what an operator can cure.
        """
        home = open_home(config.home, HomeKind.REPLICA)
        genesis = load_genesis(home.genesis.read_bytes(), home.chain_id)
        metrics = Metrics()
        ensure_books(home, genesis, CONTRACTS)
        stores = open_all(home)
        stack.callback(stores.close)
        index = Index(home.index, home.chain_id)
        stack.callback(index.close)
        for organisation in config.trust_again:
            known = index.trust_again(organisation)
            _log.warning("trusted again", organisation=organisation, was_distrusted=known)
        executor = ReplicaExecutor(genesis, blocks=stores.blocks, store=stores.state, index=index, contracts=CONTRACTS)
        pin = read_pin(home.path / FILE_NAME, home.chain_id)
        members = Members(genesis.chain_id, members_of(executor.state))
        sources = sources_of(config.settings.follow.sources, members, home.organisation)
        identity, leaf_ends = _identity(home, members, executor.state, passphrase)
        pool = VerificationPool(config.settings.verification.workers, lambda _: metrics.workers_died.inc())
        stack.push_async_callback(pool.stop)

        async def introduction(source: Source) -> Introduced:
            known = known_epochs(genesis, executor, pin)
            return await introduce(identity, source.organisation, source.address, genesis, known, _wall_ms)

        introductions = Introductions(introduction, lambda: executor.height)

        def feed(
            source: Source, from_height: int, *, headers_only: bool = False
        ) -> AsyncGenerator[Block | ServerHeartbeat, None]:
            whom = (identity, introductions, source)
            return introduced(*whom, from_height, silence_s=SILENCE_S, headers_only=headers_only)

        follower = Follower(
            genesis=genesis,
            executor=executor,
            pool=pool,
            sources=Sources(sources, index.distrusted()),
            feed=feed,
            remember=index,
            pinned=Pinned.of(pin) if pin is not None else None,
            trusting_days=config.settings.follow.trusting_period_days,
            on_executed=lambda block: self._on_executed(block),
            on_source_lost=lambda organisation, why: metrics.sources_lost.labels(organisation, why).inc(),
        )
        self = cls(home, config, follower, executor, metrics, members, leaf_ends)
        metrics.executed_height.set(executor.height)
        metrics.block_time.set(executor.tip.timestamp_ms / 1000)
        await self._listen(config, genesis, identity, index, stack)
        return self

    async def _listen(
        self, config: ReplicaConfig, genesis: Genesis, identity: Identity, index: Index, stack: AsyncExitStack
    ) -> None:
        listen = config.settings.listen
        if listen.http:
            http = HttpServer(self._metrics.registry, self._live, self._ready)
            await http.start(listen.http)
            stack.push_async_callback(http.stop)
            self.http_port = http.port
        self._health = Health()
        server = Server(
            identity,
            Authenticator(identity.members, own=identity),
            self._health,
            reflection_on=listen.reflection,
            on_refused=self._on_refused,
        )
        reader = ReplicaReader(genesis, self._home.organisation, self._executor, index, self._follower, _wall_ms)
        blocks = add_read_only_services(server, reader, self._executor.chain)
        await server.start([listen.public])
        stack.push_async_callback(server.stop)
        stack.callback(blocks.close)
        self.public_port = server.ports[listen.public]
        _log.info(
            "listening",
            public=listen.public,
            http=listen.http,
            organisation=self._home.organisation,
            chain=genesis.chain_id,
            height=self._executor.height,
        )

    async def serve(self, stop: asyncio.Event) -> int:
        """Follow and serve until ``stop`` is set; the exit status."""
        following = asyncio.create_task(self._follower.run())
        watching = asyncio.create_task(self._watch())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((following, stopped), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()  # a defect shows its traceback; a failure is told in status and waits for a signal
                await stop.wait()
        finally:
            for task in (following, watching, stopped):
                task.cancel()
            await asyncio.gather(following, watching, stopped, return_exceptions=True)
        _log.info("stopping", height=self._executor.height)
        if self._follower.diverged:
            return EXIT_VERIFICATION_FAILED
        return EXIT_FAILED if self._follower.failure else EXIT_OK

    async def _watch(self) -> None:
        """Once a second: gauges, gRPC health, and the sign of life behind /livez."""
        while True:
            self._turned = time.monotonic()
            follower, metrics = self._follower, self._metrics
            metrics.lag_blocks.set(follower.lag_blocks)
            metrics.following.set(1 if follower.sources.current is not None and not follower.failure else 0)
            metrics.diverged.set(1 if follower.diverged else 0)
            for organisation, count in self._executor.breaches.items():
                metrics.breaches.labels(organisation).set(count)
            ready = all(check.ok for check in self._ready())
            if self._health is not None and self._health.serving != ready:
                await self._health.set_serving(ready)
            await asyncio.sleep(1)

    def _live(self) -> bool:
        return time.monotonic() - self._turned < STUCK_S

    def _ready(self) -> list[Check]:
        follower = self._follower
        current = follower.sources.current
        lag = follower.lag_blocks
        return [
            Check("progress", not follower.failure, follower.failure or f"executed height {self._executor.height}"),
            Check(
                "source",
                current is not None,
                f"following {current.organisation}" if current else "no source can be followed: see `replica status`",
            ),
            Check("lag", lag <= READY_LAG_BLOCKS, f"{lag} blocks behind (at most {READY_LAG_BLOCKS})"),
            certificate_check((self._leaf_ends - datetime.now(UTC)).days, replaced=self._replaced),
        ]

    def _own_authority(self) -> bytes:
        own = self._members.get(self._home.organisation)
        return own.ca_pem if own is not None else b""

    @property
    def _replaced(self) -> bool:
        """Whether a vote has put another ledger key on the own card since the start."""
        return self._own_authority() != self._authority

    def _on_executed(self, block: VerifiedBlock) -> None:
        self._metrics.executed(block)
        if not self._executor.members_changed or not self._members.update(members_of(self._executor.state)):
            return
        _log.info("members changed", height=block.header.height, members=sum(1 for _ in self._members))
        if self._replaced:
            _log.warning("no source lets this replica in again", problem=CARD_REPLACED)
        if self._follows_all:
            self._follower.sources.learn(validators_to_follow(self._members, self._home.organisation))

    def _on_refused(self, reason: str, peer: str, text: str) -> None:
        self._metrics.refused.labels(reason).inc()
        _log.warning("call refused", reason=reason, peer=peer, text=text)


def certificate_check(days: int, *, replaced: bool) -> Check:
    """Whether the TLS certificate in use is good, and for how many days more."""
    if replaced:
        return Check("certificate", False, CARD_REPLACED)
    text = f"TLS certificate ends in {days} days"
    if days < LEAF_WARNING_DAYS:
        return Check("certificate", False, f"{text}; restart with the ledger key's passphrase to renew it")
    return Check("certificate", True, text)


def _identity(home: Home, members: Members, state: StateView, passphrase: str | None) -> tuple[Identity, datetime]:
    if members.get(home.organisation) is None:
        raise ReplicaConfigError(f"{home.organisation} is not on this network: the home's genesis was exchanged")
    ends = ensure_leaf(home, ledger_key_in_use(home, state), passphrase, datetime.now(UTC))
    leaf, key = (home.tls / "leaf.pem").read_bytes(), (home.tls / "leaf.key").read_bytes()
    return Identity(home.organisation, leaf, key, members), ends


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
