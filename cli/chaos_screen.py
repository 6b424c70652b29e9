"""What a person sees of a chaos run: words, and on a terminal one live line a second, all on stderr."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from chaos.run import Progress

_CLEAR = "\r\x1b[2K"


class Screen:
    """One line that is written again and again, where somebody looks."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._live = sys.stderr.isatty()
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wipe()

    def say(self, text: str) -> None:
        """One line, with the seconds since the start."""
        self._wipe()
        click.echo(f"[{time.monotonic() - self._began_s:6.1f} s] {text}", err=True)

    def show(self, progress: Progress) -> None:
        """The state of things, in place of the last one."""
        if not self._live:
            return
        heights = " ".join(
            f"{name} {'-' if height is None else format(height, ',')}" for name, height in progress.heights.items()
        )
        faults = "; ".join(progress.faults) or "quiet"
        line = f"{progress.at_s:6.1f} s  {heights}  final {progress.final:,}  open {progress.open}  {faults}"
        click.echo(_CLEAR + line[: shutil.get_terminal_size().columns - 1], nl=False, err=True)
        self._shown = True

    def _wipe(self) -> None:
        if self._shown:
            click.echo(_CLEAR, nl=False, err=True)
            self._shown = False
