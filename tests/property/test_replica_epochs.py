"""Any history of changing sets: a replica that knows the genesis only comes to the validators' own roots."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from ledger.epochs import current_epoch
from tests.support.notices import proven
from tests.support.replicas import ReplicaStores, execute
from tests.unit.node.test_epochs import Market, lose_finality_until_there_are_tails, seat

STEPS = st.lists(
    st.tuples(st.sampled_from(["renew", "join", "leave", "without a key"]), st.integers(0, 3), st.booleans()),
    min_size=1,
    max_size=4,
)
"""What changes, how many tails at least are built before finality comes back, and whether a validator is down."""

Step = tuple[str, int, bool]


def history(seed: int, steps: list[Step]) -> Market:
    """A market whose set changes with each step, under load."""
    market = Market(seed=seed, newcomers=len(steps))
    market.load(2)
    for at, (what, tails, down) in enumerate(steps):
        epoch = at + 1
        members = [each.organisation for each in market.sets[at]]
        if what == "join":
            members.append(market.nodes[4 + at].id)
        elif what == "leave" and len(members) > 4:
            members.pop()
        seats = [seat(market.cluster.by_id[member], epoch) for member in members]
        if what == "without a key" and at == 0:
            seats[-1] = type(seats[-1])(seats[-1].organisation, b"")
        if tails:
            lose_finality_until_there_are_tails(market, tails)
        market.change(*seats)
        if down and what != "without a key":
            market.nodes[3].crash()
        market.load(3, every_ms=10, by=(0, 1, 2))
        market.reach(epoch, market.nodes[:3])
        market.cluster.start_all_that_are_down()
        market.cluster.run(1_000)
        market.load(3, by=(0, 1, 2))
        assert market.cluster.run(30_000, lambda: all(proven(n, e) for e in market.sent for n in market.nodes[:3]))
    return market


@pytest.mark.property
@hypothesis.settings(max_examples=8)
@hypothesis.given(st.integers(0, 1_000), STEPS)
def test_a_replica_has_the_roots_of_the_validators_at_every_height(seed: int, steps: list[Step]) -> None:
    market = history(seed, steps)
    node = market.nodes[0]
    blocks = [node.block(height) for height in range(1, node.validator.finalized_height + 1)]
    with tempfile.TemporaryDirectory() as directory:
        stores = ReplicaStores(Path(directory), market.cluster.genesis, market.cluster.contracts)
        try:
            executor = stores.executor()
            execute(executor, market.cluster, blocks)
            assert executor.height == len(blocks)
            for height in range(len(blocks) + 1):
                own = executor.roots(height)
                assert own is not None
                assert own == node.state.height_record(height)
            assert executor.epoch == len(steps)
            assert current_epoch(executor.state) == current_epoch(node.state)
            assert current_epoch(executor.state)[1].members == market.sets[len(steps)]
        finally:
            stores.close()
