"""The longest time without a receipt, and the faults of that time."""

from __future__ import annotations

from chaos.history import Event, Executed, FaultBegan, FaultEnded
from chaos.stalls import Stall, longest

SECOND = 1_000_000


def final(at_s: float) -> Executed:
    return Executed(int(at_s * SECOND), 1, "alpha", 1, 0, (0,))


def began(at_s: float, kind: str = "kill") -> FaultBegan:
    return FaultBegan(int(at_s * SECOND), kind, f"{kind} of one")


def ended(at_s: float, kind: str = "kill") -> FaultEnded:
    return FaultEnded(int(at_s * SECOND), kind, f"{kind} of one")


def of(*events: Event, until_s: int = 10) -> Stall:
    return longest(sorted(events, key=lambda event: event.at_us), 0, until_s * SECOND)


def test_between_two_receipts() -> None:
    stall = of(final(1), final(2), final(6), final(9))
    assert (stall.from_us, stall.until_us, stall.seconds, stall.faults) == (2 * SECOND, 6 * SECOND, 4.0, ())


def test_before_the_first_and_after_the_last() -> None:
    assert of(final(6), final(8)).seconds == 6.0
    assert of(final(1), final(3)).seconds == 7.0
    assert of().seconds == 10.0


def test_receipts_after_the_end_do_not_count() -> None:
    assert of(final(4), final(50)).until_us == 10 * SECOND


def test_faults_in_force_at_some_time_of_it_are_named() -> None:
    events: list[Event] = [final(2), final(6), began(1), ended(3), began(5, "loss"), ended(8, "loss")]
    assert of(*events, final(7), final(9)).faults == ("kill: kill of one", "loss: loss of one")


def test_faults_before_and_after_it_are_not() -> None:
    events: list[Event] = [
        final(2),
        final(6),
        began(1),
        ended(1.5),
        began(6.5, "loss"),
        ended(8, "loss"),
        final(7),
        final(9),
    ]
    assert of(*events).faults == ()


def test_the_same_fault_twice_is_named_once() -> None:
    assert of(final(1), began(2), ended(3), began(4), final(8)).faults == ("kill: kill of one",)
