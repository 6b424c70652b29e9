"""A replica that accepted a checkpoint: it is led there or nowhere; and one that was away for too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.checkpoints import (
    DAY_MS,
    TRUSTING_PERIOD_DAYS,
    Checkpoint,
    CheckpointBehind,
    CheckpointConflict,
    Unconfirmed,
    UnreadableCheckpoint,
    make_checkpoint,
)
from ledger.types import Block
from lossbook_sdk.pins import read_pin
from replica.checkpoint import FILE_NAME, Pinned, accept_for, state_anchor
from replica.execute import ReplicaExecutor
from replica.follow import Follower
from replica.reading import ReplicaReader
from services.subscription import ServerHeartbeat
from tests.support.chain import Chain, altered, altered_header
from tests.support.insurers import INSURERS, SUPERVISOR, Organisation, policy_issue
from tests.support.replicas import ReplicaStores, Script, execute, follow_until, honest

GENESIS_DAY = 1_750_000_000_000


def day(number: float) -> Callable[[], int]:
    """A clock that stands so many days after the genesis."""
    return lambda: GENESIS_DAY + int(number * DAY_MS)


@pytest.fixture
def chain() -> Chain:
    """The history that people vouch for."""
    made = Chain()
    for at in range(8):
        made.block([made.ledger.envelope([policy_issue(policy_id=b"policy-%09d" % at)])])
    return made


@pytest.fixture
def fork() -> Chain:
    """Another one, as long, that the same keys signed: it parts after two blocks."""
    made = Chain()
    for at in range(8):
        number = at if at < 2 else at + 100
        made.block([made.ledger.envelope([policy_issue(policy_id=b"policy-%09d" % number)])])
    assert made.genesis.chain_id == Chain().genesis.chain_id
    return made


@pytest.fixture
def stores(tmp_path: Path, chain: Chain) -> Iterator[ReplicaStores]:
    made = ReplicaStores(tmp_path, chain.genesis)
    yield made
    made.close()


def point(chain: Chain, stores: ReplicaStores, height: int, *by: Organisation) -> Checkpoint:
    """The chain's checkpoint of a height, signed by these (everybody)."""
    anchor = state_anchor(stores.executor(), chain.genesis.chain_id)
    header = chain.blocks[height - 1].header
    made = make_checkpoint(chain.genesis.chain_id, header, anchor.start, anchor.confirmers)
    for organisation in by or (SUPERVISOR, *INSURERS):
        made = made.signed(organisation.id, organisation.ledger_key)
    return made


def pinned(chain: Chain, height: int) -> Pinned:
    header = chain.blocks[height - 1].header
    return Pinned(height, header.digest, header.timestamp_ms)


def at_height(height: int) -> Callable[[Follower, ReplicaExecutor], bool]:
    return lambda _, executor: executor.height >= height


def nowhere(follower: Follower, _: ReplicaExecutor) -> bool:
    """Only a failure ends it."""
    return bool(follower.failure)


# -- led to the checkpoint -----------------------------------------------------------------------


@pytest.mark.parametrize("height", [1, 5, 8])
def test_a_replica_follows_through_its_checkpoint(chain: Chain, stores: ReplicaStores, height: int) -> None:
    scripts = {"insurer-1": honest(chain.blocks)}
    follower, executor, feed = follow_until(stores, chain, scripts, at_height(8), pinned=pinned(chain, height))
    assert executor.roots(8) == chain.ledger.state.height_record(8)
    assert feed.asked_headers == [("insurer-1", 1)]
    assert follower.failure == ""


def test_a_long_range_fork_is_refused_before_anything_of_it_is_executed_and_its_source_named(
    chain: Chain, fork: Chain, stores: ReplicaStores
) -> None:
    scripts = {"insurer-1": honest(fork.blocks), "insurer-2": honest(chain.blocks)}
    follower, executor, feed = follow_until(stores, chain, scripts, at_height(8), pinned=pinned(chain, 6))
    assert executor.roots(8) == chain.ledger.state.height_record(8)
    assert feed.asked == [("insurer-2", 1)], "nothing but headers was asked of the first"
    fault = follower.last_fault
    assert fault is not None
    assert (fault.source, fault.height) == ("insurer-1", 6)
    assert "the accepted checkpoint has another block there" in fault.reason
    assert [record.organisation for record in stores.index.distrusted()] == ["insurer-1"]


def test_the_same_fork_is_believed_without_a_checkpoint(chain: Chain, fork: Chain, stores: ReplicaStores) -> None:
    """What makes checkpoints necessary: old keys sign as well as new ones."""
    follower, _, _ = follow_until(stores, chain, {"insurer-1": honest(fork.blocks)}, at_height(8))
    assert follower.last_fault is None


def test_a_source_that_shows_the_way_and_then_serves_the_fork_is_refused(
    chain: Chain, fork: Chain, stores: ReplicaStores
) -> None:
    calls = 0

    def two_faced(from_height: int) -> list[Block]:
        nonlocal calls
        calls += 1
        return list((chain if calls == 1 else fork).blocks[from_height - 1 :])

    scripts: dict[str, Script] = {"insurer-1": two_faced, "insurer-2": honest(chain.blocks)}
    follower, executor, _ = follow_until(stores, chain, scripts, at_height(8), pinned=pinned(chain, 6))
    assert executor.roots(8) == chain.ledger.state.height_record(8)
    fault = follower.last_fault
    assert fault is not None
    assert (fault.source, fault.height) == ("insurer-1", 3)
    assert "not the block from which the accepted checkpoint follows" in fault.reason


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda blocks: [blocks[0], *blocks[2:]], "height 3 was served instead"),
        (lambda blocks: [altered_header(blocks[0], parent_digest=bytes(32)), *blocks[1:]], "does not build on"),
        (lambda blocks: [*blocks[:3], altered_header(blocks[3], parent_digest=bytes(32))], "does not build on"),
    ],
    ids=["a gap", "not on the genesis", "not on the one before"],
)
def test_invalid_headers_on_the_way(
    chain: Chain, stores: ReplicaStores, spoil: Callable[[list[Block]], list[Block]], words: str
) -> None:
    scripts: dict[str, Script] = {"insurer-1": lambda _: spoil(chain.blocks), "insurer-2": honest(chain.blocks)}
    follower, _, _ = follow_until(stores, chain, scripts, at_height(8), pinned=pinned(chain, 6))
    assert follower.last_fault is not None
    assert words in follower.last_fault.reason


def test_a_source_below_the_checkpoint_is_left_without_blame(chain: Chain, stores: ReplicaStores) -> None:
    scripts: dict[str, Script] = {
        "insurer-1": lambda at: [*chain.blocks[at - 1 : 3], ServerHeartbeat(3, 0)],
        "insurer-2": honest(chain.blocks),
    }
    follower, _, _ = follow_until(stores, chain, scripts, at_height(8), pinned=pinned(chain, 6))
    assert follower.last_fault is None
    assert "below the accepted checkpoint's 6" in str(follower.sources.status(0)[0]["last_error"])


def test_a_source_that_withholds_headers_is_left(
    chain: Chain, stores: ReplicaStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replica.follow.WITHHELD_S", -1.0)
    scripts: dict[str, Script] = {
        "insurer-1": lambda at: [chain.blocks[at - 1], ServerHeartbeat(8, 0)],
        "insurer-2": honest(chain.blocks),
    }
    follower, _, _ = follow_until(stores, chain, scripts, at_height(8), pinned=pinned(chain, 6))
    assert "sends none" in str(follower.sources.status(0)[0]["last_error"])


def test_the_way_is_looked_for_again_after_a_restart(chain: Chain, stores: ReplicaStores) -> None:
    follow_until(stores, chain, {"insurer-1": honest(chain.blocks[:3])}, at_height(3))
    stores.reopen()
    scripts = {"insurer-1": honest(chain.blocks)}
    _, executor, feed = follow_until(stores, chain, scripts, at_height(8), pinned=pinned(chain, 6))
    assert feed.asked_headers == [("insurer-1", 3)], "from its own last block on, to see that it lies on the way"
    assert executor.roots(8) == chain.ledger.state.height_record(8)


def test_a_checkpoint_that_was_passed_needs_no_way(chain: Chain, stores: ReplicaStores) -> None:
    follow_until(stores, chain, {"insurer-1": honest(chain.blocks[:6])}, at_height(6))
    stores.reopen()
    _, _, feed = follow_until(stores, chain, {"insurer-1": honest(chain.blocks)}, at_height(8), pinned=pinned(chain, 6))
    assert feed.asked_headers == []


@pytest.mark.parametrize("executed", [4, 7])
def test_a_replica_that_followed_a_fork_stops_and_says_so(
    chain: Chain, fork: Chain, stores: ReplicaStores, executed: int
) -> None:
    follow_until(stores, chain, {"insurer-1": honest(fork.blocks[:executed])}, at_height(executed))
    stores.reopen()
    scripts = {"insurer-2": honest(chain.blocks)}
    follower, executor, _ = follow_until(stores, chain, scripts, nowhere, pinned=pinned(chain, 6))
    assert "followed another history than the accepted checkpoint of height 6" in follower.failure
    assert "lossbook replica resync" in follower.failure
    assert follower.last_fault is None, "no source is to blame"
    assert executor.height == executed


def test_headers_alone_carry_no_batches(chain: Chain, stores: ReplicaStores) -> None:
    bare = [altered(block, batches=()) for block in chain.blocks]
    calls = 0

    def serve(from_height: int) -> list[Block]:
        nonlocal calls
        calls += 1
        return list((bare if calls == 1 else chain.blocks)[from_height - 1 :])

    _, executor, _ = follow_until(stores, chain, {"insurer-1": serve}, at_height(8), pinned=pinned(chain, 6))
    assert executor.height == 8


def test_the_status_names_epoch_and_checkpoint(chain: Chain, stores: ReplicaStores) -> None:
    scripts = {"insurer-1": honest(chain.blocks)}
    follower, executor, _ = follow_until(stores, chain, scripts, at_height(8), pinned=pinned(chain, 6))
    reader = ReplicaReader(chain.genesis, SUPERVISOR.id, executor, stores.index, follower, day(1))
    detail = reader.status().detail
    assert detail["epoch"] == 0
    assert detail["checkpoint"] == {"height": 6, "time_ms": chain.blocks[5].header.timestamp_ms}


# -- the trusting period -------------------------------------------------------------------------


def test_a_replica_follows_within_the_trusting_period(chain: Chain, stores: ReplicaStores) -> None:
    clock = day(TRUSTING_PERIOD_DAYS)
    _, executor, _ = follow_until(stores, chain, {"insurer-1": honest(chain.blocks)}, at_height(8), clock=clock)
    assert executor.height == 8


def test_one_that_was_away_for_longer_asks_for_a_checkpoint(chain: Chain, stores: ReplicaStores) -> None:
    scripts = {"insurer-1": honest(chain.blocks)}
    clock = day(TRUSTING_PERIOD_DAYS + 0.5)
    follower, executor, feed = follow_until(stores, chain, scripts, nowhere, clock=clock)
    assert (executor.height, feed.asked) == (0, [])
    assert "30 days old by this machine's clock, and the trusting period is 30 days" in follower.failure
    assert "lossbook checkpoint accept" in follower.failure


def test_it_also_stops_where_the_time_runs_out_while_it_runs(chain: Chain, stores: ReplicaStores) -> None:
    now = [GENESIS_DAY]

    def serve(_: int) -> list[Block]:
        now[0] += (TRUSTING_PERIOD_DAYS + 1) * DAY_MS
        return list(chain.blocks)

    follower, executor, _ = follow_until(stores, chain, {"insurer-1": serve}, nowhere, clock=lambda: now[0])
    assert "31 days old" in follower.failure
    assert executor.height == 0


def test_a_fresh_checkpoint_lets_it_follow_again(chain: Chain, stores: ReplicaStores) -> None:
    header = chain.blocks[5].header
    fresh = Pinned(6, header.digest, GENESIS_DAY + 40 * DAY_MS)
    scripts = {"insurer-1": honest(chain.blocks)}
    _, executor, _ = follow_until(stores, chain, scripts, at_height(6), clock=day(50), pinned=fresh)
    assert executor.height >= 6


def test_an_old_checkpoint_does_not(chain: Chain, stores: ReplicaStores) -> None:
    scripts = {"insurer-1": honest(chain.blocks)}
    follower, _, _ = follow_until(stores, chain, scripts, nowhere, clock=day(31), pinned=pinned(chain, 6))
    assert "the accepted checkpoint, of height 6, is 30 days old" in follower.failure


# -- accepting -----------------------------------------------------------------------------------


def test_what_is_accepted_is_there_after_a_restart(chain: Chain, stores: ReplicaStores, tmp_path: Path) -> None:
    made = point(chain, stores, 6)
    by = accept_for(tmp_path, stores.executor(), made, chain.genesis.chain_id)
    assert by == ["insurer-1", "insurer-2", "insurer-3", "insurer-4", "supervisor"]
    assert read_pin(tmp_path / FILE_NAME, chain.genesis.chain_id) == made
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_invalid_an_unconfirmed_checkpoint_leaves_the_accepted_one(
    chain: Chain, fork: Chain, stores: ReplicaStores, tmp_path: Path
) -> None:
    executor, chain_id = stores.executor(), chain.genesis.chain_id
    accept_for(tmp_path, executor, point(chain, stores, 5), chain_id)
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(Unconfirmed):
        accept_for(tmp_path, executor, point(chain, stores, 7, SUPERVISOR, INSURERS[0]), chain_id)
    with pytest.raises(CheckpointBehind):
        accept_for(tmp_path, executor, point(chain, stores, 4), chain_id)
    with pytest.raises(CheckpointConflict):
        accept_for(tmp_path, executor, point(fork, stores, 5), chain_id)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_what_a_replica_executed_is_its_anchor_too(
    chain: Chain, fork: Chain, stores: ReplicaStores, tmp_path: Path
) -> None:
    executor, chain_id = stores.executor(), chain.genesis.chain_id
    execute(executor, chain, chain.blocks[:5])
    with pytest.raises(CheckpointBehind, match="this replica's own state at height 5"):
        accept_for(tmp_path, executor, point(chain, stores, 4), chain_id)
    with pytest.raises(CheckpointConflict, match="this replica's own state at height 5 has another block"):
        accept_for(tmp_path, executor, point(fork, stores, 5), chain_id)


def test_invalid_a_damaged_pin_is_not_taken_for_none(chain: Chain, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text("{}")
    with pytest.raises(UnreadableCheckpoint, match="lossbook checkpoint accept"):
        read_pin(path, chain.genesis.chain_id)


def test_invalid_a_pin_of_another_network(chain: Chain, stores: ReplicaStores, tmp_path: Path) -> None:
    accept_for(tmp_path, stores.executor(), point(chain, stores, 5), chain.genesis.chain_id)
    with pytest.raises(CheckpointConflict, match="is a checkpoint of network"):
        read_pin(tmp_path / FILE_NAME, bytes(32))
