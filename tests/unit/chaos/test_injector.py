"""What the injector does to validators, links and the disk, and that it undoes all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from chaos.disk import Disk
from chaos.fabric import Fabric
from chaos.history import FaultBegan, FaultEnded, History
from chaos.injector import Injector
from chaos.links import CLIENTS, Condition, Link, everywhere, partition
from chaos.operators import NotBack
from chaos.schedule import Fault, Kind, Strike
from chaos.validators import Validators

NAMES = ("alpha", "beta", "gamma", "delta")


class World:
    """Validators, fabric and disk that write down what is done to them."""

    def __init__(self, back_s: float = 0.0, *, back_once_healed: bool = False) -> None:
        self.back_s = back_s
        self.back_once_healed = back_once_healed  #: nobody is back before links were bad and are good again
        self.healed = asyncio.Event()
        self.done: list[str] = []
        self.said: list[str] = []
        self.up = set(NAMES)
        self.links: Mapping[Link, Condition] = {}
        self.places = dict.fromkeys(NAMES)
        self.history = History(lambda: len(self.done))

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(sorted(self.up))

    def pid(self, name: str) -> int:
        return NAMES.index(name)

    def start(self, name: str, *, clock_offset_ms: int = 0) -> None:
        if name not in self.up:
            self.up.add(name)
            self.done.append(f"start {name}" + (f" {clock_offset_ms:+}" if clock_offset_ms else ""))

    def kill(self, name: str) -> None:
        self.up.discard(name)
        self.done.append(f"kill {name}")

    def stop(self, name: str) -> None:
        self.up.discard(name)
        self.done.append(f"stop {name}")

    def pause(self, name: str) -> None:
        self.done.append(f"pause {name}")

    def resume(self, name: str) -> None:
        self.done.append(f"resume {name}")

    def fill(self, pid: int) -> None:
        self.done.append(f"fill {NAMES[pid]}")

    def empty(self) -> None:
        self.done.append("empty")

    def apply(self, conditions: Mapping[Link, Condition]) -> None:
        self.links = conditions
        self.done.append(f"{len(conditions)} links bad")
        if not conditions:
            self.healed.set()

    def destroy(self, name: str) -> None:
        self.up.discard(name)
        self.done.append(f"destroy {name}")

    async def bring_back(self, name: str) -> None:
        for step in ("init", "back"):
            self.done.append(f"{step} {name}")
            await asyncio.sleep(self.back_s)
            if self.back_once_healed:
                await self.healed.wait()
        self.up.add(name)

    def injector(self, *plan: Fault) -> Injector:
        parts = cast("Validators", self), cast("Fabric", self), cast("Disk", self)
        return Injector(plan, *parts, self.history, self.bring_back, self.said.append)


def carried_out(*plan: Fault, back_s: float = 0.0, back_once_healed: bool = False) -> World:
    world = World(back_s, back_once_healed=back_once_healed)
    injector = world.injector(*plan)
    asyncio.run(injector.run())
    assert not injector.active
    assert injector.struck.total() == len(plan)
    assert world.up == set(NAMES)
    return world


def fault(kind: Kind, *nodes: str, at_ms: int = 0, until_ms: int = 5, **more: object) -> Fault:
    return Fault(kind, at_ms, until_ms, str(kind), nodes, **more)  # type: ignore[arg-type]


def test_a_killed_validator_is_started_again() -> None:
    assert carried_out(fault(Kind.KILL, "beta")).done == ["kill beta", "start beta"]


def test_a_storm_kills_again_and_again() -> None:
    strikes = (Strike(0, ("alpha", "beta")), Strike(1, NAMES))
    storm = fault(Kind.STORM, *NAMES, strikes=strikes)
    assert carried_out(storm).done == [
        *("kill alpha", "kill beta", "start alpha", "start beta"),
        *(f"kill {name}" for name in NAMES),
        *(f"start {name}" for name in NAMES),
    ]


def test_paused_validators_go_on() -> None:
    assert carried_out(fault(Kind.PAUSE, "alpha", "beta")).done == [
        *("pause alpha", "pause beta"),
        *("resume alpha", "resume beta"),
    ]


def test_a_wrong_clock_is_set_right_by_a_restart() -> None:
    assert carried_out(fault(Kind.CLOCK, "gamma", offset_ms=-1_500)).done == [
        *("stop gamma", "start gamma -1500"),
        *("stop gamma", "start gamma"),
    ]


def test_a_full_disk_is_emptied_and_its_validator_restarted() -> None:
    assert carried_out(fault(Kind.DISK, "delta")).done == ["fill delta", "empty", "stop delta", "start delta"]


def test_a_destroyed_validator_is_made_anew_by_its_operator() -> None:
    world = carried_out(fault(Kind.DESTROYED, "alpha"))
    assert world.done == ["destroy alpha", "init alpha", "back alpha"]
    assert [type(event) for event in world.history.events] == [FaultBegan, FaultEnded]


def test_invalid_one_that_does_not_come_back_ends_the_run_by_its_own_error() -> None:
    """Not by a group of errors, whose name a person would be shown."""
    world = World()
    endless = fault(Kind.LOSS, until_ms=3_600_000, bad=everywhere(NAMES, Condition(loss=0.3)))
    injector = world.injector(fault(Kind.DESTROYED, "alpha"), endless)

    async def never(name: str) -> None:
        raise NotBack(f"{name} is not back", "Look there")

    injector._bring_back = never
    with pytest.raises(NotBack, match="alpha is not back"):
        asyncio.run(injector.run())


def test_each_fault_is_told_as_it_begins() -> None:
    world = World()
    asyncio.run(world.injector(fault(Kind.PAUSE, "alpha"), fault(Kind.DESTROYED, "beta", at_ms=6)).run())
    assert world.said == ["pause: pause, for 0 s", "destroyed: destroyed"]


def test_nobody_else_is_taken_until_a_destroyed_validator_is_back_however_long_that_takes() -> None:
    gone = fault(Kind.DESTROYED, "alpha")
    kill = fault(Kind.KILL, "beta", at_ms=10, until_ms=20)
    cut = fault(Kind.PARTITION, at_ms=10, until_ms=20, bad=partition(("gamma",), ("delta",)))
    done = carried_out(gone, kill, cut, back_s=0.05).done
    assert done[:3] == ["destroy alpha", "init alpha", "back alpha"]
    assert set(done[3:]) == {"kill beta", "start beta", "2 links bad", "0 links bad"}


def test_a_destruction_waits_until_nobody_is_cut_off() -> None:
    cut = fault(Kind.ONE_WAY, until_ms=40, bad=partition(("gamma",), ("delta",)))
    done = carried_out(cut, fault(Kind.DESTROYED, "alpha", at_ms=10, until_ms=11)).done
    assert done == ["2 links bad", "0 links bad", "destroy alpha", "init alpha", "back alpha"]


def test_loss_goes_on_while_a_validator_is_destroyed() -> None:
    loss = fault(Kind.LOSS, at_ms=10, until_ms=20, bad=everywhere((*NAMES, CLIENTS), Condition(loss=0.3)))
    done = carried_out(fault(Kind.DESTROYED, "alpha"), loss, back_once_healed=True).done
    assert sorted(done[:-1]) == ["0 links bad", "20 links bad", "destroy alpha", "init alpha"]
    assert done[-1] == "back alpha"


def test_faults_of_the_network_follow_each_other_and_heal() -> None:
    loss = fault(Kind.LOSS, until_ms=10, bad=everywhere((*NAMES, CLIENTS), Condition(loss=0.3)))
    cut = fault(Kind.PARTITION, at_ms=20, until_ms=40, bad=partition(("alpha",), ("beta", "gamma", "delta", CLIENTS)))
    world = carried_out(loss, cut)
    assert world.done == ["20 links bad", "0 links bad", "8 links bad", "0 links bad"]
    assert world.links == {}


def test_every_fault_stands_in_the_history() -> None:
    events = carried_out(fault(Kind.PAUSE, "alpha")).history.events
    assert [type(event) for event in events] == [FaultBegan, FaultEnded]


def test_an_interrupted_run_can_be_healed() -> None:
    world = World()
    endless = 3_600_000
    cut = fault(Kind.PARTITION, until_ms=endless, bad=partition(("alpha",), ("beta",)))
    injector = world.injector(fault(Kind.KILL, "beta", until_ms=endless), cut)

    async def test() -> None:
        running = asyncio.create_task(injector.run())
        for _ in range(100):  # turns of the loop; both faults strike at once
            await asyncio.sleep(0)
        assert len(injector.active) == 2
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert world.links
        await injector.heal()

    asyncio.run(test())
    assert (world.up, world.links, injector.active) == (set(NAMES), {}, {})
