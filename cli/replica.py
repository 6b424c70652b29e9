"""``lossbook replica``: a supervisor's read-only daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import fail, group
from cli.node import _down, _made, show_status
from cli.options import (
    FILE,
    FOLDER,
    home_option,
    json_option,
    parse_settings,
    passphrase_option,
    profile_option,
    set_option,
)
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from lossbook.v1.query_pb2 import GetReportResponse


@group(example="lossbook replica report")
def command() -> None:
    """A supervisor's read-only daemon: it verifies every signature and executes every operation again."""


@command.command(
    example="lossbook replica init --home ./replica --genesis genesis.json --keys ./office/keys \\\n"
    "    --set follow.sources=alpha,beta"
)
@home_option
@click.option("--genesis", type=FILE, required=True, help="The network's genesis file.")
@click.option("--keys", type=FOLDER, required=True, help="Folder with ledger.key; it is copied.")
@set_option
@passphrase_option
@json_option
def init(
    home: Path, genesis: Path, keys: Path, settings: tuple[str, ...], passphrase_fd: int | None, as_json: bool
) -> None:
    """Make the home of a replica from the genesis and the organisation's ledger key."""
    from cli.session import key_passphrase
    from replica.init import init_home

    made = init_home(
        home,
        genesis=genesis,
        keys=keys,
        passphrase=key_passphrase(keys / "ledger.key", passphrase_fd),
        settings=parse_settings(settings),
    )
    _made(made, as_json)


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
    from cli.reach import ask_status, of_home
    from cli.session import run as run_work
    from store.home import HomeKind

    connector, node = of_home(home, HomeKind.REPLICA)
    answer = run_work(ask_status(connector, node))
    if answer is None:
        _down(home, "replica", str(node))
        return
    show_status(answer, as_json)


@command.command(example="lossbook replica report --profile supervisor --height 1200")
@profile_option
@click.option("--home", type=FOLDER, help="Ask the replica of this home, with its own certificate.")
@click.option("--height", type=click.IntRange(min=0), default=0, help="Block height. Default: the latest executed.")
@json_option
def report(profile_name: str | None, home: Path | None, height: int, as_json: bool) -> None:
    """Totals by line and insurer at a height: policies, claims, payments."""
    answer = _report(profile_name, home, height)
    if as_json:
        emit(report_document(answer))
    else:
        show_report(answer)


@command.command(example="lossbook replica watch --profile supervisor")
@profile_option
@click.option("--home", type=FOLDER, help="Watch the replica of this home, with its own certificate.")
@click.option(
    "--every", type=click.FloatRange(0.2, 60.0), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Look once and end.")
@json_option
def watch(profile_name: str | None, home: Path | None, every: float, once: bool, as_json: bool) -> None:
    """Live: height, lag, signatures checked, roots, policies, claims, paid per insurer."""
    from cli.session import run as run_work
    from cli.watching import watch_replica

    run_work(watch_replica(_reach(profile_name, home), every_s=every, once=once, as_json=as_json))


@command.command(example="lossbook replica resync --home ./replica --yes")
@home_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def resync(home: Path, yes: bool, as_json: bool) -> None:
    """Set damaged stores aside and follow again from the first block. Nothing is deleted."""
    from cli.resync import resync_replica

    if not yes:
        click.confirm(f"Set the stores of {home} aside and follow again from the first block?", abort=True, err=True)
    kept = resync_replica(home)
    if as_json:
        emit({"home": str(home), "set_aside": [str(path) for path in kept]})
        return
    facts([("home", home), *(("set aside", path) for path in kept)])
    say(f"Start it: `lossbook replica start --home {home}`.")


def report_document(answer: GetReportResponse) -> dict[str, Any]:
    """A report as JSON."""
    return {
        "height": answer.height,
        "block_time_ms": answer.block_time_ms,
        "operations": answer.operations,
        "envelopes": answer.envelopes,
        "signatures_verified": answer.signatures_verified,
        "rows": [
            {
                "line": row.line,
                "insurer": row.insurer,
                "currency": row.currency,
                "policies": row.policies,
                "claims": row.claims,
                "paid_claims": row.paid_claims,
                "paid_minor": row.paid_minor,
            }
            for row in answer.rows
        ],
    }


def show_report(answer: GetReportResponse) -> None:
    """A report as a table, with a sum for each currency."""
    from lossbook_sdk.values import render_time

    facts(
        [
            ("height", answer.height),
            ("block time", render_time(answer.block_time_ms)),
            ("operations", answer.operations),
            ("envelopes", answer.envelopes),
            ("signatures checked", answer.signatures_verified),
        ]
    )
    click.echo()
    report_table(report_document(answer)["rows"])


def report_table(rows: list[dict[str, Any]]) -> None:
    """Rows of a report and their sums."""
    from ledger.money import render

    names = ("policies", "claims", "paid_claims", "paid_minor")
    shown = sorted(rows, key=lambda row: (row["currency"], row["line"], row["insurer"]))
    sums = [
        {"line": "all", "insurer": "all", "currency": currency}
        | {name: sum(row[name] for row in rows if row["currency"] == currency) for name in names}
        for currency in sorted({row["currency"] for row in rows})
    ]
    table(
        ("line", "insurer", ">policies", ">claims", ">payments", ">paid"),
        (
            (
                row["line"],
                row["insurer"],
                row["policies"],
                row["claims"],
                row["paid_claims"],
                render(row["paid_minor"], row["currency"]),
            )
            for row in (*shown, *sums)
        ),
        total=len(sums) == 1,
    )


def _reach(profile_name: str | None, home: Path | None) -> Any:
    from lossbook_sdk import profile as profiles
    from lossbook_sdk.channel import Connector
    from lossbook_sdk.nodes import Nodes

    if home is not None:
        from cli.reach import of_home
        from store.home import HomeKind

        connector, node = of_home(home, HomeKind.REPLICA)
        return Nodes(connector, [node])
    profile = profiles.load(profiles.chosen(profile_name))
    genesis = profile.load_genesis_of()
    return Nodes(Connector.from_files(genesis, profile.certificate, profile.key), profile.nodes_of(genesis))


def _report(profile_name: str | None, home: Path | None, height: int) -> GetReportResponse:
    from cli.session import run as run_work
    from lossbook_sdk.errors import NodeRefused
    from lossbook_sdk.query import Query

    async def ask() -> GetReportResponse:
        nodes = _reach(profile_name, home)
        try:
            return await Query(nodes).report(height)
        finally:
            await nodes.close()

    try:
        return run_work(ask())
    except NodeRefused as error:
        fail(error.problem, "Reports are made by replicas: give --profile of the supervisor, or --home of a replica")
