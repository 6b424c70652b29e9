"""One small history that holds, and one way for each promise to be broken."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from chaos.claim_model import Claim, Kind, Stage
from chaos.history import (
    DESTROYED,
    SETTLEMENT,
    Accepted,
    BadHistory,
    Began,
    Ended,
    Event,
    Executed,
    Failed,
    FaultBegan,
    FaultEnded,
    History,
    Invoked,
    Read,
    Stopped,
    Unknown,
    parse,
    stories,
)
from chaos.judge import Judgement, judge
from ledger.codes import Code

CLAIM = "c1" * 16
OTHER = "c2" * 16
OK = (int(Code.OK),)


def invoke(op: int, at_us: int, kind: Kind, amount: int = 0, record: str = CLAIM) -> Invoked:
    return Invoked(at_us, op, "alpha-1", record, kind, amount, f"{op:064x}", 60_000, 30_000)


def final(op: int, at_us: int, height: int, index: int = 0, codes: Sequence[int] = OK, node: str = "alpha") -> Executed:
    return Executed(at_us, op, node, height, index, tuple(codes))


def read(
    began_us: int, at_us: int, height: int, claim: Claim | None, *places: tuple[int, int], node: str = "alpha"
) -> Read:
    return Read(at_us, began_us, "reader", node, CLAIM, height, None if claim is None else tuple(claim), places, False)


NOTIFIED = Claim(Stage.NOTIFIED)
REGISTERED = Claim(Stage.REGISTERED)
ASSESSED = Claim(Stage.ASSESSED, 500)

GOOD: list[Event] = [
    invoke(1, 0, Kind.NOTIFY),
    final(1, 100, 5),
    invoke(2, 110, Kind.REGISTER),
    invoke(3, 112, Kind.REGISTER),
    Accepted(130, 2, "alpha"),
    final(2, 200, 7, 1),
    final(3, 201, 7, 2, (Code.ILLEGAL_TRANSITION,), node="beta"),
    read(210, 220, 7, REGISTERED, (5, 0), (7, 1)),
    read(212, 222, 6, NOTIFIED, (5, 0), node="gamma"),
    invoke(4, 300, Kind.ASSESS, 500),
    Unknown(400, 4),
    final(4, 900, 9),
    invoke(5, 310, Kind.PROBE),
    final(5, 500, 8, 0, (307, 210, 307, 307, 307)),
]


def settled(claim: Claim, *places: tuple[int, int]) -> Read:
    """The last read."""
    return Read(2_000, 1_999, SETTLEMENT, "delta", CLAIM, 100, tuple(claim), places, True)


def whole(*events: Event) -> list[Event]:
    """With the beginning and the end that the history of a run has."""
    told = [Began(0, ("alpha-1",)), *events, Stopped(1_000)]
    return [*told, Ended(3_000, len(told), len(stories(events)))]


def problem(*events: Event) -> str:
    """What is wrong with a history that does not hold."""
    found = judge(events)
    assert not found.linearizable
    return "\n".join(found.problems)


def test_a_history_that_holds() -> None:
    found = judge(whole(*GOOD, settled(ASSESSED, (5, 0), (7, 1), (9, 0))))
    assert found == Judgement(True, True, 5, 5, 0, 3, 1, found.configurations, ())


def test_invalid_settled_state_is_not_what_the_operations_made() -> None:
    assert "settled state" in problem(*GOOD, settled(Claim(Stage.ASSESSED, 400), (5, 0), (7, 1), (9, 0)))


def test_invalid_two_writers_both_win() -> None:
    assert "not linearizable" in problem(*GOOD[:4], final(2, 200, 7, 1), final(3, 201, 7, 2))


def test_invalid_a_lost_write_is_seen_by_the_next_probe() -> None:
    said = problem(*GOOD[:2], invoke(5, 310, Kind.PROBE), final(5, 500, 8, 0, [Code.UNKNOWN_CLAIM] * 5))
    assert "not linearizable" in said
    assert "probe" in said


def test_an_operation_that_never_took_effect_is_left_out() -> None:
    events = [*GOOD[:2], invoke(2, 110, Kind.CLOSE), Failed(150, 2, "alpha", "EXPIRED")]
    assert judge(whole(*events, settled(NOTIFIED, (5, 0)))).problems == ()


def test_an_operation_nobody_heard_of_may_or_may_not_have_happened() -> None:
    events = [*GOOD[:2], invoke(2, 110, Kind.REGISTER), Unknown(150, 2)]
    assert judge([*events, settled(NOTIFIED, (5, 0))]).linearizable
    assert judge([*events, settled(REGISTERED, (5, 0), (6, 0))]).linearizable
    assert not judge([*events, settled(ASSESSED, (5, 0), (6, 0))]).linearizable


def test_invalid_two_envelopes_at_one_place() -> None:
    assert "are both at block 5 place 0" in problem(
        *GOOD[:2], invoke(2, 10, Kind.NOTIFY, record=OTHER), final(2, 100, 5)
    )


def test_invalid_the_order_of_receipts_goes_against_time() -> None:
    """On two claims, so that each alone is linearizable."""
    said = problem(*GOOD[:2], invoke(2, 110, Kind.NOTIFY, record=OTHER), final(2, 150, 4))
    assert "operation 1 was final at block 5 place 0 before operation 2 was invoked" in said


def test_invalid_the_codes_do_not_follow_from_the_order_of_receipts() -> None:
    """Concurrent, so some order explains them; but not the one the receipts name."""
    events = [
        *GOOD[:2],
        invoke(2, 110, Kind.REGISTER),
        invoke(3, 110, Kind.REGISTER),
        final(2, 200, 7, 1, (Code.ILLEGAL_TRANSITION,)),
        final(3, 200, 7, 2),
    ]
    assert "after NOTIFIED it must be" in problem(*events)


def test_invalid_two_nodes_give_different_receipts() -> None:
    assert "alpha says block 5 place 0 (0,), beta says block 6 place 0 (0,)" in problem(
        *GOOD[:2], final(1, 120, 6, node="beta")
    )


def test_invalid_expired_and_executed() -> None:
    assert "and failed: EXPIRED" in problem(*GOOD[:2], Failed(150, 1, "beta", "EXPIRED"))


@pytest.mark.parametrize(
    ("height", "claim", "places"),
    [
        (7, NOTIFIED, ((5, 0),)),  # older than its height
        (6, REGISTERED, ((5, 0), (7, 1))),  # from the future
        (7, REGISTERED, ((5, 0), (7, 2))),  # made by the one that was refused
        (7, ASSESSED, ((5, 0), (7, 1))),  # never was
    ],
)
def test_invalid_reads(height: int, claim: Claim, places: tuple[tuple[int, int], ...]) -> None:
    assert f"at height {height} as" in problem(*GOOD, read(950, 960, height, claim, *places, node="delta"))


def test_invalid_a_node_shows_less_than_it_said_was_final() -> None:
    said = problem(*GOOD, read(950, 960, 6, NOTIFIED, (5, 0)))
    assert "alpha showed height 6 after it had shown or said final 9" in said


def test_invalid_a_node_goes_back() -> None:
    assert "gamma showed height 5 after it had shown or said final 6" in problem(
        *GOOD, read(230, 240, 5, NOTIFIED, (5, 0), node="gamma")
    )


def test_invalid_a_final_claim_is_not_there() -> None:
    assert "then shows none" in problem(*GOOD, read(230, 240, 0, None))
    assert judge([*GOOD, read(230, 240, 0, None, node="delta")]).linearizable


def test_invalid_a_claim_that_was_shown_is_not_there() -> None:
    """Not only one that was said to be final."""
    shown = read(230, 240, 7, REGISTERED, (5, 0), (7, 1), node="delta")
    assert "then shows none" in problem(*GOOD, shown, read(250, 260, 0, None, node="delta"))


GONE = FaultBegan(940, DESTROYED, "alpha's home is gone", ("alpha",))
BACK = FaultEnded(970, DESTROYED, "alpha's home is gone", ("alpha",))


def test_a_home_made_anew_catches_up_and_what_it_shows_meanwhile_is_old() -> None:
    events = [*GOOD, GONE, read(950, 960, 0, None), read(951, 961, 6, NOTIFIED, (5, 0)), BACK]
    assert judge(events).linearizable
    assert judge(events[:-1]).linearizable, "it never came back"


def test_invalid_a_home_made_anew_shows_what_never_was() -> None:
    assert "at height 6 as" in problem(*GOOD, GONE, read(950, 960, 6, REGISTERED, (5, 0), (7, 1)), BACK)


def test_invalid_once_it_is_back_it_shows_less_than_the_home_before_it() -> None:
    late = read(980, 990, 6, NOTIFIED, (5, 0))
    assert "alpha showed height 6 after it had shown or said final 9" in problem(*GOOD, GONE, BACK, late)
    other = read(950, 960, 6, NOTIFIED, (5, 0), node="gamma")
    assert "gamma showed height 6" in problem(
        *GOOD, read(940, 945, 7, REGISTERED, (5, 0), (7, 1), node="gamma"), GONE, other
    )


def test_invalid_a_claim_nobody_asked_for() -> None:
    shown = msgspec.structs.replace(read(950, 960, 9, NOTIFIED, (8, 3)), record=OTHER)
    assert "which nobody asked for" in problem(*GOOD, shown)


def test_a_history_survives_its_file() -> None:
    lines: list[bytes] = []
    history = History(lambda: 0, lines.append)
    for event in GOOD:
        history.record(event)
    assert list(parse(lines)) == GOOD
    assert stories(GOOD)[4].proven_us is None
    assert stories(GOOD)[2].acknowledged


def test_invalid_a_file_that_is_no_history() -> None:
    with pytest.raises(BadHistory, match="line 2 is not an event"):
        list(parse([msgspec.json.encode(GOOD[0]), b'{"event":"nothing"}\n']))
