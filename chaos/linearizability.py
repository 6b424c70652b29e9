"""Whether a recorded history of operations on one object is linearizable. Pure.

A history is linearizable (Herlihy, Wing, "Linearizability", ACM TOPLAS 1990) if each operation can be given one
instant between its invocation and its return, so that, taken in the order of these instants, every operation answers
what a sequential object answers. Histories of several objects are checked one object at a time: linearizability is
local (their theorem 1).

The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", JPDC 1993): take any operation whose
invocation lies before every return not yet taken, apply it, go on; where nothing fits, go back. Lowe's addition
("Testing for linearizability", CCPE 2017) makes it fast: a pair of (operations taken, state) that was reached before
and led nowhere is not entered again.

An operation whose outcome nobody knows may take effect at any time after its invocation, or never, and may answer
anything. Equal times count as concurrent: a clock that is too coarse forgives, it never accuses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

import msgspec

CONFIGURATIONS_MAX: Final = 2_000_000
"""Pairs remembered before the search gives up, some 150 bytes each. A record with a score of clients needs hundreds."""

State = TypeVar("State", bound=Hashable)
Input = TypeVar("Input")
Output = TypeVar("Output")


class Operation(msgspec.Struct, Generic[Input, Output], frozen=True):
    """One operation of a history. Times are of one clock, in any unit."""

    id: int
    invoked: int
    returned: int | None
    """None: nobody ever heard of it again."""
    input: Input
    output: Output | None
    """None: unknown; any answer is as good."""


class Verdict(msgspec.Struct, frozen=True):
    """What the search found."""

    linearizable: bool
    order: tuple[int, ...]
    """Ids in an order that explains the history; where there is none, in one that explains the most of it."""
    stuck: tuple[int, ...] = ()
    """Where there is none: operations, one of which had to come next, and none could."""
    configurations: int = 0
    """Pairs of (operations taken, state) that were looked at."""


class SearchTooLarge(Exception):
    """The search was given up: nothing is known of this history.

    Attributes:
        configurations: pairs looked at.
    """

    def __init__(self, configurations: int) -> None:
        super().__init__(f"given up after {configurations:,} configurations")
        self.configurations = configurations


class _Entry:
    """An invocation or a return in the list of what is not taken yet."""

    __slots__ = ("after", "before", "bit", "partner")

    def __init__(self, bit: int = 0) -> None:
        self.bit = bit
        """Of an invocation: its operation's, in the set of those taken. 0: a return, or the head."""
        self.partner: _Entry | None = None
        """Of an invocation: its return. None for a return, and where there never was one."""
        self.before: _Entry = self
        self.after: _Entry | None = None

    def lift(self) -> None:
        """Take it out of the list; it remembers its place."""
        self.before.after = self.after
        if self.after is not None:
            self.after.before = self.before

    def put_back(self) -> None:
        """Undo ``lift``; in the opposite order only."""
        self.before.after = self
        if self.after is not None:
            self.after.before = self


def check(
    operations: Sequence[Operation[Input, Output]],
    initial: State,
    apply: Callable[[State, Input], tuple[State, Output]],
    *,
    configurations_max: int = CONFIGURATIONS_MAX,
) -> Verdict:
    """Search for an order that explains the operations on one object.

    Args:
        operations: in any order; ids differ.
        initial: state of the object before them.
        apply: the sequential object: (state, input) -> (state after, output). Total and pure.

    Raises:
        SearchTooLarge: no answer within ``configurations_max``.
    """
    by_bit = {1 << at: operation for at, operation in enumerate(operations)}
    head = _listed(by_bit)
    owing = sum(operation.returned is not None for operation in operations)
    state, taken = initial, 0
    stack: list[tuple[_Entry, State]] = []
    seen: set[tuple[int, State]] = set()
    best: tuple[int, ...] = ()
    stuck: tuple[int, ...] = ()
    entry = head.after
    while owing:
        if entry is not None and entry.bit:
            operation = by_bit[entry.bit]
            after, output = apply(state, operation.input)
            key = (taken | entry.bit, after)
            if (operation.output is None or output == operation.output) and key not in seen:
                if len(seen) >= configurations_max:
                    raise SearchTooLarge(len(seen))
                seen.add(key)
                stack.append((entry, state))
                state, taken = after, taken | entry.bit
                entry.lift()
                if entry.partner is not None:
                    entry.partner.lift()
                    owing -= 1
                entry = head.after
            else:
                entry = entry.after
            continue
        # A return, or the end of the list: its operation had to be taken before.
        if not stuck or len(stack) > len(best):
            best, stuck = _order(stack, by_bit), _candidates(head, by_bit)
        if not stack:
            return Verdict(False, best, stuck, len(seen))
        entry, state = stack.pop()
        taken &= ~entry.bit
        if entry.partner is not None:
            entry.partner.put_back()
            owing += 1
        entry.put_back()
        entry = entry.after
    return Verdict(True, _order(stack, by_bit), (), len(seen))


def _listed(by_bit: Mapping[int, Operation[Input, Output]]) -> _Entry:
    """The head of the list of invocations and returns in order of time, invocations before returns of the same time."""
    places: list[tuple[int, int, int, _Entry]] = []
    for bit, operation in by_bit.items():
        invocation = _Entry(bit)
        places.append((operation.invoked, 0, bit, invocation))
        if operation.returned is not None:
            invocation.partner = _Entry()
            places.append((max(operation.returned, operation.invoked), 1, bit, invocation.partner))
    places.sort(key=lambda place: place[:3])
    head = last = _Entry()
    for *_, entry in places:
        last.after, entry.before = entry, last
        last = entry
    return head


def _order(stack: Sequence[tuple[_Entry, State]], by_bit: Mapping[int, Operation[Input, Output]]) -> tuple[int, ...]:
    return tuple(by_bit[entry.bit].id for entry, _ in stack)


def _candidates(head: _Entry, by_bit: Mapping[int, Operation[Input, Output]]) -> tuple[int, ...]:
    """Operations that may come next: invoked before the first return that is left."""
    found: list[int] = []
    entry = head.after
    while entry is not None and entry.bit:
        found.append(by_bit[entry.bit].id)
        entry = entry.after
    return tuple(found)
