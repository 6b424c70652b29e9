"""The turn loop: carries out what the pure validator decides, in the order that makes it safe.

    while running:
        collect    what the mailbox holds, or wait until the validator's deadline
        handle     each input; then some slices of execution
        take       the turn's effects
        carry out  block writes (sync), then vote records (sync), and only then sends and notices

The two syncs run in one I/O thread, so that the loop goes on receiving meanwhile: what arrives during a sync is the
next turn, and one sync serves all of it. Slices of execution use the waiting time too, unless the turn makes blocks
final: those must be on disk before the state they lead to.

A store that fails ends voting, not reading: nothing of the failed turn leaves, the validator is driven no further,
queries are still answered, and the operator is told. Anything else that goes wrong in here is a defect and ends the
process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from consensus.events import Now
from ledger.block_port import BlockWrite, FinalizedWrite
from ledger.ports import ImportRows
from ledger.ports import StoreError as StateStoreError
from ledger.types import Batch
from node import clock
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.turn import Fetch, Input, Notice, PeerMessage, Penalty, Tick, Turn
from services.logs import get_logger
from store.errors import StoreError

EXECUTION_SLICE_S: Final = 0.004
"""Execution between two looks at the mailbox: a vote waits at most this long behind it (plus one envelope)."""

VOTE_LOG_BYTES_MAX: Final = 32 << 20
"""Then the log is rewritten with what is still alive in it: read at every start, within a second."""

STUCK_S: Final = 30.0
"""No turn was finished for so long although one began: /livez says so."""

_log = get_logger("loop")


class DrivenValidator(Protocol):
    """What the loop drives: ``node.validator.Validator``, or a fake in tests."""

    def handle(self, message: Input, now: Now, /) -> None:
        """Take one input."""

    def take_turn(self) -> Turn:
        """Settle what follows from the inputs and hand out the effects."""

    def execute_slice(self, now: Now, /) -> bool:
        """Execute one envelope of a finalized block; True while more waits."""

    @property
    def executed_height(self) -> int:
        """Last executed height."""

    @property
    def deadline_ms(self) -> int | None:
        """Monotonic time at which a Tick is due."""

    def live_records(self) -> Sequence[bytes]:
        """What a rewritten vote log has to hold."""


class BlockSink(Protocol):
    """The block store, as far as the loop writes it."""

    def commit(self, writes: Sequence[BlockWrite], *, sync: bool = True) -> None:
        """Make all writes appear at once."""


class ImportSink(Protocol):
    """The state store, as far as the loop writes it: parts of a snapshot."""

    def import_rows(self, rows: ImportRows) -> None:
        """Store the next rows of a snapshot."""


class VoteSink(Protocol):
    """The vote log, as far as the loop writes it."""

    def append(self, payloads: Sequence[bytes]) -> None:
        """Take records for the next sync."""

    def sync(self) -> None:
        """Return once they are durable."""

    @property
    def size_bytes(self) -> int:
        """Length of the log."""

    def rotate(self, live_records: Sequence[bytes]) -> None:
        """Go on in a new log that begins with these records."""


class Outbox(Protocol):
    """Where the effects go once they may."""

    def send(self, sends: Sequence[tuple[str | None, PeerMessage]]) -> None:
        """To the peers; None: to all."""

    def notify(self, notices: Sequence[Notice]) -> None:
        """To gateway, followers, metrics and log."""

    def check(self, batch: Batch) -> None:
        """To the verification workers."""

    def fetch(self, fetch: Fetch) -> None:
        """To the fetcher."""

    def penalise(self, penalty: Penalty) -> None:
        """To the peers' streams."""


class TurnLoop:
    """One validator's driver; see the module text."""

    def __init__(
        self,
        *,
        validator: DrivenValidator,
        mailbox: Mailbox,
        blocks: BlockSink,
        imports: ImportSink,
        votes: VoteSink | None,
        outbox: Outbox,
        metrics: Metrics,
        remove_marker: Callable[[], None] = lambda: None,
        now: Callable[[], Now] = clock.now,
    ) -> None:
        self._validator = validator
        self._mailbox = mailbox
        self._blocks = blocks
        self._imports = imports
        self._votes = votes
        self._outbox = outbox
        self._metrics = metrics
        self._remove_marker = remove_marker
        self._now = now
        self._io = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lossbook-io")
        self._executing = True  # a restart may have blocks left to execute
        self._effects_wait = True  # something happened that the next turn takes
        self._stopping = False
        self._turn_began: float | None = None
        self.error: Exception | None = None
        """Of the store that failed; None while the node votes."""
        self.installs = False
        """A snapshot has come in: the loop has ended, so that another validator is assembled on it."""

    @property
    def failure(self) -> str:
        """Why the node no longer votes; empty while it does."""
        return str(self.error) if self.error is not None else ""

    @property
    def alive(self) -> bool:
        """False when a turn hangs."""
        began = self._turn_began
        return began is None or time.monotonic() - began < STUCK_S

    def stop(self) -> None:
        """End after the turn that runs; what it persists is sent."""
        self._stopping = True
        self._mailbox.wake()

    async def run(self) -> None:
        """Drive until ``stop``, or until a store fails."""
        try:
            while not self._stopping:
                inputs = self._mailbox.drain()
                if not inputs and not self._executing and not self._effects_wait and not await self._wait():
                    continue
                self._turn_began = time.monotonic()
                await self._turn(inputs or self._mailbox.drain())
                self._turn_began = None
                await asyncio.sleep(0)
        except (StoreError, StateStoreError) as error:
            self._fail(error)
        finally:
            self._turn_began = None
            self._io.shutdown(wait=True)

    async def _wait(self) -> bool:
        """Wait for an input or the deadline; False when the loop shall look again first."""
        deadline = self._validator.deadline_ms
        timeout_s = None if deadline is None else max(0, deadline - self._now().monotonic_ms) / 1000
        if timeout_s != 0:
            await self._mailbox.wait(timeout_s)
        return not self._stopping

    async def _turn(self, inputs: Sequence[Input]) -> None:
        validator, began = self._validator, time.perf_counter()
        now = self._now()
        for item in inputs:
            validator.handle(item, now)
        if not inputs:
            validator.handle(Tick(), now)
        self._effects_wait = False
        turn = validator.take_turn()
        self._metrics.turn(len(inputs), time.perf_counter() - began)
        await self._persist(turn)
        self._release(turn)
        for rows in turn.import_rows:
            self._imports.import_rows(rows)
        if turn.install:
            self.installs = self._stopping = True
            return
        # What is final and stored is news to the validator: it acts on it in a turn that comes at once.
        self._effects_wait = self._effects_wait or _makes_final(turn)
        if self._votes is not None and self._votes.size_bytes > VOTE_LOG_BYTES_MAX:
            await asyncio.get_running_loop().run_in_executor(self._io, self._votes.rotate, validator.live_records())
        self._execute()

    def _execute(self) -> None:
        """Slices until the time is over or nothing is left."""
        validator = self._validator
        until, before = time.perf_counter() + EXECUTION_SLICE_S, validator.executed_height
        self._executing = True
        while self._executing and time.perf_counter() < until:
            self._executing = validator.execute_slice(self._now())
        self._effects_wait = self._effects_wait or validator.executed_height != before

    async def _persist(self, turn: Turn) -> None:
        if turn.vote_records and self._votes is None:
            raise StoreError("this node observes only, and has something to sign: this is a defect, report it")
        to_do = turn.vote_records or turn.remove_backup_marker
        if not turn.block_writes and not to_do:
            return
        if not turn.sync_blocks and not to_do:
            self._blocks.commit(turn.block_writes, sync=False)
            return
        job = asyncio.get_running_loop().run_in_executor(self._io, self._write, turn)
        if not _makes_final(turn):
            while self._executing and not job.done():
                self._execute()
                await asyncio.sleep(0)
        await job

    def _write(self, turn: Turn) -> None:
        """In the I/O thread: blocks before votes."""
        began = time.perf_counter()
        if turn.block_writes:
            self._blocks.commit(turn.block_writes, sync=turn.sync_blocks)
        if turn.vote_records and self._votes is not None:
            self._votes.append(turn.vote_records)
            self._votes.sync()
        if turn.remove_backup_marker:
            self._remove_marker()
        self._metrics.persisted(time.perf_counter() - began)

    def _release(self, turn: Turn) -> None:
        outbox = self._outbox
        if turn.sends:
            outbox.send(turn.sends)
        for penalty in turn.penalties:
            outbox.penalise(penalty)
        for batch in turn.checks:
            outbox.check(batch)
        for fetch in turn.fetches:
            outbox.fetch(fetch)
        if turn.notices:
            outbox.notify(turn.notices)

    def _fail(self, error: Exception) -> None:
        self.error = error
        self._metrics.store_failed()
        _log.error("store failed; this node no longer votes, and goes on answering queries", problem=str(error))


def _makes_final(turn: Turn) -> bool:
    return any(isinstance(write, FinalizedWrite) for write in turn.block_writes)
