"""What a run needs of its network: addresses, links that can be made bad, and processes that live on them.

Two kinds. ``proxy``: loopback and a TCP proxy for each link, without any privilege. ``namespaces``: a network
namespace for each machine, real packets between them. What is permitted here decides, unless one is asked for.
"""

from __future__ import annotations

import enum
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from chaos.links import CLIENTS, Condition, Link
from chaos.proxy import HOST, Proxy
from cli import daemons
from cli.daemons import Daemon, DaemonPlace
from cli.local import PORTS_EACH, free_ports


class Way(enum.StrEnum):
    """How the network is made."""

    PROXY = "proxy"
    NAMESPACES = "namespaces"


class Answer(msgspec.Struct, frozen=True):
    """What a command came to."""

    code: int
    """Exit code; negative: the signal that ended it."""
    output: str
    errors: str


class Fabric(Protocol):
    """A network between the validators and the clients."""

    def places(self, organisations: Sequence[str]) -> tuple[Mapping[str, str], Sequence[int]]:
        """Hosts by organisation, and PORTS_EACH ports for each, as ``cli.local.create`` takes them."""

    async def start(self, places: Sequence[DaemonPlace]) -> None:
        """Let connections through. Clients may dial from now on."""

    def spawn(self, place: DaemonPlace, environment: Mapping[str, str]) -> Daemon:
        """Start a daemon on its machine."""

    def command(self, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
        """A person types ``lossbook WORDS`` where the clients are; wait for its end, on any thread."""

    def apply(self, conditions: Mapping[Link, Condition]) -> None:
        """From now on the links are like this; those not named are good."""

    def counts(self) -> Mapping[str, int]:
        """What it carried and what faults took, in its own terms."""

    async def close(self) -> None:
        """End it."""


COMMAND_S: Final = 60.0
"""For one command; it waits for its receipt, and gives up by itself before."""


class Commands:
    """Commands of this version that people type, each a process of its own. Used on any thread."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[str]] = {}

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes that run now."""
        return tuple(self._running)

    def type(self, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
        """Run one and wait for its end."""
        with subprocess.Popen(
            [sys.executable, "-m", "cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **environment},
        ) as process:
            self._running[process.pid] = process
            try:
                output, errors = process.communicate(timeout=COMMAND_S)
            except subprocess.TimeoutExpired:
                process.kill()
                output, errors = process.communicate()
            finally:
                del self._running[process.pid]
            return Answer(process.returncode, output, errors)

    def kill(self) -> None:
        """End those that run."""
        for process in tuple(self._running.values()):
            process.kill()


class ProxyFabric:
    """Loopback: each validator listens at ports of its own, and the proxy at those on its card."""

    def __init__(self, seed: int) -> None:
        self._running: dict[str, Daemon] = {}
        self._commands = Commands()
        self._behind: dict[str, tuple[int, int]] = {}
        self._proxy = Proxy(self._pids, random.Random(f"{seed}/losses"))

    def places(self, organisations: Sequence[str]) -> tuple[Mapping[str, str], Sequence[int]]:
        """See Fabric."""
        ports = free_ports((PORTS_EACH + 2) * len(organisations))
        behind = ports[PORTS_EACH * len(organisations) :]
        self._behind = {name: (behind[2 * at], behind[2 * at + 1]) for at, name in enumerate(organisations)}
        self._fronts = {
            name: (ports[PORTS_EACH * at], ports[PORTS_EACH * at + 1]) for at, name in enumerate(organisations)
        }
        return dict.fromkeys(organisations, HOST), ports[: PORTS_EACH * len(organisations)]

    async def start(self, places: Sequence[DaemonPlace]) -> None:
        """See Fabric."""
        for place in places:
            for front, behind in zip(self._fronts[place.organisation], self._behind[place.organisation], strict=True):
                await self._proxy.listen(front, place.organisation, behind)

    def spawn(self, place: DaemonPlace, environment: Mapping[str, str]) -> Daemon:
        """See Fabric."""
        peer, public = self._behind[place.organisation]
        settings = [f"listen.public={HOST}:{public}"]
        if place.kind == "node":
            settings.append(f"listen.peer={HOST}:{peer}")
        daemon = daemons.spawn(place, settings=settings, environment=environment)
        self._running[place.organisation] = daemon
        return daemon

    def command(self, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
        """See Fabric."""
        return self._commands.type(words, environment)

    def apply(self, conditions: Mapping[Link, Condition]) -> None:
        """See Fabric."""
        self._proxy.apply(conditions)

    def counts(self) -> Mapping[str, int]:
        """See Fabric."""
        proxy = self._proxy
        return {"connections": proxy.connections, "held_back": proxy.held_back, "reset": proxy.resets}

    async def close(self) -> None:
        """See Fabric."""
        self._commands.kill()
        await self._proxy.close()

    def _pids(self) -> dict[int, str]:
        daemons = {daemon.pid: name for name, daemon in self._running.items()}
        return {os.getpid(): CLIENTS, **dict.fromkeys(self._commands.pids, CLIENTS), **daemons}
