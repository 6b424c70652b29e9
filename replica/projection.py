"""Totals by line of business and insurer, block by block.

Pure. Fed with what execution says it did (the records as each operation left them), never with what a source claims.
At every height the totals are a function of the blocks up to it, so two replicas that agree on a state root agree on
its report.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from contracts.records import CLAIMS, POLICIES, ClaimRecord, ClaimState, PolicyRecord, PolicyState
from ledger.codes import Code
from ledger.execution import Outcome
from ledger.operations import Line
from ledger.state import State
from ledger.wire import decode_receipt


class Row(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Totals of one insurer in one line and currency, from genesis to a height."""

    line: int
    """``ledger.operations.Line``."""
    insurer: str
    """Organisation id of the insurer that issued the policies."""
    currency: str
    """ISO 4217."""
    policies: int = 0
    """Policies issued."""
    claims: int = 0
    """Claims notified."""
    paid_claims: int = 0
    """Claims on which a payment was made."""
    paid_minor: int = 0
    """Paid, minor units of the currency."""

    @property
    def line_name(self) -> str:
        """As reports show it, e.g. ``Auto``."""
        return line_name(self.line)


class Report(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All totals after a height; stored under it when it changed."""

    height: int
    block_time_ms: int
    """Time of the block of this height, milliseconds since the epoch."""
    rows: tuple[Row, ...]
    """Ascending by line, insurer, currency."""
    operations: int
    """Operations that took effect."""
    envelopes: int
    """Envelopes listed in blocks, the refused ones included."""
    signatures: int
    """Signatures this replica has checked: of envelopes, batches and certificates."""


NO_REPORT = Report(0, 0, (), 0, 0, 0)


def report_of_books(state: State) -> Report:
    """The totals that a state and its receipts tell: what a rebuilt network begins with, without executing its past.

    What following every block since the first would have come to, but for signatures: none was checked.
    """
    head = state.head
    if head is None:
        return NO_REPORT
    projection = Projection()
    for _, policy in state.iterate(POLICIES):
        projection.count(policy.line, policy.insurer, policy.currency, policies=1)
    for _, claim in state.iterate(CLAIMS):
        paid = any(step.state == ClaimState.PAID for step in claim.history)
        projection.count(
            claim.line,
            claim.insurer,
            claim.currency,
            claims=1,
            paid_claims=int(paid),
            paid_minor=claim.paid_minor if paid else 0,
        )
    receipts = (decode_receipt(raw) for raw in state.receipt_blobs(0, head.receipt_count))
    operations = sum(receipt.operation_codes.count(Code.OK) for receipt in receipts)
    return msgspec.structs.replace(
        projection.totals(),
        height=head.height,
        block_time_ms=head.timestamp_ms,
        operations=operations,
        envelopes=head.receipt_count,
    )


def line_name(line: int) -> str:
    """``Home`` for 1, ``Auto`` for 2."""
    return Line(line).name.capitalize()


class Projection:
    """Running totals. ``report`` is the state after the last block; ``apply`` moves it on."""

    def __init__(self, last: Report = NO_REPORT) -> None:
        self._rows = {(row.line, row.insurer, row.currency): row for row in last.rows}
        self.report = last

    def apply(self, height: int, block_time_ms: int, outcomes: Iterable[Outcome], signatures: int) -> Report:
        """Totals after one more block."""
        operations = envelopes = 0
        for outcome in outcomes:
            envelopes += 1
            operations += outcome.receipt.operation_codes.count(Code.OK)
            for record in outcome.events:
                self._count(record)
        last = self.report
        self.report = Report(
            height=height,
            block_time_ms=block_time_ms,
            rows=self._sorted(),
            operations=last.operations + operations,
            envelopes=last.envelopes + envelopes,
            signatures=last.signatures + signatures,
        )
        return self.report

    def totals(self) -> Report:
        """``report`` with what was counted since."""
        return msgspec.structs.replace(self.report, rows=self._sorted())

    def _sorted(self) -> tuple[Row, ...]:
        return tuple(self._rows[key] for key in sorted(self._rows))

    def _count(self, record: msgspec.Struct) -> None:
        if isinstance(record, PolicyRecord):
            if record.state == PolicyState.ISSUED:
                self.count(record.line, record.insurer, record.currency, policies=1)
        elif isinstance(record, ClaimRecord):
            if record.state == ClaimState.NOTIFIED:
                self.count(record.line, record.insurer, record.currency, claims=1)
            elif record.state == ClaimState.PAID:
                self.count(record.line, record.insurer, record.currency, paid_claims=1, paid_minor=record.paid_minor)

    def count(
        self,
        line: int,
        insurer: str,
        currency: str,
        *,
        policies: int = 0,
        claims: int = 0,
        paid_claims: int = 0,
        paid_minor: int = 0,
    ) -> None:
        """Add to one row."""
        row = self._rows.get((line, insurer, currency)) or Row(line, insurer, currency)
        self._rows[line, insurer, currency] = Row(
            line,
            insurer,
            currency,
            row.policies + policies,
            row.claims + claims,
            row.paid_claims + paid_claims,
            row.paid_minor + paid_minor,
        )
