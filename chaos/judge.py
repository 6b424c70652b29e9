"""What is promised to clients, held against a recorded history. Pure; docs/chaos.md says it in words.

linearizable   The operations on each claim that went through consensus, refused ones and probes included, have an
               order that keeps real time and explains every answer (``linearizability``). Nothing a node says
               about order is believed here.
total order    Receipts place every executed envelope at one (height, index). That order keeps real time over all
               claims, and applying it to each claim gives the codes that the receipts hold.
reads          A read of a node may be old, and says how old: it shows exactly what the receipts up to its height
               make of the claim. No node goes back, and once a node has said FINAL it shows that height or more.
one answer     No operation is answered twice differently; none both executed and failed.
complete       Nothing is missing in the history that would have to be there (``completeness``).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from chaos.claim_model import ABSENT, Answer, Claim, Kind, Request, apply
from chaos.completeness import gaps, lost
from chaos.history import (
    DESTROYED,
    SETTLEMENT,
    Event,
    Executed,
    FaultBegan,
    FaultEnded,
    Invoked,
    Read,
    Story,
    stories,
)
from chaos.linearizability import Operation, SearchTooLarge, check

SHOWN_MAX = 5
"""Violations of one promise that are spelled out."""


class Judgement(msgspec.Struct, frozen=True):
    """What holds, and what does not."""

    linearizable: bool
    """Including the total order and the reads."""
    complete: bool
    """Whether the history is whole: otherwise the rest is said of what is left of it."""
    operations: int
    """Operations that were judged."""
    acknowledged: int
    lost: int
    """Of those acknowledged, neither executed nor expired."""
    reads: int
    records: int
    configurations: int
    """Of the search, over all records."""
    problems: tuple[str, ...]


def judge(events: Sequence[Event]) -> Judgement:
    """Judge a history. The reads of SETTLEMENT show claims as they stood when nothing was in flight any more."""
    told = stories(events)
    reads = [event for event in events if isinstance(event, Read)]
    by_record: dict[str, list[Story]] = defaultdict(list)
    for story in told.values():
        by_record[story.invoked.record].append(story)
    settled = {read.record: ABSENT if read.claim is None else read.claim for read in reads if read.client == SETTLEMENT}
    end_us = max((event.at_us for event in events), default=0) + 1
    configurations, problems = 0, _contradictions(events)
    for record, of_record in by_record.items():
        found, looked_at = _not_linearizable(record, of_record, settled.get(record), end_us)
        problems += found
        configurations += looked_at
    problems += _order_and_time(told.values())
    states = {
        record: _replayed(record, of_record, problems)
        for record, of_record in by_record.items()
        if not any(story.open for story in of_record)
    }
    problems += _never_asked(reads, by_record)
    problems += _reads(reads, states)
    problems += _going_back(events, reads)
    missing = gaps(events)
    return Judgement(
        not problems,
        not missing,
        sum(story.failed is None for story in told.values()),
        sum(story.acknowledged for story in told.values()),
        sum(lost(story) for story in told.values()),
        len(reads),
        len(by_record),
        configurations,
        (*problems, *missing),
    )


def operations_of(of_record: Iterable[Story]) -> list[Operation[Request, Answer]]:
    """The operations on one claim that may have taken effect, as the search wants them."""
    return [
        Operation(
            story.invoked.op,
            story.invoked.at_us,
            story.final.at_us if story.final is not None else None,
            Request(story.invoked.kind, story.invoked.amount),
            story.final.codes if story.final is not None else None,
        )
        for story in of_record
        if story.failed is None
    ]


# ---------------------------------------------------------------- one answer


def _contradictions(events: Iterable[Event]) -> list[str]:
    problems = []
    finals: dict[int, Executed] = {}
    for event in events:
        if isinstance(event, Executed):
            first = finals.setdefault(event.op, event)
            if (first.height, first.index, first.codes) != (event.height, event.index, event.codes):
                problems.append(
                    f"operation {event.op}: {first.node} says {_place(first)} {first.codes}, "
                    f"{event.node} says {_place(event)} {event.codes}"
                )
    for op, story in stories(events).items():
        if story.final is not None and story.failed is not None:
            problems.append(f"operation {op} is final at {_place(story.final)}, and failed: {story.failed.why}")
    return problems[:SHOWN_MAX]


# ---------------------------------------------------------------- linearizable


def _not_linearizable(
    record: str, of_record: Sequence[Story], settled: tuple[int, ...] | None, end_us: int
) -> tuple[list[str], int]:
    operations = operations_of(of_record)
    if settled is not None:
        operations.append(Operation(0, end_us, end_us, Request(Kind.READ), tuple(settled)))
    try:
        verdict = check(operations, ABSENT, apply)
    except SearchTooLarge as error:
        return [f"claim {record[:16]} with {len(operations)} operations: {error}"], error.configurations
    if verdict.linearizable:
        return [], verdict.configurations
    told = {story.invoked.op: story for story in of_record}
    stuck = "; ".join(_told(told[op]) if op else f"settled state {settled}" for op in verdict.stuck[:SHOWN_MAX])
    order = ", ".join(str(op) for op in verdict.order)
    return [f"claim {record[:16]} is not linearizable: after operations {order} none of these fits: {stuck}"], (
        verdict.configurations
    )


def _told(story: Story) -> str:
    asked = f"{story.invoked.op} {story.invoked.kind} {story.invoked.amount} by {story.invoked.client}"
    return f"{asked} -> {story.final.codes}" if story.final is not None else f"{asked} -> nothing heard"


# ---------------------------------------------------------------- total order


def _order_and_time(told: Iterable[Story]) -> list[str]:
    """Executed envelopes have different places, and who was final before another was invoked lies before it."""
    problems = []
    placed = [(story.invoked, story.final) for story in told if story.final is not None]
    at: dict[tuple[int, int], int] = {}
    for invoked, final in placed:
        other = at.setdefault((final.height, final.index), invoked.op)
        if other != invoked.op:
            problems.append(f"operations {other} and {invoked.op} are both at {_place(final)}")
    done = sorted((final.at_us, (final.height, final.index), invoked.op) for invoked, final in placed)
    highest: list[tuple[tuple[int, int], int]] = []
    for _, place, op in done:
        highest.append(max((place, op), highest[-1]) if highest else (place, op))
    times = [time for time, *_ in done]
    for invoked, final in placed:
        before = bisect_right(times, invoked.at_us - 1)
        if before and highest[before - 1][0] > (final.height, final.index):
            place, op = highest[before - 1]
            problems.append(
                f"operation {op} was final at block {place[0]} place {place[1]} before operation {invoked.op} was "
                f"invoked, which was then executed before it, at {_place(final)}"
            )
    return problems[:SHOWN_MAX]


_States = Sequence[tuple[tuple[int, int], Claim, tuple[tuple[int, int], ...]]]
"""Of one claim, ascending by place: (place, claim from there on, places of the operations that took effect)."""


def _replayed(record: str, of_record: Iterable[Story], problems: list[str]) -> _States:
    """The states of a claim in the order of the receipts; codes that differ from the model's go to ``problems``."""
    executed: list[tuple[Invoked, Executed]] = [
        (story.invoked, story.final) for story in of_record if story.final is not None
    ]
    executed.sort(key=lambda pair: (pair[1].height, pair[1].index))
    claim = ABSENT
    effective: tuple[tuple[int, int], ...] = ()
    states: list[tuple[tuple[int, int], Claim, tuple[tuple[int, int], ...]]] = []
    for invoked, final in executed:
        place = (final.height, final.index)
        after, answer = apply(claim, Request(invoked.kind, invoked.amount))
        if answer != final.codes and len(problems) < 4 * SHOWN_MAX:
            problems.append(
                f"claim {record[:16]}: operation {invoked.op} ({invoked.kind} {invoked.amount}) at {_place(final)} "
                f"answered {final.codes}; after {claim.stage.name} it must be {answer}"
            )
        if after != claim:
            effective = (*effective, place)
        claim = after
        states.append((place, claim, effective))
    return states


# ---------------------------------------------------------------- reads


def _never_asked(reads: Iterable[Read], by_record: Mapping[str, object]) -> list[str]:
    shown = {read.record: read for read in reads if read.claim is not None and read.record not in by_record}
    return [f"{read.node} showed claim {record[:16]}, which nobody asked for" for record, read in shown.items()][
        :SHOWN_MAX
    ]


def _reads(reads: Iterable[Read], states: Mapping[str, _States]) -> list[str]:
    """Each read shows what the receipts up to its height make of the claim."""
    problems = []
    for read in reads:
        if read.claim is None or read.record not in states:
            continue  # nothing is dated; or what became of an operation on the claim is not known
        of_record = states[read.record]
        upto = bisect_right([place for place, *_ in of_record], (read.height, 1 << 62))
        expected, effective = (of_record[upto - 1][1], of_record[upto - 1][2]) if upto else (ABSENT, ())
        # A record names the place of each state it reached; one operation may reach two.
        if tuple(read.claim) != tuple(expected) or tuple(dict.fromkeys(read.places)) != effective:
            problems.append(
                f"{read.node} showed claim {read.record[:16]} at height {read.height} as {read.claim} made at "
                f"{read.places}; the receipts up to there make it {tuple(expected)} at {effective}"
            )
    return problems[:SHOWN_MAX]


def _going_back(events: Sequence[Event], reads: Sequence[Read]) -> list[str]:
    """No node shows an older state than it showed, or said was final, before the read began.

    A destroyed validator's new home begins with nothing, and answers while it catches up. Once it is back it is bound
    by all that the home before it had said.
    """
    problems = []
    told = stories(events)
    seen: dict[str, list[tuple[int, int]]] = defaultdict(list)
    known: dict[tuple[str, str], int] = {}
    """When a node had first shown a claim, or said that it is final that there is one."""
    for event in events:
        if isinstance(event, Executed):
            seen[event.node].append((event.at_us, event.height))
            story = told.get(event.op)
            if story is not None and story.invoked.kind is Kind.NOTIFY and event.codes == (0,):
                known.setdefault((event.node, story.invoked.record), event.at_us)
        elif isinstance(event, Read) and event.claim is not None:
            known.setdefault((event.node, event.record), event.at_us)
            if not event.proven:
                seen[event.node].append((event.at_us, event.height))
    for node, heights in seen.items():
        heights.sort()
        seen[node] = heights[:1]
        for at_us, height in heights[1:]:
            seen[node].append((at_us, max(height, seen[node][-1][1])))
    away = _away(events)
    for read in reads:
        if any(from_us <= read.at_us and read.began_us <= until_us for from_us, until_us in away.get(read.node, ())):
            continue
        heights = seen.get(read.node, [])
        before = bisect_right(heights, (read.began_us, -1))
        if read.claim is None:
            if known.get((read.node, read.record), read.began_us) < read.began_us:
                problems.append(
                    f"{read.node} had shown claim {read.record[:16]} or said it is final, and then shows none"
                )
        elif not read.proven and before and heights[before - 1][1] > read.height:
            problems.append(
                f"{read.node} showed height {read.height} after it had shown or said final {heights[before - 1][1]}"
            )
    return problems[:SHOWN_MAX]


def _away(events: Iterable[Event]) -> Mapping[str, Sequence[tuple[int, float]]]:
    """From when to when each validator was destroyed and not back yet."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for event in events:
        if isinstance(event, FaultBegan) and event.kind == DESTROYED:
            for node in event.nodes:
                found[node].append((event.at_us, math.inf))
        elif isinstance(event, FaultEnded) and event.kind == DESTROYED:
            for node in event.nodes:
                found[node] = [(from_us, min(until_us, event.at_us)) for from_us, until_us in found[node]]
    return found


def _place(final: Executed) -> str:
    return f"block {final.height} place {final.index}"
