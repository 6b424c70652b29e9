"""The switch: frames by hardware address, and what each fault does to them. Sockets stand in for devices."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable

from chaos.ethernet import BROADCAST, Switch
from chaos.links import Condition
from chaos.namespaces import hardware, host

NAMES = ("alpha", "beta", "gamma")
IPV4, ARP, IPV6 = b"\x08\x00", b"\x08\x06", b"\x86\xdd"


class Machines:
    """A switch with three machines."""

    def __init__(self, rng: random.Random) -> None:
        self.switch = Switch(rng)
        self.ends: dict[str, socket.socket] = {}
        for number, name in enumerate(NAMES):
            own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            own.setblocking(False)
            other.setblocking(False)
            self.ends[name] = own
            self.switch.plug(name, hardware(number), other.detach())

    def send(self, source: str, target: str, kind: bytes = IPV4, text: bytes = b"hello") -> bytes:
        to = BROADCAST if target == "all" else hardware(NAMES.index(target))
        frame = to + hardware(NAMES.index(source)) + kind + text
        self.ends[source].send(frame)
        return frame

    async def arrived(self, name: str, wait_s: float = 0.05) -> list[bytes]:
        await asyncio.sleep(wait_s)
        found = []
        while True:
            try:
                found.append(self.ends[name].recv(2_048))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.switch.close()
        for end in self.ends.values():
            end.close()


def run(test: Callable[[Machines], Awaitable[None]], rng: random.Random | None = None) -> None:
    async def whole() -> None:
        machines = Machines(rng or random.Random(1))
        try:
            await test(machines)
        finally:
            machines.close()

    asyncio.run(whole())


def test_a_frame_goes_to_the_machine_it_names_and_a_broadcast_to_all_others() -> None:
    async def test(machines: Machines) -> None:
        frame = machines.send("alpha", "beta")
        assert await machines.arrived("beta") == [frame]
        assert await machines.arrived("gamma", 0) == []
        asked = machines.send("gamma", "all", ARP)
        assert await machines.arrived("alpha") == [asked]
        assert await machines.arrived("beta", 0) == [asked]
        assert await machines.arrived("gamma", 0) == []
        assert (machines.switch.carried, machines.switch.lost) == (3, 0)

    run(test)


def test_nothing_but_ipv4_and_its_neighbours_is_carried() -> None:
    async def test(machines: Machines) -> None:
        machines.send("alpha", "beta", IPV6)
        assert await machines.arrived("beta") == []

    run(test)


def test_a_cut_takes_every_frame_of_its_direction_only() -> None:
    async def test(machines: Machines) -> None:
        machines.switch.apply({("alpha", "beta"): Condition(cut=True)})
        machines.send("alpha", "beta")
        back = machines.send("beta", "alpha")
        assert await machines.arrived("beta") == []
        assert await machines.arrived("alpha", 0) == [back]
        machines.switch.apply({})
        frame = machines.send("alpha", "beta")
        assert await machines.arrived("beta") == [frame]

    run(test)


def test_loss_takes_about_its_share() -> None:
    async def test(machines: Machines) -> None:
        machines.switch.apply({("alpha", "beta"): Condition(loss=0.3)})
        came = 0
        for _ in range(20):
            for _ in range(50):
                machines.send("alpha", "beta")
            came += len(await machines.arrived("beta", 0.01))
        came += len(await machines.arrived("beta"))
        assert came + machines.switch.lost == 1_000
        assert 620 < came < 780  # six standard deviations

    run(test)


def test_delay_holds_each_frame_so_long() -> None:
    async def test(machines: Machines) -> None:
        machines.switch.apply({("alpha", "beta"): Condition(delay_ms=150)})
        frame = machines.send("alpha", "beta")
        assert await machines.arrived("beta", 0.05) == []
        assert await machines.arrived("beta", 0.2) == [frame]

    run(test)


def test_a_machine_whose_queue_is_full_loses_frames_and_nobody_waits() -> None:
    async def test(machines: Machines) -> None:
        for _ in range(5):
            for _ in range(100):
                try:
                    machines.send("alpha", "beta", text=bytes(1_000))
                except BlockingIOError:
                    break
            await asyncio.sleep(0.01)
        frame = machines.send("alpha", "gamma")
        assert await machines.arrived("gamma") == [frame]

    run(test)


def test_addresses_differ_and_are_locally_administered() -> None:
    assert len({host(number) for number in range(10)}) == len({hardware(number) for number in range(10)}) == 10
    assert all(hardware(number)[0] & 3 == 2 for number in range(10))
