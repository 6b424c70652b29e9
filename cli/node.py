"""``lossbook node``: a validator's daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from cli.base import group
from cli.homes import down, init_options, make_home
from cli.options import FILE, FOLDER, home_option, json_option, parse_settings, passphrase_option, set_option
from cli.output import emit, facts, say


@group(example="lossbook node status --home ./node")
def command() -> None:
    """A validator's daemon: make its home, run it, see why it waits."""


@command.command(example="lossbook node init --home ./node --genesis genesis.json --keys ./office/keys")
@init_options("Folder with ledger.key and consensus.key; they are copied.")
@click.option("--card", type=FILE, help="The organisation's card file, where it is not the genesis' but was voted in.")
@click.option(
    "--without-consensus-key",
    "keyless",
    is_flag=True,
    help="It is lost, or of an epoch that is over: none is looked for.",
)
def init(card: Path | None, keyless: bool, **options: Any) -> None:
    """Make the home of a validator from the genesis and the organisation's keys.

    An organisation that the members admitted by vote names its card file, and starts its node before or after the vote:
    the node follows from the moment the vote has passed, and takes its seat when it is ready.

    Where the machine is gone with its consensus keys, the home is made without one: the node follows and answers, makes
    a key for the next epoch, and votes once an admin has registered that (`lossbook key possess`) and the epoch has
    begun (`lossbook governance propose rotate`).
    """
    from functools import partial

    from node.init import init_home

    make_home(partial(init_home, card=card, consensus_key=not keyless), **options)
    if keyless and not options["as_json"]:
        say("It observes until its next consensus key is registered: docs/operations.md, Replace a machine.")


@command.command(example="lossbook node start --home ./node")
@home_option
@set_option
@passphrase_option
def start(home: Path, settings: tuple[str, ...], passphrase_fd: int | None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Settings: --set goes before LOSSBOOK_SECTION_KEY in the environment, that before lossbook.toml in the home.
    """
    from cli.session import key_passphrase
    from node.config import load_config
    from node.daemon import run
    from node.keys import protected_file
    from store.home import HomeKind, open_home

    found = open_home(home, HomeKind.NODE)
    config = load_config(home, os.environ, parse_settings(settings))
    protected = protected_file(found.keys)
    sys.exit(run(config, key_passphrase(protected, passphrase_fd) if protected is not None else None))


@command.command(example="lossbook node status --home ./node")
@home_option
@json_option
def status(home: Path, as_json: bool) -> None:
    """Show where the node stands, and why there is no progress if there is none."""
    from cli.node_status import show
    from cli.reach import ask_status, of_home
    from cli.session import run as run_work
    from store.home import HomeKind

    connector, node = of_home(home, HomeKind.NODE)
    answer = run_work(ask_status(connector, node))
    if answer is None:
        down(home, "node", str(node))
        return
    show(answer, as_json)


@command.command(example="lossbook node resync --home ./node --yes")
@home_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def resync(home: Path, yes: bool, as_json: bool) -> None:
    """Set what is damaged aside and make it anew with the other members' help.

    The vote log goes only if it is damaged: then the node signs nothing until the others have told it what it may have
    signed before. Blocks, state and index go unless only the log is damaged. Nothing is deleted.
    """
    from cli.resync import resync_node

    if not yes:
        click.confirm(f"Set what is damaged in {home} aside and make it anew?", abort=True, err=True)
    kept = resync_node(home)
    if as_json:
        emit({"home": str(home), "set_aside": [str(path) for path in kept]})
        return
    facts([("home", home), *(("set aside", path) for path in kept)])
    say(f"Start it: `lossbook node start --home {home}`. It catches up, then votes.")


@command.command(example="lossbook node backup ./backups/node-2025-01-31 --home ./node")
@click.argument("target", type=FOLDER)
@home_option
@json_option
def backup(target: Path, home: Path, as_json: bool) -> None:
    """Copy the home of a stopped node to TARGET, whole or not at all.

    Private keys and certificates are left out: they belong in another place. The copy is marked as one, so that a
    node restored from it first asks the others what it signed since.
    """
    from store.backup import backup as copy
    from store.home import HomeKind, open_home

    copy(open_home(home, HomeKind.NODE), target)
    if as_json:
        emit({"home": str(home), "backup": str(target)})
        return
    facts([("home", home), ("backup", target)])
    say("It has no keys in it: docs/operations.md, Restore, says how it becomes a home again.")
