"""Which faults strike when: a pure function of a seed.

Two tracks run side by side, one of faults of processes and one of faults of the network, so that every pair of them
meets sooner or later, while no two of one track do: a validator is not killed while it is paused, and a link has one
reason to be bad. Each track goes through its kinds in a new order again and again, one a slot; a fault takes the
middle of its slot and leaves some quiet before the next.

What is broken keeps its disk, so storms may hit all validators at a time, and nothing that was acknowledged may be lost
even then. One kind is beyond repair: a DESTROYED validator has lost its disk and its consensus keys, and is all that
n = 4 forgives. From then until it votes again no other fault takes a validator: the track of processes waits, and the
network's has only faults that cut nobody off. The plan keeps BACK_MS free for it; where it takes longer, ``Injector``
lets the rest of the plan wait.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from chaos import history
from chaos.links import CLIENTS, Bad, Condition, everywhere, partition

QUIET_MS: Final = 3_000
"""Before the first fault: the clients get going."""
TAIL_MS: Final = 4_000
"""After the last one."""
SLOT_MS_MIN: Final = 4_000
SLOT_MS_MAX: Final = 16_000
"""A restarted validator is back within a few seconds; a dead leader is waited for within two."""

LOSS: Final = 0.3
DELAY_MS: Final = 200
CLOCK_OFFSETS_MS: Final = (-30_000, -1_500, 1_500, 30_000)
"""Within what validators forgive each other (``consensus.clock_delta_ms``), and far beyond."""

OPERATOR_MS: Final = 1_000
"""From the destruction of a validator until its operator begins."""
BACK_MS: Final = 16_000
"""From then until it votes again: some ten commands, a snapshot, and an epoch that ends."""
_DESTROYED_MS: Final = OPERATOR_MS + BACK_MS


class Kind(enum.StrEnum):
    """Kinds of faults; the words of the command and of its document."""

    KILL = "kill"
    """SIGKILL to one validator, which comes back later."""
    STORM = "storm"
    """SIGKILL to one after another and to several at a time, each of which comes back at once."""
    PAUSE = "pause"
    """SIGSTOP to some, then SIGCONT."""
    CLOCK = "clock"
    """One validator is started again with a clock that is wrong."""
    DISK = "disk"
    """One validator's disk is full; later there is room, and it is started again."""
    DESTROYED = history.DESTROYED
    """One validator's home is gone, and its consensus keys with it; its operator makes another, which votes again."""
    PARTITION = "partition"
    """Groups that do not hear each other."""
    ONE_WAY = "one-way"
    """Links that are cut in one direction."""
    LOSS = "loss"
    """30 % loss on all links."""
    DELAY = "delay"
    """200 ms more on all links, each way."""


PROCESSES: Final = (Kind.KILL, Kind.STORM, Kind.PAUSE, Kind.CLOCK, Kind.DISK, Kind.DESTROYED)
NETWORK: Final = (Kind.PARTITION, Kind.ONE_WAY, Kind.LOSS, Kind.DELAY)
CUTS: Final = frozenset({Kind.PARTITION, Kind.ONE_WAY})
"""Of the network's: those that may take a validator from the quorum."""


class Strike(msgspec.Struct, frozen=True):
    """One blow of a storm."""

    at_ms: int
    nodes: tuple[str, ...]


class Fault(msgspec.Struct, frozen=True):
    """One fault; times are milliseconds since the clients began, later where a destroyed validator was waited for."""

    kind: Kind
    at_ms: int
    until_ms: int
    """Of DESTROYED: when its operator begins."""
    what: str
    """For people: whom it hits, and how."""
    nodes: tuple[str, ...] = ()
    """Validators it hits, where it hits processes."""
    bad: tuple[Bad, ...] = ()
    """Links it makes bad, where it hits the network."""
    strikes: tuple[Strike, ...] = ()
    offset_ms: int = 0
    """Of the clock."""


def plan(
    seed: int, duration_ms: int, validators: Sequence[str], kinds: Collection[Kind], small_disk: str
) -> tuple[Fault, ...]:
    """All faults of a run, by time.

    Args:
        validators: their organisations; the same seed and arguments give the same plan.
        kinds: which are to strike.
        small_disk: the validator whose disk can be filled.
    """

    def maker(rng: random.Random) -> _Maker:
        return _Maker(rng, tuple(validators), small_disk)

    processes = _track(seed, duration_ms, PROCESSES, kinds, maker, ())
    alone = [(fault.at_ms, fault.until_ms + BACK_MS) for fault in processes if fault.kind is Kind.DESTROYED]
    network = _track(seed, duration_ms, NETWORK, kinds, maker, alone)
    return tuple(sorted((*processes, *network), key=lambda fault: (fault.at_ms, fault.kind)))


def minutes_enough(seed: int, validators: Sequence[str], kinds: Collection[Kind], small_disk: str) -> float:
    """The fewest, in twentieths, in which each of these kinds strikes."""
    twentieths = 1
    while not {fault.kind for fault in plan(seed, twentieths * 3_000, validators, kinds, small_disk)} >= set(kinds):
        twentieths += 1
    return twentieths / 20


def _track(
    seed: int,
    duration_ms: int,
    of: Sequence[Kind],
    wanted: Collection[Kind],
    maker_of: Callable[[random.Random], _Maker],
    alone: Sequence[tuple[int, int]],
) -> list[Fault]:
    """Args: ``alone``: from when to when no validator may be cut off."""
    kinds = [kind for kind in of if kind in wanted]
    rng = random.Random(f"{seed}/{'/'.join(kinds)}")
    maker = maker_of(rng)
    over_ms = duration_ms - TAIL_MS
    slot_ms = _slot_ms(over_ms - QUIET_MS - sum(until_ms - from_ms for from_ms, until_ms in alone), kinds)
    made: list[Fault] = []
    left: list[Kind] = []
    start_ms = QUIET_MS
    while kinds and start_ms + slot_ms <= over_ms:
        begin_ms = start_ms + int(slot_ms * rng.uniform(0.0, 0.2))
        end_ms = start_ms + int(slot_ms * rng.uniform(0.6, 0.85))
        left = left or rng.sample(kinds, len(kinds))
        until = [until_ms for from_ms, until_ms in alone if begin_ms < until_ms and end_ms > from_ms]
        barred = (CUTS if until else set()) | ({Kind.DESTROYED} if start_ms + _DESTROYED_MS > over_ms else set())
        if alone:  # cuts first: they have fewer places
            left.sort(key=lambda kind: kind not in CUTS)
        kind = next((kind for kind in (*left, *kinds) if kind not in barred), None)
        if kind is None:
            start_ms = max(until, default=over_ms)
            continue
        if kind is Kind.DESTROYED:
            begin_ms, end_ms = start_ms, start_ms + OPERATOR_MS
        made.append(maker.make(kind, begin_ms, end_ms))
        left = [other for other in left if other is not kind]
        start_ms += _DESTROYED_MS if kind is Kind.DESTROYED else slot_ms
    return made


def _slot_ms(available_ms: int, kinds: Sequence[Kind]) -> int:
    """So that each of them gets one, if there is time."""
    others = sum(kind is not Kind.DESTROYED for kind in kinds)
    left_ms = available_ms - _DESTROYED_MS * (Kind.DESTROYED in kinds)
    return max(SLOT_MS_MIN, min(SLOT_MS_MAX, left_ms // max(1, others)))


class _Maker:
    """Draws the particulars of a fault."""

    def __init__(self, rng: random.Random, validators: tuple[str, ...], small_disk: str) -> None:
        self._rng = rng
        self._validators = validators
        self._endpoints = (*validators, CLIENTS)
        self._small_disk = small_disk

    def make(self, kind: Kind, at_ms: int, until_ms: int) -> Fault:
        """A fault of this kind, at this time."""
        makers: dict[Kind, Callable[[int, int], Fault]] = {
            Kind.KILL: self._kill,
            Kind.STORM: self._storm,
            Kind.PAUSE: self._pause,
            Kind.CLOCK: self._clock,
            Kind.DISK: self._disk,
            Kind.DESTROYED: self._destroyed,
            Kind.PARTITION: self._partition,
            Kind.ONE_WAY: self._one_way,
            Kind.LOSS: self._loss,
            Kind.DELAY: self._delay,
        }
        return makers[kind](at_ms, until_ms)

    def _some(self, most: int) -> tuple[str, ...]:
        return tuple(sorted(self._rng.sample(self._validators, self._rng.randint(1, most))))

    def _kill(self, at_ms: int, until_ms: int) -> Fault:
        nodes = self._some(1)
        return Fault(Kind.KILL, at_ms, until_ms, f"{nodes[0]} is killed", nodes)

    def _storm(self, at_ms: int, until_ms: int) -> Fault:
        strikes, strike_ms = [], at_ms
        while strike_ms < until_ms:
            strikes.append(Strike(strike_ms, self._some(len(self._validators))))
            strike_ms += self._rng.randint(800, 3_000)
        blows = "; ".join(", ".join(strike.nodes) for strike in strikes)
        nodes = tuple(sorted({node for strike in strikes for node in strike.nodes}))
        return Fault(Kind.STORM, at_ms, until_ms, f"killed one after another: {blows}", nodes, strikes=tuple(strikes))

    def _pause(self, at_ms: int, until_ms: int) -> Fault:
        nodes = self._some(len(self._validators) // 2)
        return Fault(Kind.PAUSE, at_ms, until_ms, f"{', '.join(nodes)} stopped", nodes)

    def _clock(self, at_ms: int, until_ms: int) -> Fault:
        nodes, offset_ms = self._some(1), self._rng.choice(CLOCK_OFFSETS_MS)
        what = f"{nodes[0]}'s clock is {offset_ms / 1000:+g} s off"
        return Fault(Kind.CLOCK, at_ms, until_ms, what, nodes, offset_ms=offset_ms)

    def _disk(self, at_ms: int, until_ms: int) -> Fault:
        return Fault(Kind.DISK, at_ms, until_ms, f"{self._small_disk}'s disk is full", (self._small_disk,))

    def _destroyed(self, at_ms: int, until_ms: int) -> Fault:
        """Not the one on the small disk: somebody keeps the blocks from the first one on, for new replicas."""
        name = self._rng.choice([name for name in self._validators if name != self._small_disk])
        return Fault(Kind.DESTROYED, at_ms, until_ms, f"{name}'s home and consensus keys are gone", (name,))

    def _partition(self, at_ms: int, until_ms: int) -> Fault:
        """One alone, halves, or everybody alone; the clients are with one of the groups."""
        order = self._rng.sample(self._validators, len(self._validators))
        shape = self._rng.choice(("one", "halves", "all"))
        if shape == "all":
            groups = [[name] for name in order]
        else:
            at = 1 if shape == "one" else len(order) // 2
            groups = [order[:at], order[at:]]
        self._rng.choice(groups).append(CLIENTS)
        named = " | ".join(", ".join(sorted(group)) for group in groups)
        return Fault(Kind.PARTITION, at_ms, until_ms, f"apart: {named}", bad=partition(*groups))

    def _one_way(self, at_ms: int, until_ms: int) -> Fault:
        """Nobody hears one, one hears nobody, or one does not hear another."""
        one, other = self._rng.sample(self._validators, 2)
        rest = tuple(name for name in self._endpoints if name != one)
        shape = self._rng.choice(("mute", "deaf", "link"))
        sources, targets, what = {
            "mute": ((one,), rest, f"nobody hears {one}"),
            "deaf": (rest, (one,), f"{one} hears nobody"),
            "link": ((one,), (other,), f"{other} does not hear {one}"),
        }[shape]
        return Fault(Kind.ONE_WAY, at_ms, until_ms, what, bad=(Bad(sources, targets, Condition(cut=True)),))

    def _loss(self, at_ms: int, until_ms: int) -> Fault:
        bad = everywhere(self._endpoints, Condition(loss=LOSS))
        return Fault(Kind.LOSS, at_ms, until_ms, f"{LOSS:.0%} loss everywhere", bad=bad)

    def _delay(self, at_ms: int, until_ms: int) -> Fault:
        bad = everywhere(self._endpoints, Condition(delay_ms=DELAY_MS))
        return Fault(Kind.DELAY, at_ms, until_ms, f"{DELAY_MS} ms more everywhere", bad=bad)
