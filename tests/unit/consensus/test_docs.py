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


def test_every_test_that_is_named_exists() -> None:
    sources = [*Path(__file__).parent.glob("test_*.py"), *(ROOT / "tests/property").glob("test_*.py")]
    sources += [*(ROOT / "tests/unit/node").glob("test_*.py"), ROOT / "tests/unit/services/test_members.py"]
    sources += [ROOT / "tests/process/test_epochs.py", *(ROOT / "tests/unit/replica").glob("test_*.py")]
    sources += [ROOT / "tests/unit/ledger/test_checkpoints.py", ROOT / "tests/unit/cli/test_checkpoint.py"]
    sources += [ROOT / "tests/unit/sdk/test_trusting_period.py", ROOT / "tests/unit/cli/test_rebuild.py"]
    defined = set(re.findall(r"def (test_\w+)", "\n".join(path.read_text() for path in sources)))
    named = {name for text in TEXT.values() for name in re.findall(r"`(test_\w+)`", text)}
    assert named
    assert named <= defined, sorted(named - defined)


def test_every_link_leads_somewhere() -> None:
    for page, text in TEXT.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / target).exists(), (page.name, target)


def test_every_method_that_is_named_exists() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "consensus").glob("*.py"))
    for owner, member in re.findall(r"`([A-Z]\w+)\.(\w+)[`(]", TEXT[PAGES[0]]):
        body = re.search(rf"class {owner}\b.*?(?=\nclass |\Z)", code, re.DOTALL)
        assert body is not None, owner
        assert re.search(rf"def {member}\b", body.group()), f"{owner}.{member}"


def test_every_rule_has_a_row() -> None:
    rows = re.findall(r"^\| R(\d+) ", TEXT[PAGES[0]], re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 13))
