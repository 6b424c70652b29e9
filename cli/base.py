"""What every command is made of: groups that import late, commands that end their help with an example, and the one
place where errors become text and an exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_UNVERIFIED: Final = 4
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""

HELP_WIDTH: Final = 100

CONTEXT: Final = {"max_content_width": HELP_WIDTH, "help_option_names": ["-h", "--help"]}

F = TypeVar("F", bound=Callable[..., Any])


class _WithExample(click.Command):
    """Ends its help with an example, as it is typed."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT)
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, unwrapped."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")


class Command(_WithExample):
    """A verb."""


class LazyGroup(_WithExample, click.Group):
    """A noun. ``lazy`` maps a name to ("module:attribute", one line of help)."""

    command_class = Command

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In order of declaration, which is the order of work."""
        return [*self._lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that has it."""
        if cmd_name in self._lazy:
            module, _, attribute = self._lazy[cmd_name][0].partition(":")
            found: click.Command = getattr(import_module(module), attribute)
            return found
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Like click's, without importing what is lazy."""
        rows = [(name, self._short_help(ctx, name)) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def _short_help(self, ctx: click.Context, name: str) -> str:
        if name in self._lazy:
            return self._lazy[name][1]
        command = super().get_command(ctx, name)
        return command.get_short_help_str(limit=HELP_WIDTH) if command else ""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, with the nearest name where there is no such command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not close:
                raise
            text = f"{error.message} Did you mean `{ctx.command_path} {close[0]}`?"
            raise click.UsageError(text, ctx) from error


class Root(LazyGroup):
    """The whole command: runs it and turns every error into a text and an exit code."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> NoReturn:
        """Run and exit; never a traceback for anything a person can cause."""
        words = list(sys.argv[1:] if args is None else args)
        kwargs |= {"standalone_mode": False, "prog_name": "lossbook"}
        try:
            code = super().main(words, *rest, **kwargs)
        except click.exceptions.Exit as leaving:
            code = leaving.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted.", err=True)
            code = EXIT_INTERRUPTED
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except Exception as error:  # noqa: BLE001 - the last line; see ``explain``
            code = explain(error, words)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_stdout()
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Here, because click's own ``main`` would make exit code 1 of it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _drop_stdout()
            return 0


def _drop_stdout() -> None:
    """Whoever read our output has gone (`| head`): nothing is wrong, and the interpreter must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


# ---------------------------------------------------------------- errors

OWN_ROOMS: Final = (
    "consensus",
    "crypto",
    "ledger",
    "contracts",
    "store",
    "services",
    "node",
    "replica",
    "lossbook_sdk",
    "chaos",
    "cli",
    "simulator",
)

_DEFECTS: Final = ("InvariantViolated",)
_UNVERIFIED: Final = (
    "ProofError",
    "CheckpointError",
    "ArchiveError",
    "BooksMismatch",
    "UnreadableCard",
    "BadCardSignature",
    "UnreadableGenesis",
    "WrongNetwork",
    "VerificationFailed",
)
_USAGE: Final = ("MoneyError", "OverrideError", "UnknownMutant", "BooksIncomplete")


def explain(error: Exception, words: Sequence[str]) -> int:
    """Say what happened, what is unchanged and what to do; the exit code.

    An error of our own rooms is expected and says all that itself. Anything else is a defect of this software, and
    says so; ``--debug`` shows where. With ``--json`` the same stands as a document on stdout.
    """
    if "--debug" in words or os.environ.get("LOSSBOOK_DEBUG"):
        import traceback

        traceback.print_exception(error)
    text, code = described(error)
    click.echo(click.style("error: ", fg="red", bold=True) + text, err=True)
    if "--json" in words:
        import json

        click.echo(json.dumps({"error": text, "kind": type(error).__name__, "exit_code": code}, indent=2))
    return code


def described(error: BaseException) -> tuple[str, int]:
    """Text for people and exit code of an error."""
    names = {kind.__name__ for kind in type(error).__mro__}
    own = type(error).__module__.partition(".")[0] in OWN_ROOMS and not names.intersection(_DEFECTS)
    if own:
        return _own_text(error), _own_code(error, names)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}. Nothing else was changed; mend this and run it again.", EXIT_FAILED
    problem = f"this is a defect of lossbook ({type(error).__name__}: {error})"
    return f"{problem}. Run it again with `lossbook --debug ...` and report what it shows.", EXIT_FAILED


def _own_text(error: BaseException) -> str:
    problem, unchanged = getattr(error, "problem", ""), getattr(error, "unchanged", "")
    advice = getattr(error, "advice", "")
    if "ClientError" in {kind.__name__ for kind in type(error).__mro__}:
        return "\n".join((_stopped(problem), *(_sentence(part) for part in (unchanged, advice) if part)))
    text = str(error) or type(error).__name__
    if advice and advice not in text:
        return "\n".join((_stopped(text), _sentence(advice)))
    return _stopped(text)


def _own_code(error: BaseException, names: set[str]) -> int:
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    if names.intersection(_UNVERIFIED):
        return EXIT_UNVERIFIED
    return EXIT_USAGE if names.intersection(_USAGE) else EXIT_FAILED


def _sentence(text: str) -> str:
    """A line of its own. A first word that may be a path or a name of something keeps its letters."""
    text = text.strip()
    word = text.partition(" ")[0]
    return _stopped(text[:1].upper() + text[1:] if word.isalpha() and word.islower() else text)


def _stopped(text: str) -> str:
    """With a full stop. What follows "error: " begins as it was written: often with a path or an organisation's id."""
    text = text.strip()
    return text if text.endswith((".", "!", "?", "`")) else text + "."


def fail(problem: str, advice: str = "", code: int = EXIT_FAILED) -> NoReturn:
    """End a command with an error of its own."""
    raise Stop(problem, advice, code)


def require_new(out: Path) -> None:
    """End the command where a file is that it would write over."""
    if out.exists():
        fail(f"{out} exists already and is not written over", "Move it away, or give another name with --out")


class Stop(Exception):
    """A command cannot go on; the text says why and what to do.

    Attributes:
        problem: what happened.
        advice: what to do next.
        exit_code: of the process.
    """

    def __init__(self, problem: str, advice: str = "", exit_code: int = EXIT_FAILED) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice
        self.exit_code = exit_code


def group(*, example: str) -> Callable[[Callable[..., Any]], LazyGroup]:
    """Declare a noun: ``@group(example="lossbook ...")``."""
    return click.group(cls=LazyGroup, example=example)


def names_of(items: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))
