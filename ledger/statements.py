"""Statements: what validators state and everybody can check, listed in blocks beside what clients sign.

A statement proves itself, so nobody signs an envelope for it, and it gets no receipt: there is no client to answer. Its
effect is a record. Each kind says, as pure functions:

    identity    what it is about: two statements with one identity say the same
    subject     (epoch, signer index) of the validator it is of or about: whose share of a node's pool it takes
    problem     why it is not true: makes a block that lists it invalid. Depends on the statement and the rules of the
                epochs only, never on what else was listed: a statement that comes too late or twice is no fault
    is_due      whether executing it on this state would write anything. Nobody honest lists one that is not due, so a
                statement that has had its effect makes no further blocks
    execute     its effect; none if it is not due

Limits are in ``ledger.types``, bytes in ``ledger.wire.statements``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from consensus.evidence import ConflictingVotes, FalseJustification
from consensus.justification import HeaderRules
from ledger import evidence, key_statements
from ledger.genesis import Genesis
from ledger.header_chain import PROTOCOL_VERSION
from ledger.known_epochs import KnownEpochs
from ledger.state import StateView
from ledger.statement_types import Ed25519, Judge, Moment
from ledger.types import KeyRegistration, Readiness, Statement


class Kind(NamedTuple):
    """One kind of statement, by what its content is."""

    identity: Callable[[Any], bytes]
    subject: Callable[[Any], tuple[int, int]]
    problem: Callable[[Any, Judge], str | None]
    is_due: Callable[[Any, StateView, Moment], bool]
    execute: Callable[[Any, bytes, StateView, Moment], msgspec.Struct | None]


_EVIDENCE: Final = Kind(
    identity=lambda content: b"evidence" + evidence.evidence_key(content),
    subject=evidence.subject,
    problem=evidence.problem,
    is_due=evidence.is_due,
    execute=evidence.execute,
)

_REGISTRATION: Final = Kind(
    identity=key_statements.registration_identity,
    subject=key_statements.registration_subject,
    problem=key_statements.registration_problem,
    is_due=key_statements.registration_is_due,
    execute=key_statements.execute_registration,
)

_READINESS: Final = Kind(
    identity=key_statements.readiness_identity,
    subject=key_statements.readiness_subject,
    problem=key_statements.readiness_problem,
    is_due=key_statements.readiness_is_due,
    execute=key_statements.execute_readiness,
)

_KINDS: Final[dict[type, Kind]] = {
    ConflictingVotes: _EVIDENCE,
    FalseJustification: _EVIDENCE,
    KeyRegistration: _REGISTRATION,
    Readiness: _READINESS,
}


def identity(statement: Statement) -> bytes:
    """What it is about; equal for statements that say the same."""
    return _kind(statement).identity(statement.content)


def subject(statement: Statement) -> tuple[int, int]:
    """(epoch, signer index) of the validator it is of or about."""
    return _kind(statement).subject(statement.content)


def problem(statement: Statement, judge: Judge) -> str | None:
    """Why it is not true; None if it is."""
    return _kind(statement).problem(statement.content, judge)


def is_due(statement: Statement, view: StateView, moment: Moment) -> bool:
    """Whether executing it on this state would write anything."""
    return _kind(statement).is_due(statement.content, view, moment)


def execute(statement: Statement, view: StateView, moment: Moment) -> msgspec.Struct | None:
    """Its effect; the block was valid, so it is true. The record it left; None if it had no effect."""
    return _kind(statement).execute(statement.content, statement.digest, view, moment)


def judge_of(genesis: Genesis) -> Judge:
    """What judges statements of the first epoch, from the genesis file alone."""
    return judge_from(KnownEpochs.of_genesis(genesis))


def judge_from(known: KnownEpochs) -> Judge:
    """What judges statements of the epochs that a verifier knows."""
    rules = {
        epoch: HeaderRules(PROTOCOL_VERSION, known.chain_id, start.validators, start.genesis)
        for epoch, start in known.starts.items()
    }
    return Judge(rules.get, Ed25519())


def _kind(statement: Statement) -> Kind:
    return _KINDS[type(statement.content)]
