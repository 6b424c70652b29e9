"""A replica's executor over stores in memory or on disk, and feeds that play what a test wrote down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Protocol

from contracts.dispatch import CONTRACTS
from crypto.keys import verify
from ledger.block_port import BlockStore
from ledger.contract import Contracts
from ledger.genesis import Genesis
from ledger.ports import StateStore
from ledger.types import Block
from replica.checkpoint import Pinned
from replica.execute import ReplicaExecutor
from replica.follow import Follower, make_verifier
from replica.index import Index
from replica.sources import Source, Sources
from services.subscription import FeedLost, ServerHeartbeat
from services.verification import VerificationPool
from store.blocks import LevelBlockStore
from store.state import LevelStateStore


class ReplicaStores:
    """The three stores of a replica in a directory; ``reopen`` is a restart."""

    def __init__(self, path: Path, genesis: Genesis, contracts: Contracts = CONTRACTS) -> None:
        self._path = path
        self._genesis = genesis
        self._contracts = contracts
        self.blocks: BlockStore
        self.state: StateStore
        self.index: Index
        self._open()

    def _open(self) -> None:
        self.blocks = LevelBlockStore(self._path / "blocks", self._genesis.chain_id)
        self.state = LevelStateStore(self._path / "state")
        self.index = Index(self._path / "index", self._genesis.chain_id)

    def close(self) -> None:
        """Release the directories."""
        for store in (self.blocks, self.state, self.index):
            store.close()

    def reopen(self) -> None:
        """As after a restart."""
        self.close()
        self._open()

    def executor(self) -> ReplicaExecutor:
        """A replica's executor on these stores."""
        return ReplicaExecutor(
            self._genesis, blocks=self.blocks, store=self.state, index=self.index, contracts=self._contracts
        )


class Network(Protocol):
    """Whose blocks are followed."""

    @property
    def genesis(self) -> Genesis:
        """Where the replica begins."""


def execute(executor: ReplicaExecutor, chain: Network, blocks: Sequence[Block], source: str = "insurer-1") -> None:
    """Verify and execute these blocks."""
    verifier = make_verifier(chain.genesis, executor)
    for block in blocks:
        examined = verifier.examine(block, source)
        verdicts = [verify(check.public, check.message, check.signature) for check in examined.checks]
        for verified in verifier.accept(examined, verdicts):
            executor.begin(verified)
            while executor.advance():
                pass
            executor.finish()
        if verifier.epoch_ended:
            verifier.enter(executor.epoch_rules(executor.epoch))


Event = Block | ServerHeartbeat | Exception
Script = Callable[[int], Sequence[Event]]
"""What a source does when it is asked for blocks from a height on; after the last event it falls silent."""


class ScriptedFeed:
    """Plays a script for each source; remembers who was asked for what."""

    def __init__(self, scripts: dict[str, Script]) -> None:
        self._scripts = scripts
        self.asked: list[tuple[str, int]] = []
        self.asked_headers: list[tuple[str, int]] = []

    async def __call__(
        self, source: Source, from_height: int, *, headers_only: bool = False
    ) -> AsyncGenerator[Block | ServerHeartbeat, None]:
        """See replica.follow.Feed."""
        (self.asked_headers if headers_only else self.asked).append((source.organisation, from_height))
        for event in self._scripts[source.organisation](from_height):
            if isinstance(event, Exception):
                raise event
            yield event
        await asyncio.Event().wait()


def honest(blocks: Sequence[Block]) -> Script:
    """Serves all there is, and then nothing."""
    return lambda from_height: list(blocks[from_height - 1 :])


def down(organisation: str) -> Script:
    """Cannot be reached."""
    return lambda _: [FeedLost(organisation, "connection refused")]


class Clock:
    """Wall clock of a test: every look costs a millisecond."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        self.now_ms += 1
        return self.now_ms


def follow_until(
    stores: ReplicaStores,
    chain: Network,
    scripts: dict[str, Script],
    done: Callable[[Follower, ReplicaExecutor], bool],
    *,
    clock: Callable[[], int] | None = None,
    pinned: Pinned | None = None,
) -> tuple[Follower, ReplicaExecutor, ScriptedFeed]:
    """Follow the scripted sources, in the order given, until ``done``; at most ten seconds, so that a bug fails."""
    executor = stores.executor()
    feed = ScriptedFeed(scripts)
    changed = asyncio.Event()
    follower = Follower(
        genesis=chain.genesis,
        executor=executor,
        pool=VerificationPool(0),
        sources=Sources([Source(name, f"{name}:1") for name in scripts], stores.index.distrusted()),
        feed=feed,
        remember=stores.index,
        on_executed=lambda _: changed.set(),
        on_source_lost=lambda _, __: changed.set(),
        wall_ms=clock or Clock(),
        pinned=pinned,
    )

    async def main() -> None:
        async with asyncio.timeout(10):
            task = asyncio.create_task(follower.run())
            while not task.done() and not done(follower, executor):
                changed.clear()
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]

    asyncio.run(main())
    return follower, executor, feed
