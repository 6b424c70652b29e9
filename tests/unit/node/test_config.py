"""Settings of a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import NodeSettings, load_config
from services.settings import FILE_NAME, SettingError, render, settings_of


def test_every_setting_says_what_it_is() -> None:
    for setting in settings_of(NodeSettings):
        assert len(setting.description) > 10, setting.name


def test_the_defaults_written_out_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(render(NodeSettings, {}))
    assert load_config(tmp_path, {}).settings == NodeSettings()
    everything = {setting.name: setting.default for setting in settings_of(NodeSettings)}
    (tmp_path / FILE_NAME).write_text(render(NodeSettings, everything))
    assert load_config(tmp_path, {}).settings == NodeSettings()


def test_timing_reaches_the_validator(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("[consensus]\ndelay_ms = 120\n")
    config = load_config(tmp_path, {"LOSSBOOK_CONSENSUS_RETRY_MS": "77"}, {"consensus.skip_ms": "9000"})
    settings = config.settings.consensus.settings()
    assert (settings.delay_ms, settings.retry_ms, settings.skip_ms) == (120, 77, 9000)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[consensus]\ndelay_ms = 5000\n", "3 x consensus.delay_ms"),
        ("[consensus]\ndelay_ms = 700\ntimeout_ms_max = 200\n", "timeout_ms_max"),
        ('[log]\nformat = "xml"\n', "json or console"),
        ("[verification]\nworkers = 1000\n", "workers"),
        ('[listen]\npeer = ""\n', "listen.peer"),
    ],
)
def test_invalid_settings_say_what_would_be_right(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(SettingError) as error:
        load_config(tmp_path, {})
    assert problem in str(error.value)
