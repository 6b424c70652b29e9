"""Whole validators across changes of their set, in virtual time (consensus.md §9)."""

from __future__ import annotations

from ledger.epochs import Seat
from ledger.types import Envelope
from tests.support.cluster import Cluster, Node, epoch_key
from tests.support.insurers import INSURERS, Ledger, policy_issue
from tests.unit.node.test_cluster import assert_agreement, policy, proven

MAKER = Ledger()


def change(cluster: Cluster, number: int, *seats: Seat) -> Envelope:
    """An envelope whose execution approves this next set."""
    policy_id = b"change-%09d" % number
    cluster.changes[policy_id] = tuple(sorted(seats, key=lambda seat: seat.organisation))
    return MAKER.envelope(
        [policy_issue(policy_id=policy_id)], by=INSURERS[0], not_after_ms=cluster.now.wall_ms + 3_600_000
    )


def seat(node: Node, epoch: int) -> Seat:
    """The node's seat with its key of an epoch."""
    return Seat(node.id, epoch_key(node.id, epoch))


def in_epoch(epoch: int, nodes: list[Node]) -> bool:
    return all(node.validator.epoch.number == epoch for node in nodes)


def test_all_keys_are_rotated_and_load_goes_on() -> None:
    cluster = Cluster(seed=1)
    cluster.start()
    cluster.run(500)
    rotation = change(cluster, 1, *[seat(node, 1) for node in cluster.nodes])
    cluster.nodes[0].submit(rotation)
    sent = []
    for number in range(40):
        envelope = policy(cluster, number, by=number % 4)
        cluster.nodes[number % 4].submit(envelope)
        sent.append(envelope)
        cluster.run(60)
    assert cluster.run(10_000, lambda: in_epoch(1, cluster.nodes))
    assert cluster.run(10_000, lambda: all(proven(n, e) for e in sent for n in cluster.nodes))
    assert_agreement(cluster)
    assert not [penalty for node in cluster.nodes for penalty in node.penalties]
