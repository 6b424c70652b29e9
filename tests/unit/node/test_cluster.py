"""Four whole validators in virtual time: agreement, faults, restarts, catch-up."""

from __future__ import annotations

import msgspec
import pytest

from consensus.types import Proposal
from ledger.codes import Code
from ledger.types import Ack, Batch, BatchHeader, Envelope
from node.turn import ExecutedNotice, PeerMessage
from tests.support.cluster import SETTINGS, Cluster
from tests.support.insurers import INSURERS, Ledger, policy_issue
from tests.support.notices import accepted, assert_agreement, executed, proven

MAKER = Ledger()


def policy(cluster: Cluster, number: int, by: int = 0) -> Envelope:
    """An envelope that issues one policy."""
    return MAKER.envelope(
        [policy_issue(policy_id=number.to_bytes(16, "big"))],
        by=INSURERS[by],
        not_after_ms=cluster.now.wall_ms + 3_600_000,
    )


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(seed=1)
    made.start()
    made.run(500)
    return made


def test_an_envelope_is_accepted_final_and_proven_on_every_node(cluster: Cluster) -> None:
    envelope = policy(cluster, 1)
    cluster.nodes[0].submit(envelope)
    assert cluster.run(3_000, lambda: all(proven(node, envelope) for node in cluster.nodes))
    assert accepted(cluster.nodes[0], envelope)
    assert_agreement(cluster)


def test_an_idle_network_makes_no_blocks_but_heartbeats(cluster: Cluster) -> None:
    cluster.nodes[0].submit(policy(cluster, 1))
    cluster.run(4_000)
    height = cluster.nodes[0].validator.finalized_height
    cluster.run(30_000)
    assert 4 <= cluster.nodes[0].validator.finalized_height - height <= 14
    assert_agreement(cluster)


def test_all_origins_in_every_order(cluster: Cluster) -> None:
    envelopes = []
    for number in range(40):
        envelope = policy(cluster, number, by=number % 4)
        envelopes.append(envelope)
        cluster.nodes[number % 4].submit(envelope)
        cluster.run(7)
    assert cluster.run(10_000, lambda: all(proven(n, e) for e in envelopes for n in cluster.nodes))
    assert_agreement(cluster)


def test_one_of_four_may_be_dead(cluster: Cluster) -> None:
    cluster.nodes[3].crash()
    envelopes = [policy(cluster, number) for number in range(5)]
    for envelope in envelopes:
        cluster.nodes[0].submit(envelope)
        cluster.run(900)
    assert cluster.run(20_000, lambda: all(proven(n, e) for e in envelopes for n in cluster.nodes[:3]))
    assert_agreement(cluster)


def test_a_crashed_node_catches_up_and_serves_as_origin_again(cluster: Cluster) -> None:
    cluster.nodes[3].submit(policy(cluster, 100, by=3))
    cluster.run(2_000)
    cluster.nodes[3].crash()
    for number in range(10):
        cluster.nodes[0].submit(policy(cluster, number))
        cluster.run(700)
    cluster.nodes[3].start()
    assert cluster.run(20_000, lambda: cluster.nodes[3].validator.caught_up)
    envelope = policy(cluster, 200, by=3)
    cluster.nodes[3].submit(envelope)
    assert cluster.run(10_000, lambda: all(proven(n, envelope) for n in cluster.nodes))
    assert_agreement(cluster)


def test_all_nodes_may_crash_at_once(cluster: Cluster) -> None:
    first = policy(cluster, 1)
    cluster.nodes[0].submit(first)
    cluster.run(60)
    for node in cluster.nodes:
        node.crash()
    cluster.run(100)
    for node in cluster.nodes:
        node.start()
    cluster.run(500)
    second = policy(cluster, 2, by=1)
    cluster.nodes[1].submit(second)
    assert cluster.run(20_000, lambda: all(proven(n, second) for n in cluster.nodes))
    assert accepted(cluster.nodes[0], first)
    assert all(executed(n, first) is not None for n in cluster.nodes)
    assert_agreement(cluster)


def test_a_node_that_was_cut_off_follows_again(cluster: Cluster) -> None:
    cluster.isolate(2)
    envelopes = [policy(cluster, number) for number in range(4)]
    for envelope in envelopes:
        cluster.nodes[0].submit(envelope)
        cluster.run(1_500)
    cluster.heal()
    assert cluster.run(20_000, lambda: all(executed(cluster.nodes[2], e) is not None for e in envelopes))
    assert_agreement(cluster)


def test_a_replayed_envelope_executes_once(cluster: Cluster) -> None:
    envelope = policy(cluster, 1)
    for node in cluster.nodes:
        node.submit(envelope)
    assert cluster.run(5_000, lambda: all(proven(n, envelope) for n in cluster.nodes))
    cluster.run(3_000)
    codes = [
        receipt.code
        for notice in cluster.nodes[0].notices
        if isinstance(notice, ExecutedNotice)
        for receipt in notice.receipts
        if receipt.envelope_id == envelope.id
    ]
    assert codes.count(Code.OK) == 1
    assert set(codes) <= {Code.OK, Code.REPLAYED}
    assert_agreement(cluster)


def test_what_a_destroyed_origin_had_promised_before_it_started_again_is_executed() -> None:
    """Its batches of two lives compete: what it made anew is not all with the others when it is gone for good."""
    cluster = Cluster(seed=1)
    origin, others = cluster.nodes[0], cluster.nodes[1:]
    origin.settings = msgspec.structs.replace(SETTINGS, close_bytes=1)  # every envelope is a batch
    cluster.start()
    cluster.run(500)
    envelopes = [policy(cluster, number) for number in range(4)]
    cluster.loses = lambda message: isinstance(message, Proposal)
    origin.submit(*envelopes)
    cluster.run(500)
    assert all(accepted(origin, envelope) for envelope in envelopes)

    origin.crash()
    cluster.loses = lambda message: isinstance(message, Proposal) or _is_of_a_later_batch_of_the_second_life(message)
    origin.start()
    cluster.run(1_000)
    assert all(executed(node, envelope) is None for node in others for envelope in envelopes)
    cluster.loses = _is_of_a_later_batch_of_the_second_life
    assert cluster.run(10_000, lambda: any(executed(node, envelopes[0]) is not None for node in others))
    origin.crash()
    cluster.loses = lambda message: False
    assert cluster.run(20_000, lambda: all(proven(n, e) for e in envelopes for n in others))
    assert_agreement(cluster)


def _is_of_a_later_batch_of_the_second_life(message: PeerMessage) -> bool:
    """Pushed, or said to be held: then it would be fetched."""
    said = message.header if isinstance(message, Batch) else message
    return isinstance(said, Ack | BatchHeader) and said.incarnation > 1 and said.sequence > 1


@pytest.mark.parametrize("seed", range(6))
def test_load_under_crashes_loses_nothing_accepted(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.delay_up_to(60)
    cluster.start()
    cluster.run(800)
    sent: list[tuple[int, Envelope]] = []
    for number in range(60):
        at = number % 4
        if cluster.nodes[at].up:
            envelope = policy(cluster, number, by=at)
            sent.append((at, envelope))
            cluster.nodes[at].submit(envelope)
        if number % 15 == 7:
            cluster.nodes[(number + seed) % 4].crash()
        if number % 15 == 13:
            cluster.start()
        cluster.run(cluster.random.randint(5, 150))
    cluster.start()
    promised = [envelope for at, envelope in sent if accepted(cluster.nodes[at], envelope)]
    assert promised
    assert cluster.run(60_000, lambda: all(executed(n, e) is not None for e in promised for n in cluster.nodes))
    assert_agreement(cluster)
