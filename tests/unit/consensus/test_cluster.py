"""The whole protocol: happy path, any size, loss, partitions, crashes at every boundary between log and network."""

from __future__ import annotations

import random

import pytest

from consensus.types import Certificate
from tests.unit.consensus.cluster import Cluster, Network


def test_four_nodes_finalize_a_transaction_in_three_hops() -> None:
    cluster = Cluster(4, network=Network(latency_ms=(10, 10)))
    cluster.run(100)
    transaction = cluster.submit()
    cluster.run_until(lambda: cluster.final_everywhere(transaction), within_ms=31)
    cluster.oracle.check_chain()


@pytest.mark.parametrize("n", range(1, 11))
def test_any_number_of_validators_makes_progress_with_f_of_them_dead(n: int) -> None:
    cluster = Cluster(n)
    cluster.run(50)
    faults = (n - 1) // 3
    for node in cluster.nodes[:faults]:
        node.crash()
    alive = range(faults, n)
    for _ in range(5):
        transaction = cluster.submit()
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx, alive))  # type: ignore[misc]
    cluster.oracle.check_chain()


@pytest.mark.parametrize("n", [4, 7])
def test_with_more_than_f_dead_nothing_is_final_until_one_returns(n: int) -> None:
    cluster = Cluster(n)
    cluster.run(50)
    faults = (n - 1) // 3
    for node in cluster.nodes[: faults + 1]:
        node.crash()
    transaction = cluster.submit()
    cluster.run(20_000)
    assert not cluster.oracle.final_digests
    cluster.nodes[0].start()
    alive = [node.index for node in cluster.nodes if node.up]
    cluster.run_until(lambda: cluster.final_everywhere(transaction, alive), within_ms=20_000)


def test_an_observer_follows() -> None:
    cluster = Cluster(4, observers=1)
    for _ in range(5):
        transaction = cluster.submit(0, 1, 2, 3)
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx))  # type: ignore[misc]
    assert not any(type(r).__name__ == "OwnVote" for r in cluster.nodes[4].log)


def test_a_node_that_was_away_for_long_catches_up() -> None:
    cluster = Cluster(4)
    cluster.run(50)
    cluster.nodes[2].crash()
    for _ in range(100):
        transaction = cluster.submit(0, 1, 3)
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx, (0, 1, 3)))  # type: ignore[misc]
    cluster.nodes[2].start()
    cluster.run_until(lambda: cluster.final_everywhere(transaction), within_ms=2_000)
    height = cluster.nodes[2].height
    for _ in range(8):
        transaction = cluster.submit()
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx))  # type: ignore[misc]
    assert cluster.nodes[2].height > height
    signers = {
        s
        for n in cluster.nodes
        for r in n.log
        if isinstance(c := getattr(r, "certificate", None), Certificate) and c.view > cluster.nodes[0].running.view - 20
        for s in c.signers
    }
    assert 2 in signers, "its votes are in certificates again"


def chaos(seed: int, n: int = 4, for_ms: int = 4_000) -> Cluster:
    """A bad network and crashes at any point, then a good network with a quorum: safe always, live in the end."""
    rng = random.Random(seed * 7 + 1)
    network = Network(
        latency_ms=(1, rng.choice([5, 60, 300])),
        drop=rng.choice([0.0, 0.02, 0.1, 0.3]),
        duplicate=rng.choice([0.0, 0.1]),
    )
    cluster = Cluster(n, seed, network=network)
    while cluster.now_ms < for_ms:
        cluster.run(rng.randint(10, 200))
        misfortune(cluster, rng)
    cluster.oracle.check_chain()
    alive = heal(cluster, rng)
    for _ in range(3):
        transaction = cluster.submit(*alive)
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx, alive))  # type: ignore[misc]
    cluster.run(30_000)
    steps = cluster.steps
    cluster.run(60_000)
    assert cluster.steps - steps < 20, "it comes to rest"
    cluster.oracle.check_chain()
    for node in cluster.nodes:
        assert not node.alarms, node.alarms
        assert not node.penalties, node.penalties
    return cluster


def misfortune(cluster: Cluster, rng: random.Random) -> None:
    n, node, dice = len(cluster.nodes), rng.choice(cluster.nodes), rng.random()
    if dice < 0.15 and node.up:
        if rng.random() < 0.5:
            node.crash_after_effects = rng.randint(0, 4)
        else:
            node.crash()
    elif dice < 0.4:
        for other in cluster.nodes:
            if not other.up and rng.random() < 0.7:
                other.start()
    elif dice < 0.5:
        indexes = rng.sample(range(n), n)
        cut = rng.randint(0, n)
        cluster.network.groups = [set(indexes[:cut]), set(indexes[cut:])]
    elif dice < 0.6:
        cluster.network.groups = []
    elif dice < 0.65:
        cluster.network.cut = {(rng.randrange(n), rng.randrange(n))}
    elif dice < 0.9:
        cluster.submit(rng.randrange(n))
    elif dice < 0.92:
        node.wall_offset_ms = rng.randint(-3_000, 3_000)


def heal(cluster: Cluster, rng: random.Random) -> list[int]:
    """A good network and clocks; all nodes, or exactly a quorum of them."""
    n = len(cluster.nodes)
    cluster.network = Network()
    for node in cluster.nodes:
        node.crash_after_effects = None
        node.wall_offset_ms = rng.randint(-200, 200)
    alive = rng.sample(range(n), n if rng.random() < 0.3 else n - (n - 1) // 3)
    for node in cluster.nodes:
        if node.index in alive and not node.up:
            node.start()
        elif node.index not in alive and node.up:
            node.crash()
    return alive


@pytest.mark.parametrize("seed", range(40))
def test_four_nodes_survive_chaos(seed: int) -> None:
    chaos(seed)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_other_sizes_survive_chaos(n: int, seed: int) -> None:
    chaos(seed, n, for_ms=3_000)


def test_a_seed_runs_the_same_twice() -> None:
    assert [chaos(3).steps, chaos(3).now_ms] == [chaos(3).steps, chaos(3).now_ms]
    logs = [[node.log for node in chaos(5).nodes] for _ in range(2)]
    assert logs[0] == logs[1]
