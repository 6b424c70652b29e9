"""What has to be exercised is the whole list, and what never was is named."""

from __future__ import annotations

from collections import Counter

from simulator.adversaries import LIARS
from simulator.coverage import CASES, REQUIRED, missing
from tests.support.pages import read_page


def test_every_rule_row_and_liar_is_required() -> None:
    assert [name for name in REQUIRED if name.startswith("R")] == [f"R{number}" for number in range(1, 13)]
    assert len([name for name in REQUIRED if name.startswith("liar: ")]) == len(LIARS)


def test_there_is_a_case_for_each_row_of_the_table_of_corner_cases() -> None:
    table = read_page("consensus.md").split("## Corner cases", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(CASES) == len(rows)


def test_what_was_never_met_is_named() -> None:
    counts = Counter(dict.fromkeys(REQUIRED, 1))
    counts["R7"] = 0
    assert missing(counts) == ["R7"]
