"""Histories whose answer is known, of a register and of a claim."""

from __future__ import annotations

import pytest

from chaos.linearizability import Operation, SearchTooLarge, Verdict, check

Register = Operation[tuple[str, int], int]


def apply(state: int, request: tuple[str, int]) -> tuple[int, int]:
    """A register: a write answers what it wrote, a read what stands there."""
    kind, value = request
    return (value, value) if kind == "write" else (state, state)


def write(number: int, invoked: int, returned: int | None, value: int) -> Register:
    return Operation(number, invoked, returned, ("write", value), value if returned is not None else None)


def read(number: int, invoked: int, returned: int | None, value: int | None) -> Register:
    return Operation(number, invoked, returned, ("read", 0), value)


def judge(*history: Register) -> Verdict:
    return check(history, 0, apply)


def test_nothing_is_linearizable() -> None:
    assert judge() == Verdict(True, ())


def test_operations_one_after_another_have_one_order() -> None:
    verdict = judge(read(1, 0, 1, 0), write(2, 2, 3, 7), read(3, 4, 5, 7))
    assert (verdict.linearizable, verdict.order) == (True, (1, 2, 3))


def test_a_read_beside_a_write_may_see_either_value() -> None:
    assert judge(write(1, 0, 10, 7), read(2, 1, 2, 0)).linearizable
    assert judge(write(1, 0, 10, 7), read(2, 1, 2, 7)).linearizable


def test_invalid_a_read_after_a_write_sees_the_value_before_it() -> None:
    verdict = judge(write(1, 0, 1, 7), read(2, 2, 3, 0))
    assert not verdict.linearizable
    assert (verdict.order, verdict.stuck) == ((1,), (2,))


def test_invalid_two_reads_see_a_write_and_then_no_longer() -> None:
    """The pattern of a stale replica: the write is concurrent to both, but the first has seen it."""
    history = [write(1, 0, 10, 7), read(2, 1, 2, 7), read(3, 3, 4, 0)]
    assert not judge(*history).linearizable
    assert judge(history[0], read(2, 1, 2, 0), read(3, 3, 4, 7)).linearizable


def test_invalid_two_readers_disagree_on_the_order_of_two_writes() -> None:
    writes = [write(1, 0, 20, 1), write(2, 0, 20, 2)]
    assert not judge(
        *writes, read(3, 1, 2, 1), read(4, 3, 4, 2), read(5, 5, 6, 1)
    ).linearizable  # no write of 1 is left
    assert judge(*writes, read(3, 1, 2, 1), read(4, 3, 4, 2), read(5, 5, 6, 2)).linearizable


def test_a_value_that_nobody_wrote_is_invalid() -> None:
    assert not judge(write(1, 0, 1, 7), read(2, 2, 3, 8)).linearizable


def test_a_write_of_unknown_outcome_may_take_effect_at_any_time_after_it_was_asked_for() -> None:
    lost = write(1, 0, None, 7)
    assert judge(lost, read(2, 5, 6, 0), read(3, 7, 8, 7)).linearizable
    assert judge(lost, read(2, 5, 6, 0), read(3, 7, 8, 0)).linearizable
    assert not judge(lost, read(2, 5, 6, 7), read(3, 7, 8, 0)).linearizable


def test_invalid_a_write_takes_effect_before_it_was_asked_for() -> None:
    assert not judge(read(1, 0, 1, 7), write(2, 2, None, 7)).linearizable


def test_equal_times_are_concurrent() -> None:
    assert judge(write(1, 0, 5, 7), read(2, 5, 6, 0)).linearizable
    assert judge(write(1, 0, 5, 7), read(2, 5, 6, 7)).linearizable
    assert not judge(write(1, 0, 5, 7), read(2, 6, 7, 0)).linearizable


def test_the_order_that_is_named_explains_every_answer() -> None:
    history = [write(at, 0, 100, at) for at in range(1, 7)] + [read(at, 0, 100, at - 10) for at in range(11, 17)]
    verdict = judge(*history)
    assert verdict.linearizable
    state, by_id = 0, {operation.id: operation for operation in history}
    for each in verdict.order:
        state, output = apply(state, by_id[each].input)
        assert output == by_id[each].output
    assert sorted(verdict.order) == sorted(by_id)


def test_the_memory_keeps_a_wide_history_small() -> None:
    """Twelve concurrent writes have 479 million orders; the pairs of set and state are some thousands."""
    history = [write(at, 0, 100, at % 2) for at in range(12)] + [read(99, 101, 102, 5)]
    verdict = judge(*history)
    assert not verdict.linearizable
    assert verdict.configurations < 10_000


def test_a_search_that_grows_too_large_gives_no_answer() -> None:
    history = [write(at, 0, 100, at) for at in range(14)] + [read(99, 101, 102, 99)]
    with pytest.raises(SearchTooLarge, match="given up after 1,000 configurations"):
        check(history, 0, apply, configurations_max=1_000)
