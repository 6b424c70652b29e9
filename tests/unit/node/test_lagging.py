"""Whole validators that have little to do, a dead leader, or no quorum: what it costs, and what it must not cost."""

from __future__ import annotations

from itertools import pairwise

import pytest

from node.turn import Input
from tests.support.cluster import SETTINGS, Cluster, Node
from tests.support.notices import assert_agreement, executed
from tests.unit.node.test_cluster import policy

MINUTE_MS = 60_000


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(seed=1)
    made.start()
    made.run(500)
    made.nodes[0].submit(policy(made, 1))
    made.run(3_000)
    return made


def count_turns(cluster: Cluster, duration_ms: int) -> int:
    """Inputs that all nodes take in this time."""
    count = 0

    def counting(node: Node) -> None:
        give = node.give

        def counted(item: Input) -> None:
            nonlocal count
            count += 1
            give(item)

        node.give = counted  # type: ignore[method-assign]

    for node in cluster.nodes:
        counting(node)
    cluster.run(duration_ms)
    return count


def test_an_idle_network_makes_one_block_a_heartbeat_and_nothing_else(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    height, index = node.validator.finalized_height, len(node.notices)
    assert count_turns(cluster, MINUTE_MS) < 2_000, "a dozen heartbeats of four nodes; in between nothing runs"
    beats = MINUTE_MS // SETTINGS.heartbeat_ms
    assert node.validator.finalized_height - height in (beats - 1, beats)
    assert node.validator.stalled_ms(cluster.now) == 0
    times = [node.block(h).header.timestamp_ms for h in range(height + 1, node.validator.finalized_height + 1)]
    assert all(later - earlier >= SETTINGS.heartbeat_ms for earlier, later in pairwise(times))
    assert all(not node.block(h).payload.batch_digests for h in range(height + 1, node.validator.finalized_height + 1))
    assert not any("Alarm" in type(notice).__name__ for notice in node.notices[index:])


@pytest.mark.parametrize("dead", range(4))
def test_a_dead_leader_costs_a_time_out_each_turn_of_its_until_it_is_skipped_at_once(
    cluster: Cluster, dead: int
) -> None:
    cluster.nodes[dead].crash()
    up = [node for node in cluster.nodes if node.up]
    waits = []
    for number in range(2, 42):
        envelope = policy(cluster, number, by=up[0].index)
        began = cluster.timeline.now_ms
        up[0].submit(envelope)
        assert cluster.run(20_000, lambda e=envelope: all(executed(node, e) for node in up))  # type: ignore[misc]
        waits.append(cluster.timeline.now_ms - began)
    one_time_out = 2 * SETTINGS.delay_ms
    slow = [wait for wait in waits if wait > one_time_out]
    assert slow, "its first views are waited for"
    assert sum(wait - one_time_out for wait in slow) < SETTINGS.skip_ms + len(slow) * one_time_out
    assert max(waits[-10:]) < one_time_out, "and then no more"
    assert up[0].validator.status()["silent"] == [cluster.nodes[dead].id]
    assert_agreement(cluster)


def test_without_a_quorum_nodes_rest_between_their_retries_and_go_on_when_it_is_back(cluster: Cluster) -> None:
    cluster.isolate(2)
    cluster.isolate(3)
    cluster.nodes[0].submit(policy(cluster, 2))
    cluster.run(5_000)
    per_node_second = count_turns(cluster, MINUTE_MS) / 4 / 60
    assert per_node_second < 60, "a few messages in each retry interval, and no spinning"
    node = cluster.nodes[0]
    assert node.validator.stalled_ms(cluster.now) > MINUTE_MS
    cluster.heal()
    assert cluster.run(SETTINGS.timeout_ms_max + 2_000, lambda: node.validator.stalled_ms(cluster.now) == 0)
    assert_agreement(cluster)
