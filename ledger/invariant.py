"""The impossible, caught: a failed invariant is a defect of this software and stops the node."""


class InvariantViolated(Exception):
    """Own state contradicts itself. Going on could sign or store something wrong, so nobody catches this."""


def invariant(condition: bool, message: str) -> None:
    """Raise InvariantViolated unless the condition holds. (``assert`` would vanish under ``python -O``.)"""
    if not condition:
        raise InvariantViolated(f"{message}. This is a defect: stop the node, keep its home, and report it")
