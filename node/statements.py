"""Statements that wait to be listed: checked, kept within bounds, passed on to the other validators.

    found or received    one that is due and not here yet is checked (a false one costs its sender), kept, sent to all
    a peer reconnects    it gets all that is here
    a block executes     what is no longer due is forgotten
    leading              lists what the branch it builds on has not listed yet

Due is what executing it on the own executed state would still change (ledger/statements.py). So a statement that was
committed is neither kept, nor passed on, nor a reason for another block. Nothing is stored: whoever holds the bytes
that prove a statement can make it again, and every honest node has been sent it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Final, Protocol

from consensus.types import Header
from ledger import statements, wire
from ledger.statement_types import Judge, Moment
from ledger.types import STATEMENT_BYTES_MAX, Statement, StatementContent
from node.turn import Penalty, Turn

SUBJECT_BYTES_MAX: Final = 2 * STATEMENT_BYTES_MAX
"""Of or about one validator: one of the largest size and many of the usual 300 bytes. What comes beyond is dropped; it
may come again when those before it are committed."""

JUDGED_MAX: Final = 1024
"""Statements remembered as true, so that one that was gossiped is not checked again when a block lists it: 64 a block,
and more blocks than K below the tip."""


class StatementState(Protocol):
    """What execution has come to, as far as statements read it."""

    def is_due(self, statement: Statement, moment: Moment) -> bool:
        """Would executing it on the state after ``moment`` write anything?"""


def moment_of(header: Header) -> Moment:
    """The moment of a block."""
    return Moment(header.height, header.timestamp_ms, header.epoch, header.view)


class StatementPool:
    """See the module text.

    Args:
        judge: rules of the epochs, and how signatures are checked.
        state: executed state.
        root: header of the last executed block, or of the genesis.
    """

    def __init__(self, judge: Judge, state: StatementState, root: Header) -> None:
        self._judge = judge
        self._state = state
        self._moment = moment_of(root)
        self._held: dict[bytes, Statement] = {}  #: by identity, oldest first
        self._bytes: dict[tuple[int, int], int] = {}  #: held, by subject
        self._true: dict[bytes, None] = {}  #: digests, oldest first

    def __len__(self) -> int:
        return len(self._held)

    # -- coming in -----------------------------------------------------------------------------

    def found(self, content: StatementContent, turn: Turn) -> None:
        """This node itself found out something, and has checked it."""
        try:
            statement = wire.encode_statement(content)
        except wire.WireError:
            return  # longer than a statement may be: it stays in the alarms of those who met it
        if self._has_room(statement):
            self._remember_true(statement)
            self._keep(statement, turn)

    def on_statement(self, statement: Statement, sender: str, turn: Turn) -> None:
        """A peer passes one on."""
        if not self._has_room(statement):
            return
        problem = self.problem(statement)
        if problem is not None:
            turn.penalties.append(Penalty(sender, f"statement that is not true: {problem}"))
            return
        self._keep(statement, turn)

    def on_connected(self, peer: str, turn: Turn) -> None:
        """The peer may have missed what was sent before."""
        turn.sends.extend((peer, statement) for statement in self._held.values())

    def _has_room(self, statement: Statement) -> bool:
        """Is it due, not here yet, and within its subject's share? Asked before it is checked."""
        if statements.identity(statement) in self._held or not self._state.is_due(statement, self._moment):
            return False
        held = self._bytes.get(statements.subject(statement), 0)
        return held + len(statement.raw) <= SUBJECT_BYTES_MAX

    def _keep(self, statement: Statement, turn: Turn) -> None:
        self._held[statements.identity(statement)] = statement
        subject = statements.subject(statement)
        self._bytes[subject] = self._bytes.get(subject, 0) + len(statement.raw)
        turn.sends.append((None, statement))

    # -- checking ------------------------------------------------------------------------------

    def problem(self, statement: Statement) -> str | None:
        """Why it is not true; None if it is. Those found true lately cost nothing."""
        if statement.digest in self._true:
            return None
        problem = statements.problem(statement, self._judge)
        if problem is None:
            self._remember_true(statement)
        return problem

    def read(self, raws: Sequence[bytes]) -> tuple[Statement, ...] | None:
        """The statements a block lists; None if one does not decode or is not true: then the block is invalid."""
        found: list[Statement] = []
        for raw in raws:
            try:
                statement = wire.decode_statement(raw)
            except wire.WireError:
                return None
            if self.problem(statement) is not None:
                return None
            found.append(statement)
        return tuple(found)

    def _remember_true(self, statement: Statement) -> None:
        self._true[statement.digest] = None
        if len(self._true) > JUDGED_MAX:
            del self._true[next(iter(self._true))]

    # -- going out -----------------------------------------------------------------------------

    def listable(self, listed: Set[bytes]) -> Iterator[Statement]:
        """What a leader may list on a branch that lists these identities above the executed block; oldest first."""
        return (statement for identity, statement in self._held.items() if identity not in listed)

    def on_executed(self, header: Header) -> None:
        """A block was executed."""
        self._moment = moment_of(header)
        for identity, statement in list(self._held.items()):
            if not self._state.is_due(statement, self._moment):
                del self._held[identity]
                subject = statements.subject(statement)
                self._bytes[subject] -= len(statement.raw)
                if not self._bytes[subject]:
                    del self._bytes[subject]


def identities(listed: Sequence[Statement]) -> list[bytes]:
    """What these statements are about."""
    return [statements.identity(statement) for statement in listed]
