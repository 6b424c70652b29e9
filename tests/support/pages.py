"""The pages of docs/, which tests hold against the code."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def read_page(name: str) -> str:
    """Return the text of docs/NAME. Skips beside an installed wheel, which holds no docs/."""
    if not DOCS.is_dir():
        pytest.skip("the documentation is not installed with the package")
    return (DOCS / name).read_text(encoding="utf-8")
