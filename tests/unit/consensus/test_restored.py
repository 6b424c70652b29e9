"""Restored backups, several at once: nobody signs twice, and everybody knows whom it waits for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from consensus.events import MutedReceived
from consensus.messages import Muted
from consensus.records import OwnVote
from tests.unit.consensus.cluster import Cluster, Node
from tests.unit.consensus.solo import Solo, sent
from tests.unit.consensus.support import CONFIG

LONG_MS = 60_000
"""Dozens of time-outs at their cap."""


def busy(cluster: Cluster, transactions: int) -> None:
    for _ in range(transactions):
        transaction = cluster.submit()
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx))  # type: ignore[misc]


def restore(cluster: Cluster, indexes: Sequence[int], *, marker: bool) -> list[Node]:
    """Each of these is put back to an older copy of its disk and started again; the oracle forgets nothing."""
    nodes = [cluster.nodes[index] for index in indexes]
    busy(cluster, 1)
    copies = [(list(node.log), dict(node.store.proposals), list(node.store.final)) for node in nodes]
    busy(cluster, 3)
    for node, (log, blocks, final) in zip(nodes, copies, strict=True):
        node.crash()
        node.log, node.store.proposals, node.store.final, node.marker = log, blocks, final, marker
    for node in nodes:
        node.start()
    return nodes


def own_votes(node: Node) -> int:
    return sum(isinstance(record, OwnVote) for record in node.log)


@pytest.mark.parametrize(
    ("n", "restored", "marker"),
    [
        (4, (1, 2), True),
        (4, (1, 2), False),
        (7, (0, 3, 5), True),
        (7, (0, 3, 5), False),
        (4, (0, 1, 2, 3), True),  # without the marker nobody would be left who knows what was signed
    ],
)
def test_with_fewer_than_a_quorum_unmuted_nobody_signs_twice_and_everybody_names_the_muted(
    n: int, restored: tuple[int, ...], marker: bool
) -> None:
    cluster = Cluster(n)
    nodes = restore(cluster, restored, marker=marker)
    cluster.run(2_000)
    height = max(node.height for node in cluster.nodes)
    votes = [own_votes(node) for node in nodes]
    cluster.submit()
    cluster.run(LONG_MS)
    assert max(node.height for node in cluster.nodes) == height, "no view passes"
    assert [own_votes(node) for node in nodes] == votes, "the muted ones signed nothing"
    cluster.oracle.check_chain()  # and I6 was checked on everything ever signed
    for node in cluster.nodes:
        status = node.running.status()
        assert status.signing == ("muted" if node.index in restored else "signing")
        assert [index for index, _ in status.muted_peers] == [i for i in restored if i != node.index]


@pytest.mark.parametrize("marker", [True, False])
def test_f_restored_at_once_vote_again_past_their_bounds(marker: bool) -> None:
    cluster = Cluster(7)
    nodes = restore(cluster, (2, 5), marker=marker)
    cluster.run(100)
    bounds = [node.running.status().muted_until_view for node in nodes]
    assert all(bounds)
    busy(cluster, 20)
    for node, bound in zip(nodes, bounds, strict=True):
        assert any(isinstance(record, OwnVote) and record.vote.view > bound for record in node.log)
    assert not any(node.running.status().muted_peers for node in cluster.nodes)
    cluster.oracle.check_chain()


def test_one_restored_and_one_down_is_no_deadlock_once_that_one_is_back() -> None:
    cluster = Cluster(4)
    cluster.nodes[3].crash()
    (node,) = restore_among(cluster, 2)
    transaction = cluster.submit()
    cluster.run(10_000)
    assert not cluster.final_everywhere(transaction, among=[0, 1, 2]), "two may sign, three are needed"
    cluster.nodes[3].start()
    cluster.run_until(lambda: cluster.final_everywhere(transaction))
    assert node.running.status().signing == "signing"
    cluster.oracle.check_chain()


def restore_among(cluster: Cluster, index: int) -> list[Node]:
    """As ``restore`` of one node, while node 3 is down."""
    node = cluster.nodes[index]
    first = cluster.submit()
    cluster.run_until(lambda: cluster.final_everywhere(first, among=[0, 1, 2]))
    copy = list(node.log), dict(node.store.proposals), list(node.store.final)
    second = cluster.submit()
    cluster.run_until(lambda: cluster.final_everywhere(second, among=[0, 1, 2]))
    node.crash()
    node.log, node.store.proposals, node.store.final = copy
    node.marker = True
    node.start()
    return [node]


def test_a_muted_node_says_so_when_it_begins_at_every_retry_and_to_peers_that_connect() -> None:
    node = Solo(ready=False, marker=True)
    node.answer_start()
    assert sent(node.effects, Muted) == [Muted(0, 1)]
    node.work()
    node.wait(CONFIG.leader_ms)
    assert Muted(0, 1) in sent(node.wait(3 * CONFIG.retry_ms), Muted)
    node.receive(node.nullification(1))
    assert not sent(node.wait(3 * CONFIG.retry_ms), Muted), "past its bound it has nothing to say"


def test_what_a_peer_says_of_its_silence_decides_nothing() -> None:
    node, other = Solo(), Solo()
    node.do(MutedReceived(2, Muted(0, 1 << 60)))
    node.do(MutedReceived(3, Muted(9, 1 << 60)))
    assert node.core.status().muted_peers == ((2, 1 << 60),)
    for each in (node, other):
        each.work()
        each.wait(5_000)
    assert node.signed() == other.signed()
    assert node.core.deadline_ms == other.core.deadline_ms
