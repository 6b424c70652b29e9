"""Whether a history is whole: what a judge of order alone would let pass, because nothing contradicts it. Pure.

cut         It begins with who the clients are and ends with how many events and operations there were.
unasked     Operations are numbered without a gap, each is invoked once, and only what was asked for is answered.
silent      No client stops: each asks again and again until it is told to stop, and some of what it asked is final.
unanswered  No client waits for ever: what it asked for is executed or has expired, and it is told so.
open        In the end something is known of every operation: a receipt, or that it never took effect.
refused     What a node had vouched for may expire, and fails in no other way.
left out    It does not expire while the network works: operations asked for well after it was acknowledged are not
            executed well before its last moment, and it is not.
unread      Every claim that something happened to was read with proof when nothing was in flight any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from chaos.history import (
    EXPIRED,
    SETTLEMENT,
    Accepted,
    Began,
    Ended,
    Event,
    Executed,
    Failed,
    Invoked,
    Proven,
    Read,
    Stopped,
    Story,
    Unknown,
    stories,
)

SHOWN_MAX: Final = 5
"""Gaps of one kind that are spelled out."""
SILENT_US: Final = 20_000_000
"""A client waits 6 s for an answer and 1 s for a read, then asks for something else: thrice that, on a busy machine."""
ANSWER_US: Final = 55_000_000
"""An envelope lives 30 s; the next block then says that it expired. The rest is for a network that stands still."""
MARGIN_US: Final = 5_000_000
"""On both sides of the operations that show that the network worked: a batch is listed within two delays of its
acknowledgement, and clocks of validators differ by 2 s."""


def gaps(events: Sequence[Event]) -> list[str]:
    """What is missing; empty if the history is whole."""
    told = stories(events)
    return [
        *_cut(events, told),
        *_unasked(events, told)[:SHOWN_MAX],
        *_silent(events, told.values()),
        *_unanswered(told.values())[:SHOWN_MAX],
        *_open(told.values())[:SHOWN_MAX],
        *_refused(told.values())[:SHOWN_MAX],
        *_left_out(told.values())[:SHOWN_MAX],
        *_unread(events, told.values())[:SHOWN_MAX],
    ]


def lost(story: Story) -> bool:
    """Acknowledged, and neither executed nor expired."""
    expired = story.failed is not None and story.failed.why == EXPIRED
    return story.acknowledged and story.final is None and not expired


def _cut(events: Sequence[Event], told: Mapping[int, Story]) -> list[str]:
    if not events or not isinstance(events[0], Began):
        return ["the history has no beginning: it does not say who the clients are"]
    last = events[-1]
    if not isinstance(last, Ended):
        return ["the history is cut: it does not say that the run came to its end"]
    found = []
    if last.events != len(events) - 1:
        found.append(f"the history is cut: {len(events) - 1} events of {last.events} are left")
    if last.operations != len(told):
        found.append(f"the history is cut: {len(told)} operations of {last.operations} are left")
    return found


def _unasked(events: Sequence[Event], told: Mapping[int, Story]) -> list[str]:
    found: list[str] = []
    asked: set[int] = set()
    for event in events:
        if isinstance(event, Invoked):
            if event.op in asked:
                found.append(f"operation {event.op} was asked for twice")
            asked.add(event.op)
        elif isinstance(event, Accepted | Executed | Proven | Failed | Unknown) and event.op not in asked:
            found.append(f"operation {event.op} was answered, and nothing says that it was asked for")
    found += [f"operation {op} is missing" for op in range(1, max(told, default=0)) if op not in told]
    return list(dict.fromkeys(found))


def _silent(events: Sequence[Event], told: Collection[Story]) -> list[str]:
    began = next((event for event in events if isinstance(event, Began)), None)
    if began is None:
        return []
    stopped_us = next((event.at_us for event in events if isinstance(event, Stopped)), None)
    if stopped_us is None:
        return ["nothing says when the clients were told to stop"]
    found = []
    by_client: dict[str, list[Story]] = defaultdict(list)
    for story in told:
        by_client[story.invoked.client].append(story)
    for client in began.clients:
        moments = [began.at_us, *(story.invoked.at_us for story in by_client[client]), stopped_us]
        at = max(range(1, len(moments)), key=lambda at: moments[at] - moments[at - 1])
        if moments[at] - moments[at - 1] > SILENT_US:
            found.append(
                f"client {client} asked for nothing from {moments[at - 1] / 1e6:.1f} s to {moments[at] / 1e6:.1f} s"
            )
        if not any(story.final for story in by_client[client]):
            found.append(f"nothing that client {client} asked for became final")
    return found


def _unanswered(told: Collection[Story]) -> list[str]:
    found = []
    for story in told:
        answered = [event.at_us for event in (story.final, story.failed) if event is not None]
        if answered and min(answered) - story.invoked.at_us > ANSWER_US:
            found.append(
                f"client {story.invoked.client} asked for operation {story.invoked.op} at "
                f"{story.invoked.at_us / 1e6:.1f} s and was told nothing until {min(answered) / 1e6:.1f} s"
            )
    return found


def _open(told: Collection[Story]) -> list[str]:
    return [
        f"nobody knows what became of operation {story.invoked.op}"
        + (", which was acknowledged" if story.acknowledged else "")
        for story in told
        if story.open
    ]


def _refused(told: Collection[Story]) -> list[str]:
    return [
        f"operation {story.invoked.op} was acknowledged by a node, and then failed: {story.failed.why}, "
        f"says {story.failed.node}"
        for story in told
        if story.accepted_us is not None and story.failed is not None and story.failed.why != EXPIRED
    ]


def _left_out(told: Collection[Story]) -> list[str]:
    executed = sorted((story.invoked.at_us, story.final.at_us) for story in told if story.final is not None)
    found = []
    for story in told:
        if story.accepted_us is None or story.final is not None:
            continue
        from_us = story.accepted_us + MARGIN_US
        until_us = story.invoked.at_us + story.invoked.lives_ms * 1_000 - MARGIN_US
        served = sum(from_us <= invoked_us and final_us <= until_us for invoked_us, final_us in executed)
        if served:
            found.append(
                f"operation {story.invoked.op} was acknowledged at {story.accepted_us / 1e6:.1f} s and never executed, "
                f"while {served} that were asked for later were: it was left out"
            )
    return found


def _unread(events: Sequence[Event], told: Collection[Story]) -> list[str]:
    read = {
        event.record
        for event in events
        if isinstance(event, Read) and event.client == SETTLEMENT and (event.proven or event.claim is None)
    }
    touched = dict.fromkeys(story.invoked.record for story in told if story.final is not None)
    return [f"claim {record[:16]} was not read with proof in the end" for record in touched if record not in read]
