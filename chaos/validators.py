"""The validators' daemons as processes that are killed, stopped and started from outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from typing import Final

from chaos.fabric import Fabric
from cli.daemons import Daemon, DaemonPlace, last_words

CLOCK_VARIABLE: Final = "LOSSBOOK_UNSAFE_CLOCK_OFFSET_MS"
SNAPSHOT_VARIABLE: Final = "LOSSBOOK_CONSENSUS_SNAPSHOT_BLOCKS"


def how_ended(exit_code: int) -> str:
    """Of a daemon that this run did not end."""
    if exit_code >= 0:
        return f"ended by itself with exit code {exit_code}"
    why = " (if memory ran out, the kernel's log says so)" if exit_code == -signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-exit_code).name}, and not by this run{why}"


class Validators:
    """All of them, by organisation.

    Args:
        places: where they live.
        fabric: starts them on their machines.
    """

    def __init__(self, places: Sequence[DaemonPlace], fabric: Fabric) -> None:
        self.places = {place.organisation: place for place in places}
        self.ended: list[str] = []
        """Daemons that ended by themselves, and their last words: nothing outside made them."""
        self._fabric = fabric
        self._daemons: dict[str, Daemon] = {}

    @property
    def running(self) -> tuple[str, ...]:
        """Those whose process lives, stopped ones included."""
        return tuple(name for name, daemon in self._daemons.items() if daemon.exit_code is None)

    def pid(self, name: str) -> int:
        """Process id of the latest daemon of this name."""
        return self._daemons[name].pid

    def start(self, name: str, *, clock_offset_ms: int = 0, snapshot_blocks: int = 0) -> None:
        """Start it; nothing if it runs. 0: as its settings say."""
        if name in self.running:
            return
        given = {CLOCK_VARIABLE: clock_offset_ms, SNAPSHOT_VARIABLE: snapshot_blocks}
        environment = {variable: str(value) for variable, value in given.items() if value}
        self._daemons[name] = self._fabric.spawn(self.places[name], environment)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait for the end."""
        self._notice(name)
        if (daemon := self._daemons.pop(name, None)) is not None:
            daemon.kill()

    def destroy(self, name: str) -> None:
        """SIGKILL, and nothing is left of its home."""
        self.kill(name)
        shutil.rmtree(self.places[name].home)

    def stop(self, name: str) -> None:
        """As its operator does: SIGTERM, and wait for the end."""
        self._notice(name)
        if (daemon := self._daemons.pop(name, None)) is not None:
            daemon.terminate()
            daemon.join()

    def pause(self, name: str) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._signal(name, signal.SIGCONT)

    def notice(self) -> None:
        """See who ended by itself, and start it again."""
        for name in list(self._daemons):
            if self._notice(name):
                self.start(name)

    def kill_all(self) -> None:
        """The end of the run."""
        for name in list(self._daemons):
            self.kill(name)

    def _notice(self, name: str) -> bool:
        daemon = self._daemons.get(name)
        if daemon is None or daemon.exit_code is None:
            return False
        said = "\n".join(last_words(daemon.place))
        self.ended.append(f"the node of {name} {how_ended(daemon.exit_code)}; its last words:\n{said}")
        del self._daemons[name]
        return True

    def _signal(self, name: str, number: signal.Signals) -> None:
        if name in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._daemons[name].pid, number)
