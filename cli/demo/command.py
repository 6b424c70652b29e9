"""``lossbook demo``."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import EXIT_FAILED, described, group
from cli.options import FILE, FOLDER, json_option
from cli.output import emit, facts, say

if TYPE_CHECKING:
    from cli.demo.run import Demo


@group(example="lossbook demo claims --claims 1000")
def command() -> None:
    """Whole jobs on a network made for the purpose, with real daemons and real data."""


@command.command(example="lossbook demo claims --claims 1000 --keep ./network")
@click.option("--claims", "limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows of the file.")
@click.option("--claims-file", type=FILE, help="CSV with the columns of prism.csv. Default: the one in chainladder.")
@click.option("--keep", type=FOLDER, help="Make the network in this folder and leave it there.")
@json_option
@click.pass_context
def claims(
    context: click.Context, limit: int | None, claims_file: Path | None, keep: Path | None, as_json: bool
) -> None:
    """The main job: four insurers agree on real claims, a supervisor follows and verifies.

    One validator is killed and comes back, the replica is lied to half-way, and in the end everything is compared:
    tables with the source file, five state roots, one record proved offline. Exit code 0 only if all of it holds.
    """
    import asyncio

    import uvloop

    from cli.demo import data
    from cli.demo.run import Demo
    from cli.demo.show import Screen

    rows = data.read(claims_file or data.locate(), limit)
    if not rows:
        raise click.UsageError("the claims file has no rows")
    base = keep or Path(tempfile.mkdtemp(prefix="lossbook-demo-"))
    with Screen() as screen:
        demo = Demo(rows, base, screen)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(demo.run())
        except Exception as error:  # noqa: BLE001 - whatever ended it, what was determined is shown; see ``described``
            demo.problems.append(described(error)[0])
        finally:
            if keep is None:
                shutil.rmtree(base, ignore_errors=True)
    _show(demo, keep, as_json)
    context.exit(EXIT_FAILED if demo.problems else 0)


def _show(demo: Demo, keep: Path | None, as_json: bool) -> None:
    if as_json:
        emit(demo.document)
    else:
        from cli.output import console
        from replica.report import report_table

        if demo.report is not None:
            console().print(report_table(demo.report))
            click.echo()
        facts((name.replace("_", " "), _plain(value)) for name, value in demo.document.items())
    for problem in demo.problems:
        say(click.style("does not hold: ", fg="red") + problem)
    if not demo.problems and not as_json:
        say("All of it holds.")
    if keep is not None:
        say(f"The network is in {keep}: `lossbook testnet start --home {keep}`.")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner:,}" for name, inner in value.items())
    return value
