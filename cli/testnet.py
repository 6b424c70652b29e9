"""``lossbook testnet``: a whole network on one machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.base import Stop, fail, group
from cli.options import FOLDER, json_option, passphrase_option, unsafe_option
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from cli.daemons import Daemon
    from cli.local import Network

READY_S: Final = 60.0
"""Five interpreters start on one machine, and the first blocks are made."""


def default_home() -> Path:
    """``$XDG_DATA_HOME/lossbook/testnet``, else ``~/.local/share/lossbook/testnet``."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "lossbook" / "testnet"


def _home_option(function: Any) -> Any:
    return click.option(
        "--home",
        "base",
        type=FOLDER,
        default=default_home,
        envvar="LOSSBOOK_TESTNET",
        help="Folder of the network. Default: ~/.local/share/lossbook/testnet",
    )(function)


def _typed(verb: str, base: Path) -> str:
    """The command for this network, as it is typed: with --home where that is not the default."""
    return f"lossbook testnet {verb}" + ("" if base.absolute() == default_home().absolute() else f" --home {base}")


@group(example="lossbook testnet init --unsafe-no-passphrase && lossbook testnet start")
def command() -> None:
    """A whole network on this machine: four insurers' nodes and a supervisor's replica.

    It is made with the ceremony's own code and run by the operator's own commands; every organisation has its own
    keys and its own home.
    """


@command.command(example="lossbook testnet init --unsafe-no-passphrase")
@_home_option
@click.option("--name", default="testnet", show_default=True, help="What people call the network.")
@click.option(
    "--base-port",
    type=click.IntRange(1024, 65_000),
    default=7100,
    show_default=True,
    help="First of the ports it uses, three for each organisation.",
)
@click.option("--use/--no-use", default=True, help="Choose the first insurer's profile for the commands that follow.")
@unsafe_option
@passphrase_option
@json_option
def init(
    base: Path, name: str, base_port: int, use: bool, unsafe: bool, passphrase_fd: int | None, as_json: bool
) -> None:
    """Hold the ceremony for five organisations and make their homes and profiles."""
    from cli import local
    from cli.session import new_passphrase
    from lossbook_sdk import profile as profiles

    count = (len(local.INSURERS) + 1) * local.PORTS_EACH
    passphrase = new_passphrase(passphrase_fd, unsafe, base)
    network = local.create(base, name=name, ports=range(base_port, base_port + count), passphrase=passphrase)
    first = network.profile(local.INSURERS[0])
    if use:
        profiles.choose(str(first))
    if as_json:
        emit({"home": network.base, "chain_id": network.genesis.chain_id.hex(), "profile": str(first)})
        return
    from cli.genesis import aloud

    facts([("home", network.base), ("chain id", aloud(network.genesis.chain_id)), ("profile", first)])
    say(f"Start it: `{_typed('start', base)}`. Act as another insurer with --profile beta.")


@command.command(example="lossbook testnet start")
@_home_option
@passphrase_option
@json_option
def start(base: Path, passphrase_fd: int | None, as_json: bool) -> None:
    """Start all daemons that do not run yet, and wait until they answer."""
    from cli import daemons, local
    from cli.session import key_passphrase

    network = local.load(base)
    idle = [place for place in network.daemons if daemons.running_pid(place) is None]
    passphrase = key_passphrase(network.office(local.INSURERS[0]) / "keys" / "ledger.key", passphrase_fd)
    started = [daemons.spawn(place, passphrase=passphrase) for place in idle]
    wait_ready(network, started)
    if as_json:
        emit({"started": [place.organisation for place in idle]})
        return
    _show(network)
    if not idle:
        say("All of them ran already.")


@command.command(example="lossbook testnet stop")
@_home_option
@json_option
def stop(base: Path, as_json: bool) -> None:
    """Stop all daemons; what they stored stays."""
    from cli import daemons, local

    stopped = daemons.stop(local.load(base).daemons)
    if as_json:
        emit({"stopped": stopped})
    else:
        say(f"Stopped: {', '.join(stopped)}." if stopped else "None of them ran.")


@command.command(example="lossbook testnet status")
@_home_option
@json_option
def status(base: Path, as_json: bool) -> None:
    """Show how each daemon is doing."""
    from cli import local

    network = local.load(base)
    if as_json:
        emit({"daemons": [_row(network, place.organisation) for place in network.daemons]})
    else:
        _show(network)


def wait_ready(network: Network, started: list[Daemon], timeout_s: float = READY_S) -> None:
    """Wait until every daemon that was started answers; Stop with its last words if one does not."""
    from cli import daemons
    from cli.reach import daemon_status, failure_of, is_ready

    until_s = time.monotonic() + timeout_s
    for daemon in started:
        while not is_ready(answer := daemon_status(network, daemon.place)):
            if failure := failure_of(answer):
                raise Stop(f"the {daemon.place.kind} of {daemon.place.organisation} runs, but does not vote: {failure}")
            if daemon.exit_code is not None:
                raise daemons.not_up(daemon.place, f"ended with exit code {daemon.exit_code}")
            if time.monotonic() > until_s:
                raise daemons.not_up(daemon.place, f"was not ready within {timeout_s:.0f} s")
            time.sleep(0.1)


def _row(network: Network, organisation: str) -> dict[str, Any]:
    from cli import daemons
    from cli.reach import daemon_status, is_ready

    place = next(place for place in network.daemons if place.organisation == organisation)
    row: dict[str, Any] = {
        "organisation": organisation,
        "kind": place.kind,
        "address": place.address,
        "pid": daemons.running_pid(place),
        "home": place.home,
    }
    found = daemon_status(network, place)
    if found is not None:
        row |= {
            "finalized_height": found.finalized_height,
            "executed_height": found.executed_height,
            "state_root": found.state_root.hex(),
            "ready": is_ready(found),
        }
    return row


def _show(network: Network) -> None:
    rows = [_row(network, place.organisation) for place in network.daemons]
    if not any(row["pid"] for row in rows):
        fail("none of its daemons runs", f"Start them: `{_typed('start', network.folder)}`")
    table(
        ("organisation", "kind", "address", "process", "ready", ">final", ">executed", "state root"),
        (
            (
                row["organisation"],
                row["kind"],
                row["address"],
                str(row["pid"] or "down"),
                "yes" if row.get("ready") else "no",
                row.get("finalized_height", "-"),
                row.get("executed_height", "-"),
                row.get("state_root", "")[:16] or "no answer",
            )
            for row in rows
        ),
    )
