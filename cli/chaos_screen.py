"""What a person sees of a chaos run: words, and on a terminal one live line a second, all on stderr; then the end."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

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
        faults = ", ".join(progress.faults) or "no fault"
        counts = f"final {progress.final:,}, open {progress.open}"
        parts = [faults, _silent(progress.heights), counts, _height(progress.heights)]
        line = f"[{progress.at_s:6.1f} s] {'; '.join(part for part in parts if part)}"
        click.echo(_CLEAR + line[: shutil.get_terminal_size().columns - 1], nl=False, err=True)
        self._shown = True

    def _wipe(self) -> None:
        if self._shown:
            click.echo(_CLEAR, nl=False, err=True)
            self._shown = False


def _silent(heights: Mapping[str, int | None]) -> str:
    names = ", ".join(name for name, height in heights.items() if height is None)
    return f"no answer: {names}" if names else ""


def _height(heights: Mapping[str, int | None]) -> str:
    known = sorted(height for height in heights.values() if height is not None)
    return f"height {known[0]:,} to {known[-1]:,}" if known else ""


def in_words(document: Mapping[str, Any]) -> list[tuple[str, object]]:
    """The document as names and values for people."""
    return [(name.replace("_", " "), _plain(name, value)) for name, value in document.items()]


def verdict(
    document: Mapping[str, Any], problems: Sequence[str], *, faults: Sequence[str] | None, folder: Path | None
) -> list[str]:
    """How it came out, and what to do next.

    Args:
        faults: those asked for; None: all.
        folder: where the network, its logs and the history are left; None: nowhere, as all is well.
    """
    lines = [click.style("does not hold: ", fg="red") + problem for problem in problems]
    if not problems:
        counts = (
            f"{document['acknowledged']:,} acknowledged: {document['proven']:,} proved, {document['expired']:,} expired"
        )
        lines.append(f"Every promise was kept. Of {document['operations']:,} operations {counts}, none lost.")
        return [*lines, f"Network, logs and history.jsonl are in {folder}."] if folder is not None else lines
    lines += [
        "",
        "What to look at:",
        f"  {folder}/history.jsonl   what clients asked and heard; `lossbook chaos judge` judges it again",
        f"  {folder}/*/node.log      what each validator said, and the supervisor's replica in replica.log",
    ]
    if document.get("faults", {}).get("destroyed"):
        lines.append(f"  {folder}/*/operator.log  what was typed for a destroyed validator, and answered")
    words = ["lossbook chaos run", f"--minutes {document['minutes']:g}", f"--seed {document['seed']}"]
    words += [f"--faults {','.join(faults)}"] if faults is not None else []
    words += [f"--network {document['network']}", "--keep ./again"]
    lines.append(f"The same faults at the same times once more: `{' '.join(words)}`.")
    lines.append(
        "A broken promise is a defect of lossbook: report it with history and logs, and without the folder's keys."
    )
    return lines


def _plain(name: str, value: Any) -> object:
    if name == "newcomers":
        told = (
            f"{each['validator']} voted after {each['back_s']} s, in epoch {each['epoch']}, holds blocks from "
            f"{each['blocks_from']:,}"
            for each in value
        )
        return "; ".join(told) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{kind} {count}" for kind, count in value.items())
    if isinstance(value, list):
        return "; ".join(str(each) for each in value) or "none"
    return value
