"""Which text may stand before people: names on the ledger, and what another machine says."""

from __future__ import annotations

from typing import Final

_UNSEEN: Final = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x200B, 0x200F),  # zero width, marks of direction
    (0x2028, 0x202E),  # separators of lines, embedding and overriding of direction
    (0x2060, 0x206F),  # invisible operators, isolates
    (0xD800, 0xF8FF),  # surrogates, private use
    (0xFEFF, 0xFEFF),
    (0xFFF0, 0xFFFF),
    (0xE0000, 0x10FFFF),  # tags, private use
)

LINE_CHARACTERS_MAX: Final = 1_000
"""Of what another machine says; gRPC's own account of a failed connection is shorter."""


def is_printable(text: str) -> bool:
    """Whether people see what is written, in the order in which it is written: no control characters, no separators of
    lines, nothing that turns the direction of writing or is invisible.

    Fixed here, because ``str.isprintable`` changes with Python's Unicode tables, and then two nodes would judge a card
    differently.
    """
    return not any(
        ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or any(first <= ord(c) <= last for first, last in _UNSEEN) for c in text
    )


def one_line(words: str) -> str:
    """What another machine says, for a person's terminal: it may be hostile; it steers nothing and begins no line."""
    return "".join([each if is_printable(each) else " " for each in words[:LINE_CHARACTERS_MAX]])
