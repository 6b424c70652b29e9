"""Settings: who goes before whom, and errors that name the culprit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from services.settings import OverrideError, SettingError, load, render, settings_of


class Section(msgspec.Struct, frozen=True):
    size: Annotated[int, msgspec.Meta(ge=1, le=10, description="How large.")] = 3
    on: Annotated[bool, msgspec.Meta(description="Whether.")] = False
    name: Annotated[str, msgspec.Meta(description="What it is called.")] = "plain"


class Settings(msgspec.Struct, frozen=True):
    part: Section = Section()


def write(path: Path, text: str) -> Path:
    file = path / "lossbook.toml"
    file.write_text(text)
    return file


def test_command_line_goes_before_environment_before_file_before_default(tmp_path: Path) -> None:
    file = write(tmp_path, '[part]\nsize = 4\nname = "file"\non = true\n')
    environment = {"LOSSBOOK_PART_SIZE": "5", "LOSSBOOK_PART_NAME": "environment"}
    loaded = load(Settings, file=file, environment=environment, overrides={"part.name": "line"})
    assert loaded.part == Section(size=5, on=True, name="line")
    assert load(Settings, file=None, environment={}).part == Section()


def test_text_of_the_environment_becomes_the_settings_type() -> None:
    environment = {"LOSSBOOK_PART_ON": "true", "LOSSBOOK_PART_SIZE": "7"}
    assert load(Settings, file=None, environment=environment).part == Section(size=7, on=True)


def test_other_variables_of_lossbook_are_not_looked_at() -> None:
    environment = {"LOSSBOOK_PASSPHRASE_FILE": "/x", "LOSSBOOK_PROFILE": "a", "PATH": "/bin"}
    assert load(Settings, file=None, environment=environment) == Settings()


@pytest.mark.parametrize(
    ("text", "setting", "problem"),
    [
        ("[part]\nsize = 11\n", "part.size", "<= 10"),
        ('[part]\nsize = "4"\n', "part.size", "Expected `int`"),
        ("[part]\nsizes = 4\n", "part.sizes", "did you mean part.size"),
        ("[other]\nsize = 4\n", "other.size", "no such setting"),
        ("size = 4\n", "size", "outside of a"),
        ("[part\n", "file", "cannot be read"),
    ],
)
def test_invalid_file_names_the_setting_and_the_file(tmp_path: Path, text: str, setting: str, problem: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SettingError, match=r"lossbook\.toml") as error:
        load(Settings, file=file, environment={})
    assert error.value.setting == setting
    assert problem in str(error.value)
    assert not isinstance(error.value, OverrideError)


def test_invalid_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="node init"):
        load(Settings, file=tmp_path / "lossbook.toml", environment={})


@pytest.mark.parametrize(
    ("environment", "overrides", "source"),
    [
        ({"LOSSBOOK_PART_SIZE": "many"}, {}, "LOSSBOOK_PART_SIZE"),
        ({"LOSSBOOK_PART_SIZES": "1"}, {}, "environment"),
        ({}, {"part.size": "0"}, "command line"),
        ({}, {"part.colour": "red"}, "command line"),
    ],
)
def test_invalid_value_names_where_it_came_from(
    environment: dict[str, str], overrides: dict[str, str], source: str
) -> None:
    with pytest.raises(OverrideError) as error:
        load(Settings, file=None, environment=environment, overrides=overrides)
    assert source in str(error.value)


def test_a_rendered_file_loads_to_its_values_and_shows_every_setting(tmp_path: Path) -> None:
    text = render(Settings, {"part.name": 'with "quotes" and \\', "part.on": True})
    loaded = load(Settings, file=write(tmp_path, text), environment={})
    assert loaded.part == Section(on=True, name='with "quotes" and \\')
    for setting in settings_of(Settings):
        assert setting.description in text
        assert f"{setting.key} = " in text
    assert "#size = 3" in text
