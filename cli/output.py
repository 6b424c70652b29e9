"""Data on stdout, progress and words on stderr; tables for people, JSON for programs. Colour only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH: Final = 240
"""Columns where stdout is no terminal: nothing is cut off for a program that reads."""


def emit(document: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, default=_plain, ensure_ascii=False))


def emit_line(document: Any) -> None:
    """One JSON document on a line of its own: for streams of them."""
    click.echo(json.dumps(document, default=_plain, ensure_ascii=False))
    sys.stdout.flush()


def say(text: str) -> None:
    """A word to a person, on stderr."""
    click.echo(text, err=True)


def console(*, stderr: bool = False) -> Console:
    """A rich console that keeps to the rules above."""
    from rich.console import Console

    class QuietConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # whoever read has gone: handled in one place, ``Root.main``

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    return QuietConsole(
        file=stream,
        width=None if terminal else PIPE_WIDTH,
        force_terminal=terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb",
        no_color="NO_COLOR" in os.environ,
        highlight=False,
        soft_wrap=False,
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", total: bool = False) -> None:
    """An aligned table on stdout; columns whose name starts with ``>`` are numbers and stand to the right.

    Args:
        total: the last row is a sum, set off by a rule.
    """
    from rich.table import Table

    drawn = Table(title=title or None, title_justify="left", box=_box(), pad_edge=False, show_edge=False)
    for name in columns:
        right = name.startswith(">")
        drawn.add_column(name.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    listed = [[number(cell) for cell in row] for row in rows]
    for at, row in enumerate(listed):
        if total and at == len(listed) - 1:
            drawn.add_section()
        drawn.add_row(*row)
    out = console()
    out.print(drawn)
    if not listed:
        out.print("(none)")


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line, aligned."""
    listed = [(name, number(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        click.echo(f"{name:<{width}}  {value}")


def number(value: object) -> str:
    """As people read it: integers with separators."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be shown as JSON")
