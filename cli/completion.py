"""``lossbook completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cli.base import Command, fail

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", cls=Command, example='eval "$(lossbook completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in your shell; put it where your shell reads it at start."""
    kind = get_completion_class(shell)
    if kind is None:
        fail(f"there is no completion for {shell}", f"Use one of {', '.join(SHELLS)}")
    click.echo(kind(context.find_root().command, {}, "lossbook", "_LOSSBOOK_COMPLETE").source())
