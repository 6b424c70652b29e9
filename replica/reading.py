"""What a replica answers: ``services.reader.Reader`` over its executor, its index and its follower."""

from __future__ import annotations

from collections.abc import Callable

from contracts.tables import TABLES
from ledger.genesis import Genesis
from replica.execute import ReplicaExecutor
from replica.follow import Follower
from replica.index import Index
from replica.projection import Report as Totals
from replica.projection import Row
from services.reader import Report, ReportRow, Status
from services.state_reader import StateReader


class ReplicaReader(StateReader):
    """Records, receipts, proofs, blocks, status and reports at the last executed height."""

    def __init__(
        self,
        genesis: Genesis,
        organisation: str,
        executor: ReplicaExecutor,
        index: Index,
        follower: Follower,
        wall_ms: Callable[[], int],
    ) -> None:
        super().__init__(
            executor.state,
            executor.chain,
            TABLES,
            position_of=index.position,
        )
        self._chain_id = genesis.chain_id
        self._organisation = organisation
        self._executor = executor
        self._index = index
        self._follower = follower
        self._wall_ms = wall_ms

    def status(self) -> Status:
        """See Reader; ``detail`` says whom it follows and why there is no progress."""
        executor, follower = self._executor, self._follower
        height = executor.height
        record = executor.roots(height)
        report = executor.report
        detail: dict[str, object] = {
            "epoch": executor.epoch,
            "lag_blocks": follower.lag_blocks,
            "network_height": follower.network_height,
            "signatures_verified": report.signatures,
            "operations": report.operations,
            "envelopes": report.envelopes,
            "evidence": executor.breaches,
            "sources": follower.sources.status(self._wall_ms()),
            "diverged": follower.diverged,
            "failure": follower.failure,
        }
        if follower.pinned is not None:
            detail["checkpoint"] = {"height": follower.pinned.height, "time_ms": follower.pinned.time_ms}
        if record is not None:
            detail["receipts_root"] = record.receipts_root.hex()
        if follower.last_fault is not None:
            fault = follower.last_fault
            detail["last_fault"] = {
                "kind": fault.kind,
                "height": fault.height,
                "source": fault.source,
                "reason": fault.reason,
            }
        return Status(
            organisation=self._organisation,
            kind="replica",
            chain_id=self._chain_id,
            view=0,
            finalized_height=height,
            executed_height=height,
            state_root=record.state_root if record is not None else b"",
            block_time_ms=executor.tip.timestamp_ms,
            detail=detail,
            roots=self.roots(),
        )

    def report(self, height: int) -> Report | None:
        """Totals after a height (0: the latest); None above the executed height."""
        if height > self._executor.height:
            return None
        totals = self._executor.report if height == 0 else self._index.report(height)
        return _report(totals, height or self._executor.height)


def _report(totals: Totals, height: int) -> Report:
    return Report(
        height=height,
        block_time_ms=totals.block_time_ms,
        rows=[_row(row) for row in totals.rows],
        operations=totals.operations,
        envelopes=totals.envelopes,
        signatures_verified=totals.signatures,
    )


def _row(row: Row) -> ReportRow:
    return ReportRow(
        row.line_name, row.insurer, row.currency, row.policies, row.claims, row.paid_claims, row.paid_minor
    )
