"""What a person sees of the demonstration: words and a progress bar, all on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from cli.output import console

if TYPE_CHECKING:
    from cli.demo.loader import Progress


class Screen:
    """A progress bar on a terminal, lines elsewhere."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_bar()

    def say(self, text: str) -> None:
        """One line, with the seconds since the start."""
        line = f"[{time.monotonic() - self._began_s:6.1f} s] {text}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line, err=True)

    def start_bar(self, total: int) -> None:
        """Show how far the load is, where somebody looks."""
        if not sys.stderr.isatty():
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console(stderr=True),
        )
        self._bar.start()
        self._task = self._bar.add_task("operations final", total=total, rate="")

    def show(self, progress: Progress) -> None:
        """A receipt has come."""
        if self._bar is None:
            return
        took_s = max(progress.last_answer_s - progress.first_sent_s, 0.001)
        self._bar.update(self._task, completed=progress.final, rate=f"{progress.final / took_s:,.0f}/s")

    def stop_bar(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
