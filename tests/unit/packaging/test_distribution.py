"""The distribution holds every room, typed, under one version."""

import importlib
import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main

ROOMS = (
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
    "bench",
    "lossbook",
)


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_importable_and_typed(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__doc__
    assert module.__file__ is not None
    assert Path(module.__file__).with_name("py.typed").is_file()


def test_version_command_prints_the_distribution_s_version() -> None:
    result = CliRunner().invoke(main, ["version"])
    assert result.exit_code == 0, result.output
    assert importlib.metadata.version("lossbook") in result.output


def test_distribution_s_python_and_licence() -> None:
    metadata = importlib.metadata.metadata("lossbook")
    assert metadata["Requires-Python"] == "<3.13,>=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"


def test_settings_list_every_room() -> None:
    settings = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted([*ROOMS[:-1], "proto/lossbook"])
    assert sorted(settings["tool"]["importlinter"]["root_packages"]) == sorted(ROOMS)
