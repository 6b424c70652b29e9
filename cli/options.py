"""Options that many commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def json_option(function: F) -> F:
    """``--json``: one JSON document on stdout instead of tables."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(function)


def profile_option(function: F) -> F:
    """``--profile``: who and where."""
    return click.option(
        "--profile",
        "profile_name",
        metavar="NAME|FILE",
        help="Profile to use (or LOSSBOOK_PROFILE; else the one in use).",
    )(function)


def passphrase_option(function: F) -> F:
    """``--passphrase-fd``: where the key files' passphrase is read from."""
    return click.option(
        "--passphrase-fd",
        type=click.IntRange(min=0),
        metavar="N",
        help="Read the key files' passphrase from this file descriptor (or LOSSBOOK_PASSPHRASE_FILE; else a prompt).",
    )(function)


def old_genesis_option(function: F) -> F:
    """``--old-genesis``: what an archive is verified against."""
    return click.option(
        "--old-genesis", type=FILE, help="Of a rebuilt network: the genesis file of the network before."
    )(function)


def unsafe_option(function: F) -> F:
    """``--unsafe-no-passphrase``: keys in plain files."""
    return click.option(
        "--unsafe-no-passphrase",
        "unsafe",
        is_flag=True,
        help="Write private keys without encryption; for demonstrations only.",
    )(function)


def home_option(function: F) -> F:
    """``--home``: a daemon's directory."""
    return click.option("--home", type=FOLDER, required=True, envvar="LOSSBOOK_HOME", help="Home of the daemon.")(
        function
    )


def set_option(function: F) -> F:
    """``--set``: settings that go before environment and file."""
    return click.option(
        "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Set a setting; may be repeated."
    )(function)


def write_options(function: F) -> F:
    """Everything a command that submits an operation has."""
    for decorate in (
        json_option,
        profile_option,
        passphrase_option,
        click.option(
            "--not-after",
            metavar="SECONDS",
            type=click.IntRange(1, 30 * 86_400),
            default=600,
            show_default=True,
            help="It executes within so many seconds or never.",
        ),
        click.option(
            "--wait",
            type=click.Choice(["accepted", "final", "proven"]),
            default="final",
            show_default=True,
            help="What to wait for: a quorum holds it; it is executed; it is provable.",
        ),
        click.option(
            "--key",
            "keys",
            multiple=True,
            metavar="LABEL|FILE",
            help="Key to sign with; repeat it to co-sign. Default: the profile's first key with the role.",
        ),
    ):
        function = decorate(function)
    return function


def parse_settings(settings: tuple[str, ...]) -> dict[str, str]:
    """``section.key=value`` pairs."""
    found: dict[str, str] = {}
    for pair in settings:
        name, separator, value = pair.partition("=")
        if not separator or "." not in name:
            raise click.BadParameter(f"{pair!r} is not SECTION.KEY=VALUE", param_hint="--set")
        found[name.strip()] = value
    return found
