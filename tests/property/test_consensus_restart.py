"""A vote log cut anywhere between two turns, or rewritten, restores the same node."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.records import OwnVote
from tests.unit.consensus.cluster import Cluster, Network
from tests.unit.consensus.oracle import Oracle
from tests.unit.consensus.solo import FakeHeaders, Solo


def busy_cluster(seed: int) -> Cluster:
    cluster = Cluster(4, seed, network=Network(latency_ms=(1, 100), drop=0.1))
    for _ in range(6):
        cluster.submit()
        cluster.run(300)
    return cluster


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 16), index=st.integers(0, 3))
def test_a_rewritten_log_restores_the_same_node(seed: int, index: int) -> None:
    node = busy_cluster(seed).nodes[index]
    store = FakeHeaders()
    store.proposals = node.store.proposals
    whole = Solo(index, records=node.log, store=store)
    live = node.running.live_records()
    rewritten = Solo(index, records=live, store=store)
    assert len(live) <= len(node.log)
    assert rewritten.core.status() == whole.core.status()
    assert rewritten.core.live_records() == whole.core.live_records()


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 16), index=st.integers(0, 3), cut=st.floats(0, 1))
def test_an_older_log_never_makes_a_node_contradict_it(seed: int, index: int, cut: float) -> None:
    """What a node signs from any earlier state of its log is judged together with that log (not with what was cut)."""
    node = busy_cluster(seed).nodes[index]
    kept = node.log[: int(len(node.log) * cut)]
    store = FakeHeaders()
    store.proposals = node.store.proposals
    again = Solo(index, records=kept, store=store)
    again.work()
    again.wait(10_000)
    oracle = Oracle(again.validators, again.genesis, {index})
    for record in again.log:
        if isinstance(record, OwnVote):
            oracle.signed(record.vote)
