"""What a judge of order alone lets pass: each planted in a whole history, and told."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from chaos.claim_model import Claim, Kind, Stage
from chaos.completeness import MARGIN_US, SILENT_US, gaps
from chaos.history import (
    EXPIRED,
    SETTLEMENT,
    Accepted,
    Began,
    Ended,
    Event,
    Executed,
    Failed,
    Invoked,
    Proven,
    Read,
    Stopped,
    Unknown,
)
from chaos.judge import judge

CLAIM, OTHER = "c1" * 16, "c2" * 16
SECOND_US = 1_000_000
CLIENTS = ("alpha-1", "beta-1")
LIVES_S = 30


def invoke(op: int, at_s: float, kind: Kind, record: str = CLAIM, client: str = "alpha-1") -> Invoked:
    at_us = int(at_s * SECOND_US)
    return Invoked(at_us, op, client, record, kind, 0, f"{op:064x}", 10**12, LIVES_S * 1_000)


def accepted(op: int, at_s: float) -> Accepted:
    return Accepted(int(at_s * SECOND_US), op, "alpha")


def final(op: int, at_s: float, height: int, *codes: int) -> Executed:
    return Executed(int(at_s * SECOND_US), op, "alpha", height, 0, codes or (0,))


def settled(record: str, claim: Claim | None, *heights: int, proven: bool = True) -> Read:
    at_us = 61 * SECOND_US
    shown = None if claim is None else tuple(claim)
    return Read(at_us, at_us, SETTLEMENT, "beta", record, 99, shown, tuple((at, 0) for at in heights), proven)


def ended(*events: Event) -> list[Event]:
    return [*events, Ended(62 * SECOND_US, len(events), sum(isinstance(event, Invoked) for event in events))]


NOTIFIED, REGISTERED = Claim(Stage.NOTIFIED), Claim(Stage.REGISTERED)

EVENTS: list[Event] = [
    Began(0, CLIENTS),
    invoke(1, 1, Kind.NOTIFY),
    accepted(1, 1.1),
    final(1, 1.2, 5),
    invoke(2, 2, Kind.NOTIFY, OTHER, "beta-1"),
    final(2, 2.2, 6),
    Proven(int(2.3 * SECOND_US), 2, "alpha"),
    invoke(3, 15, Kind.REGISTER),
    accepted(3, 15.1),
    Unknown(21 * SECOND_US, 3),
    invoke(4, 16, Kind.REGISTER, OTHER, "beta-1"),
    final(4, 16.1, 7),
    final(3, 22, 8),
    invoke(5, 30, Kind.CLOSE),
    final(5, 30.1, 9, 307),
    invoke(6, 30, Kind.CLOSE, OTHER, "beta-1"),
    final(6, 30.1, 10, 307),
    Stopped(45 * SECOND_US),
    settled(CLAIM, REGISTERED, 5, 8),
    settled(OTHER, REGISTERED, 6, 7),
]
WHOLE = ended(*EVENTS)


def without(unwanted: Callable[[Event], bool], *, told: bool = True) -> list[Event]:
    """The history less some events. ``told``: its end counts what is left, as if they had never been."""
    left = [event for event in EVENTS if not unwanted(event)]
    return ended(*left) if told else [*left, WHOLE[-1]]


def of(op: int) -> Callable[[Event], bool]:
    return lambda event: getattr(event, "op", 0) == op


def told_of(events: list[Event]) -> str:
    found = judge(events)
    assert not (found.linearizable and found.complete)
    return "\n".join(found.problems)


def test_a_whole_history_has_no_gaps() -> None:
    assert gaps(WHOLE) == []
    found = judge(WHOLE)
    assert (found.linearizable, found.complete, found.acknowledged, found.lost) == (True, True, 6, 0)


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_invalid_a_history_that_is_cut_anywhere(length: int) -> None:
    assert gaps(WHOLE[:length])


@pytest.mark.parametrize("at", range(len(WHOLE)))
def test_invalid_a_history_with_any_one_line_dropped(at: int) -> None:
    assert gaps(WHOLE[:at] + WHOLE[at + 1 :])


def test_invalid_an_empty_history() -> None:
    assert "no beginning" in told_of([])


def test_invalid_clients_that_never_did_anything() -> None:
    assert "nothing that client alpha-1 asked for became final" in told_of(ended(Began(0, CLIENTS), Stopped(1)))


@pytest.mark.parametrize("op", [1, 3, 5])
def test_invalid_an_operation_dropped_with_all_its_answers(op: int) -> None:
    """Even where its end was written anew, and even one that changed nothing (5)."""
    assert f"operation {op} is missing" in told_of(without(of(op)))


def test_invalid_the_last_operation_dropped_with_all_its_answers() -> None:
    assert "5 operations of 6 are left" in told_of(without(of(6), told=False))


def test_invalid_the_answer_of_an_acknowledged_operation_dropped() -> None:
    events = without(lambda event: event == final(3, 22, 8))
    assert "nobody knows what became of operation 3, which was acknowledged" in told_of(events)
    assert judge(events).lost == 1


def test_invalid_an_answer_to_what_was_never_asked() -> None:
    said = told_of(without(lambda event: of(3)(event) and isinstance(event, Invoked)))
    assert "operation 3 was answered, and nothing says that it was asked for" in said


def test_invalid_a_number_used_twice_does_not_hide_the_first_ones_answers() -> None:
    again = ended(*EVENTS[:-3], invoke(3, 16, Kind.PROBE), *EVENTS[-3:])
    assert "operation 3 was asked for twice" in told_of(again)


@pytest.mark.parametrize(
    "still",
    [
        lambda event: isinstance(event, Invoked) and event.client == "beta-1" and event.op > 2,
        lambda event: isinstance(event, Invoked) and event.client == "beta-1",
    ],
    ids=["after its first", "from the start"],
)
def test_invalid_a_client_that_stops(still: Callable[[Event], bool]) -> None:
    gone = {event.op for event in EVENTS if isinstance(event, Invoked) and still(event)}
    events = without(lambda event: getattr(event, "op", 0) in gone)
    assert "client beta-1 asked for nothing from" in told_of(events)


def test_a_client_may_wait_for_an_answer_and_a_read() -> None:
    assert SILENT_US > 2 * 7 * SECOND_US


def test_invalid_no_client_is_ever_heard() -> None:
    said = told_of(without(lambda event: of(2)(event) or of(4)(event) or of(6)(event)))
    assert "nothing that client beta-1 asked for became final" in said


def test_invalid_a_client_is_told_long_after_its_envelope_has_expired() -> None:
    """As where a submission waits for a node that will not vote instead of going to the next one."""
    late = Failed(76 * SECOND_US, 3, "beta", EXPIRED)
    events = [late if event == final(3, 22, 8) else event for event in EVENTS]
    said = "client alpha-1 asked for operation 3 at 15.0 s and was told nothing until 76.0 s"
    assert said in gaps(ended(*events))
    in_time = [msgspec.structs.replace(event, at_us=69 * SECOND_US) if event == late else event for event in events]
    assert said[:40] not in "".join(gaps(ended(*in_time)))


def test_invalid_acknowledged_and_then_refused() -> None:
    refused = Failed(22 * SECOND_US, 3, "beta", "BAD_SIGNATURE")
    events = [refused if event == final(3, 22, 8) else event for event in WHOLE]
    assert "operation 3 was acknowledged by a node, and then failed: BAD_SIGNATURE, says beta" in told_of(events)
    assert judge(events).lost == 1


def expired_with(*others: Event) -> list[str]:
    """Operation 3 is acknowledged at 15.1 s, may execute until 45 s, and expires."""
    expired = Failed(60 * SECOND_US, 3, "all", EXPIRED)
    events = [expired if event == final(3, 22, 8) else event for event in EVENTS if not (of(5)(event) or of(6)(event))]
    return [gap for gap in gaps(ended(*events[:-3], *others, *events[-3:])) if "left out" in gap]


def test_invalid_an_acknowledged_operation_expires_while_the_network_works() -> None:
    (said,) = expired_with(invoke(5, 30, Kind.PROBE), final(5, 31, 9, 307))
    assert said == (
        "operation 3 was acknowledged at 15.1 s and never executed, while 1 that were asked for later were: "
        "it was left out"
    )


@pytest.mark.parametrize(("from_s", "until_s"), [(16, 17), (30, 41), (42, 43)])
def test_an_acknowledged_operation_may_expire_while_the_network_stands_still(from_s: float, until_s: float) -> None:
    """What was asked for just after it, or became final just before its end, says nothing of the time between."""
    assert MARGIN_US == 5 * SECOND_US
    assert expired_with(invoke(5, from_s, Kind.PROBE), final(5, until_s, 9, 307)) == []


def test_invalid_a_claim_that_is_not_read_with_proof_in_the_end() -> None:
    assert f"claim {OTHER[:16]} was not read" in told_of(without(lambda event: event == EVENTS[-1]))
    unproven = [*EVENTS[:-1], settled(OTHER, REGISTERED, 6, 7, proven=False)]
    assert f"claim {OTHER[:16]} was not read" in told_of(ended(*unproven))


def test_invalid_an_effect_that_is_gone_in_the_end() -> None:
    assert "settled state" in told_of(ended(*EVENTS[:-1], settled(OTHER, NOTIFIED, 6)))
    assert "settled state" in told_of(ended(*EVENTS[:-1], settled(OTHER, None)))


def test_invalid_a_stale_read() -> None:
    stale = Read(25 * SECOND_US, 24 * SECOND_US, "alpha-1", "beta", CLAIM, 8, tuple(NOTIFIED), ((5, 0),), False)
    assert "at height 8 as" in told_of(ended(*EVENTS[:-3], stale, *EVENTS[-3:]))


def test_invalid_two_winners() -> None:
    both = [
        msgspec.structs.replace(event, record=CLAIM) if isinstance(event, Invoked) and event.op == 2 else event
        for event in EVENTS
    ]
    assert "not linearizable" in told_of(ended(*both))
