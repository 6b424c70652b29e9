"""What ``node`` and ``replica`` share: making a home and starting its daemon, each a twin of the other's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar

import click

from cli.base import EXIT_UNREACHABLE, fail
from cli.options import (
    FILE,
    FOLDER,
    home_option,
    json_option,
    old_genesis_option,
    parse_settings,
    passphrase_option,
    set_option,
)
from cli.output import emit, facts, say

if TYPE_CHECKING:
    from services.books import Books
    from store.home import Home

HANGS: Final = (
    "It starts, hangs, or was paused: look at its log, and at its state with `ps`. If it stays so, end it and start it "
    "again"
)

F = TypeVar("F", bound=Callable[..., Any])


class InitHome(Protocol):
    """``init_home`` of ``node.init`` or ``replica.init``."""

    def __call__(
        self,
        path: Path,
        *,
        genesis: Path,
        keys: Path,
        passphrase: str | None,
        settings: dict[str, str],
        books: Books | None,
    ) -> Home:
        """Make the home."""


def init_options(keys_help: str) -> Callable[[F], F]:
    """The options of ``init``."""

    def decorate(function: F) -> F:
        for option in (
            json_option,
            passphrase_option,
            set_option,
            old_genesis_option,
            click.option("--state", type=FILE, help="Of a rebuilt network: the archive whose books it carries on."),
            click.option("--keys", type=FOLDER, required=True, help=keys_help),
            click.option("--genesis", type=FILE, required=True, help="The network's genesis file."),
            home_option,
        ):
            function = option(function)
        return function

    return decorate


def make_home(
    init_home: InitHome,
    *,
    home: Path,
    genesis: Path,
    keys: Path,
    state: Path | None,
    old_genesis: Path | None,
    settings: tuple[str, ...],
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Make a home and say what was made and what comes next."""
    from cli.books import books_given
    from cli.session import key_passphrase

    passphrase = key_passphrase(keys / "ledger.key", passphrase_fd)
    made = init_home(
        home,
        genesis=genesis,
        keys=keys,
        passphrase=passphrase,
        settings=parse_settings(settings),
        books=books_given(state, old_genesis),
    )
    if as_json:
        emit({"home": str(made.path), "organisation": made.organisation, "chain_id": made.chain_id.hex()})
        return
    facts([("home", made.path), ("organisation", made.organisation), ("network", made.chain_id.hex()[:16])])
    say(f"Start it: `lossbook {made.kind.value} start --home {made.path}`.")


def down(home: Path, kind: str, node: str) -> NoReturn:
    """A daemon does not answer; what it says without TLS, if it does."""
    from cli.reach import readyz_of
    from store.home import any_home

    page, missing = readyz_of(home)
    if missing:
        fail(f"{node} does not answer, but {page} does", missing, EXIT_UNREACHABLE)
    process = any_home(home).holder()
    if process is not None:
        fail(f"process {process or 'unknown'} runs here, but {node} does not answer", HANGS, EXIT_UNREACHABLE)
    fail(
        f"{node} does not answer",
        f"If it should run: `lossbook {kind} start --home {home}`, and `lossbook doctor --home {home}`",
        EXIT_UNREACHABLE,
    )
