"""One of four validators is Byzantine: the others agree, go on, keep every promise and stay within their bounds."""

from __future__ import annotations

import pytest

from ledger.codes import Code
from ledger.types import Envelope
from node.batches import ORIGIN_BATCHES_MAX
from node.turn import AcceptedNotice, AlarmNotice, ExecutedNotice
from simulator.adversaries.antedater import Antedater
from simulator.adversaries.flooder import Flooder
from simulator.adversaries.lying_server import LyingServer
from simulator.adversaries.root_liar import RootLiar
from simulator.adversaries.serves_few import ServesFew
from simulator.adversaries.stripper import Stripper
from simulator.adversaries.two_batches import TwoBatches
from tests.support.cluster import SETTINGS, Cluster, Node
from tests.support.insurers import INSURERS, Ledger, policy_issue

pytestmark = pytest.mark.slow

MAKER = Ledger()
LIARS: list[type[Node]] = [Antedater, ServesFew, Flooder, RootLiar, LyingServer, Stripper, TwoBatches]


def policy(cluster: Cluster, number: int, by: int = 0) -> Envelope:
    """An envelope that issues one policy."""
    return MAKER.envelope(
        [policy_issue(policy_id=number.to_bytes(16, "big"))],
        by=INSURERS[by],
        not_after_ms=cluster.now.wall_ms + 3_600_000,
    )


def codes(node: Node, envelope: Envelope) -> list[int]:
    """Receipts of the envelope, in the order in which this node executed it."""
    return [
        receipt.code
        for notice in node.notices
        if isinstance(notice, ExecutedNotice)
        for receipt in notice.receipts
        if receipt.envelope_id == envelope.id
    ]


def honest(cluster: Cluster) -> list[Node]:
    return cluster.honest


def assert_agreement(cluster: Cluster) -> None:
    """Equal roots at equal heights; no alarm but evidence against the liar."""
    roots: dict[int, set[bytes]] = {}
    for node in honest(cluster):
        for notice in node.notices:
            assert not isinstance(notice, AlarmNotice) or notice.kind == "evidence", notice
            if isinstance(notice, ExecutedNotice):
                roots.setdefault(notice.height, set()).add(notice.state_root)
    assert all(len(found) == 1 for found in roots.values())


def started(liar: type[Node], index: int, seed: int = 1) -> Cluster:
    cluster = Cluster(seed, liars={index: liar})
    cluster.start()
    cluster.run(800)
    return cluster


@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize("liar", LIARS, ids=lambda kind: kind.__name__)
def test_the_honest_agree_and_execute_all_that_honest_origins_take(liar: type[Node], index: int) -> None:
    cluster = started(liar, index)
    sent: list[Envelope] = []
    for number in range(24):
        at = number % 4
        envelope = policy(cluster, number, by=at)
        cluster.nodes[at].submit(envelope)
        if at != index:
            sent.append(envelope)
        cluster.run(cluster.random.randint(5, 300))
    assert cluster.run(30_000, lambda: all(Code.OK in codes(node, each) for each in sent for node in honest(cluster)))
    assert_agreement(cluster)
    assert all(penalty.peer == INSURERS[index].id for node in honest(cluster) for penalty in node.penalties)


@pytest.mark.parametrize("liar", LIARS, ids=lambda kind: kind.__name__)
def test_an_honest_node_that_was_away_catches_up(liar: type[Node]) -> None:
    cluster = started(liar, 0, seed=2)
    cluster.nodes[2].crash()
    sent = [policy(cluster, number, by=1) for number in range(8)]
    for envelope in sent:
        cluster.nodes[1].submit(envelope)
        cluster.run(700)
    cluster.nodes[2].start()
    assert cluster.run(60_000, lambda: all(Code.OK in codes(cluster.nodes[2], each) for each in sent))
    assert_agreement(cluster)


@pytest.mark.parametrize("liar", LIARS, ids=lambda kind: kind.__name__)
def test_what_an_honest_origin_promised_survives_its_crash(liar: type[Node]) -> None:
    cluster = started(liar, 3, seed=3)
    sent = [policy(cluster, number) for number in range(6)]
    for envelope in sent:
        cluster.nodes[0].submit(envelope)
        cluster.run(cluster.random.randint(1, 40))
    cluster.nodes[0].crash()
    cluster.run(2_000)
    cluster.nodes[0].start()
    promised = {
        each
        for notice in cluster.nodes[0].notices
        if isinstance(notice, AcceptedNotice)
        for each in notice.envelope_ids
    }
    kept = [envelope for envelope in sent if envelope.id in promised]
    assert kept
    assert cluster.run(30_000, lambda: all(codes(node, each) for each in kept for node in cluster.nodes[1:3]))
    assert_agreement(cluster)


def test_what_an_origin_gave_to_few_is_executed_by_all() -> None:
    cluster = started(ServesFew, 3)
    envelope = policy(cluster, 1, by=3)
    cluster.nodes[3].submit(envelope)
    assert cluster.run(10_000, lambda: all(codes(node, envelope) for node in honest(cluster)))


def test_the_genuine_envelope_executes_after_a_stripped_copy_was_sent_first() -> None:
    cluster = started(Stripper, 3)
    envelope = policy(cluster, 1)
    cluster.nodes[3].submit(envelope)
    cluster.run(500)
    assert any(penalty.peer == INSURERS[3].id for node in honest(cluster) for penalty in node.penalties)
    cluster.nodes[0].submit(envelope)
    assert cluster.run(10_000, lambda: all(codes(node, envelope) == [Code.OK] for node in honest(cluster)))


def test_no_block_is_antedated_by_more_than_the_rule_allows() -> None:
    cluster = started(Antedater, 1)
    late: list[int] = []
    for number in range(20):
        cluster.nodes[0].submit(policy(cluster, number))
        cluster.run(400)
        seen = [n.block_time_ms for n in cluster.nodes[0].notices if isinstance(n, ExecutedNotice)]
        late.append(cluster.now.wall_ms - max(seen))
    allowed = SETTINGS.clock_delta_ms + 2 * 3 * SETTINGS.delay_ms + SETTINGS.heartbeat_ms
    assert max(late) < allowed


def test_a_flood_fills_no_memory() -> None:
    cluster = started(Flooder, 3)
    for number in range(40):
        cluster.nodes[number % 4].submit(policy(cluster, number, by=number % 4))
        cluster.run(100)
    cluster.run(10_000)
    for node in honest(cluster):
        batches, rounds = node.validator._batches, node.validator._present.core._state.rounds
        assert batches.pool.count_of(INSURERS[3].id) <= ORIGIN_BATCHES_MAX
        assert len(batches._wanted._searches) <= 4 * 4 + 4
        assert len(list(rounds.ascending())) <= 300
        assert len(node.validator._branches._tree.nodes()) <= 50
