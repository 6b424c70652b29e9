"""The longest time in which no operation became final, and what was wrong then. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from chaos.history import Event, Executed, FaultBegan, FaultEnded


class Stall(msgspec.Struct, frozen=True):
    """A time without a receipt, seen from the clients together."""

    from_us: int
    until_us: int
    faults: tuple[str, ...]
    """Faults in force at some time of it, by kind and what they were."""

    @property
    def seconds(self) -> float:
        """How long."""
        return (self.until_us - self.from_us) / 1_000_000


def longest(events: Iterable[Event], from_us: int, until_us: int) -> Stall:
    """The longest between two receipts, or a receipt and either end of the time given."""
    events = list(events)
    moments = sorted(
        event.at_us for event in events if isinstance(event, Executed) and from_us <= event.at_us <= until_us
    )
    begin_us, end_us = from_us, from_us
    last_us = from_us
    for moment_us in (*moments, until_us):
        if moment_us - last_us > end_us - begin_us:
            begin_us, end_us = last_us, moment_us
        last_us = moment_us
    return Stall(begin_us, end_us, _in_force(events, begin_us, end_us))


def _in_force(events: Iterable[Event], from_us: int, until_us: int) -> tuple[str, ...]:
    found: list[str] = []
    open_: list[str] = []
    for event in events:
        if isinstance(event, FaultBegan) and event.at_us <= until_us:
            open_.append(f"{event.kind}: {event.what}")
        elif isinstance(event, FaultEnded):
            name = f"{event.kind}: {event.what}"
            if event.at_us < from_us and name in open_:
                open_.remove(name)
    for name in open_:
        if name not in found:
            found.append(name)
    return tuple(found)
