"""Carries out the plan: makes faults and heals them, and knows which are in force."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from chaos.disk import Disk
from chaos.fabric import Fabric
from chaos.history import FaultBegan, FaultEnded, History
from chaos.links import CLIENTS, conditions
from chaos.schedule import CUTS, NETWORK, PROCESSES, Fault, Kind
from chaos.validators import Validators

RESTART_S: Final = 0.3
"""From a blow of a storm to the start of those it hit: a supervisor of processes is about as quick."""
_ALONE: Final = CUTS | {Kind.DESTROYED}
"""With one of four validators destroyed, nothing is left to be forgiven."""


class Injector:
    """All faults of a run.

    Args:
        plan: what strikes when.
        disk: of the validator that DISK faults name.
        bring_back: has a destroyed validator's operator make it anew; returns once it votes.
        say: told in words as each fault begins.
    """

    def __init__(
        self,
        plan: Sequence[Fault],
        validators: Validators,
        fabric: Fabric,
        disk: Disk,
        history: History,
        bring_back: Callable[[str], Awaitable[None]],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.struck: Counter[str] = Counter()
        """Faults that were made, by kind."""
        self.active: dict[int, Fault] = {}
        """Those in force, by their place in the plan."""
        self.healed_s = time.monotonic()
        """When the last one was healed, monotonic seconds."""
        self._plan = plan
        self._validators = validators
        self._fabric = fabric
        self._disk = disk
        self._history = history
        self._bring_back = bring_back
        self._say = say
        self._spare = asyncio.Lock()
        """Held while a validator is destroyed, or some are cut off: never both."""
        self._endpoints = (*validators.places, CLIENTS)

    async def run(self) -> None:
        """From now on, to the end of the plan. Cancelled: what is in force stays; see ``heal``.

        Raises:
            NotBack: a destroyed validator does not vote again; the other track is not carried out either.
        """
        began_s = time.monotonic()
        numbered = list(enumerate(self._plan))
        try:
            async with asyncio.TaskGroup() as group:
                for track in (PROCESSES, NETWORK):
                    group.create_task(self._track([each for each in numbered if each[1].kind in track], began_s))
        except ExceptionGroup as failed:  # the group's own name says nothing to a person
            raise failed.exceptions[0] from None

    async def _track(self, faults: Sequence[tuple[int, Fault]], began_s: float) -> None:
        """One after another; where a destroyed validator keeps them waiting, all that follow are so much later."""
        for number, fault in faults:
            at_s = began_s + fault.at_ms / 1000
            await _until(at_s)
            async with self._spare if fault.kind in _ALONE else contextlib.nullcontext():
                began_s += max(0.0, time.monotonic() - at_s)
                await self._strike(number, fault, began_s)

    async def heal(self) -> None:
        """Nothing is in force any more, and every validator runs with the right time."""
        for number in list(self.active):
            await self._end(number)
        for name in self._validators.places:
            self._validators.start(name)

    async def _strike(self, number: int, fault: Fault, began_s: float) -> None:
        self.struck[fault.kind] += 1
        self.active[number] = fault
        self._say(f"{fault.kind}: {fault.what}{_lasting(fault)}")
        self._history.record(FaultBegan(self._history.now_us(), fault.kind, fault.what, fault.nodes))
        await self._begin(fault)
        for strike in fault.strikes:
            await _until(began_s + strike.at_ms / 1000)
            await self._blow(strike.nodes)
        await _until(began_s + fault.until_ms / 1000)
        await self._end(number)

    async def _begin(self, fault: Fault) -> None:
        validators = self._validators
        match fault.kind:
            case Kind.KILL:
                validators.kill(fault.nodes[0])
            case Kind.PAUSE:
                for name in fault.nodes:
                    validators.pause(name)
            case Kind.CLOCK:
                await asyncio.to_thread(validators.stop, fault.nodes[0])
                validators.start(fault.nodes[0], clock_offset_ms=fault.offset_ms)
            case Kind.DISK:
                if fault.nodes[0] in validators.running:
                    self._disk.fill(validators.pid(fault.nodes[0]))
            case Kind.DESTROYED:
                await asyncio.to_thread(validators.destroy, fault.nodes[0])
            case Kind.STORM:
                pass  # its blows follow
            case _:
                self._apply()

    async def _end(self, number: int) -> None:
        fault = self.active[number]
        if fault.kind is Kind.DESTROYED:
            await self._bring_back(fault.nodes[0])
        del self.active[number]
        validators = self._validators
        match fault.kind:
            case Kind.KILL | Kind.STORM:
                for name in fault.nodes:
                    validators.start(name)
            case Kind.PAUSE:
                for name in fault.nodes:
                    validators.resume(name)
            case Kind.CLOCK | Kind.DISK:
                if fault.kind is Kind.DISK:
                    self._disk.empty()
                await asyncio.to_thread(validators.stop, fault.nodes[0])
                validators.start(fault.nodes[0])
            case Kind.DESTROYED:
                pass  # it is back already
            case _:
                self._apply()
        self.healed_s = time.monotonic()
        self._history.record(FaultEnded(self._history.now_us(), fault.kind, fault.what, fault.nodes))

    async def _blow(self, names: Sequence[str]) -> None:
        for name in names:
            self._validators.kill(name)
        await asyncio.sleep(RESTART_S)
        for name in names:
            self._validators.start(name)

    def _apply(self) -> None:
        bad = [each for fault in self.active.values() for each in fault.bad]
        self._fabric.apply(conditions(self._endpoints, bad))


def _lasting(fault: Fault) -> str:
    return "" if fault.kind is Kind.DESTROYED else f", for {(fault.until_ms - fault.at_ms) / 1000:.0f} s"


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - time.monotonic()))
