"""R12: an idle network is silent, and wakes when there is work; the skip rule never takes idleness for death."""

from __future__ import annotations

import pytest

from consensus.effects import Build
from consensus.records import OwnVote
from consensus.types import Certificate, Vote, VoteKind
from tests.unit.consensus.cluster import Cluster
from tests.unit.consensus.solo import Solo, only, sent
from tests.unit.consensus.support import CONFIG, F, N, X, certificate


def test_without_work_nothing_waits_for_time() -> None:
    node = Solo()
    assert node.core.deadline_ms is None
    assert node.core.status().idle
    node.wait(10_000_000)
    assert not node.signed()


@pytest.mark.parametrize("what", ["work", "proposal", "x vote"])
def test_work_or_a_proposal_or_an_x_vote_arms_the_timers_from_that_moment(what: str) -> None:
    node = Solo()
    node.wait(1_000)
    if what == "work":
        node.work()
    elif what == "proposal":
        node.receive(node.proposal(1))
    else:
        node.votes(X, 1, [2])
    timeout_ms = CONFIG.certification_ms if what == "proposal" else CONFIG.leader_ms
    assert node.core.deadline_ms == 1_000 + timeout_ms
    node.wait(timeout_ms)
    assert node.signed(X, 1)


def test_work_that_goes_away_disarms_the_timers() -> None:
    node = Solo()
    node.work()
    node.work(False)
    node.wait(10_000)
    assert not node.signed()


def test_a_certified_block_that_is_not_final_is_work() -> None:
    node = Solo()
    node.notarized_block(1)
    assert not node.core.status().idle
    node.wait(CONFIG.leader_ms)
    assert node.signed(X, 2)


def test_a_finalization_ends_the_work() -> None:
    node = Solo()
    block = node.notarized_block(1)
    node.receive(certificate(F, 1, block, (1, 2, 3)))
    assert node.core.status().idle
    assert node.core.deadline_ms is None


def test_the_leader_gives_the_finalization_one_d_before_it_builds_an_empty_block() -> None:
    node = Solo(index=2)
    node.notarized_block(1)
    offers = [(b.view, b.at_once) for b in only(node.effects, Build)]
    assert offers == [(2, False)]
    node.wait(CONFIG.delay_ms - 1)
    assert len(only(node.effects, Build)) == 1
    node.wait(1)
    assert only(node.effects, Build)[-1].at_once


def test_a_finalization_within_d_spares_the_empty_block() -> None:
    node = Solo(index=2)
    block = node.notarized_block(1)
    node.wait(CONFIG.delay_ms - 1)
    node.receive(certificate(F, 1, block, (0, 1, 3)))
    node.wait(100_000)
    assert not any(b.at_once for b in only(node.effects, Build))
    assert not node.signed(X)


def test_waiting_for_work_is_not_refusing() -> None:
    node = Solo(index=1)
    node.wait(1_000_000)
    assert node.build(node.effects).header.view == 1


def test_an_idle_cluster_comes_to_rest_and_stays_there() -> None:
    cluster = Cluster(4)
    transaction = cluster.submit()
    cluster.run_until(lambda: cluster.final_everywhere(transaction))
    cluster.run(5_000)
    steps = cluster.steps
    cluster.run(10_000_000)
    assert cluster.steps == steps
    header = cluster.nodes[0].store.final[-1]
    assert header.state_height >= 1, "the state after the transaction is certified"


def test_an_idle_cluster_wakes_when_only_one_node_has_work() -> None:
    cluster = Cluster(4)
    cluster.run(1_000_000)
    transaction = cluster.submit(0)  # not the leader, and nobody forwards
    cluster.run_until(lambda: cluster.final_everywhere(transaction), within_ms=5_000)


def test_the_hang_of_the_model_does_not_happen() -> None:
    """n = 4: one dead, one X-voted before it saw the Notarization, two sent F: no Finalization, and nothing to list."""
    cluster = Cluster(4)
    cluster.run(50)
    cluster.network.cut = {(a, 3) for a in range(3)} | {(3, a) for a in range(3)}
    transaction = cluster.submit()
    cluster.run_until(lambda: signed_by(cluster, 0, N) == 1)
    cluster.nodes[0].crash()  # its N was sent, its F never will be
    cluster.run_until(lambda: all(signed_by(cluster, index, F) == 1 for index in (1, 2)))
    cluster.run_until(lambda: signed_by(cluster, 3, X) == 1)
    for node in cluster.nodes:
        node.pool.clear()
    assert not cluster.oracle.final_digests
    cluster.network.cut = set()
    cluster.run_until(lambda: cluster.final_everywhere(transaction, (1, 2, 3)), within_ms=10_000)
    cluster.oracle.check_chain()


def signed_by(cluster: Cluster, index: int, kind: VoteKind) -> int:
    """How many votes of a kind the node has signed in view 1."""
    votes = [record.vote for record in cluster.nodes[index].log if isinstance(record, OwnVote)]
    return sum(vote.kind is kind and vote.view == 1 for vote in votes)


def test_the_hang_of_the_model_on_one_core() -> None:
    """Who sent F keeps its timers while the block is not final, and the next leader builds for that alone."""
    node = Solo(index=2)
    block = node.notarized_block(1)
    node.votes(F, 1, [3], block)  # one is dead, one said X: no quorum of F
    node.votes(X, 1, [0])
    assert node.core.floor_view == 0
    assert not node.core.status().idle
    node.wait(CONFIG.delay_ms)
    proposal = node.build(node.effects)
    assert (proposal.header.view, proposal.header.parent_digest) == (2, block.digest)


def test_retries_send_the_own_f_of_unfinalized_views_again() -> None:
    node = Solo()
    block = node.notarized_block(1)
    node.wait(CONFIG.leader_ms)
    assert node.signed(X, 2)
    again = sent(node.wait(CONFIG.retry_ms), Vote)
    assert node.vote(F, 1, 0, block) in again
    assert node.vote(X, 2, 0) in again


def test_an_x_vote_in_an_idle_network_is_answered_with_the_floor() -> None:
    node = Solo()
    block = node.notarized_block(1)
    final = certificate(F, 1, block, (1, 2, 3))
    node.receive(final)
    assert final in sent(node.votes(X, 2, [3]), Certificate)


# -- the skip rule (R1) ------------------------------------------------------------------------


def test_a_dead_leader_costs_time_outs_and_is_then_skipped_at_once() -> None:
    cluster = Cluster(4)
    cluster.run(50)
    cluster.nodes[1].crash()
    alive = (0, 2, 3)
    for _ in range(30):
        transaction = cluster.submit(*alive)
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx, alive))  # type: ignore[misc]
    assert cluster.nodes[0].running.status().silent == (1,)
    slowest_ms = 0
    for _ in range(8):
        start_ms = cluster.now_ms
        transaction = cluster.submit(*alive)
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx, alive))  # type: ignore[misc]
        slowest_ms = max(slowest_ms, cluster.now_ms - start_ms)
    assert slowest_ms < CONFIG.leader_ms, "no time-out is waited for any more"
    cluster.nodes[1].start()
    transaction = cluster.submit()
    cluster.run_until(lambda: cluster.final_everywhere(transaction))
    assert cluster.nodes[0].running.status().silent == ()


def test_idle_silence_never_skips_a_leader() -> None:
    node = Solo()
    node.wait(1_000_000)
    node.work()
    assert not node.signed(X)
    node.wait(CONFIG.leader_ms - 1)
    assert not node.signed(X)


def test_a_leader_is_not_skipped_when_the_others_wake_first_after_idleness() -> None:
    node = Solo()
    node.wait(1_000_000)
    node.votes(N, 1, [2, 3], node.proposal(1).header)
    assert node.core.status().silent == ()
    assert not node.signed(X)


def test_skipping_fails_open_while_fewer_than_a_quorum_are_active() -> None:
    node = Solo()
    node.work()
    node.wait(5 * CONFIG.skip_ms)  # nobody is heard of: the fault may be here
    assert node.core.status().silent == (1, 2, 3)
    node.receive(node.nullification(1), sender=2)
    assert node.core.view == 2
    assert not node.signed(X, 2)


def test_votes_count_as_signs_of_life() -> None:
    node = Solo()
    node.work()
    for _ in range(10):
        node.wait(CONFIG.skip_ms // 2)
        for other in (1, 2, 3):
            node.votes(N, 1, [other], node.genesis)
    assert node.core.status().silent == ()
