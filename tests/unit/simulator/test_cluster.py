"""A cluster without faults, and what it costs to be cut off."""

from __future__ import annotations

from simulator.cluster import Cluster
from simulator.market import market_of, policy

FAR_MS = 600_000


def started(n: int = 4, seed: int = 1) -> Cluster:
    cluster = Cluster(market_of(n), seed)
    cluster.start()
    cluster.run(500)
    return cluster


def test_what_is_submitted_is_executed_by_all() -> None:
    cluster, market = started(), market_of(4)
    for number in range(8):
        not_after_ms = market.genesis.time_ms + cluster.timeline.now_ms + FAR_MS
        cluster.nodes[number % 4].submit(market.envelope(number % 4, number, not_after_ms, [policy(number)]))
        cluster.run(100)
    assert cluster.run(
        3_000, lambda: all(node.state.head and node.state.head.receipt_count == 8 for node in cluster.nodes)
    )


def test_who_is_cut_off_waits_and_does_not_spin() -> None:
    """An overdue heartbeat was a deadline that had always just come: a thousand turns a second."""
    cluster = started()
    cluster.network.isolate(0)
    before = cluster.timeline.events
    cluster.run(30_000)
    assert cluster.timeline.events - before < 6_000
