"""The `lossbook` command's root."""

from importlib.metadata import version as package_version

import click


@click.group()
def main() -> None:
    """A permissioned ledger for insurance."""


@main.command()
def version() -> None:
    """Print the installed version."""
    click.echo(package_version("lossbook"))
