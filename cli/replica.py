"""``lossbook replica``: a supervisor's read-only daemon."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.base import fail, group
from cli.homes import down, init_options, make_home
from cli.options import (
    FOLDER,
    home_option,
    json_option,
    parse_settings,
    passphrase_option,
    profile_option,
    set_option,
)
from cli.output import console, emit, facts, say

if TYPE_CHECKING:
    from lossbook_sdk.query import Query

T = TypeVar("T")


@group(example="lossbook replica report")
def command() -> None:
    """A supervisor's read-only daemon: it verifies every signature and executes every operation again."""


@command.command(
    example="lossbook replica init --home ./replica --genesis genesis.json --keys ./office/keys \\\n"
    "    --set follow.sources=alpha,beta"
)
@init_options("Folder with ledger.key; it is copied.")
def init(**options: Any) -> None:
    """Make the home of a replica from the genesis and the organisation's ledger key."""
    from replica.init import init_home

    make_home(init_home, **options)


@command.command(example="lossbook replica start --home ./replica")
@home_option
@set_option
@click.option("--trust-again", multiple=True, metavar="ORG", help="Follow a source again that served something forged.")
@passphrase_option
def start(home: Path, settings: tuple[str, ...], trust_again: tuple[str, ...], passphrase_fd: int | None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Settings: --set goes before LOSSBOOK_SECTION_KEY in the environment, that before lossbook.toml in the home.
    """
    from cli.session import key_passphrase
    from replica.config import load_config
    from replica.daemon import run
    from store.home import HomeKind, open_home

    found = open_home(home, HomeKind.REPLICA)
    config = load_config(home, os.environ, parse_settings(settings), trust_again)
    ledger_key = found.keys / "ledger.key"
    passphrase = key_passphrase(ledger_key, passphrase_fd) if ledger_key.exists() else None
    sys.exit(run(config, passphrase))


@command.command(example="lossbook replica status --home ./replica")
@home_option
@json_option
def status(home: Path, as_json: bool) -> None:
    """Show where the replica stands, whom it follows and whom it distrusts."""
    from lossbook_sdk.errors import NothingReachable
    from replica.access import local_query
    from replica.status import ReplicaStatus, fetch_status, render_status

    async def ask() -> ReplicaStatus:
        async with local_query(home) as query:
            return await fetch_status(query)

    try:
        found = _run(ask())
    except NothingReachable as error:
        down(home, "replica", "; ".join(f"{node}" for node, _ in error.attempts) or "it")
    if as_json:
        emit(found.document())
    else:
        console().print(render_status(found))


@command.command(example="lossbook replica report --profile supervisor --height 1200")
@profile_option
@click.option("--home", type=FOLDER, help="Ask the replica of this home, with its own certificate.")
@click.option("--height", type=click.IntRange(min=0), default=0, help="Block height. Default: the latest executed.")
@json_option
def report(profile_name: str | None, home: Path | None, height: int, as_json: bool) -> None:
    """Totals by line and insurer at a height: policies, claims, payments."""
    from lossbook_sdk.errors import NodeRefused
    from replica.report import fetch_report, report_document, report_table
    from services.reader import Report

    async def ask() -> Report:
        async with _query(profile_name, home) as query:
            return await fetch_report(query, height)

    try:
        found = _run(ask())
    except NodeRefused as error:
        fail(error.problem, "Reports are made by replicas: give --profile of the supervisor, or --home of a replica")
    if as_json:
        emit(report_document(found))
    else:
        console().print(report_table(found))


@command.command(example="lossbook replica watch --profile supervisor")
@profile_option
@click.option("--home", type=FOLDER, help="Watch the replica of this home, with its own certificate.")
@click.option(
    "--every", type=click.FloatRange(0.2, 60.0), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Look once and end.")
@json_option
def watch(profile_name: str | None, home: Path | None, every: float, once: bool, as_json: bool) -> None:
    """Live: height, lag, signatures checked, roots, policies, claims, paid per insurer.

    A screen on a terminal; elsewhere a line for each change.
    """
    from replica.watch import watch as look_on

    async def look() -> None:
        async with _query(profile_name, home) as query:
            await look_on(query, console(), every_s=every, looks=1 if once else None, as_json=as_json)

    _run(look())


@command.command(example="lossbook replica resync --home ./replica --yes")
@home_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def resync(home: Path, yes: bool, as_json: bool) -> None:
    """Set damaged stores aside and follow again from the first block. Nothing is deleted."""
    from replica.resync import resync as set_aside

    if not yes:
        click.confirm(f"Set the stores of {home} aside and follow again from the first block?", abort=True, err=True)
    kept = set_aside(home, "lossbook replica resync")
    if as_json:
        emit({"home": str(home), "set_aside": [str(kept)]})
        return
    facts([("home", home), ("set aside", kept)])
    say(f"Start it: `lossbook replica start --home {home}`.")


@asynccontextmanager
async def _query(profile_name: str | None, home: Path | None) -> AsyncIterator[Query]:
    """Questions to the replica of a home, or to the nodes of a profile."""
    from lossbook_sdk import profile as profiles
    from lossbook_sdk.channel import Connector
    from lossbook_sdk.nodes import Nodes
    from lossbook_sdk.query import Query
    from replica.access import local_query

    if home is not None:
        async with local_query(home) as query:
            yield query
        return
    profile = profiles.load(profiles.chosen(profile_name))
    connector = Connector.of_profile(profile)
    nodes = Nodes(connector, profile.nodes_of(connector.genesis, connector.trust.cards_of_validators()))
    try:
        yield Query(nodes)
    finally:
        await nodes.close()


def _run(work: Coroutine[Any, Any, T]) -> T:
    from cli.session import run as run_work

    return run_work(work)
