"""Links as real packets: an Ethernet switch of our own between virtual devices, one in the namespace of each machine.

Each machine has a network namespace with one tap device. Whatever its kernel sends comes out of the device's
descriptor as a frame; the switch looks at the hardware address, loses, delays or drops the frame as the directed link
says, and writes it into the other machine's device. So TCP meets true loss, true silence and true delay, and every
byte above Ethernet is the kernel's own. ``tc netem`` would do the same where a kernel has it; a tap device is there
more often, and a user namespace suffices.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Mapping
from typing import Final

from chaos.links import GOOD, Condition, Link

FRAME_BYTES_MAX: Final = 2_048
"""1,514 of Ethernet, and room."""
FRAMES_A_TURN: Final = 128
"""Taken from one device before the others get their turn."""
BROADCAST: Final = b"\xff" * 6
_ETHERTYPES: Final = (b"\x08\x00", b"\x08\x06")
"""IPv4 and ARP: nothing else is spoken here."""


class Switch:
    """Frames between machines.

    Args:
        rng: draws losses.
    """

    def __init__(self, rng: random.Random) -> None:
        self.lost = 0
        """Frames that a fault took."""
        self.carried = 0
        self._rng = rng
        self._conditions: Mapping[Link, Condition] = {}
        self._devices: dict[str, int] = {}
        self._names: dict[bytes, str] = {}

    def plug(self, name: str, hardware: bytes, descriptor: int) -> None:
        """A machine's device; the switch owns the descriptor from now on."""
        self._devices[name] = descriptor
        self._names[hardware] = name
        asyncio.get_running_loop().add_reader(descriptor, self._take, name, descriptor)

    def apply(self, conditions: Mapping[Link, Condition]) -> None:
        """From now on the links are like this; those not named are good."""
        self._conditions = conditions

    def close(self) -> None:
        """Pull all plugs."""
        loop = asyncio.get_running_loop()
        for descriptor in self._devices.values():
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self._devices.clear()

    # -- frames ------------------------------------------------------------------------------

    def _take(self, source: str, descriptor: int) -> None:
        for _ in range(FRAMES_A_TURN):
            try:
                frame = os.read(descriptor, FRAME_BYTES_MAX)
            except BlockingIOError:
                return
            if frame[12:14] not in _ETHERTYPES:
                continue
            target = self._names.get(frame[:6])
            if target is not None:
                self._send(source, target, frame)
            elif frame[:6] == BROADCAST:
                for other in self._devices:
                    if other != source:
                        self._send(source, other, frame)

    def _send(self, source: str, target: str, frame: bytes) -> None:
        condition = self._conditions.get((source, target), GOOD)
        if condition.cut or (condition.loss and self._rng.random() < condition.loss):
            self.lost += 1
        elif condition.delay_ms:
            asyncio.get_running_loop().call_later(condition.delay_ms / 1000, self._deliver, target, frame)
        else:
            self._deliver(target, frame)

    def _deliver(self, target: str, frame: bytes) -> None:
        descriptor = self._devices.get(target)
        if descriptor is not None:
            self.carried += 1
            with contextlib.suppress(BlockingIOError):  # its queue is full: lost, as in any network
                os.write(descriptor, frame)
