"""Proposals as the state holds them."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from ledger.contract import Context
from ledger.operations import CardChange, ParameterChange, SetChange
from ledger.state import Table


class ProposalState(enum.IntEnum):
    """What the votes came to. Lapsed and expired are no states: epoch and block time say that."""

    OPEN = 1
    PASSED = 2
    REJECTED = 3


class Ballot(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One organisation's vote or consent: which, when, by which operation."""

    organisation: str
    """Organisation id."""
    approve: bool
    time_ms: int
    """Block time, milliseconds since 1970-01-01 UTC."""
    height: int
    """Block that holds the operation."""
    index: int
    """Place of the envelope in the block."""
    operation: int
    """Place of the operation in the envelope."""

    @classmethod
    def from_context(cls, approve: bool, context: Context) -> Ballot:
        """The vote that the current operation casts."""
        by = context.authority.organisation
        return cls(by, approve, context.time_ms, context.height, context.index, context.operation)


class ProposalRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One proposal, under its id."""

    proposal_id: bytes
    """16 bytes, chosen by the proposer."""
    epoch: int
    """In which it was made, and with which it lapses."""
    expires_ms: int
    """Last block time at which it can be voted for."""
    state: int
    """``ProposalState``."""
    set_change: SetChange | None
    card_change: CardChange | None
    parameter_change: ParameterChange | None
    """Exactly one of the three is there."""
    ballots: tuple[Ballot, ...]
    """Votes of validators in the order in which they were cast; the first is the proposer's."""
    consents: tuple[Ballot, ...]
    """Of supervisors, where consent is asked for."""

    @property
    def asks_consent(self) -> bool:
        """Whether it takes a supervisor's consent: it says anew who checks signatures (ledger.md)."""
        return self.parameter_change is not None and self.parameter_change.verification != ""


PROPOSALS: Final = Table(0x0C, ProposalRecord, "proposals")
