"""``lossbook version``."""

from __future__ import annotations

import click

from cli.base import Command
from cli.options import json_option


@click.command("version", cls=Command, example="lossbook version --json")
@json_option
def command(as_json: bool) -> None:
    """Print the installed version, and those of the protocol and the interpreter."""
    import platform
    from importlib.metadata import version

    from cli.output import emit
    from lossbook_sdk.channel import PROTOCOL_VERSION

    installed = version("lossbook")
    if as_json:
        emit({"version": installed, "protocol": int(PROTOCOL_VERSION), "python": platform.python_version()})
    else:
        click.echo(f"lossbook {installed} (protocol {PROTOCOL_VERSION}, Python {platform.python_version()})")
