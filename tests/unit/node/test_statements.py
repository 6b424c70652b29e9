"""Statements in a node: checked, kept within bounds, passed on, listed, executed once by everybody."""

from __future__ import annotations

import pytest

from consensus.justification import HeaderRules
from ledger import evidence, view_marks, wire
from ledger.evidence import EVIDENCE, EvidenceRecord
from ledger.statement_types import Ed25519, Judge, Moment
from ledger.types import PAYLOAD_STATEMENTS_MAX, Statement
from node import statements
from node.statements import StatementPool
from node.turn import ExecutedNotice, PeerMessages, Turn
from simulator.adversaries.two_votes import TwoVotes
from tests.support.chain import Chain
from tests.support.cluster import Cluster, Node
from tests.support.evidence import forged_statement, statement, two_notarize
from tests.support.insurers import INSURERS
from tests.unit.node.test_byzantine import assert_agreement, honest

pytestmark = pytest.mark.slow

CHAIN = Chain()
RULES = HeaderRules(1, CHAIN.genesis.chain_id, CHAIN.validators, CHAIN.genesis_header)


class Executed:
    """Says that everything is due but what is among ``done``; counts how often it was asked."""

    def __init__(self) -> None:
        self.done: list[Statement] = []

    def is_due(self, statement: Statement, moment: Moment) -> bool:
        return statement not in self.done


class CountingVerifier(Ed25519):
    def __init__(self) -> None:
        self.calls = 0

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        self.calls += 1
        return super().verify(public_key, message, signature)


class Bench:
    """A pool with what is around it."""

    def __init__(self) -> None:
        self.state = Executed()
        self.verifier = CountingVerifier()
        self.pool = StatementPool(Judge({0: RULES}.get, self.verifier), self.state, CHAIN.genesis_header)
        self.turn = Turn()

    def receive(self, *received: Statement, sender: int = 1) -> None:
        for each in received:
            self.pool.on_statement(each, INSURERS[sender].id, self.turn)

    def listable(self) -> list[Statement]:
        return list(self.pool.listable(set()))


def test_a_statement_is_checked_once_kept_and_passed_on_once() -> None:
    bench = Bench()
    bench.receive(statement(2), statement(2), statement(2, blocks="ac"), sender=1)
    assert bench.listable() == [statement(2)]
    assert bench.turn.sends == [(None, statement(2))]
    assert bench.verifier.calls == 2
    assert bench.pool.read([statement(2).raw]) == (statement(2),)
    assert bench.verifier.calls == 2


def test_invalid_forged_evidence_costs_its_sender() -> None:
    bench = Bench()
    bench.receive(forged_statement(2), sender=3)
    assert [penalty.peer for penalty in bench.turn.penalties] == [INSURERS[3].id]
    assert not bench.turn.sends
    assert not bench.listable()


def test_a_peer_that_reconnects_gets_all_that_waits() -> None:
    bench = Bench()
    bench.receive(statement(2), statement(3))
    bench.turn = Turn()
    bench.pool.on_connected(INSURERS[1].id, bench.turn)
    assert bench.turn.sends == [(INSURERS[1].id, statement(2)), (INSURERS[1].id, statement(3))]


def test_what_was_committed_is_neither_kept_nor_checked_again() -> None:
    bench = Bench()
    bench.receive(statement(2))
    bench.state.done.append(statement(2))
    bench.pool.on_executed(CHAIN.genesis_header)
    assert not bench.listable()
    before = bench.verifier.calls
    bench.receive(statement(2))
    bench.pool.found(two_notarize(2), bench.turn)
    assert bench.verifier.calls == before
    assert not bench.listable()


def test_one_accused_takes_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(statement(2).raw)
    monkeypatch.setattr(statements, "SUBJECT_BYTES_MAX", 3 * size)
    bench = Bench()
    bench.receive(*[statement(2, view) for view in range(1, 10)], statement(3))
    assert bench.listable() == [statement(2, 1), statement(2, 2), statement(2, 3), statement(3)]
    bench.state.done.append(statement(2, 1))
    bench.pool.on_executed(CHAIN.genesis_header)
    bench.receive(statement(2, 9))
    assert bench.listable()[-1] == statement(2, 9)
    assert not bench.turn.penalties


def test_what_the_branch_lists_is_not_listed_again() -> None:
    bench = Bench()
    bench.receive(statement(2), statement(3))
    listed = set(statements.identities([statement(2, blocks="ac")]))
    assert list(bench.pool.listable(listed)) == [statement(3)]


def test_invalid_statements_make_a_block_invalid() -> None:
    bench = Bench()
    assert bench.pool.read([statement(2).raw, forged_statement(1).raw]) is None
    assert bench.pool.read([b"\x7a\x00"]) is None
    assert bench.pool.read([]) == ()


# ---------------------------------------------------------------- four nodes


def records(node: Node) -> list[EvidenceRecord]:
    return [record for _, record in node.state.iterate(EVIDENCE)]


def heights(node: Node) -> list[int]:
    return [notice.height for notice in node.notices if isinstance(notice, ExecutedNotice)]


def test_a_statement_that_one_node_holds_is_executed_once_by_all_and_the_network_rests() -> None:
    cluster = Cluster(seed=1)
    cluster.start()
    cluster.run(800)
    cluster.nodes[0].give(PeerMessages(INSURERS[1].id, (statement(3),)))
    assert cluster.run(5_000, lambda: all(records(node) for node in cluster.nodes))
    assert_agreement(cluster)
    cluster.run(3_000)
    (record,) = records(cluster.nodes[0])
    assert all(records(node) == [record] for node in cluster.nodes)
    listing = [
        height
        for height in range(1, cluster.nodes[0].validator.finalized_height + 1)
        if cluster.nodes[0].block(height).payload.statements
    ]
    assert listing == [record.height]
    resting = cluster.nodes[0].validator.finalized_height
    cluster.run(30_000)
    assert cluster.nodes[0].validator.finalized_height - resting <= 14
    assert not any(len(node.validator._statements) for node in cluster.nodes)


def test_a_statement_reaches_the_ledger_though_its_holder_can_tell_nobody() -> None:
    """Nobody else hears of it until its holder leads."""

    class Silent(Node):
        def outgoing(self, sends):  # type: ignore[no-untyped-def]
            return [(to, message) for to, message in sends if not isinstance(message, Statement)]

    cluster = Cluster(seed=2, liars={0: Silent})
    cluster.start()
    cluster.run(800)
    cluster.nodes[0].give(PeerMessages(INSURERS[1].id, (statement(3),)))
    assert cluster.run(15_000, lambda: all(records(node) for node in cluster.nodes))


def test_invalid_evidence_against_an_honest_node_costs_its_sender_and_is_never_listed() -> None:
    cluster = Cluster(seed=3)
    cluster.start()
    cluster.run(800)
    for node in cluster.nodes[:3]:
        node.give(PeerMessages(INSURERS[3].id, (forged_statement(1),)))
    cluster.run(10_000)
    assert all([penalty.peer for penalty in node.penalties] == [INSURERS[3].id] for node in cluster.nodes[:3])
    assert not any(records(node) for node in cluster.nodes)


def test_a_leader_that_lists_forged_evidence_loses_its_view() -> None:
    class Forger(Node):
        honest = False

        def _turn(self) -> None:
            listing = self.validator._builder._statements
            listing.listable = lambda listed: iter([forged_statement(1)])  # type: ignore[method-assign]
            super()._turn()

    cluster = Cluster(seed=4, liars={2: Forger})
    cluster.start()
    cluster.run(20_000)
    assert min(node.validator.finalized_height for node in honest(cluster)) > 1
    assert_agreement(cluster)
    for node in honest(cluster):
        for height in range(1, node.validator.finalized_height + 1):
            assert not node.block(height).payload.statements


@pytest.mark.parametrize("index", [0, 2])
def test_a_double_voter_is_recorded_by_all_and_the_network_comes_to_rest(index: int) -> None:
    cluster = Cluster(seed=5, liars={index: TwoVotes})
    cluster.start()
    assert cluster.run(20_000, lambda: all(records(node) for node in honest(cluster)))
    cluster.run(60_000)
    first = records(honest(cluster)[0])
    assert all(records(node) == first for node in honest(cluster))
    assert {record.organisation for record in first} == {cluster.genesis.validator_set().members[index].id}
    assert len({(record.kind, record.view) for record in first}) == len(first)
    assert_agreement(cluster)
    resting = honest(cluster)[0].validator.finalized_height
    cluster.run(30_000)
    assert honest(cluster)[0].validator.finalized_height - resting <= 14


class Hoarder(Node):
    """Lists old evidence in every block it makes."""

    def start(self) -> None:
        super().start()
        listing = self.validator._builder._statements
        listing.listable = lambda listed: iter([statement(3)])  # type: ignore[method-assign]


@pytest.fixture
def short_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence expires after 20 s and 3 blocks."""
    monkeypatch.setattr(view_marks, "MARK_EVERY_MS", 5_000)
    monkeypatch.setattr(evidence, "MAX_AGE_MS", 20_000)
    monkeypatch.setattr(evidence, "MAX_AGE_BLOCKS", 3)


@pytest.mark.usefixtures("short_lived")
def test_old_evidence_is_neither_listed_nor_recorded_and_harms_nobody() -> None:
    cluster = Cluster(seed=6)
    cluster.start()
    cluster.run(60_000)
    for node in cluster.nodes[:3]:
        node.give(PeerMessages(INSURERS[3].id, (statement(3),)))
    cluster.run(10_000)
    assert not any(records(node) or len(node.validator._statements) for node in cluster.nodes)
    assert not any(node.penalties for node in cluster.nodes)
    young = statement(3, view=cluster.nodes[0].validator._present.core.view)
    cluster.nodes[0].give(PeerMessages(INSURERS[3].id, (young,)))
    assert cluster.run(10_000, lambda: all(records(node) for node in cluster.nodes))
    assert_agreement(cluster)


@pytest.mark.usefixtures("short_lived")
def test_old_evidence_in_a_block_has_no_effect_and_the_block_is_valid() -> None:
    cluster = Cluster(seed=7, liars={1: Hoarder})
    cluster.nodes[1].__class__ = Node
    cluster.start()
    cluster.run(60_000)
    cluster.nodes[1].crash()
    cluster.nodes[1].__class__ = Hoarder
    cluster.nodes[1].start()
    cluster.run(60_000)
    assert_agreement(cluster)
    node = cluster.nodes[0]
    assert any(node.block(height).payload.statements for height in range(1, node.validator.finalized_height + 1))
    assert not any(records(node) for node in cluster.nodes)


def test_a_block_lists_no_more_statements_than_it_may() -> None:
    payload = wire.encode_payload((), [statement(2, view).raw for view in range(1, PAYLOAD_STATEMENTS_MAX + 1)])
    assert wire.decode_payload(payload.raw) == payload
    for wrong in (
        [statement(2, view).raw for view in range(1, PAYLOAD_STATEMENTS_MAX + 2)],
        [statement(2).raw, statement(2).raw],
        [bytes([at]) * (256 << 10) for at in range(3)],
    ):
        with pytest.raises(wire.WireError):
            wire.decode_payload(wire.encode_payload((), wrong).raw)
