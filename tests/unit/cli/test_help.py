"""Every command explains itself, ends with an example, and stands in docs/cli.md as it is."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.base import Command, LazyGroup
from cli.main import NOUNS, main
from tests.support.commands import lossbook

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands and groups below the root, in order of help."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands())
VERBS = {path: command for path, command in ALL.items() if not isinstance(command, click.Group)}


def help_of(path: tuple[str, ...]) -> str:
    return lossbook(*path, "--help", env={"COLUMNS": "100"}).stdout


@pytest.mark.parametrize("path", [(), *ALL], ids=" ".join)
def test_help_ends_with_an_example(path: tuple[str, ...]) -> None:
    *_, example = help_of(path).split("Example:\n")
    assert example.strip().startswith(("lossbook ", 'eval "$(lossbook'))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_examples_name_commands_and_options_that_exist(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert isinstance(command, Command | LazyGroup)
    text = command.example.replace("\\\n", " ").replace('eval "$(', "").replace(')"', "")
    for part in text.split("&&"):
        words = shlex.split(part)
        assert words.pop(0) == "lossbook"
        found: click.Command = main
        while isinstance(found, click.Group):
            inner = found.get_command(click.Context(found), words.pop(0))
            assert inner is not None, part
            found = inner
        known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, part
    assert path == path[: len(path)]


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_verb_prints_json_where_it_prints_anything(path: tuple[str, ...]) -> None:
    options = {option for parameter in VERBS[path].params for option in parameter.opts}
    runs_a_daemon_or_prints_a_script = path in {("node", "start"), ("replica", "start"), ("completion",)}
    assert ("--json" in options) is not runs_a_daemon_or_prints_a_script


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_no_option_takes_a_secret(path: tuple[str, ...]) -> None:
    options = {option for parameter in VERBS[path].params for option in parameter.opts}
    secrets = {"--passphrase", "--password", "--secret", "--seed"}
    if path == ("chaos", "run"):  # of a plan of faults, which is shown afterwards
        secrets.remove("--seed")
    assert not options & secrets


def test_writes_can_wait_and_be_co_signed() -> None:
    reads = ("list", "show")
    writes = [
        ("key", "drop"),
        ("policy", "issue"),
        *(path for path in VERBS if path[0] in ("claim", "governance") and path[1] not in reads),
    ]
    assert len(writes) == 18
    for path in writes:
        options = {option: parameter for parameter in VERBS[path].params for option in parameter.opts}
        assert options["--key"].multiple
        assert list(options["--wait"].type.choices) == ["accepted", "final", "proven"]  # type: ignore[attr-defined]
        assert options["--wait"].default == "final"


@pytest.mark.skipif(not DOCS.parent.is_dir(), reason="a copy of the tests alone has no documentation")
def test_documentation_shows_the_help_as_it_is() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for path in [(), *ALL]:
        heading = " ".join(("lossbook", *path))
        block = f"`{heading}`\n\n```text\n{help_of(path)}```\n"
        assert block in text, (
            f"docs/cli.md does not show `{heading} --help` as it is: run `python -m tests.support.cli_docs`"
        )


def test_help_of_the_root_imports_nothing_heavy() -> None:
    script = "import sys, cli.main; sys.argv = ['lossbook', '--help']\ntry: cli.main.main()\nexcept SystemExit: pass\n"
    script += (
        "print([m for m in ('grpc', 'google.protobuf', 'cryptography', 'nacl', 'rich', 'msgspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_noun_of_the_table_has_its_module() -> None:
    for name, (module, _) in NOUNS.items():
        assert importlib.import_module(module).command.name in (name, "command")


def test_a_slip_is_answered_with_the_nearest_command() -> None:
    assert "Did you mean `lossbook policy`?" in lossbook("polcy", code=2).output
    assert "Did you mean `lossbook policy issue`?" in lossbook("policy", "isue", code=2).output
