"""What a validator's node answers to queries: ``services.state_reader`` and its own status."""

from __future__ import annotations

from collections.abc import Callable

from contracts.tables import TABLES
from ledger.evidence import breaches
from ledger.organisations import KeyRecord, OrganisationRecord, find_key, find_organisation
from ledger.proof_types import ReceiptProof
from ledger.state import State
from ledger.state_log import ProofUnavailable
from ledger.types import Receipt
from ledger.wire import decode_receipt
from node.receipt_index import ReceiptIndex
from services.reader import Report, Status
from services.sources import ChainSource
from services.state_reader import StateReader


class NodeReader(StateReader):
    """``Reader`` of a node, and what its gateway asks of the state.

    Args:
        detail: facts for the operator, the view among them; asked for with every status.
    """

    def __init__(
        self,
        state: State,
        chain: ChainSource,
        *,
        organisation: str,
        chain_id: bytes,
        index: ReceiptIndex,
        detail: Callable[[], dict[str, object]],
    ) -> None:
        super().__init__(state, chain, TABLES, position_of=index.position)
        self._organisation = organisation
        self._chain_id = chain_id
        self._detail = detail

    def status(self) -> Status:
        """See Reader."""
        head = self._state.head
        detail = self._detail() | {"evidence_recorded": breaches(self._state)}
        view = detail.get("view", 0)
        return Status(
            organisation=self._organisation,
            kind="validator",
            chain_id=self._chain_id,
            view=view if isinstance(view, int) else 0,
            finalized_height=self._chain.finalized_height(),
            executed_height=self._state.height,
            state_root=head.state_root if head is not None else b"",
            block_time_ms=head.timestamp_ms if head is not None else 0,
            detail=detail,
            roots=self.roots(),
        )

    def report(self, height: int) -> Report | None:
        """See Reader: nodes make none."""
        return None

    def receipt_of(self, envelope_id: bytes) -> Receipt | None:
        """See ``node.intake.Ledger``."""
        raw = self.receipt(envelope_id)
        return None if raw is None else decode_receipt(raw)

    def receipt_proof_of(self, receipt: Receipt) -> ReceiptProof | None:
        """Proof of a receipt, None where no certified root covers it yet."""
        try:
            return self.receipt_proof_at(receipt.position)
        except ProofUnavailable:
            return None

    def organisation(self, organisation: str) -> OrganisationRecord | None:
        """See Register."""
        return find_organisation(self._state, organisation)

    def key(self, public: bytes) -> KeyRecord | None:
        """See Register."""
        return find_key(self._state, public)
