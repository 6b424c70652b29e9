"""What QueryService asks of whoever serves it: the same for a validator's node and a supervisor's replica.

Values in, values out; ``services.query`` makes messages of them. Reads see the state after the last executed block,
never a block that is being executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ledger.proof_types import EnvelopeProof, ReceiptProof, RecordProof
from services.sources import StoredBlock


class HeightRoots(msgspec.Struct, frozen=True):
    """Roots after an executed height."""

    height: int
    state_root: bytes
    receipts_root: bytes


class Status(msgspec.Struct, frozen=True):
    """Where a daemon stands."""

    organisation: str
    kind: str  #: "validator" or "replica"
    chain_id: bytes
    view: int  #: 0 in a replica
    finalized_height: int
    executed_height: int
    state_root: bytes
    block_time_ms: int  #: of the last executed block
    detail: dict[str, object]  #: for operators, shown as JSON
    roots: Sequence[HeightRoots]  #: of recent executed heights, newest last


class ReportRow(msgspec.Struct, frozen=True):
    """Totals of one insurer in one line and currency."""

    line: str
    insurer: str
    currency: str
    policies: int
    claims: int
    paid_claims: int
    paid_minor: int


class Report(msgspec.Struct, frozen=True):
    """All totals after a height; replicas only."""

    height: int
    block_time_ms: int
    rows: Sequence[ReportRow]
    operations: int
    envelopes: int
    signatures_verified: int


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A record of a listing."""

    key: bytes  #: table byte and key
    value: bytes  #: msgpack record


class Reader(Protocol):
    """A state at its last executed height, and the finalized blocks below it."""

    def executed_height(self) -> int:
        """Height that is read."""

    def record(self, key: bytes) -> bytes | None:
        """Bytes of a record; ``key`` begins with its table byte."""

    def record_proof(self, key: bytes) -> RecordProof:
        """The record under the newest certified root; ProofUnavailable."""

    def records(self, prefix: bytes, after: bytes, limit: int) -> tuple[Sequence[Entry], bool]:
        """Up to ``limit`` records whose keys start with ``prefix`` and lie above ``after``; whether more follow.

        Raises:
            KeyError: the prefix names no table.
        """

    def receipt(self, envelope_id: bytes) -> bytes | None:
        """Bytes of the first receipt of an envelope, where this daemon still knows its place."""

    def receipt_proof(self, envelope_id: bytes) -> ReceiptProof:
        """That receipt under the newest certified root; ProofUnavailable."""

    def envelope_proof(self, envelope_id: bytes) -> EnvelopeProof:
        """The envelope in its block; ProofUnavailable."""

    def block(self, height: int) -> StoredBlock | None:
        """A finalized block."""

    def status(self) -> Status:
        """Where the daemon stands."""

    def report(self, height: int) -> Report | None:
        """Totals after a height (0: latest); None where this daemon makes no reports or has not executed it."""
