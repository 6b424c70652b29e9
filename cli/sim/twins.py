"""``lossbook sim twins``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import EXIT_FAILED, Command
from cli.options import FILE, json_option
from cli.output import console, emit, facts, say

if TYPE_CHECKING:
    from simulator.twins.enumeration import Progress, Shard


@click.command(cls=Command, example="lossbook sim twins --state twins.json --jobs 2")
@click.option("--liar", is_flag=True, help="The twin lies when it leads, instead of running honest code.")
@click.option("--rounds", type=click.IntRange(1, 4), default=4, show_default=True, help="Views with cuts.")
@click.option("--state", type=FILE, help="Keep what is finished in this file, and go on from it.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes. Default: one a core.")
@click.option("--slice", "stride", type=click.IntRange(1), metavar="N", help="Every Nth case only, in this process.")
@click.option("--case", "name", metavar="OFFSET:CUTS", help="Run this one case, and say what happened in it.")
@json_option
@click.pass_context
def twins(
    context: click.Context,
    liar: bool,
    rounds: int,
    state: Path | None,
    jobs: int,
    stride: int | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Run one validator of four twice, and enumerate who can talk to whom.

    4 leader offsets x 16 two-way cuts of the five instances in each of 4 views: 262,144 cases, each of which has to
    keep every invariant, and to finalize once nothing is cut. Exit code 0 only if all of them do. With --state
    progress is kept after every 1,024 cases; what a process was at when it was stopped is run again.
    """
    if name is not None:
        context.exit(_one(name, liar=liar, as_json=as_json))
    from simulator.twins.cases import count
    from simulator.twins.enumeration import Progress, run_numbers, shards_of

    if stride is not None:
        shards = [run_numbers(range(0, count(rounds), stride), rounds, liar=liar)]
    else:
        progress = Progress.load(state, rounds, liar=liar)
        total = shards_of(rounds)
        if progress.shards:
            say(f"{len(progress.shards)} of {total} shards were done before, and are not done again")
        with _Bar(total, len(progress.shards)) as bar:
            for shard in _run_shards(progress, total, jobs):
                progress.shards.append(shard)
                if state is not None:
                    progress.save(state)
                bar.advance()
        shards = progress.shards
    document = _document(shards, count(rounds), rounds, liar=liar)
    _show(document, as_json=as_json)
    context.exit(EXIT_FAILED if document["failures"] else 0)


def _run_shards(progress: Progress, total: int, jobs: int) -> Iterator[Shard]:
    """Those that are not done yet, in order."""
    from contextlib import closing

    from simulator.spread import spread

    done = {shard.number for shard in progress.shards}
    work = [(number, progress.rounds, progress.liar) for number in range(total) if number not in done]
    with closing(spread(run_shard, work, min(jobs, max(1, len(work))), nice=5)) as results:
        for _, shard in results:
            yield shard


def run_shard(job: tuple[int, int, bool]) -> Shard:
    """The cases of one shard: its number, rounds, and whether the twin lies."""
    from simulator.twins.cases import count
    from simulator.twins.enumeration import SHARD_CASES, run_numbers

    number, rounds, liar = job
    first = number * SHARD_CASES
    return run_numbers(range(first, min(first + SHARD_CASES, count(rounds))), rounds, liar=liar, shard=number)


def _document(shards: list[Shard], total: int, rounds: int, *, liar: bool) -> dict[str, Any]:
    from msgspec import to_builtins

    return {
        "rounds": rounds,
        "liar": liar,
        "cases": sum(shard.cases for shard in shards),
        "cases_total": total,
        "steps": sum(shard.steps for shard in shards),
        "oracle_checks": sum(shard.oracle_checks for shard in shards),
        "cases_with_evidence": sum(shard.culprits_named for shard in shards),
        "cpu_s": round(sum(shard.cpu_s for shard in shards), 1),
        "failures": [to_builtins(failure) for shard in shards for failure in shard.failures],
    }


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(document)
        return
    facts((key.replace("_", " "), value) for key, value in document.items() if key != "failures")
    for failure in document["failures"]:
        say(click.style("broken: ", fg="red") + f"{failure['oracle']}\n        {failure['replay']}")
    if not document["failures"]:
        say("Every invariant held.")


def _one(name: str, *, liar: bool, as_json: bool) -> int:
    """One case, told."""
    from simulator.twins.cases import Case
    from simulator.twins.enumeration import run_case

    try:
        case = Case.from_name(name, liar=liar)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from problem
    try:
        world = run_case(case)
    except AssertionError as broken:
        emit({"case": name, "liar": liar, "oracle": str(broken)}) if as_json else say(f"{name}: {broken}")
        return EXIT_FAILED
    document = {
        "case": name,
        "liar": liar,
        "steps": world.steps,
        "virtual_ms": world.now_ms,
        "oracle_checks": world.oracle.checks,
        "evidence_against": sorted(world.oracle.culprits),
        "final_heights": [instance.final.height for instance in world.instances],
    }
    if as_json:
        emit(document)
    else:
        facts((key.replace("_", " "), value) for key, value in document.items())
    return 0


class _Bar:
    """How many shards are done, where somebody looks."""

    def __init__(self, total: int, done: int) -> None:
        self._progress: Any = None
        if sys.stderr.isatty():
            from rich.progress import Progress

            self._progress = Progress(console=console(stderr=True))
            self._task = self._progress.add_task("shards of 1,024 cases", total=total, completed=done)

    def __enter__(self) -> _Bar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self) -> None:
        """One more."""
        if self._progress is not None:
            self._progress.advance(self._task)
