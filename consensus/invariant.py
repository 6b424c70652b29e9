"""The impossible, caught: own state that contradicts itself stops the node."""


class InvariantViolated(Exception):
    """A defect of this software. Going on could sign something wrong, so nobody catches this."""


def invariant(condition: bool, message: str) -> None:
    """Raise InvariantViolated unless the condition holds. (``assert`` would vanish under ``python -O``.)"""
    if not condition:
        raise InvariantViolated(f"{message}. This is a defect: stop the node, keep its home, and report it")
