"""docs/consensus.md names tests, code and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "docs/consensus.md", *sorted((ROOT / "docs/adr").glob("000[567]-*.md"))]
pytestmark = pytest.mark.skipif(
    not (PAGES[0].exists() and (ROOT / "consensus").is_dir()),
    reason="pages and code are compared inside the checkout only",
)
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES if page.exists()}


def test_every_test_that_a_decision_names_exists() -> None:
    sources = [*Path(__file__).parent.glob("test_*.py"), *(ROOT / "tests/property").glob("test_*.py")]
    defined = set(re.findall(r"def (test_\w+)", "\n".join(path.read_text() for path in sources)))
    named = {name for page, text in TEXT.items() if page != PAGES[0] for name in re.findall(r"`(test_\w+)`", text)}
    assert named
    assert named <= defined, sorted(named - defined)


def test_every_name_is_linked_to_the_file_that_defines_it() -> None:
    linked = re.findall(r"\[`([\w.]+)`\]\(([^)#]+)\)", TEXT[PAGES[0]])
    assert len(linked) > 100
    wrong = [(name, target) for name, target in linked if not defines((PAGES[0].parent / target).read_text(), name)]
    assert not wrong


def defines(code: str, name: str) -> bool:
    """Whether a module has this test, function, class, or method (``Class.method``)."""
    owner, _, member = name.rpartition(".")
    if owner:
        body = re.search(rf"^class {owner}\b.*?(?=^\S|\Z)", code, re.DOTALL | re.MULTILINE)
        return body is not None and re.search(rf"^    def {member}\b", body.group(), re.MULTILINE) is not None
    return re.search(rf"^\s*(?:def|class) {member}\b", code, re.MULTILINE) is not None


def test_no_test_and_no_method_is_named_without_its_link() -> None:
    text = re.sub(r"\[`[\w.]+`\]\([^)]+\)", "", TEXT[PAGES[0]])
    assert not re.findall(r"`(test_\w+)`", text)
    assert not re.findall(r"`([A-Z]\w+\.\w+)`", text)


def test_every_link_leads_somewhere() -> None:
    for page, text in TEXT.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("## Rules", ("code", "tests")),
        ("## Epochs", ("code", "tests")),
        ("### From one epoch to the next", ("code", "tests")),
        ("### Who only verifies", ("code", "tests")),
        ("## Corner cases", ("test",)),
        ("## Catching up", ("code", "tests")),
        ("## Evidence", ("test",)),
    ],
)
def test_every_row_leads_to_its_code_and_tests(heading: str, columns: tuple[str, ...]) -> None:
    section = TEXT[PAGES[0]].split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    names, rows = table[0], table[2:]
    assert rows
    for row in rows:
        for column in columns:
            where = "](../tests/" if column.startswith("test") else "](../"
            assert where in row[names.index(column)], row[0]


def test_every_rule_has_a_row() -> None:
    rows = re.findall(r"^\| R(\d+) ", TEXT[PAGES[0]], re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 13))
