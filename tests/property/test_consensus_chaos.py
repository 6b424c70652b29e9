"""Clusters with liars, loss, partitions and crashes, all drawn: safe always, live once healed, nobody honest blamed."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.consensus.byzantine import Liar
from tests.unit.consensus.cluster import Cluster, Network
from tests.unit.consensus.test_byzantine import LIARS
from tests.unit.consensus.test_cluster import chaos


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), n=st.integers(1, 8))
def test_any_honest_cluster_survives_chaos(seed: int, n: int) -> None:
    chaos(seed, n, for_ms=2_500)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 32),
    liars=st.sampled_from([4, 5, 7]).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.dictionaries(st.integers(0, n - 1), st.sampled_from(LIARS), min_size=1, max_size=(n - 1) // 3),
        )
    ),
)
def test_any_cluster_with_f_liars_survives_chaos(seed: int, liars: tuple[int, dict[int, type[Liar]]]) -> None:
    n, byzantine = liars
    rng = random.Random(seed)
    network = Network(latency_ms=(1, rng.choice([5, 60, 200])), drop=rng.choice([0.0, 0.05, 0.2]), duplicate=0.05)
    cluster = Cluster(n, seed, network=network, byzantine=dict(byzantine))
    honest = [node.index for node in cluster.honest]
    while cluster.now_ms < 2_500:
        cluster.run(rng.randint(10, 200))
        _misfortune(cluster, rng, honest)
    cluster.oracle.check_chain()
    _heal(cluster)
    for _ in range(3):
        transaction = cluster.submit(*honest)
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx, honest), 120_000)  # type: ignore[misc]
    cluster.oracle.check_chain()
    for node in cluster.honest:
        assert not node.alarms, node.alarms
        assert {penalty.sender for penalty in node.penalties} <= set(byzantine), node.penalties


def _misfortune(cluster: Cluster, rng: random.Random, honest: list[int]) -> None:
    n, dice = len(cluster.nodes), rng.random()
    if dice < 0.12:
        node = cluster.nodes[rng.choice(honest)]
        if node.up:
            node.crash_after_effects = rng.randint(0, 4)
    elif dice < 0.4:
        for other in cluster.nodes:
            if not other.up:
                other.start()
    elif dice < 0.5:
        indexes = rng.sample(range(n), n)
        cut = rng.randint(0, n)
        cluster.network.groups = [set(indexes[:cut]), set(indexes[cut:])]
    elif dice < 0.65:
        cluster.network.groups = []
    else:
        cluster.submit(*honest)


def _heal(cluster: Cluster) -> None:
    cluster.network = Network(latency_ms=(1, 10))
    for node in cluster.nodes:
        node.crash_after_effects = None
        if not node.up:
            node.start()
