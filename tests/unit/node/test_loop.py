"""The turn loop keeps the order of disk and network, whatever arrives when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from consensus.events import Now
from consensus.messages import Want
from ledger.block_port import BatchWrite, BlockWrite, FinalizedWrite
from ledger.ports import ImportProgress, ImportRows
from ledger.types import Batch
from node.loop import TurnLoop
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.turn import (
    Fetch,
    FetchBlocks,
    FinalizedNotice,
    Input,
    Notice,
    PeerConnected,
    PeerMessage,
    Penalty,
    Tick,
    Turn,
)
from store.errors import FailureKind, StoreFailed

WRITE = BatchWrite(bytes(32), b"batch")


class World:
    """A validator, its disk and its network, all writing down what happens in what order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.turns: list[Turn] = []  #: what the next turns want done
        self.slices = 0  #: of execution, waiting
        self.executed_height = 0
        self.deadline: int | None = None
        self.live: list[bytes] = [b"live"]
        self.failing = ""
        self.log_bytes = 0
        self.on_block_write: Callable[[], None] = lambda: None
        self.mailbox = Mailbox()
        self.metrics = Metrics()
        self.clock_ms = 0
        self.loop = TurnLoop(
            validator=self,
            mailbox=self.mailbox,
            blocks=Blocks(self),
            imports=self,
            votes=Votes(self),
            outbox=self,
            metrics=self.metrics,
            remove_marker=lambda: self.events.append("marker removed"),
            now=lambda: Now(self.clock_ms, 0),
        )

    # state store
    def import_rows(self, rows: ImportRows) -> None:
        self.events.append(f"snapshot rows {rows.first_leaf}")

    # validator
    def handle(self, message: Input, now: Now, /) -> None:
        self.events.append("tick" if isinstance(message, Tick) else "input")

    def take_turn(self) -> Turn:
        return self.turns.pop(0) if self.turns else Turn()

    def execute_slice(self, now: Now, /) -> bool:
        if self.slices == 0:
            return False
        self.slices -= 1
        self.events.append("slice")
        self.executed_height += self.slices == 0
        return self.slices > 0

    @property
    def deadline_ms(self) -> int | None:
        return self.deadline

    def live_records(self) -> Sequence[bytes]:
        return self.live

    # outbox
    def send(self, sends: Sequence[tuple[str | None, PeerMessage]]) -> None:
        self.events.append("sent")

    def notify(self, notices: Sequence[Notice]) -> None:
        self.events.append("notified")

    def check(self, batch: Batch) -> None:
        self.events.append("check")

    def fetch(self, fetch: Fetch) -> None:
        self.events.append("fetch")

    def penalise(self, penalty: Penalty) -> None:
        self.events.append("penalty")

    # driving
    def run(self, until: Callable[[], bool]) -> None:
        """Drive turns until the condition holds."""

        async def main() -> None:
            running = asyncio.create_task(self.loop.run())
            async with asyncio.timeout(20):
                while not until() and not running.done():  # noqa: ASYNC110 - turns are what is waited for
                    await asyncio.sleep(0)
                self.loop.stop()
                await running

        asyncio.run(main())


class Blocks:
    def __init__(self, world: World) -> None:
        self.world = world

    def commit(self, writes: Sequence[BlockWrite], *, sync: bool = True) -> None:
        if self.world.failing == "blocks":
            raise StoreFailed(FailureKind.DISK_FULL, "sync", Path("blocks"))
        self.world.on_block_write()
        self.world.events.append("blocks synced" if sync else "blocks written")


class Votes:
    def __init__(self, world: World) -> None:
        self.world = world

    def append(self, payloads: Sequence[bytes]) -> None:
        self.world.events.append("votes appended")

    def sync(self) -> None:
        if self.world.failing == "votes":
            raise StoreFailed(FailureKind.INPUT_OUTPUT, "sync", Path("votes"))
        self.world.events.append("votes synced")

    @property
    def size_bytes(self) -> int:
        return self.world.log_bytes

    def rotate(self, live_records: Sequence[bytes]) -> None:
        self.world.log_bytes = 0
        self.world.events.append(f"rotated {live_records!r}")


def sends() -> list[tuple[str | None, PeerMessage]]:
    return [(None, Want(0, 1))]


def full_turn() -> Turn:
    return Turn(
        block_writes=[WRITE],
        sync_blocks=True,
        vote_records=[b"vote"],
        sends=sends(),
        notices=[FinalizedNotice(1)],
        fetches=[FetchBlocks(("peer-1",), 1)],
        penalties=[Penalty("peer-1", "lied")],
    )


def test_blocks_are_synced_before_votes_and_both_before_anything_leaves() -> None:
    world = World()
    world.turns = [full_turn()]
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: "notified" in world.events)
    assert world.events == [
        "input",
        "blocks synced",
        "votes appended",
        "votes synced",
        "sent",
        "penalty",
        "fetch",
        "notified",
    ]


@pytest.mark.parametrize("store", ["blocks", "votes"])
def test_nothing_leaves_when_a_sync_fails_and_the_node_votes_no_more(store: str) -> None:
    world = World()
    world.turns = [full_turn(), full_turn()]
    world.failing = store
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: False)
    assert "sent" not in world.events
    assert "notified" not in world.events
    assert "stops voting" in world.loop.failure
    assert world.loop.alive
    assert world.metrics.registry.get_sample_value("lossbook_voting") == 0
    assert len(world.turns) == 1  # the validator is driven no further


def test_a_turn_without_anything_to_keep_syncs_nothing() -> None:
    world = World()
    world.turns = [Turn(sends=sends())]
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: "sent" in world.events)
    assert world.events == ["input", "sent"]


def test_writes_that_no_message_waits_for_are_not_synced() -> None:
    world = World()
    world.turns = [Turn(block_writes=[WRITE])]
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: "blocks written" in world.events)
    assert "blocks synced" not in world.events


def test_what_arrives_during_a_sync_is_one_turn_afterwards() -> None:
    world = World()
    world.turns = [Turn(block_writes=[WRITE], sync_blocks=True, sends=sends()), Turn(sends=sends())]

    def arrive() -> None:
        world.mailbox.put_now(PeerConnected("peer-2"))
        world.mailbox.put_now(PeerConnected("peer-3"))

    world.on_block_write = arrive
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: world.events.count("sent") == 2)
    assert world.events == ["input", "blocks synced", "sent", "input", "input", "sent"]


def test_what_execution_did_leaves_in_a_turn_of_its_own() -> None:
    world = World()
    world.turns = [Turn()]

    def executed(now: Now, /) -> bool:
        if world.executed_height == 0:
            world.executed_height = 1
            world.turns = [Turn(sends=sends())]
        return False

    world.execute_slice = executed  # type: ignore[method-assign]
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: "sent" in world.events)


def test_execution_goes_on_between_turns_until_nothing_is_left() -> None:
    world = World()
    world.slices = 5
    world.run(lambda: world.slices == 0)
    assert world.events.count("slice") == 5


def test_blocks_are_on_disk_as_final_before_they_are_executed() -> None:
    world = World()
    world.turns = [Turn(block_writes=[FinalizedWrite(1, bytes(32), b"")], sync_blocks=True)]

    def release() -> None:
        world.slices = 3  # what the turn made final can be executed from now on

    world.on_block_write = release
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: world.events.count("slice") == 3)
    assert world.events.index("blocks synced") < world.events.index("slice")


def test_what_a_turn_made_final_is_acted_on_without_waiting_for_anything_else() -> None:
    world = World()
    final = Turn(block_writes=[FinalizedWrite(1, bytes(32), b"")], sync_blocks=True)
    world.turns = [final, Turn(sends=sends())]
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: "sent" in world.events)


def test_a_deadline_that_has_come_makes_a_tick() -> None:
    world = World()
    world.deadline = 0
    world.run(lambda: world.events.count("tick") >= 2)
    assert set(world.events) == {"tick"}


def test_a_vote_log_grown_large_is_rewritten_with_what_lives() -> None:
    world = World()
    world.log_bytes = 1 << 30
    world.turns = [Turn(vote_records=[b"vote"], sends=sends())]
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: world.log_bytes == 0)
    assert world.events.index("sent") < world.events.index("rotated [b'live']")


def test_the_backup_marker_goes_after_the_bound_is_synced() -> None:
    world = World()
    world.turns = [Turn(vote_records=[b"bound"], remove_backup_marker=True)]
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: "marker removed" in world.events)
    assert world.events.index("votes synced") < world.events.index("marker removed")


def test_the_backup_marker_goes_also_where_the_log_had_the_bound_already() -> None:
    """A crash between the sync of the bound and the removal: the next start has nothing to log."""
    world = World()
    world.turns = [Turn(remove_backup_marker=True, sends=sends())]
    world.mailbox.put_now(PeerConnected("peer-1"))
    world.run(lambda: "sent" in world.events)
    assert world.events.index("marker removed") < world.events.index("sent")


def test_a_defect_ends_the_loop() -> None:
    world = World()

    def broken() -> Turn:
        raise ZeroDivisionError

    world.take_turn = broken  # type: ignore[method-assign]
    world.mailbox.put_now(PeerConnected("peer-1"))
    with pytest.raises(ZeroDivisionError):
        world.run(lambda: False)


def test_rows_of_a_snapshot_are_stored_in_order_and_the_loop_ends_where_it_is_to_be_installed() -> None:
    world = World()
    progress = ImportProgress(b"manifest", 0, 0)
    rows = [ImportRows(progress, first, [], [], 0, [], []) for first in (0, 5)]
    world.turns = [Turn(import_rows=rows, install=True)]
    world.run(lambda: world.loop.installs)
    assert world.events[-2:] == ["snapshot rows 0", "snapshot rows 5"]
    assert world.loop.installs
