"""docs/operations.md says what is so: every setting, every metric, and only commands and options that exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

import node.metrics
import replica.metrics
from cli.main import main
from node.config import NodeSettings
from replica.config import ReplicaSettings
from services.settings import settings_of

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    found = re.search(rf"^###? {re.escape(title)}$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no heading {title}"
    return found[1]


def listed(title: str) -> set[str]:
    """First cells of the table under a heading."""
    return set(re.findall(r"^\| `([^`]+)`", section(title), re.MULTILINE))


@pytest.mark.parametrize(("title", "kind"), [("Node", NodeSettings), ("Replica", ReplicaSettings)])
def test_every_setting_and_its_default_is_listed(title: str, kind: type[msgspec.Struct]) -> None:
    known = {setting.name: setting for setting in settings_of(kind)}
    assert listed(title) == set(known)
    for name, setting in known.items():
        value = setting.default
        shown = (
            str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
        )
        assert f"| `{name}` | `{shown}` |" in section(title)


@pytest.mark.parametrize(
    ("title", "metrics"),
    [("Node metrics", node.metrics.Metrics), ("Replica metrics", replica.metrics.Metrics)],
)
def test_every_metric_is_listed(
    title: str, metrics: type[node.metrics.Metrics] | type[replica.metrics.Metrics]
) -> None:
    names = set()
    for family in metrics().registry.collect():
        if family.name.startswith("lossbook_"):
            names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    assert listed(title) == names


def test_alarms_name_metrics_that_exist() -> None:
    known = listed("Node metrics") | listed("Replica metrics")
    assert set(re.findall(r"lossbook_[a-z_]+", section("Alarms") + section("Reading them"))) <= known


def commands() -> list[str]:
    """Every ``lossbook ...`` of the page, without the program's name; continued lines joined."""
    joined = PAGE.replace("\\\n", " ")
    return [text.strip() for text in re.findall(r"(?:^|`|/)lossbook ([a-z][^`\n#]*)", joined, re.MULTILINE)]


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 20


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_commands_and_their_options_exist(line: str) -> None:
    context = click.Context(main)
    command: click.Command = main
    for word in line.split():
        if not isinstance(command, click.Group):
            break
        found = command.get_command(context, word)
        assert found is not None, f"no command {word!r} in {line!r}"
        command = found
    options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    for option in re.findall(r"--[a-z-]+", line):
        assert option in options, f"{line!r}: no option {option}"


def test_links_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        assert not path or (Path(__file__).parents[3] / "docs" / path).exists(), target
        assert path or anchor in anchors, target
