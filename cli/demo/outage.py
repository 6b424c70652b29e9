"""One validator dies and comes back, while loading goes on.

    SIGKILL once 30 % of the operations are final
    started again by the same command, at the earliest 20 s later and not before 20 % more are final
    caught up when its vote stands in a certificate of a block above the height that was final when it came back

A certificate holds the first quorum of votes, so its vote may be missing from one and stand in the next. If the rows
run out before it has caught up, one operation a second that the contract refuses keeps the network at work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec

from cli.daemons import Daemon, DaemonPlace, not_up, spawn
from cli.demo.loader import Progress
from consensus.types import Certificate
from ledger.types import Block
from lossbook_sdk.errors import ClientError
from lossbook_sdk.query import Query

KILL_AT: Final = 0.30
MORE_FINAL: Final = 0.20
DOWN_S_MIN: Final = 20.0
CAUGHT_UP_S_MAX: Final = 90.0
"""Some thousand blocks are fetched, checked and executed beside the running load."""
FILLER_S: Final = 1.0


class Outage(msgspec.Struct):
    """What was seen; None: not determined."""

    outage_s: float | None = None
    """From SIGKILL to the start of the new process."""
    operations: int | None = None
    """Operations that became final meanwhile."""
    caught_up: bool | None = None
    caught_up_s: float | None = None
    """From the start of the new process to its vote in a certificate."""


class Conductor:
    """Kills and restarts one validator.

    Args:
        daemon: the one to kill.
        member: its signer index.
        query: asks another node.
        progress: of the load.
        say: tells a person.
    """

    def __init__(
        self, daemon: Daemon, member: int, query: Query, progress: Progress, say: Callable[[str], None]
    ) -> None:
        self.daemon = daemon
        self.outage = Outage()
        self._member = member
        self._query = query
        self._progress = progress
        self._say = say

    async def run(self) -> None:
        """All of it.

        Raises:
            Stop: the restarted validator ended, or did not catch up in time.
        """
        await self._progress.reached(KILL_AT)
        self.daemon.kill()
        killed_s, final_then = time.monotonic(), self._progress.final
        self._say(f"killed {self._place.organisation} with {final_then:,} operations final (SIGKILL)")
        wanted = min(1.0, self._progress.share + MORE_FINAL)
        await asyncio.sleep(DOWN_S_MIN)
        await self._progress.reached(wanted)
        height = (await self._query.status()).finalized_height
        self.daemon = spawn(self._place)
        started_s = time.monotonic()
        self.outage.outage_s = started_s - killed_s
        self.outage.operations = self._progress.final - final_then
        self._say(
            f"started {self._place.organisation} again after {self.outage.outage_s:.1f} s; "
            f"{self.outage.operations:,} operations became final meanwhile"
        )
        await self._until_caught_up(height, started_s)
        self.outage.caught_up_s = time.monotonic() - started_s
        self.outage.caught_up = True
        self._say(f"{self._place.organisation} votes again, {self.outage.caught_up_s:.1f} s after its start")

    @property
    def _place(self) -> DaemonPlace:
        return self.daemon.place

    async def _until_caught_up(self, height: int, started_s: float) -> None:
        try:
            async with asyncio.timeout(CAUGHT_UP_S_MAX - (time.monotonic() - started_s)):
                await self._vote_seen(height)
        except TimeoutError:
            self.outage.caught_up = False
            raise not_up(self._place, f"did not catch up within {CAUGHT_UP_S_MAX:.0f} s of its restart") from None

    async def _vote_seen(self, height: int) -> None:
        """Follow another node's headers until a certificate above ``height`` holds its vote."""
        next_height = height + 1
        while True:
            try:
                async for block in self._query.tail(next_height):
                    if any(self._member in certificate.signers for certificate in _formed_above(block, height)):
                        return
                    next_height = block.header.height + 1
                    if self.daemon.exit_code is not None:
                        raise not_up(self._place, f"ended with exit code {self.daemon.exit_code} after its restart")
            except ClientError:
                await asyncio.sleep(0.2)  # the node asked broke off; go on where it stopped


def _formed_above(block: Block, height: int) -> list[Certificate]:
    """Certificates in a block for blocks above the height: its own Finalization, and its parent's certificate."""
    found = [block.finalization] if block.finalization is not None and block.header.height > height else []
    parent = block.justification.parent
    if parent is not None and block.header.height - 1 > height:
        found.append(parent)
    return found


async def keep_busy(others: Iterable[asyncio.Task[None]], submit: Callable[[], Awaitable[None]]) -> None:
    """One operation a second that changes nothing, until the others are done; their first error ends it."""
    pending = {task for task in others if not task.done()}
    while pending:
        await submit()
        done, pending = await asyncio.wait(pending, timeout=FILLER_S, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
