"""Following, failing over, naming who lied, stopping at a divergence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.types import Block
from ledger.wire import WireError, decode_batch, decode_envelope, encode_batch, encode_envelope
from replica.execute import ReplicaExecutor
from replica.follow import Follower
from services.subscription import FeedLost, ServerHeartbeat
from tests.support.chain import Chain, altered, altered_header
from tests.support.insurers import policy_issue
from tests.support.replicas import Clock, ReplicaStores, Script, down, follow_until, honest


@pytest.fixture
def chain() -> Chain:
    made = Chain()
    for at in range(6):
        made.block([made.ledger.envelope([policy_issue(policy_id=b"policy-%09d" % at)])])
    return made


@pytest.fixture
def stores(tmp_path: Path, chain: Chain) -> Iterator[ReplicaStores]:
    made = ReplicaStores(tmp_path, chain.genesis)
    yield made
    made.close()


def at_height(height: int) -> Callable[[Follower, ReplicaExecutor], bool]:
    return lambda _, executor: executor.height >= height


def forged(block: Block) -> Block:
    """The block with one operation altered on the wire."""
    batch = block.batches[0]
    envelope = decode_envelope(batch.envelopes[0])
    raw = encode_envelope(envelope.body.replace(b"policy-0", b"policy-X"), envelope.signatures)
    return altered(block, batches=(decode_batch(encode_batch(batch.header.raw, batch.signature, (raw,))),))


def forger(blocks: list[Block], height: int) -> Script:
    """Honest but for one block."""
    served = [forged(block) if block.header.height == height else block for block in blocks]
    return honest(served)


def test_follows_to_the_end(chain: Chain, stores: ReplicaStores) -> None:
    follower, executor, feed = follow_until(stores, chain, {"insurer-1": honest(chain.blocks)}, at_height(6))
    assert executor.height == 6
    assert executor.roots(6) == chain.ledger.state.height_record(6)
    assert follower.lag_blocks == 0
    assert feed.asked == [("insurer-1", 1)]


def test_resumes_at_its_height_after_a_restart(chain: Chain, stores: ReplicaStores) -> None:
    follow_until(stores, chain, {"insurer-1": honest(chain.blocks[:3])}, at_height(3))
    stores.reopen()
    _, executor, feed = follow_until(stores, chain, {"insurer-1": honest(chain.blocks)}, at_height(6))
    assert feed.asked == [("insurer-1", 4)]
    assert executor.height == 6


def test_fails_over_when_a_source_is_down(chain: Chain, stores: ReplicaStores) -> None:
    scripts = {"insurer-1": down("insurer-1"), "insurer-2": honest(chain.blocks)}
    follower, _, feed = follow_until(stores, chain, scripts, at_height(6))
    assert feed.asked == [("insurer-1", 1), ("insurer-2", 1)]
    states = {entry["organisation"]: entry["state"] for entry in follower.sources.status(0)}
    assert states["insurer-2"] == "following"


def test_goes_on_at_the_next_source_where_the_first_broke_off(chain: Chain, stores: ReplicaStores) -> None:
    scripts: dict[str, Script] = {
        "insurer-1": lambda at: [*chain.blocks[at - 1 : 2], FeedLost("insurer-1", "the server ended the stream")],
        "insurer-2": honest(chain.blocks),
    }
    _, _, feed = follow_until(stores, chain, scripts, at_height(6))
    assert feed.asked == [("insurer-1", 1), ("insurer-2", 3)]


def test_a_forged_block_costs_its_source_its_place(chain: Chain, stores: ReplicaStores) -> None:
    scripts = {"insurer-1": forger(chain.blocks, 4), "insurer-2": honest(chain.blocks)}
    follower, executor, feed = follow_until(stores, chain, scripts, at_height(6))
    assert feed.asked == [("insurer-1", 1), ("insurer-2", 4)]
    fault = follower.last_fault
    assert fault is not None
    assert (fault.kind, fault.height, fault.source) == ("forged block", 4, "insurer-1")
    (distrust,) = stores.index.distrusted()
    assert (distrust.organisation, distrust.height) == ("insurer-1", 4)
    assert executor.roots(6) == chain.ledger.state.height_record(6)


def test_nothing_of_a_forged_block_is_stored(chain: Chain, stores: ReplicaStores) -> None:
    follow_until(
        stores,
        chain,
        {"insurer-1": forger(chain.blocks, 4)},
        lambda follower, executor: follower.last_fault is not None and executor.height == 3,
    )
    assert stores.blocks.finalized_height() == 3
    assert stores.blocks.batch(chain.blocks[3].batches[0].header.digest) is None


def test_distrust_outlives_a_restart_until_the_operator_trusts_again(chain: Chain, stores: ReplicaStores) -> None:
    scripts = {"insurer-1": forger(chain.blocks, 4), "insurer-2": honest(chain.blocks[:5])}
    clock = Clock()
    follow_until(stores, chain, scripts, at_height(5), clock=clock)
    stores.reopen()
    _, _, feed = follow_until(stores, chain, scripts | {"insurer-2": honest(chain.blocks)}, at_height(6), clock=clock)
    assert feed.asked == [("insurer-2", 6)]
    stores.reopen()
    assert stores.index.trust_again("insurer-1")
    chain.block()
    _, _, feed = follow_until(stores, chain, {"insurer-1": honest(chain.blocks)}, at_height(7), clock=clock)
    assert feed.asked == [("insurer-1", 7)]


def test_an_unreadable_block_is_a_forgery(chain: Chain, stores: ReplicaStores) -> None:
    scripts: dict[str, Script] = {
        "insurer-1": lambda at: [*chain.blocks[at - 1 : 2], WireError("Block", "does not parse")],
        "insurer-2": honest(chain.blocks),
    }
    follower, _, _ = follow_until(stores, chain, scripts, at_height(6))
    assert follower.last_fault is not None
    assert (follower.last_fault.height, follower.last_fault.kind) == (3, "forged block")


def test_a_gap_costs_its_source_its_place(chain: Chain, stores: ReplicaStores) -> None:
    scripts: dict[str, Script] = {
        "insurer-1": lambda _: [chain.blocks[0], chain.blocks[2]],
        "insurer-2": honest(chain.blocks),
    }
    follower, _, _ = follow_until(stores, chain, scripts, at_height(6))
    assert follower.last_fault is not None
    assert (follower.last_fault.height, follower.last_fault.kind) == (2, "gap")


def test_a_truncated_stream_is_told_and_its_unfinal_blocks_are_fetched_elsewhere(
    chain: Chain, stores: ReplicaStores
) -> None:
    bare = [altered(block, finalization=None) for block in chain.blocks]
    scripts: dict[str, Script] = {
        "insurer-1": lambda _: [
            chain.blocks[0],
            bare[1],
            bare[2],
            FeedLost("insurer-1", "the server ended the stream"),
        ],
        "insurer-2": honest(chain.blocks),
    }
    follower, _, feed = follow_until(stores, chain, scripts, at_height(6))
    assert feed.asked == [("insurer-1", 1), ("insurer-2", 2)]
    assert follower.last_fault is None, "a node that was shut down does the same: no lie"
    entry = follower.sources.status(0)[0]
    assert "truncated stream at height 4" in str(entry["last_error"])


def test_a_source_that_says_it_has_more_and_sends_nothing_is_left(
    chain: Chain, stores: ReplicaStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replica.follow.WITHHELD_S", -1.0)
    scripts: dict[str, Script] = {
        "insurer-1": lambda _: [chain.blocks[0], ServerHeartbeat(6, 0)],
        "insurer-2": honest(chain.blocks),
    }
    follower, _, feed = follow_until(stores, chain, scripts, at_height(6))
    assert feed.asked == [("insurer-1", 1), ("insurer-2", 2)]
    assert "does not send it" in str(follower.sources.status(0)[0]["last_error"])


def test_a_quiet_source_is_left_only_where_another_can_be_asked(
    chain: Chain, stores: ReplicaStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replica.follow.QUIET_S", -1.0)
    scripts: dict[str, Script] = {
        "insurer-1": lambda _: [chain.blocks[0], ServerHeartbeat(1, 0)],
        "insurer-2": lambda at: [ServerHeartbeat(1, 0), *chain.blocks[at - 1 :]],
    }
    _, _, feed = follow_until(stores, chain, scripts, at_height(6))
    assert feed.asked == [("insurer-1", 1), ("insurer-2", 2)]


def test_a_heartbeat_tells_the_lag(chain: Chain, stores: ReplicaStores) -> None:
    scripts: dict[str, Script] = {"insurer-1": lambda _: [ServerHeartbeat(60, 0), *chain.blocks]}
    follower, _, _ = follow_until(stores, chain, scripts, at_height(6))
    assert follower.lag_blocks == 54


def test_a_certified_root_that_own_execution_contradicts_stops_the_replica(chain: Chain, stores: ReplicaStores) -> None:
    block = altered_header(chain.blocks[2], state_root=b"x" * 32)
    block = altered(block, finalization=chain.finalization(block.header))
    served = [*chain.blocks[:2], block]
    follower, executor, _ = follow_until(stores, chain, {"insurer-1": honest(served)}, lambda *_: False)
    assert follower.diverged
    assert "DIVERGENCE: block 3 certifies state root" in follower.failure
    assert executor.height == 2
    assert stores.index.distrusted() == [], "a quorum signed it: no source is to blame"
