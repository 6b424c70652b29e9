"""Daemons as child processes: started by the very commands an operator types, watched, and stopped.

Used by `testnet` and the demo. A daemon's output goes to a file beside its home; its process id stands in a file, so
that another command finds it again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from cli.base import Stop

STOP_S: Final = 15.0
"""After SIGTERM: calls end, the last turn is synced. Then SIGKILL."""

LOG_TAIL_LINES: Final = 12
"""Of a daemon that did not come up: what a person wants to see."""


class DaemonPlace(msgspec.Struct, frozen=True):
    """Where a daemon of this machine lives."""

    organisation: str
    kind: str
    """"node" or "replica"."""
    home: str
    address: str
    """host:port of its public services."""

    @property
    def log(self) -> Path:
        """Its output."""
        return Path(self.home).with_name(f"{Path(self.home).name}.log")

    @property
    def pid_file(self) -> Path:
        """Its process id, while it runs."""
        return Path(self.home).with_name(f"{Path(self.home).name}.pid")

    @property
    def command(self) -> list[str]:
        """What an operator types to start it."""
        return ["lossbook", self.kind, "start", "--home", self.home]


class Daemon:
    """A daemon this process started."""

    def __init__(self, place: DaemonPlace, process: subprocess.Popen[bytes]) -> None:
        self.place = place
        self._process = process

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.wait()
        self.place.pid_file.unlink(missing_ok=True)

    def terminate(self) -> None:
        """SIGTERM; ``join`` waits."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def join(self, timeout_s: float = STOP_S) -> int:
        """Wait for the end, by SIGKILL if need be; the exit code."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self.place.pid_file.unlink(missing_ok=True)
        return code


def spawn(
    place: DaemonPlace,
    *,
    settings: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    passphrase: str | None = None,
) -> Daemon:
    """Start a daemon in a session of its own, so that Ctrl-C in this terminal does not reach it.

    Args:
        settings: ``section.key=value`` for ``--set``.
        environment: added to this process's.
        passphrase: handed over by a pipe, never by the command line.
    """
    command = [sys.executable, "-m", "cli", *place.command[1:]]
    for setting in settings:
        command += ["--set", setting]
    reader = None
    if passphrase is not None:
        reader, writer = os.pipe()
        os.write(writer, passphrase.encode())
        os.close(writer)
        command += ["--passphrase-fd", str(reader)]
    try:
        with place.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(reader,) if reader is not None else (),
                env={**os.environ, **(environment or {})},
            )
    finally:
        if reader is not None:
            os.close(reader)
    place.pid_file.write_text(f"{process.pid}\n", encoding="utf-8")
    return Daemon(place, process)


def running_pid(place: DaemonPlace) -> int | None:
    """Process id of a daemon that another command started; None if it does not run."""
    try:
        pid = int(place.pid_file.read_text(encoding="utf-8"))
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\x00")
    except (OSError, ValueError):
        return None
    return pid if place.home.encode() in arguments else None


def stop(places: Sequence[DaemonPlace]) -> list[str]:
    """SIGTERM to all of them, SIGKILL to those that stay; organisations that ran."""
    running = {place.organisation: pid for place in places if (pid := running_pid(place)) is not None}
    for pid in running.values():
        _signal(pid, signal.SIGTERM)
    until_s = time.monotonic() + STOP_S
    for place in places:
        while running_pid(place) is not None and time.monotonic() < until_s:
            time.sleep(0.05)
        pid = running_pid(place)
        if pid is not None:
            _signal(pid, signal.SIGKILL)
        place.pid_file.unlink(missing_ok=True)
    return list(running)


def last_words(place: DaemonPlace) -> list[str]:
    """The end of a daemon's log, indented; nothing where there is none."""
    try:
        lines = place.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        lines = []
    return [f"    {line}" for line in lines]


def not_up(place: DaemonPlace, reason: str) -> Stop:
    """What to tell a person of a daemon that did not come up."""
    said = "\n".join(last_words(place))
    return Stop(
        f"the {place.kind} of {place.organisation} {reason}" + (f"; its last words:\n{said}" if said else ""),
        f"Its log: {place.log}. Start it in the foreground to see more: `{' '.join(place.command)}`",
    )


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
