"""What a check of a home found: one sentence each, and what to do."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

PROBLEMS_SHOWN: Final = 5
"""Of one store; a thousand damaged rows have one cure."""


class Verdict(enum.Enum):
    """How a check came out."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(msgspec.Struct, frozen=True):
    """One check."""

    what: str
    """What was looked at, in one word: ``votes``, ``blocks``, ``state``, ``receipts``, ..."""
    verdict: Verdict
    text: str
    advice: str = ""
    """What to do next; empty where there is nothing to do."""


class Problems:
    """What is wrong with one store: the first few in words, all of them counted."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def add(self, text: str) -> None:
        """One more."""
        self.count += 1
        if len(self._shown) < PROBLEMS_SHOWN:
            self._shown.append(text)

    def finding(self, what: str, good: str, advice: str) -> Finding:
        """SUCCESS with the text ``good`` if there were none."""
        if not self.count:
            return Finding(what, Verdict.SUCCESS, good)
        more = self.count - len(self._shown)
        text = "; ".join(self._shown) + (f"; and {more} more" if more else "")
        return Finding(what, Verdict.FAILURE, text, advice)
