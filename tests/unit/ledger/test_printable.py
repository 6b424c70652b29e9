"""What another machine says goes to people's terminals."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from ledger.printable import LINE_CHARACTERS_MAX, is_printable, one_line


def test_invalid_words_that_steer_a_terminal_or_begin_a_line() -> None:
    assert one_line("gone\x1b[2J\r\n* Next: \u202edelete it") == "gone [2J  * Next:  delete it"
    assert one_line("Zürich, 保険 “a”") == "Zürich, 保険 “a”"


@given(st.text(max_size=2 * LINE_CHARACTERS_MAX))
def test_one_line_is_printable_and_leaves_what_is(words: str) -> None:
    shown = one_line(words)
    assert is_printable(shown)
    assert len(shown) <= LINE_CHARACTERS_MAX
    if is_printable(words):
        assert shown == words[:LINE_CHARACTERS_MAX]
