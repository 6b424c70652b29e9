"""One run, from the ceremony to the verdict.

    1  a network by the ceremony's own code, its daemons by the operator's own command, on a fabric that can be harmed
    2  clients write and read, faults strike by the plan, everything is written down
    3  all is healed; every validator must come back by itself and become level with the others
    4  every operation is asked for at every validator, every claim is read with proof, and the history is judged

Whatever ends a run, every process it started is ended, and what was determined so far stands in the document.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from chaos import stalls
from chaos.clients import CLIENTS, Client, Insurer, Readers
from chaos.disk import Disk
from chaos.fabric import Fabric, Way
from chaos.history import Began, History, Stopped, Unknown, stories
from chaos.injector import Injector
from chaos.judge import judge
from chaos.operators import Operators
from chaos.schedule import Fault, Kind, plan
from chaos.settlement import read_settled, settle
from chaos.validators import Validators
from chaos.watch import Seen, Watch
from chaos.witness import LEVEL_S_MIN, hear
from cli import local
from cli.daemons import Daemon
from cli.local import Network
from lossbook_sdk import profile as profiles
from lossbook_sdk.channel import Connector
from lossbook_sdk.profile import Node

READY_S: Final = 60.0
"""For the first start."""
RECOVERED_S_MAX: Final = 60.0
"""From the end of the last fault until all validators are ready and level: some time-outs, capped at 20 s each."""
DECIDED_S_MAX: Final = 90.0
"""Until block time has passed the last moment of everything that is open."""

SMALL_DISK: Final = local.INSURERS[-1]
"""Whose disk can be filled."""


class ChaosError(Exception):
    """A run that could not be carried out.

    Attributes:
        advice: what to do.
    """

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(problem)
        self.advice = advice


class Plan(msgspec.Struct, frozen=True):
    """What is to be done."""

    seed: int
    duration_s: float
    kinds: tuple[Kind, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """When what strikes."""
        return plan(self.seed, int(self.duration_s * 1000), local.INSURERS, self.kinds, SMALL_DISK)


class Progress(msgspec.Struct, frozen=True):
    """One look at a run, for people."""

    at_s: float
    heights: Mapping[str, int | None]
    """Executed heights; None: no answer."""
    final: int
    open: int
    faults: tuple[str, ...]
    """Kinds of those in force."""


class Run:
    """One run. ``document`` holds what was determined, ``problems`` what does not hold.

    Args:
        base: an empty folder, where the network lives.
        small_disk: makes the disk of one validator, given its home.
        on_progress: told once a second.
        say: told in words.
    """

    def __init__(
        self,
        plan_: Plan,
        base: Path,
        way: Way,
        fabric: Fabric,
        small_disk: Callable[[Path], Disk],
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.document: dict[str, Any] = {"network": way.value, "seed": plan_.seed, "minutes": plan_.duration_s / 60}
        self.problems: list[str] = []
        self._plan = plan_
        self._base = base
        self._fabric = fabric
        self._small_disk = small_disk
        self._on_progress = on_progress
        self._say = say
        self._began_s = time.monotonic()
        self._validators: Validators | None = None
        self._disk: Disk | None = None
        self._replica: Daemon | None = None
        self._operators: Operators | None = None

    async def run(self) -> None:
        """All of it.

        Raises:
            ChaosError, ClientError, Stop: what ended it early.
        """
        network = self._found()
        with (self._base / "history.jsonl").open("wb") as file:
            history = History(lambda: int((time.monotonic() - self._began_s) * 1_000_000), file.write)
            try:
                await self._carry_out(network, history)
            finally:
                if self._validators is not None:
                    self._validators.kill_all()
                if self._replica is not None:
                    self._replica.kill()
                await self._fabric.close()
                if self._disk is not None:
                    self._disk.close()
                self.document["wall_s"] = round(time.monotonic() - self._began_s, 1)

    # -- 1 -----------------------------------------------------------------------------------

    def _found(self) -> Network:
        hosts, ports = self._fabric.places((*local.INSURERS, local.SUPERVISOR))
        return local.create(self._base, name="chaos", ports=ports, passphrase=None, hosts=hosts)

    async def _carry_out(self, network: Network, history: History) -> None:
        places = network.nodes
        disk = self._disk = self._small_disk(
            Path(next(place.home for place in places if place.organisation == SMALL_DISK))
        )
        self.document["disk"] = disk.name
        await self._fabric.start(network.daemons)
        validators = self._validators = Validators(places, self._fabric)
        insurers = [Insurer(profiles.load(network.profile(place.organisation))) for place in places]
        readers = Readers(insurers[0].connector, insurers[0].nodes, history)
        try:
            watch = Watch(readers)
            await self._until_ready(validators, watch)
            await asyncio.gather(*(insurer.begin() for insurer in insurers))
            self._say("all are ready; clients begin")
            operators = self._operators = Operators(network, validators, self._fabric, watch, self._say)
            injector = Injector(
                self._plan.faults, validators, self._fabric, disk, history, operators.bring_back, self._say
            )
            clients = _clients(self._plan.seed, insurers, readers, history)
            await self._harm(injector, clients, watch, history)
            await self._settle(watch, readers, history)
            await self._testify(network, insurers[0].connector, watch, history)
            self._clients_heard(clients, readers)
        finally:
            await readers.close()

    async def _until_ready(self, validators: Validators, watch: Watch) -> None:
        for name in validators.places:
            validators.start(name)
        self._say("four validators' daemons start")
        if not await _wait(watch, READY_S, lambda watch: watch.all_ready):
            raise ChaosError(
                f"the validators were not ready within {READY_S:.0f} s: {_said(watch)}",
                f"Their logs are below {self._base}; run it again with --keep FOLDER to have them afterwards",
            )

    # -- 2 and 3 -----------------------------------------------------------------------------

    async def _harm(self, injector: Injector, clients: list[Client], watch: Watch, history: History) -> None:
        stop, give_up = asyncio.Event(), asyncio.Event()
        from_us = history.now_us()
        history.record(Began(from_us, tuple(client.name for client in clients)))
        looking = asyncio.create_task(self._look(injector, clients, watch, history))
        working = [asyncio.create_task(client.run(stop, give_up)) for client in clients]
        try:
            await _unless_failed(asyncio.create_task(injector.run()), working)
            left_s = from_us / 1_000_000 + self._plan.duration_s - history.now_us() / 1_000_000
            await _unless_failed(asyncio.create_task(asyncio.sleep(max(0.0, left_s))), working)
            stop.set()
            until_us = history.now_us()
            history.record(Stopped(until_us))
            self._say("faults are over; waiting until all is decided")
            await injector.heal()
            await self._recovered(watch, injector.healed_s)
            await self._decided(watch, history)
            give_up.set()
            await asyncio.gather(*working)
        finally:
            self._struck(injector)
            for task in (looking, *working):
                task.cancel()
            await asyncio.gather(looking, *working, return_exceptions=True)
        stall = stalls.longest(history.events, from_us, until_us)
        self.document |= {
            "longest_stall_s": round(stall.seconds, 2),
            "longest_stall_faults": list(stall.faults),
        }

    def _struck(self, injector: Injector) -> None:
        self.document["faults"] = {kind.value: injector.struck[kind] for kind in self._plan.kinds}
        if self._operators is not None:
            self.document["newcomers"] = [msgspec.structs.asdict(each) for each in self._operators.newcomers]
        never = [kind for kind in self._plan.kinds if not injector.struck[kind]]
        if never:
            self.problems.append(f"these faults were to strike and never did: {', '.join(never)}; give more --minutes")

    async def _look(self, injector: Injector, clients: list[Client], watch: Watch, history: History) -> None:
        while True:
            await asyncio.gather(watch.look(), asyncio.sleep(1.0))
            if self._validators is not None:
                self._validators.notice()
            self._on_progress(
                Progress(
                    time.monotonic() - self._began_s,
                    {name: None if seen is None else seen.executed for name, seen in watch.seen.items()},
                    history.final,
                    sum(client.open for client in clients),
                    tuple(fault.kind.value for fault in injector.active.values()),
                )
            )

    async def _recovered(self, watch: Watch, healed_s: float) -> None:
        """``healed_s``: monotonic seconds, when the last fault was over."""
        if await _wait(watch, RECOVERED_S_MAX, lambda watch: watch.level) and watch.level_since_s is not None:
            self.document["recovered_s"] = round(max(0.0, watch.level_since_s - healed_s), 1)
        else:
            self.problems.append(f"not all validators were level within {RECOVERED_S_MAX:.0f} s: {_said(watch)}")

    async def _decided(self, watch: Watch, history: History) -> None:
        """Block time passes the last moment of whatever has no answer."""

        def decided(watch: Watch) -> bool:
            open_ = [story for story in stories(history.events).values() if story.open]
            times = _block_times(watch).values()
            return all(time_ms > story.invoked.not_after_ms for story in open_ for time_ms in times)

        if not await _wait(watch, DECIDED_S_MAX, decided):
            self.problems.append(f"some operations were still open {DECIDED_S_MAX:.0f} s after the last fault")

    # -- 4 -----------------------------------------------------------------------------------

    async def _settle(self, watch: Watch, readers: Readers, history: History) -> None:
        self._say("all is decided; asking every validator for every operation")
        await self._same_roots(watch)
        found = await settle(history, readers, _block_times(watch))
        told = stories(history.events)
        self.document |= {
            "operations": len(told),
            "acknowledged": found.acknowledged,
            "final": found.final,
            "proven": found.proven,
            "expired": found.expired,
            "lost": found.lost,
            "timed_out": sum(isinstance(event, Unknown) for event in history.events),
        }
        self.problems += found.problems
        self.problems += await read_settled(readers, {story.invoked.record for story in told.values()})
        history.end()
        self._say("judging the history")
        judgement = await asyncio.to_thread(judge, history.events)
        self.document |= {
            "linearizable": judgement.linearizable,
            "complete": judgement.complete,
            "records": judgement.records,
            "reads": judgement.reads,
            "configurations": judgement.configurations,
        }
        self.problems += judgement.problems

    async def _same_roots(self, watch: Watch) -> None:
        reached = max((seen.executed for seen in watch.seen.values() if seen is not None), default=0)

        def compared(watch: Watch) -> bool:
            common = watch.common()
            return common is not None and common[0] >= reached

        known = await _wait(watch, RECOVERED_S_MAX, compared)
        common = watch.common()
        if not known or common is None:
            self.problems.append(f"the validators show no common height from {reached} on: {_said(watch)}")
            return
        height, roots = common
        equal = len(set(roots.values())) == 1 and not watch.differences
        self.document |= {"state_roots_equal": equal, "height": height, "heights_compared": watch.compared}
        if not equal:
            self.problems += watch.differences or [f"state roots at height {height} differ"]

    async def _testify(self, network: Network, connector: Connector, watch: Watch, history: History) -> None:
        self._say("the supervisor's replica verifies and executes all of it again")
        place = network.replicas[0]
        replica = self._replica = self._fabric.spawn(place, {})
        readers = Readers(connector, [Node(place.organisation, place.address)], history)
        try:
            timeout_s = LEVEL_S_MIN + self._plan.duration_s
            said = await hear(readers, place.organisation, self.document.get("height", 0), watch.agreed(), timeout_s)
        finally:
            await readers.close()
            replica.kill()
        self.document |= {"replica_height": said.height, "replica_signatures": said.signatures}
        if said.problem:
            self.problems.append(said.problem)

    def _clients_heard(self, clients: list[Client], readers: Readers) -> None:
        self.document |= {"failovers": sum(client.moves for client in clients), **self._fabric.counts()}
        self.problems += [lie for client in clients for lie in client.lies] + readers.lies
        if self._validators is not None:
            self.problems += self._validators.ended


def _clients(seed: int, insurers: list[Insurer], readers: Readers, history: History) -> list[Client]:
    """CLIENTS of each insurer, each at another node first."""
    return [
        Client(
            f"{insurer.organisation}-{number + 1}",
            insurer,
            number,
            readers,
            history,
            random.Random(f"{seed}/{insurer.organisation}/{number}"),
        )
        for insurer in insurers
        for number in range(CLIENTS)
    ]


async def _unless_failed(task: asyncio.Task[None], others: Collection[asyncio.Task[None]]) -> None:
    """Wait for the task; where one of the others ends before, its error ends the run."""
    try:
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        for each in (task, *others):
            if each.done():
                each.result()
        if not task.done():
            raise ChaosError("a client ended before the run did", "This is a defect of the chaos run: report it")
    finally:
        task.cancel()


async def _wait(watch: Watch, timeout_s: float, holds: Callable[[Watch], bool]) -> bool:
    """Look until it holds; whether it did in time."""
    until_s = time.monotonic() + timeout_s
    while True:
        await watch.look()
        if holds(watch):
            return True
        if time.monotonic() > until_s:
            return False
        await asyncio.sleep(0.2)


def _block_times(watch: Watch) -> dict[str, int]:
    return {name: 0 if seen is None else seen.block_time_ms for name, seen in watch.seen.items()}


def _said(watch: Watch) -> str:
    return "; ".join(f"{name} {_state(seen)}" for name, seen in watch.seen.items())


def _state(seen: Seen | None) -> str:
    if seen is None:
        return "does not answer"
    why = str(seen.detail.get("failure") or "")
    return f"executed {seen.executed}, {'ready' if seen.ready else 'not ready'}" + (f" ({why})" if why else "")
