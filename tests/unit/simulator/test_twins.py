"""The twins' enumeration: a fixed slice, that it is whole, and that it finds what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.justification import HeaderRules
from consensus.types import Header, Justification
from simulator.twins.cases import Case, count
from simulator.twins.enumeration import (
    SHARD_CASES,
    Progress,
    StateFileError,
    run_case,
    run_numbers,
    run_shards,
    shards_of,
)

pytestmark = pytest.mark.slow

STRIDE = 2_203  #: prime, so that a slice has every offset and every cut in every view


@pytest.mark.parametrize("liar", [False, True])
def test_no_case_of_a_fixed_slice_breaks_an_invariant(liar: bool) -> None:
    found = run_numbers(range(0, count(4), STRIDE), 4, liar=liar)
    assert found.cases == 119
    assert found.failures == ()
    assert found.culprits_named > found.cases // 3, "the cuts keep the twins from ever being seen"
    assert found.oracle_checks > 100 * found.cases


def test_the_slice_has_every_offset_and_every_cut_in_every_view() -> None:
    cases = [Case.from_number(number, 4) for number in range(0, count(4), STRIDE)]
    assert {case.offset for case in cases} == set(range(4))
    for view in range(4):
        assert {case.cuts[view] for case in cases} == set(range(16))


def test_all_cases_are_numbered_and_named_once() -> None:
    assert count(4) == 262_144
    assert len({Case.from_number(number, 2) for number in range(count(2))}) == count(2) == 1_024
    for number in (0, 1, 77_777, count(4) - 1):
        case = Case.from_number(number, 4)
        assert Case.from_name(case.name) == case
    assert shards_of(4) * SHARD_CASES == count(4)


@pytest.mark.parametrize("name", ["", "4:0000", "1", "1:", "1:00000", "x:0000", "0:0g"])
def test_invalid_case_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no case|invalid literal"):
        Case.from_name(name)


def test_a_case_is_the_same_every_time() -> None:
    first, second = (run_case(Case.from_name("2:922a", liar=True)) for _ in range(2))
    assert (first.steps, first.now_ms, first.oracle.checks) == (second.steps, second.now_ms, second.oracle.checks)


def test_skipped_views_unchecked_are_found_by_the_liar_and_by_no_honest_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    def parent_only(self: HeaderRules, header: Header, justification: Justification, problem: object) -> str | None:
        return self._parent_problem(header, justification.parent, problem)  # type: ignore[arg-type]

    monkeypatch.setattr(HeaderRules, "justification_problem", parent_only)
    numbers = range(0, count(4), 10_007)
    assert not run_numbers(numbers, 4, liar=False).failures
    assert len(run_numbers(numbers, 4, liar=True).failures) >= 5


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    state = tmp_path / "twins.json"
    progress = Progress.load(state, 1, liar=False)
    assert [shard.cases for shard in run_shards(progress, range(shards_of(1)), 1, state)] == [count(1)]
    again = Progress.load(state, 1, liar=False)
    assert again == progress
    assert list(run_shards(again, range(shards_of(1)), 1, state)) == []


def test_a_state_file_of_another_enumeration_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "twins.json"
    Progress.load(None, 1, liar=False).save(state)
    with pytest.raises(StateFileError, match="belongs to 1 rounds"):
        Progress.load(state, 2, liar=False)
    other = Progress.load(state, 1, liar=False)
    other.code = "0" * 64
    other.save(state)
    with pytest.raises(StateFileError, match="other code"):
        Progress.load(state, 1, liar=False)
    state.write_text("{")
    with pytest.raises(StateFileError, match="cannot be read"):
        Progress.load(state, 1, liar=False)
