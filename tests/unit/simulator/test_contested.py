"""The set changes while somebody lies or forgets: what plans hold, what runs bring about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.turn import Turn
from simulator.adversaries import LIARS
from simulator.campaign import CONTESTED_AT, GOVERNED_EVERY, plan_of, run_seed
from simulator.contested import draw_contested
from simulator.mutants.scripts import a_copy_of_an_observer
from simulator.node import Node
from simulator.oracles.base import ReceiptFact, Violation, quorum_of
from simulator.oracles.limits import Limits
from simulator.plan import Change, Plan
from simulator.run import Run, run_plan
from simulator.witness import Witness
from tests.unit.simulator.test_oracles import GENESIS, A, B, Judge

KINDS = tuple(sorted(LIARS))
TURNS = range(8 * len(KINDS))


def test_every_case_has_its_turn_and_every_liar_each_of_them() -> None:
    plans = [draw_contested(turn, 4, turn, KINDS) for turn in TURNS]
    lies = {(plan.liars[0].kind, _role(plan)) for plan in plans if plan.liars}
    assert lies == {(kind, role) for kind in KINDS for role in ("stays", "leaves", "joins")}
    losses = {(fault.kind, fault.amount) for plan in plans for fault in plan.faults if fault.node in plan.weak}
    assert {("restore-across", 0), ("restore-after", 0), ("lose-disk", 0), ("lose-disk", 1)} <= losses
    assert {change.kind for plan in plans for change in plan.changes} >= {"reinstate", "card", "key", "parameters"}


def _role(plan: Plan) -> str:
    liar = plan.liars[0].node
    if liar >= plan.n:
        return "joins"
    return (
        "leaves" if any(each.node == liar and each.kind in ("remove", "suspend") for each in plan.changes) else "stays"
    )


@pytest.mark.parametrize("n", [4, 7, 10])
def test_no_plan_begins_with_more_weak_members_than_f(n: int) -> None:
    for turn in TURNS:
        plan = draw_contested(turn, n, turn, KINDS)
        assert len([node for node in plan.weak if node < n]) <= n - quorum_of(n)
        assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.slow
def test_a_copy_of_an_earlier_epoch_comes_back_and_runs_repeat() -> None:
    assert 266 % GOVERNED_EVERY == CONTESTED_AT
    outcomes = run_seed(266, 4)
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert outcomes[0].effects == outcomes[1].effects
    assert outcomes[0].coverage["set: copy of an earlier epoch put back"] >= 1
    assert outcomes[0].coverage["change: add"] >= 1


@pytest.fixture(scope="module")
def left() -> Run:
    """A run in which a liar loses its seat."""
    run = Run(plan_of(18, 4))
    assert run.execute() is None
    assert run.coverage.counts["set: liar leaves"] >= 1
    return run


@pytest.mark.slow
def test_admins_let_nobody_in_with_whom_more_than_f_might_lie(left: Run) -> None:
    """A second liar asks for a seat among five, of whom one may lie already."""
    governors, liar, guest = left.governors, left.plan.liars[0].node, 5
    governors._weak = frozenset({liar, guest})
    governors._current = Change(0, "add", guest)
    members = {0, 1, 2, 3, 4}
    assert not governors._is_possible(governors._current, members | {liar}, ())
    assert governors._is_possible(governors._current, members - {liar}, ())


@pytest.mark.slow
def test_a_hand_over_that_does_not_hold_is_found(left: Run) -> None:
    node = next(node for node in left.cluster.honest if node.epoch)
    left._follow_hand_overs(node)
    genuine = left.market
    left.market = replace(genuine, verify_many=lambda jobs: [False for _ in jobs])
    with pytest.raises(Violation, match="nobody's"):
        left._follow_hand_overs(node)
    left.market = genuine


@pytest.mark.slow
def test_a_set_with_more_than_f_who_may_lie_or_forget_is_no_premise(left: Run) -> None:
    left._check_premise()
    left.watch.world.begin(9, (left.plan.liars[0].node, 0, 1))
    with pytest.raises(Violation, match="premise: epoch 9 has 1 faulty"):
        left._check_premise()
    del left.watch.world.sets[9]


class Marker(Witness):
    """When a node's backup marker goes: (epoch, highest final view, view up to which it signs nothing)."""

    def __init__(self) -> None:
        self.gone: list[tuple[int, int, int]] = []

    def turned(self, node: Node, turn: Turn) -> None:
        if turn.remove_backup_marker:
            final = node.validator._finality.header
            self.gone.append((final.epoch, final.view, node.core.status().muted_until_view))


def test_the_marker_stays_until_a_block_above_the_bound_is_final() -> None:
    """The backup is of when the node observed: what it had signed since is of the epoch after that."""
    marker = Marker()
    outcome = run_plan(a_copy_of_an_observer(4), (marker,))
    assert outcome.failure is None
    [(epoch, view, bound)] = marker.gone
    assert epoch == 1
    assert view > bound > 0


# -- the oracle of K ---------------------------------------------------------------------------------


@pytest.fixture
def limits() -> Limits:
    oracle = Limits(Judge().world)
    oracle.limit(b"", 0, 0, 3)
    oracle.world.headers[A] = GENESIS._replace(digest=A, height=9, state_height=5, listed=(B,))
    oracle.world.final[9] = A
    return oracle


def test_who_lists_too_far_above_the_state_is_found(limits: Limits) -> None:
    with pytest.raises(Violation, match="lists batches 4 above its state; K is 3"):
        limits.finish()


@pytest.mark.parametrize(
    ("voters", "from_height", "holds"), [((0, 1, 2), 9, True), ((0, 1), 9, False), ((0, 1, 2), 10, False)]
)
def test_a_limit_holds_once_it_was_voted_for_and_from_its_height_on(
    limits: Limits, voters: tuple[int, ...], from_height: int, holds: bool
) -> None:
    limits.limit(b"0", 0, from_height, 4)
    for voter in voters:
        limits.ballot(b"%d" % voter, b"p" * 16, voter)
        limits.executed(0, 3, (b"", b""), [ReceiptFact(b"%d" % voter, voter, True)])
    if holds:
        limits.finish()
    else:
        with pytest.raises(Violation, match="K is 3"):
            limits.finish()


# -- what was called final ---------------------------------------------------------------------------


def test_who_called_a_height_final_and_starts_without_it_is_found() -> None:
    judge = Judge()
    judge("told_final", 1, 7)
    judge("started", 1, False, True)
    judge("holds_final", 1, 7)
    with pytest.raises(Violation, match="called height 7 final, and starts with 6"):
        judge("holds_final", 1, 6)


def test_who_was_given_an_older_disk_may_start_below_what_it_called_final() -> None:
    judge = Judge()
    judge("told_final", 1, 7)
    judge("started", 1, True, True)
    judge("holds_final", 1, 2)
