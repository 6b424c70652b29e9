"""docs/threat-model.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([a-z_]+/test_\w+::test_\w+)`", PAGE)))


def test_enough_lines_are_shown() -> None:
    assert len(NAMED) > 60


@pytest.mark.parametrize("name", NAMED)
def test_named_tests_exist(name: str) -> None:
    path, _, function = name.partition("::")
    outer = "" if path.startswith(("process/", "property/")) else "unit/"
    source = (ROOT / "tests" / f"{outer}{path}.py").read_text(encoding="utf-8")
    assert re.search(rf"^(?:async )?def {function}\(", source, re.MULTILINE), f"no {function} in {path}"


def test_every_line_of_attack_has_a_test() -> None:
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[3] != "shown by":
            assert "::test_" in cells[3], line
