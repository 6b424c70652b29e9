"""``Reader`` over a state and its finalized blocks: what node and replica share.

A daemon adds what only it knows: its status, its reports, and where a receipt lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from ledger import proof_building
from ledger.epochs import find_epoch
from ledger.ports import CorruptStore
from ledger.proof_building import FinalHeader
from ledger.proof_types import EnvelopeProof, HandOver, ReceiptProof, RecordProof
from ledger.state import State, StateView, Table
from ledger.state_log import ProofUnavailable
from ledger.succession import first_epoch
from ledger.types import JustifiedHeader, Payload
from ledger.wire import (
    WireError,
    decode_batch,
    decode_header,
    decode_justification,
    decode_payload,
    decode_receipt,
    parse,
    read_certificate,
)
from lossbook.v1 import block_pb2
from services.reader import Entry, HeightRoots
from services.sources import ChainSource, StoredBlock

ROOTS_SHOWN: Final = 64
"""Recent heights in a status: enough to compare daemons that are some seconds apart."""


class FinalHeaders:
    """``HeaderSource`` of proofs, and ``BlockSource`` of snapshots, over a chain and the state that says who voted."""

    def __init__(self, chain: ChainSource, state: StateView) -> None:
        self._chain = chain
        self._state = state
        self._hand_overs: dict[int, HandOver] = {}  #: by the epoch that ended; they never change

    def finalized_height(self) -> int:
        """The highest final height."""
        return self._chain.finalized_height()

    def final_header(self, height: int) -> FinalHeader | None:
        """The finalized header of a height; None where it is not stored."""
        stored = self._chain.block(height, with_batches=False)
        if stored is None:
            return None
        try:
            justified = _justified(stored.proposal)
            certificate = read_certificate(stored.finalization) if stored.finalization else None
            tails = tuple([_justified(raw) for raw in stored.tails])
        except WireError as error:
            raise CorruptStore(f"the block of height {height} is unreadable ({error})") from error
        return FinalHeader(justified, certificate, tails)

    @property
    def first_epoch(self) -> int:
        """The epoch of the network's genesis."""
        return first_epoch(self._state)

    def hand_over(self, epoch: int) -> HandOver | None:
        """How an epoch ended; None while it lasts, or where its last block is not stored."""
        known = self._hand_overs.get(epoch)
        if known is None:
            record = find_epoch(self._state, epoch + 1)
            if record is None:
                return None
            known = proof_building.make_hand_over(self.final_header(record.first_height - 1), record)
            if known is None:
                return None
            self._hand_overs[epoch] = known
        return known

    def payload(self, height: int) -> Payload | None:
        """What a finalized block lists; None where it is not stored."""
        stored = self._chain.block(height, with_batches=False)
        if stored is None:
            return None
        try:
            return decode_payload(parse(block_pb2.Proposal, stored.proposal).payload)
        except WireError as error:
            raise CorruptStore(f"the block of height {height} is unreadable ({error})") from error


def _justified(raw: bytes) -> JustifiedHeader:
    """Header and justification of a serialized Proposal."""
    proposal = parse(block_pb2.Proposal, raw)
    return JustifiedHeader(decode_header(proposal.header), decode_justification(proposal.justification))


class StateReader:
    """Records, receipts and proofs; everything of ``Reader`` but status and report.

    Args:
        state: at its last executed height; a block may be open on it.
        chain: finalized blocks.
        tables: all tables that may be listed.
        position_of: position of the receipt that says what became of an envelope.
    """

    def __init__(
        self,
        state: State,
        chain: ChainSource,
        tables: Sequence[Table[Any]],
        *,
        position_of: Callable[[bytes], int | None],
    ) -> None:
        self._state = state
        self._chain = chain
        self._headers = FinalHeaders(chain, state)
        self._tables = {table.prefix: table for table in tables}
        self._position_of = position_of

    # -- Reader ------------------------------------------------------------------------------

    def executed_height(self) -> int:
        """See Reader."""
        return self._state.height

    def record(self, key: bytes) -> bytes | None:
        """See Reader."""
        table = self._tables.get(key[:1])
        return None if table is None else self._state.committed_bytes(table, key[1:])

    def record_proof(self, key: bytes) -> RecordProof:
        """See Reader."""
        return proof_building.record_proof(self._headers, self._state, self._tables[key[:1]], key[1:])

    def records(self, prefix: bytes, after: bytes, limit: int) -> tuple[Sequence[Entry], bool]:
        """See Reader."""
        table = self._tables[prefix[:1]]
        start = after[1:] if after[:1] == table.prefix else None
        rows = islice(self._state.committed_after(table, prefix[1:], start), limit + 1)
        found = [Entry(table.prefix + key, value) for key, value in rows]
        return found[:limit], len(found) > limit

    def receipt(self, envelope_id: bytes) -> bytes | None:
        """See Reader."""
        position = self._position_of(envelope_id)
        return None if position is None else self._state.receipt_blob(position)

    def receipt_proof(self, envelope_id: bytes) -> ReceiptProof:
        """See Reader."""
        return self.receipt_proof_at(self._required_position(envelope_id))

    def receipt_proof_at(self, position: int) -> ReceiptProof:
        """Proof of the receipt at a place in the range; ProofUnavailable."""
        return proof_building.receipt_proof(self._headers, self._state, position)

    def envelope_proof(self, envelope_id: bytes) -> EnvelopeProof:
        """See Reader."""
        receipt = decode_receipt(self._state.receipt_blob(self._required_position(envelope_id)))
        stored = self._chain.block(receipt.height)
        if stored is None:
            raise ProofUnavailable(f"block {receipt.height} is not held here", "ask another node or a replica")
        proposal = parse(block_pb2.Proposal, stored.proposal)
        batches = [decode_batch(raw) for raw in stored.batches]
        payload = decode_payload(proposal.payload)
        return proof_building.envelope_proof(self._headers, receipt.height, payload, batches, receipt.index)

    def block(self, height: int) -> StoredBlock | None:
        """See Reader."""
        return self._chain.block(height)

    def roots(self) -> list[HeightRoots]:
        """Roots of recent executed heights, newest last."""
        head = self._state.height
        records = (self._state.height_record(height) for height in range(max(0, head - ROOTS_SHOWN + 1), head + 1))
        return [
            HeightRoots(record.height, record.state_root, record.receipts_root)
            for record in records
            if record is not None
        ]

    # -- inside ------------------------------------------------------------------------------

    def _required_position(self, envelope_id: bytes) -> int:
        position = self._position_of(envelope_id)
        if position is None:
            raise ProofUnavailable(
                "the receipt of this envelope is not known here (any more)", "ask the supervisor's replica"
            )
        return position
