"""``lossbook chaos``."""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
from pathlib import Path

import click

from cli.base import EXIT_FAILED, Stop, described, group
from cli.options import FILE, FOLDER, json_option
from cli.output import emit, facts, say

FAULTS = ("kill", "storm", "pause", "clock", "disk", "destroyed", "partition", "one-way", "loss", "delay")
"""As ``chaos.schedule.Kind``, which is not imported for a help text."""


@group(example="lossbook chaos run --minutes 3")
def command() -> None:
    """Real daemons under faults from outside, and a judge of what their clients saw."""


@command.command(example="lossbook chaos run --minutes 1 --seed 7 --faults kill,partition,loss --keep ./chaos-7")
@click.option(
    "--minutes", type=click.FloatRange(min=0.2, max=100_000), default=3.0, show_default=True, help="How long."
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of the plan of faults. Default: drawn.")
@click.option(
    "--faults", "kinds", metavar="KIND,...", default=",".join(FAULTS), show_default=True, help="Which are to strike."
)
@click.option(
    "--network",
    "way",
    type=click.Choice(["auto", "namespaces", "proxy"]),
    default="auto",
    show_default=True,
    help="How it is made: what this machine permits, real packets, or proxies on loopback.",
)
@click.option("--keep", type=FOLDER, help="Make the network in this folder and leave it there, with history.jsonl.")
@json_option
@click.pass_context
def run(
    context: click.Context,
    minutes: float,
    seed: int | None,
    kinds: str,
    way: str,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Harm a network of four validators from outside, and hold every promise against what its clients saw.

    Clients write and read single claims all the while. In the end everything is healed, every operation is asked for
    at every validator, and the recorded history is judged. Exit code 0 only if every promise was kept; otherwise the
    network's folder is left, and the last lines say where.
    """
    chosen = _kinds(kinds)
    number = secrets.randbelow(1 << 32) if seed is None else seed
    _require_time(number, minutes, chosen)
    namespaces = _namespaces(way)  # before anything is imported that starts a thread

    import asyncio

    import uvloop

    from chaos.disk import LimitedDisk, SmallDisk
    from chaos.fabric import ProxyFabric, Way
    from chaos.namespaces import NamespaceFabric
    from chaos.run import Plan, Run
    from chaos.schedule import Kind
    from cli.chaos_screen import Screen, in_words, verdict

    base = keep or Path(tempfile.mkdtemp(prefix="lossbook-chaos-"))
    with Screen() as screen:
        running = Run(
            Plan(number, minutes * 60, tuple(Kind(kind) for kind in chosen)),
            base,
            Way.NAMESPACES if namespaces else Way.PROXY,
            NamespaceFabric(number) if namespaces else ProxyFabric(number),
            SmallDisk if namespaces else lambda _: LimitedDisk(),
            on_progress=screen.show,
            say=screen.say,
        )
        for number_ in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: what was started is ended
            signal.signal(number_, lambda *_: signal.raise_signal(signal.SIGINT))
        ended = False
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(running.run())
        except Exception as error:  # noqa: BLE001 - whatever ended it, what was determined is shown; see ``described``
            running.problems.append(described(error)[0])
            ended = True
        else:
            ended = True
        finally:
            if keep is None and not (ended and running.problems):  # all is well, or Ctrl-C
                shutil.rmtree(base, ignore_errors=True)
    folder = base if keep is not None or running.problems else None
    if as_json:
        emit(running.document | {"problems": running.problems})
    else:
        facts(in_words(running.document))
    faults = None if chosen == list(FAULTS) else chosen
    for line in verdict(running.document, running.problems, faults=faults, folder=folder):
        say(line)
    context.exit(EXIT_FAILED if running.problems else 0)


@command.command(example="lossbook chaos judge ./chaos-7/history.jsonl")
@click.argument("history", type=FILE)
@json_option
@click.pass_context
def judge(context: click.Context, history: Path, as_json: bool) -> None:
    """Judge the recorded history of a run once more.

    Whether it is whole, linearizability of the operations on each claim, the order of the receipts, and every read;
    what only the running network could tell (receipts everywhere, state roots) is not in the file. Exit code 0 only if
    all of it holds.
    """
    from chaos.history import parse
    from chaos.judge import judge as judged

    with history.open("rb") as file:
        found = judged(list(parse(file)))
    document = {name: getattr(found, name) for name in found.__struct_fields__ if name != "problems"}
    if as_json:
        emit(document | {"problems": found.problems})
    else:
        facts(document.items())
    for problem in found.problems:
        say(click.style("does not hold: ", fg="red") + problem)
    if found.problems:
        say(f"All that is told of one operation, for example 12: `grep '\"op\":12,' {history}`.")
    elif not as_json:
        say(f"The history holds: {found.acknowledged:,} operations were acknowledged, none was lost.")
    context.exit(EXIT_FAILED if found.problems else 0)


def _namespaces(way: str) -> bool:
    """Whether to use namespaces; this process has its own afterwards if so.

    Raises:
        Stop: they were asked for, and are not permitted here.
    """
    if way == "proxy":
        return False
    from chaos import kernel, namespaces

    if refusal := namespaces.refused():
        if way == "namespaces":
            raise Stop(f"network namespaces cannot be had here: {refusal}", "Run it as root, or with --network proxy")
        return False
    kernel.own_namespaces()
    return True


def _require_time(seed: int, minutes: float, chosen: list[str]) -> None:
    """Rather than after the run: that there is no time for a fault is known before."""
    from chaos.schedule import Kind, minutes_enough
    from cli.local import INSURERS

    least = minutes_enough(seed, INSURERS, [Kind(kind) for kind in chosen], INSURERS[-1])
    if minutes < least:
        raise click.BadParameter(
            f"{minutes:g} minutes are too few for {', '.join(chosen)}: give {least:g} or more, or name fewer --faults",
            param_hint="--minutes",
        )


def _kinds(text: str) -> list[str]:
    chosen = [word.strip() for word in text.split(",") if word.strip()]
    for word in chosen:
        if word not in FAULTS:
            raise click.BadParameter(f"{word!r} is not one of {', '.join(FAULTS)}", param_hint="--faults")
    return list(dict.fromkeys(chosen))
