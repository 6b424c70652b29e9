"""Two processes with one identity are told from one that is restarted, however often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.twins import PROCESSES_MAX, TOLD_S, Processes


def test_a_process_that_comes_back_after_another_one_twice_shows_that_both_run() -> None:
    seen = Processes()
    for at, (process, host) in enumerate([("a", "10.0.0.4"), ("b", "10.0.0.9"), ("a", "10.0.0.4")]):
        assert seen.opened(process, host, at) == (at > 0)
    assert seen.twins(3) == (), "once may be a stream that was long on its way"
    assert seen.opened("b", "10.0.0.9", 3)
    assert seen.twins(4) == ("10.0.0.4", "10.0.0.9")
    assert seen.twins(2 + TOLD_S) == (), "one of them was stopped"


def test_returns_that_lie_far_apart_show_nothing() -> None:
    seen = Processes()
    for at in range(10):
        seen.opened("ab"[at % 2], "10.0.0.4", at * TOLD_S)
        assert seen.twins(at * TOLD_S) == ()


def test_a_process_that_loses_its_stream_and_dials_again_takes_no_others_place() -> None:
    seen = Processes()
    assert not any(seen.opened("a", "10.0.0.4", at) for at in range(9))
    assert not any(seen.opened("", "10.0.0.4", at) for at in range(9)), "an older version does not name its process"
    assert seen.twins(9) == ()


@given(st.lists(st.integers(0, 3), max_size=200))
def test_restarts_alone_are_never_taken_for_two(dials: list[int]) -> None:
    """Each number: how often a process dials before it is restarted."""
    seen = Processes()
    for at, count in enumerate(dials):
        for _ in range(count):
            seen.opened(f"process {at}", "10.0.0.4", at / 10)
        assert seen.twins(at / 10) == ()
    assert len(seen._hosts) <= PROCESSES_MAX
