"""Daemons that end although nothing outside made them: told with how, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from chaos.fabric import Fabric
from chaos.validators import SNAPSHOT_VARIABLE, Validators, how_ended
from cli.daemons import Daemon, DaemonPlace


class Machines:
    """A fabric whose daemons sleep."""

    def __init__(self) -> None:
        self.environments: list[Mapping[str, str]] = []

    def spawn(self, place: DaemonPlace, environment: Mapping[str, str]) -> Daemon:
        self.environments.append(environment)
        return Daemon(place, subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))


@pytest.fixture
def place(tmp_path: Path) -> DaemonPlace:
    home = tmp_path / "alpha" / "node"
    home.mkdir(parents=True)
    (home / "keys").mkdir()
    return DaemonPlace("alpha", "node", str(home), "127.0.0.1:1")


def test_a_daemon_that_ended_by_itself_is_told_and_started_again(place: DaemonPlace) -> None:
    place.log.write_text("something went wrong\n")
    validators = Validators([place], cast("Fabric", Machines()))
    validators.start("alpha")
    first = validators.pid("alpha")
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    validators.notice()
    try:
        (said,) = validators.ended
        assert "alpha was ended by SIGKILL, and not by this run" in said
        assert "something went wrong" in said
        assert validators.running == ("alpha",)
        assert validators.pid("alpha") != first
    finally:
        validators.kill_all()
    assert not validators.running
    assert len(validators.ended) == 1, "what the run ends itself is no news"


def test_nothing_is_left_of_a_destroyed_home_and_nobody_starts_it_by_chance(place: DaemonPlace) -> None:
    machines = Machines()
    validators = Validators([place], cast("Fabric", machines))
    validators.start("alpha")
    validators.destroy("alpha")
    assert not Path(place.home).exists()
    validators.notice()
    assert (validators.running, validators.ended) == ((), [])
    validators.start("alpha", snapshot_blocks=20)
    validators.kill_all()
    assert machines.environments == [{}, {SNAPSHOT_VARIABLE: "20"}]


def test_how_a_daemon_ended_in_words() -> None:
    assert how_ended(3) == "ended by itself with exit code 3"
    assert how_ended(-signal.SIGSEGV) == "was ended by SIGSEGV, and not by this run"
    assert "memory" in how_ended(-signal.SIGKILL)
