"""Making proofs out of what a node or a replica stores: the other half of ``ledger.proofs``.

A proof hangs on a header that is final, and that carries the roots of the state it is about (``state_height``):

    header_proof      walks from the header up to the next certificate
    record_proof      under the newest finalized header
    receipt_proof     under the newest finalized header, which must know the receipt already
    envelope_proof    under the header of the block that lists the envelope
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from consensus.types import Certificate, VoteKind
from crypto import merkle
from ledger.commitment import PUT, StateProof, decode_leaf
from ledger.epochs import EpochRecord
from ledger.proof_types import (
    EnvelopeProof,
    HandOver,
    HeaderProof,
    MerklePath,
    ReceiptProof,
    RecordProof,
)
from ledger.receipts_range import ReceiptProof as RangeProof
from ledger.state import Table
from ledger.state_log import ProofUnavailable
from ledger.types import Batch, JustifiedHeader, Payload
from ledger.wire import decode_envelope, decode_receipt
from ledger.wire.proofs import HEADERS_MAX


class FinalHeader(msgspec.Struct, frozen=True, gc=False):
    """A finalized header as it is stored."""

    justified: JustifiedHeader
    finalization: Certificate | None
    """Its own, where one is held; of the last tail, if there are tails."""
    tails: tuple[JustifiedHeader, ...] = ()
    """Of the last block of an epoch: the tails that lead to the one that was finalized, oldest first."""


class HeaderSource(Protocol):
    """Finalized headers by height. Left out: batches, which only an envelope's proof needs."""

    def finalized_height(self) -> int:
        """The highest final height."""

    def final_header(self, height: int) -> FinalHeader | None:
        """The finalized header of a height, 1 or above; None where it is not stored."""

    @property
    def first_epoch(self) -> int:
        """The epoch of the network's genesis, from which on there are hand-overs."""

    def hand_over(self, epoch: int) -> HandOver | None:
        """How this epoch ended; None while it lasts, or where its last block is not stored."""


class ProvableState(Protocol):
    """The part of ``ledger.state.State`` that proofs need."""

    def prove(self, table: Table[Any], key: bytes, at_height: int, value_at: int | None = None) -> StateProof:
        """Proof of a record under the root of ``at_height``; ProofUnavailable."""

    def prove_receipt(self, position: int, at_height: int) -> RangeProof:
        """Proof of a receipt under the receipts root of ``at_height``; ProofUnavailable."""

    def receipt_blob(self, position: int) -> bytes:
        """Bytes of one receipt; IndexError outside the range."""


_LATER: Final = "ask again in a moment"


def header_proof(source: HeaderSource, height: int) -> HeaderProof:
    """That the header of a height is final.

    Raises:
        ProofUnavailable: it is not stored here, or no certificate is held at or above it yet.
    """
    headers: list[JustifiedHeader] = []
    while len(headers) < HEADERS_MAX:
        found = source.final_header(height + len(headers))
        if found is None or (headers and found.justified.header.epoch != headers[0].header.epoch):
            break
        if headers:
            certificate = found.justified.justification.parent
            if certificate is not None and certificate.kind is VoteKind.FINALIZE:
                return _proof(source, headers, certificate)
        headers.append(found.justified)
        if found.finalization is not None:
            return _proof(source, [*headers, *found.tails], found.finalization)
    raise ProofUnavailable("no certificate is held at or above this height yet", _LATER)


def newest_header_proof(source: HeaderSource, least_state_height: int = 0) -> HeaderProof:
    """The newest final header a certificate is held for, if its state is at least so new.

    Raises:
        ProofUnavailable: the network has certified no such state yet.
    """
    height = source.finalized_height()
    for back in range(min(height, HEADERS_MAX)):
        found = source.final_header(height - back)
        if found is None or found.justified.header.state_height < least_state_height:
            break
        if found.finalization is not None:
            return _proof(source, [found.justified, *found.tails], found.finalization)
    raise ProofUnavailable("no header that certifies this state is final yet", _LATER)


def make_hand_over(boundary: FinalHeader | None, next_epoch: EpochRecord) -> HandOver | None:
    """How an epoch ended: its last block as it is stored, and who votes after it. None where that is not stored."""
    if boundary is None or boundary.finalization is None:
        return None
    return HandOver((boundary.justified, *boundary.tails), boundary.finalization, next_epoch.members)


def _proof(source: HeaderSource, headers: Sequence[JustifiedHeader], finalization: Certificate) -> HeaderProof:
    hand_overs: list[HandOver] = []
    for epoch in range(source.first_epoch, headers[0].header.epoch):
        found = source.hand_over(epoch)
        if found is None:
            raise ProofUnavailable(f"the end of epoch {epoch} is not stored here", "ask a node that keeps all blocks")
        hand_overs.append(found)
    return HeaderProof(tuple(headers), finalization, tuple(hand_overs))


def record_proof(source: HeaderSource, state: ProvableState, table: Table[Any], key: bytes) -> RecordProof:
    """The record as it stands under the newest certified root.

    Raises:
        ProofUnavailable: it did not stand there yet, or not any more, or nothing is certified yet.
    """
    header = newest_header_proof(source)
    proof = state.prove(table, key, header.subject.state_height)
    leaf = decode_leaf(proof.subject.leaf)
    if leaf.kind != PUT or proof.successor is not None:
        raise ProofUnavailable("the record did not stand at the newest certified height", _LATER)
    return RecordProof(header, table.prefix + key, leaf.value, proof)


def receipt_proof(source: HeaderSource, state: ProvableState, position: int) -> ReceiptProof:
    """The receipt under the newest certified root.

    Raises:
        ProofUnavailable: no certified root covers it yet.
    """
    header = newest_header_proof(source)
    path = state.prove_receipt(position, header.subject.state_height)
    return ReceiptProof(header, decode_receipt(state.receipt_blob(position)), path)


def envelope_proof(
    source: HeaderSource, height: int, payload: Payload, batches: Sequence[Batch], envelope_index: int
) -> EnvelopeProof:
    """The envelope at a place in the block of a height, whose payload and batches are given.

    Raises:
        ProofUnavailable: no certificate yet, or the block has no such envelope.
    """
    header = header_proof(source, height)
    first = 0
    for batch in batches:
        if envelope_index < first + len(batch.envelopes):
            at = envelope_index - first
            in_batch = MerklePath(at, len(batch.envelopes), merkle.proof(batch.envelopes, at))
            return EnvelopeProof(header, decode_envelope(batch.envelopes[at]), in_batch, batch.header, payload)
        first += len(batch.envelopes)
    raise ProofUnavailable(f"block {height} lists {first} envelopes", "check height and index of the receipt")
