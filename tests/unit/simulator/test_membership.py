"""Changes of the set under faults, nodes of two minor versions: what runs bring about, what oracles object to."""

from __future__ import annotations

from hashlib import sha256

import pytest

from ledger import wire
from lossbook.v1 import peer_pb2
from node import peer_wire
from node.turn import OriginQuery
from simulator.campaign import GOVERNED_AT, MIXED_AT, plan_of, run_seed
from simulator.oracles.base import FINALIZE, NOTARIZE, NULLIFY, ReceiptFact, SeatFact, Violation
from simulator.plan import Plan, draw_governed
from simulator.run import Run
from simulator.versions import LATER_KIND, later_form
from tests.unit.simulator.test_oracles import GENESIS, A, B, Judge

PROPOSAL = b"p" * 16
ORGANISATIONS = ("alpha", "beta", "gamma", "delta", "epsilon")


# -- runs ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [13])
def test_sets_change_under_faults_and_runs_repeat(seed: int) -> None:
    outcomes = run_seed(seed, 4)
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert outcomes[0].effects == outcomes[1].effects
    assert outcomes[0].coverage["change: add"] >= 1
    assert outcomes[0].coverage["set: member signs again in the next epoch"] >= 4


@pytest.mark.slow
def test_a_change_that_nobody_votes_for_never_comes_into_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round: an admin who stays silent is missed."""
    monkeypatch.setattr("simulator.governance.Governors._look", lambda self: None)
    run = Run(draw_governed(5, 4))
    assert run.execute() is None
    assert not run.governors.in_force
    assert {node.epoch for node in run.cluster.nodes} == {0}


def test_some_seeds_change_the_set_and_some_mix_versions() -> None:
    assert plan_of(GOVERNED_AT, 4).governed
    assert plan_of(MIXED_AT, 4).later
    plan = plan_of(13, 4)
    assert plan.governed
    assert plan.later, "some do both"
    assert Plan.from_json(plan.to_json()) == plan


# -- versions --------------------------------------------------------------------------------


def test_a_message_of_a_later_minor_version_means_what_it_meant() -> None:
    for message in (OriginQuery(bytes(range(32))), OriginQuery(bytes(32))):
        raw = peer_wire.encode(message)
        assert later_form(raw) != raw
        assert peer_wire.decode(wire.parse(peer_pb2.PeerMessage, later_form(raw))) == message
    assert peer_wire.decode(wire.parse(peer_pb2.PeerMessage, LATER_KIND)) is None


# -- the oracle ------------------------------------------------------------------------------


def seats(*nodes: int, epoch: int = 1) -> tuple[SeatFact, ...]:
    ordered = sorted(nodes, key=lambda node: ORGANISATIONS[node])
    return tuple(SeatFact(node, ORGANISATIONS[node], b"key %d of %d" % (epoch, node)) for node in ordered)


def begin(
    judge: Judge,
    members: tuple[SeatFact, ...],
    voters: tuple[int, ...],
    epoch: int = 1,
    ready: tuple[SeatFact, ...] | None = None,
) -> None:
    """What a node reports of an epoch that these voted for."""
    for voter in voters:
        envelope_id = b"%d" % voter
        judge("ballot", envelope_id, PROPOSAL, voter)
        judge("executed", 0, 3, (b"", b""), [ReceiptFact(envelope_id, voter, True)])
    for seat in ready if ready is not None else members:
        judge("ready", PROPOSAL, seat.key)
    judge.world.begin(epoch, tuple(seat.node for seat in members))
    judge("epoch", 0, epoch, 9, members, PROPOSAL)


@pytest.fixture
def judge() -> Judge:
    return Judge()


def test_a_set_that_was_voted_for_is_right(judge: Judge) -> None:
    judge("proposed", PROPOSAL, 0, (4,), (3,))
    begin(judge, seats(0, 1, 2, 4), (0, 1, 3))
    judge("epoch", 1, 1, 9, seats(0, 1, 2, 4), PROPOSAL)


@pytest.mark.parametrize(
    ("members", "voters", "why"),
    [
        (seats(0, 1, 2, 4), (0, 1), "2 of 4 voted"),
        (seats(0, 1, 2, 4), (0, 1, 4), "2 of 4 voted"),
        (seats(0, 1, 2, 3), (0, 1, 2), "not what was proposed"),
        (seats(0, 1, 2, 4)[::-1], (0, 1, 2), "out of order"),
        (tuple(seat._replace(key=b"") for seat in seats(0, 1))[:1] * 2 + seats(2, 4), (0, 1, 2), "are ready"),
        ((*seats(0, 1, 2, 4)[:3], seats(0)[0]), (0, 1, 2), "not what was proposed"),
    ],
)
def test_a_set_that_nobody_decided_on_is_found(
    judge: Judge, members: tuple[SeatFact, ...], voters: tuple[int, ...], why: str
) -> None:
    judge("proposed", PROPOSAL, 0, (4,), (3,))
    with pytest.raises(Violation, match=why):
        begin(judge, members, voters)


def test_a_key_serves_one_node_in_one_epoch(judge: Judge) -> None:
    judge("proposed", PROPOSAL, 0, (), ())
    begin(judge, seats(0, 1, 2, 3), (0, 1, 2))
    for seat in seats(0, 1, 2, 3):
        judge("ready", PROPOSAL, seat.key)
    judge.world.begin(2, (0, 1, 3, 2))
    with pytest.raises(Violation, match="signs with the key of"):
        judge("epoch", 0, 2, 12, seats(0, 1, 2, 3), PROPOSAL)


def test_a_set_of_which_no_quorum_said_that_it_is_ready_is_found(judge: Judge) -> None:
    judge("proposed", PROPOSAL, 0, (4,), (3,))
    with pytest.raises(Violation, match="only 2 of 4 are ready"):
        begin(judge, seats(0, 1, 2, 4), (0, 1, 2), ready=seats(0, 4))


def test_nodes_that_begin_different_epochs_are_found(judge: Judge) -> None:
    judge("proposed", PROPOSAL, 0, (4,), (3,))
    begin(judge, seats(0, 1, 2, 4), (0, 1, 2))
    with pytest.raises(Violation, match="not as others have it"):
        judge("epoch", 1, 1, 10, seats(0, 1, 2, 4), PROPOSAL)


def test_the_boundary_names_the_set_that_follows(judge: Judge) -> None:
    judge("proposed", PROPOSAL, 0, (4,), (3,))
    judge.world.headers[A] = GENESIS._replace(digest=A, height=8, next_set=sha256(b"another").digest())
    judge.world.final[8] = A
    with pytest.raises(Violation, match="not the set that its boundary names"):
        begin(judge, seats(0, 1, 2, 4), (0, 1, 2))


def test_quorums_are_counted_in_the_set_of_their_epoch(judge: Judge) -> None:
    """Three of seven are no quorum, though they were one of four; indexes mean nothing, nodes do."""
    judge.world.begin(1, tuple(range(7)))
    for view in (1, 2):
        for kind, digest in ((NULLIFY, b""), (FINALIZE, A)):
            for signer in (0, 1, 2) if kind == NULLIFY else (3, 4, 5, 6):
                judge("vote", judge.fact(1, kind, view, digest, signer))
    for signer in (3, 4, 5, 6, 0):
        judge("vote", judge.fact(1, NOTARIZE, 3, B, signer))
    for signer in (3, 4, 5, 6):
        judge.world.boxes.setdefault((1, 3, NOTARIZE, 0, A), set()).add(signer)
    with pytest.raises(Violation, match="I4"):
        judge("vote", judge.fact(1, NOTARIZE, 3, A, 1))


def test_an_epoch_follows_the_block_that_ended_the_one_before(judge: Judge) -> None:
    judge.world.begin(1, (0, 1, 2, 3))
    ending = judge.header(A, 1, 1, GENESIS)
    judge.world.headers[B] = ending._replace(
        digest=B, epoch=1, height=2, parent_digest=A, parent_view=0, timestamp_ms=2
    )
    judge.world.final.update({1: A, 2: B})
    with pytest.raises(Violation, match="epoch: height 2 of epoch 1 follows one of epoch 0"):
        judge("finish")
    judge.world.headers[A] = ending._replace(next_set=b"set")
    judge("finish")
