"""Following the chain: one task reads and verifies, one executes, a short queue between them.

    read       the preferred source's blocks, from the height after the last final one; every signature goes to the
               verification pool; what is final goes into the queue (full queue: no more credit, the server waits)
    execute    block by block, a slice at a time, so that readers are served in between

    the source ...                                        it ...
    served what no honest node can serve (FeedError)      is distrusted, on disk, for a day or until the operator says
    cannot be reached, refused, ended, fell silent,       waits, shortly first; its unfinal blocks are dropped
    or withholds blocks
    finalized what own execution contradicts              nothing: a quorum did. The replica stops executing: divergence

An accepted checkpoint above the own height comes first: a source's headers have to lead to it, and then only the blocks
on that path are taken (``replica.checkpoint``). If the last thing that is believed is older than the trusting period,
nothing is followed at all: people have to say which history is the network's.

Reading waits at the end of an epoch until it is executed: own state says who votes in the next.

A store that fails stops the replica's progress too, not its answers: reading goes on at the last executed height.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, Protocol

from ledger.checkpoints import TRUSTING_PERIOD_DAYS, CheckpointError, check_age
from ledger.genesis import Genesis
from ledger.ports import StoreError
from ledger.types import Block
from ledger.wire import WireError
from replica.checkpoint import PathUp, Pinned, WrongPath, check_own_chain
from replica.errors import Divergence, FeedError, ForgedBlock, TruncatedStream
from replica.execute import ReplicaExecutor
from replica.sources import Distrust, Source, Sources
from replica.verify import ChainVerifier, VerifiedBlock
from services.logs import get_logger
from services.subscription import FeedLost, ServerHeartbeat
from services.verification import VerificationPool

SILENCE_S: Final = 15.0
"""Without any message for so long a source is left; three of its heartbeats."""

WITHHELD_S: Final = 15.0
"""A source that says it has more blocks, and sends none for so long, is left."""

QUIET_S: Final = 60.0
"""Without a block for so long another source is asked, if there is one: six heartbeat blocks of default settings."""

QUEUE_BLOCKS: Final = 4
"""Verified blocks that wait for execution: enough to keep both tasks busy, at most some ten MiB each."""

EXECUTION_SLICE_S: Final = 0.01
"""Execution between two looks at the loop: a reader waits at most so long (plus one envelope)."""

FRESH: Final = (
    "Take a fresh checkpoint from your supervisor and f + 1 members (`lossbook checkpoint make`, `sign`), accept it "
    "here (`lossbook checkpoint accept FILE --home HOME`) and start again"
)

_log = get_logger("follow")


class Feed(Protocol):
    """Blocks of one source from a height on, as they come; FeedLost or WireError when that ends."""

    def __call__(
        self, source: Source, from_height: int, /, *, headers_only: bool = False
    ) -> AsyncGenerator[Block | ServerHeartbeat, None]:
        """Subscribe; with ``headers_only`` the blocks come without their batches."""


class Remember(Protocol):
    """Where distrust is kept; ``replica.index.Index``."""

    def distrust(self, record: Distrust, /) -> None:
        """Durably."""


def make_verifier(genesis: Genesis, executor: ReplicaExecutor) -> ChainVerifier:
    """A verifier that goes on after the last executed block."""
    return ChainVerifier(
        chain_id=genesis.chain_id,
        epochs=executor.epochs(),
        start=executor.start_point(),
    )


class Follower:
    """Moves the executor along the chain; see the module text.

    Args:
        genesis: of the network.
        executor: own state.
        pool: checks signatures.
        sources: whom to follow.
        feed: how to read a source.
        remember: where distrust is kept.
        on_executed: told each executed block, for metrics.
        on_source_lost: told organisation and ``lied`` or ``lost``, for metrics.
        wall_ms: wall clock, milliseconds since the epoch.
        pinned: the accepted checkpoint.
        trusting_days: the trusting period.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        executor: ReplicaExecutor,
        pool: VerificationPool,
        sources: Sources,
        feed: Feed,
        remember: Remember,
        on_executed: Callable[[VerifiedBlock], None] = lambda _: None,
        on_source_lost: Callable[[str, str], None] = lambda _, __: None,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        pinned: Pinned | None = None,
        trusting_days: int = TRUSTING_PERIOD_DAYS,
    ) -> None:
        self._executor = executor
        self.pinned = pinned
        self._trusting_days = trusting_days
        self._path_known = False
        self._pool = pool
        self._feed = feed
        self._remember = remember
        self._on_executed = on_executed
        self._on_source_lost = on_source_lost
        self._wall_ms = wall_ms
        self._verifier = make_verifier(genesis, executor)
        self._queue: asyncio.Queue[VerifiedBlock] = asyncio.Queue(QUEUE_BLOCKS)
        self.sources = sources
        self.network_height = executor.height
        """Highest final height that was verified or that the current source claims."""
        self.failure = ""
        """Why the replica makes no progress any more: divergence, or its own disk. Empty while it does."""
        self.diverged = False
        self.last_fault: FeedError | None = None
        """The last thing no honest node serves."""

    @property
    def lag_blocks(self) -> int:
        """Final blocks that are not executed yet, as far as is known."""
        return max(0, self.network_height - self._executor.height)

    async def run(self) -> None:
        """Follow until cancelled; returns early only where going on would be wrong (see ``failure``)."""
        reading = asyncio.create_task(self._read())
        executing = asyncio.create_task(self._execute())
        try:
            await asyncio.wait((reading, executing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, executing):
                task.cancel()
            results = await asyncio.gather(reading, executing, return_exceptions=True)
        for result in results:
            if isinstance(result, Divergence):
                self.diverged = True
                self._stop(result)
            elif isinstance(result, StoreError | CheckpointError):
                self._stop(result)
            elif isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    def _stop(self, error: Exception) -> None:
        self.failure = str(error)
        kind = "divergence" if self.diverged else "store" if isinstance(error, StoreError) else "checkpoint"
        _log.error("stopped", kind=kind, text=self.failure)

    # ------------------------------------------------------------ reading and verifying

    async def _read(self) -> None:
        if self.pinned is not None:
            check_own_chain(self.pinned, self._executor)
        while True:
            self._check_age()
            source = await self._choose()
            try:
                await self._find_path(source)
                await self._read_from(source)
            except TruncatedStream as error:
                self._lost(source, str(error))
            except FeedError as error:
                self._lied(source, error)
            except FeedLost as error:
                ended = self._verifier.stream_ended(source.organisation)
                self._lost(source, f"{error}; {ended}" if ended else str(error))
            finally:
                self._verifier.forget_unfinal()

    async def _choose(self) -> Source:
        """The source to follow; waits while there is none, and says so once."""
        told = False
        while (source := self.sources.choose(self._wall_ms())) is None:
            wait_ms = self.sources.next_ms() - self._wall_ms()
            if not told:
                _log.warning("no source can be asked now", wait_ms=wait_ms)
            told = True
            await asyncio.sleep(min(max(wait_ms, 10), 1000) / 1000)
        return source

    def _check_age(self) -> None:
        """Raises TrustingPeriodOver where what is believed is too old to follow anybody's signatures from there."""
        time_ms, what = self._verifier.final_time_ms, f"the last block verified here, of height {self.final_height},"
        if self.pinned is not None and self.pinned.time_ms > time_ms:
            time_ms, what = self.pinned.time_ms, f"the accepted checkpoint, of height {self.pinned.height},"
        check_age(what, time_ms, self._wall_ms(), self._trusting_days, advice=FRESH)

    @property
    def final_height(self) -> int:
        """Height of the last block that is verified and final."""
        return self._verifier.final_height

    async def _find_path(self, source: Source) -> None:
        """Have the source lead from the last executed block to the checkpoint, once; batches come later."""
        if self._path_known or self.pinned is None or self.pinned.height <= self.final_height:
            return
        await self._executed(self.final_height)
        path = PathUp(self._executor.tip, self.pinned, self._executor.genesis_header.height)
        _log.info("looking for the way to the checkpoint", source=source.organisation, height=self.pinned.height)
        last_header = time.monotonic()
        async with aclosing(self._feed(source, path.next_height, headers_only=True)) as events:
            try:
                async for event in events:
                    if isinstance(event, ServerHeartbeat):
                        self._on_path_heartbeat(source, event, self.pinned, time.monotonic() - last_header)
                        continue
                    path.add(event.header)
                    last_header = time.monotonic()
                    if path.complete:
                        break
            except (WireError, WrongPath) as error:
                raise ForgedBlock(path.next_height, source.organisation, f"headers only: {error}") from error
        self._verifier.require(path.required())
        self._path_known = True

    @staticmethod
    def _on_path_heartbeat(source: Source, heartbeat: ServerHeartbeat, pinned: Pinned, silent_s: float) -> None:
        if heartbeat.finalized_height < pinned.height:
            reason = f"it is at height {heartbeat.finalized_height}, below the accepted checkpoint's {pinned.height}"
            raise FeedLost(source.organisation, reason)
        if silent_s > WITHHELD_S:
            raise FeedLost(source.organisation, "it has the headers up to the accepted checkpoint and sends none")

    async def _read_from(self, source: Source) -> None:
        from_height = self._verifier.final_height + 1
        _log.info("following", source=source.organisation, address=source.address, from_height=from_height)
        last_block = time.monotonic()
        async with aclosing(self._feed(source, from_height)) as events:
            try:
                async for event in events:
                    if isinstance(event, ServerHeartbeat):
                        self._on_heartbeat(source, event, time.monotonic() - last_block)
                        continue
                    await self._on_block(source, event)
                    last_block = time.monotonic()
            except WireError as error:
                height = self._verifier.next_height
                raise ForgedBlock(height, source.organisation, f"does not decode: {error}") from error

    def _on_heartbeat(self, source: Source, heartbeat: ServerHeartbeat, silent_s: float) -> None:
        self.network_height = max(self._verifier.final_height, heartbeat.finalized_height)
        if heartbeat.finalized_height >= self._verifier.next_height and silent_s > WITHHELD_S:
            raise FeedLost(source.organisation, f"it has block {self._verifier.next_height} and does not send it")
        if silent_s > QUIET_S and self.sources.has_other(source, self._wall_ms()):
            raise FeedLost(source.organisation, f"no block for {silent_s:.0f} s; another source may have more")

    async def _on_block(self, source: Source, block: Block) -> None:
        self._check_age()
        examined = self._verifier.examine(block, source.organisation)
        verdicts = await self._pool.check([(check.public, check.message, check.signature) for check in examined.checks])
        final = self._verifier.accept(examined, verdicts)
        self.sources.worked(source)
        for verified in final:
            self.network_height = max(self.network_height, verified.header.height)
            await self._queue.put(verified)
        if self._verifier.epoch_ended:
            await self._executed(self._verifier.final_height)
            self._verifier.enter(self._executor.epoch_rules(self._executor.epoch))
            _log.info("epoch", epoch=self._executor.epoch, first_height=self._verifier.next_height)

    async def _executed(self, height: int) -> None:
        """Wait until this height is executed. A failure of execution ends ``run``, and the waiting with it."""
        while True:
            grown = self._executor.chain.grown.waiter()
            if self._executor.height >= height:
                return
            await grown.wait()

    def _lost(self, source: Source, reason: str) -> None:
        self.sources.failed(source, self._wall_ms(), reason)
        self._on_source_lost(source.organisation, "lost")
        _log.warning("source lost", source=source.organisation, reason=reason)

    def _lied(self, source: Source, error: FeedError) -> None:
        self.last_fault = error
        record = self.sources.lied(source, self._wall_ms(), error.height, f"{error.kind}: {error.reason}")
        self._remember.distrust(record)
        self._on_source_lost(source.organisation, "lied")
        _log.error(
            "source distrusted",
            source=error.source,
            height=error.height,
            kind=error.kind,
            reason=error.reason,
            text=error.diagnostics(),
        )

    # ------------------------------------------------------------ executing

    async def _execute(self) -> None:
        while True:
            block = await self._queue.get()
            self._executor.begin(block)
            until = time.monotonic() + EXECUTION_SLICE_S
            while self._executor.advance():
                if time.monotonic() > until:
                    await asyncio.sleep(0)
                    until = time.monotonic() + EXECUTION_SLICE_S
            self._executor.finish()
            self._on_executed(block)
            await asyncio.sleep(0)
