"""What people hand in and cannot be used: one shape for every such error, which says what to do next."""

from __future__ import annotations


class Unusable(Exception):
    """A file, or a part of one, that cannot be used.

    Attributes:
        problem: what is wrong.
        advice: what to do next.
    """

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}. {advice}")
        self.problem = problem
        self.advice = advice
