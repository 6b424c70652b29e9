"""The fabric of network namespaces: a machine is a namespace, a thread that lives in it, and a device on the switch."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from chaos import kernel
from chaos.ethernet import Switch
from chaos.fabric import Answer, Commands
from chaos.links import CLIENTS, Condition, Link
from cli import daemons
from cli.daemons import Daemon, DaemonPlace

T = TypeVar("T")

PORTS: Final = (7100, 7101, 7102)
"""Of every machine: peers, clients, http."""
DEVICE: Final = "chaos0"
MASK: Final = "255.255.255.0"


def host(number: int) -> str:
    """Address of a machine. Nothing outside this process sees it, so it can be in nobody's way."""
    return f"10.0.0.{number + 1}"


def hardware(number: int) -> bytes:
    """Its hardware address, locally administered."""
    return bytes((0x02, 0, 0, 0, 0, number + 1))


def refused() -> str:
    """Why namespaces cannot be had here; empty if they can. Tried in a process of its own, which ends."""
    tried = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else (tried.stdout.strip() or "the trial ended early")


_TRIAL: Final = """
import sys
from chaos import kernel
try:
    kernel.own_namespaces()
    kernel.own_network()
    kernel.tap("trial")
except OSError as error:
    sys.exit(print(error) or 1)
"""


class _Machine:
    """A network of its own, entered by doing something in it."""

    def __init__(self, number: int) -> None:
        self.hardware = hardware(number)
        self._thread = ThreadPoolExecutor(1, f"machine-{number}", initializer=kernel.own_network)
        self.device = self.inside(lambda: _device(number))

    def inside(self, work: Callable[[], T]) -> T:
        """Do it on this machine: processes started there stay there."""
        return self._thread.submit(work).result()

    def close(self) -> None:
        self._thread.shutdown()


def _device(number: int) -> int:
    descriptor = kernel.tap(DEVICE)
    kernel.address(DEVICE, hardware(number), host(number), MASK)
    return descriptor


class NamespaceFabric:
    """See ``fabric.Fabric``. Make it in a process that called ``kernel.own_namespaces``; the clients live there."""

    def __init__(self, seed: int) -> None:
        self._switch = Switch(random.Random(f"{seed}/losses"))
        self._machines: dict[str, _Machine] = {}
        self._numbers: dict[str, int] = {}
        self._commands = Commands()

    def places(self, organisations: Sequence[str]) -> tuple[Mapping[str, str], Sequence[int]]:
        """See Fabric."""
        self._numbers = {name: number for number, name in enumerate((*organisations, CLIENTS))}
        return {name: host(self._numbers[name]) for name in organisations}, PORTS * len(organisations)

    async def start(self, places: Sequence[DaemonPlace]) -> None:
        """See Fabric."""
        for place in places:
            machine = self._machines[place.organisation] = _Machine(self._numbers[place.organisation])
            self._switch.plug(place.organisation, machine.hardware, machine.device)
        own = self._numbers[CLIENTS]
        self._switch.plug(CLIENTS, hardware(own), _device(own))

    def spawn(self, place: DaemonPlace, environment: Mapping[str, str]) -> Daemon:
        """See Fabric."""
        return self._machines[place.organisation].inside(lambda: daemons.spawn(place, environment=environment))

    def command(self, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
        """See Fabric."""
        return self._commands.type(words, environment)

    def apply(self, conditions: Mapping[Link, Condition]) -> None:
        """See Fabric."""
        self._switch.apply(conditions)

    def counts(self) -> Mapping[str, int]:
        """See Fabric."""
        return {"frames_carried": self._switch.carried, "frames_lost": self._switch.lost}

    async def close(self) -> None:
        """See Fabric."""
        self._commands.kill()
        self._switch.close()
        for machine in self._machines.values():
            machine.close()
