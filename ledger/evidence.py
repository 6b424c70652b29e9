"""Evidence on the ledger: who broke the rules of consensus, provably, is a matter of record.

One record for each (culprit, epoch, view, kind): a second proof of the same act changes nothing, whatever votes it is
made of. What is older than MAX_AGE_MS *and* more than MAX_AGE_BLOCKS below the block that lists it is not recorded any
more (CometBFT's rule, spec/consensus/evidence.md): old keys leak one day, and must not convict then. Nobody is punished
by code; what follows is decided by governance, and by the supervisor who reads it.
"""

from __future__ import annotations

import struct
from collections import Counter
from itertools import islice
from typing import Final

import msgspec

from consensus.evidence import Evidence, evidence_problem
from consensus.votes import VoteChecker
from ledger.epochs import find_epoch
from ledger.state import State, StateView, Table
from ledger.statement_types import Judge, Moment
from ledger.view_marks import VIEW_MARKS, ViewMark, forget_before, mark_after, write_mark

PER_CULPRIT_AND_KIND_MAX: Final = 8
"""Records of one culprit, epoch and kind. Guilt is shown by one; and a validator that breaks the rules in every view
would otherwise keep an idle network busy for ever with the blocks that record it."""

MAX_AGE_MS: Final = 14 * 24 * 3_600_000
"""A fortnight of block time: longer than a node is away that still knows something, far shorter than the 90 days after
which consensus keys are to be renewed and the old ones destroyed."""

MAX_AGE_BLOCKS: Final = 100_000
"""Eleven days of heartbeats of 10 s: a network that stood still for a month still records what happened just before."""

_KEY: Final = struct.Struct(">QIBQ")
_KEY_PREFIX: Final = struct.Struct(">QIB")


class EvidenceRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One provable breach, under ``evidence_key``."""

    kind: int
    """``consensus.evidence.EvidenceKind``."""
    organisation: str
    """Id of the culprit."""
    epoch: int
    view: int
    """In which it was committed."""
    height: int
    """Block that lists the proof."""
    time_ms: int
    """Its block time."""
    statement: bytes
    """Digest of the statement that proves it, 32 bytes; the block's payload holds the statement. (Who found it is not
    recorded: anybody may pass it on.)"""


EVIDENCE: Final = Table(0x0E, EvidenceRecord, "evidence")


def evidence_key(evidence: Evidence) -> bytes:
    """Epoch u64 | signer index u32 | kind u8 | view u64: one act, whatever proves it."""
    return key_of_act(evidence.vote.epoch, evidence.culprit, evidence.kind, evidence.vote.view)


def act(key: bytes) -> tuple[int, int, int, int]:
    """(epoch, signer index, kind, view) of an ``evidence_key``."""
    epoch, signer, kind, view = _KEY.unpack(key)
    return epoch, signer, kind, view


def key_of_act(epoch: int, signer: int, kind: int, view: int) -> bytes:
    """The ``evidence_key`` of an act; struct.error where a number is out of range."""
    return _KEY.pack(epoch, signer, kind, view)


def subject(evidence: Evidence) -> tuple[int, int]:
    """(epoch, signer index) of whom it accuses."""
    return (evidence.vote.epoch, evidence.culprit)


def problem(evidence: Evidence, judge: Judge) -> str | None:
    """Why it convicts nobody; None if it does."""
    rules = judge.rules_of(evidence.vote.epoch)
    if rules is None:
        return "votes of an epoch whose validators are not known"
    return evidence_problem(evidence, rules, VoteChecker(rules.chain_id, rules.validators, judge.signatures))


def is_due(evidence: Evidence, view: StateView, moment: Moment) -> bool:
    """Whether recording it would change the state."""
    if _member(view, *subject(evidence)) is None or view.get(EVIDENCE, evidence_key(evidence)) is not None:
        return False
    since = mark_after(view, evidence.vote.epoch, evidence.vote.view)
    if since is not None and _is_expired(since, moment):
        return False
    prefix = _KEY_PREFIX.pack(evidence.vote.epoch, evidence.culprit, evidence.kind)
    recorded = islice(view.iterate(EVIDENCE, prefix), PER_CULPRIT_AND_KIND_MAX)
    return sum(1 for _ in recorded) < PER_CULPRIT_AND_KIND_MAX


def execute(evidence: Evidence, digest: bytes, view: StateView, moment: Moment) -> EvidenceRecord | None:
    """Record it, if it is due; the record."""
    if not is_due(evidence, view, moment):
        return None
    organisation = _member(view, *subject(evidence)) or ""
    record = EvidenceRecord(
        kind=evidence.kind,
        organisation=organisation,
        epoch=evidence.vote.epoch,
        view=evidence.vote.view,
        height=moment.height,
        time_ms=moment.time_ms,
        statement=digest,
    )
    view.put(EVIDENCE, evidence_key(evidence), record)
    return record


def end_block(view: StateView, moment: Moment, parent_time_ms: int) -> None:
    """Keep what tells ages, as far back as evidence is taken: the marks since the youngest that has expired."""
    if not write_mark(view, moment, parent_time_ms):
        return
    expired = [mark for _, mark in view.iterate(VIEW_MARKS) if _is_expired(mark, moment)]
    if expired:
        forget_before(view, expired[-1])


def breaches(state: State) -> dict[str, int]:
    """How many are recorded after the last executed block, by culprit."""
    records = (EVIDENCE.decode(raw) for _, raw in state.committed_after(EVIDENCE))
    return dict(sorted(Counter(record.organisation for record in records).items()))


def _is_expired(since: ViewMark, moment: Moment) -> bool:
    return moment.time_ms - since.time_ms > MAX_AGE_MS and moment.height - since.height > MAX_AGE_BLOCKS


def _member(view: StateView, epoch: int, signer: int) -> str | None:
    """Organisation of a signer index; None where the epoch has not begun, or the set is smaller."""
    record = find_epoch(view, epoch)
    return record.members[signer].organisation if record is not None and signer < len(record.members) else None
