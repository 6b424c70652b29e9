"""Proofs as values: what stands in the file that ``--prove`` writes. Field for field ``proof.proto``."""

from __future__ import annotations

import msgspec

from consensus.types import Certificate, Header
from ledger.commitment import StateProof
from ledger.epochs import Seat
from ledger.receipts_range import ReceiptProof as RangeProof
from ledger.types import BatchHeader, Envelope, JustifiedHeader, Payload, Receipt


class HandOver(msgspec.Struct, frozen=True, gc=False):
    """That an epoch ended, and who votes in the next."""

    headers: tuple[JustifiedHeader, ...]
    """The block that ends the epoch, then its tails, where one of them was finalized."""
    finalization: Certificate
    """Of the last of them."""
    members: tuple[Seat, ...]
    """The next set, to which the first header commits."""


class HeaderProof(msgspec.Struct, frozen=True, gc=False):
    """That a header is final: itself, its descendants one by one, and the Finalization of the last of them."""

    headers: tuple[JustifiedHeader, ...]
    """At least one; the first is the one that is proved, each next one the child of the one before."""
    finalization: Certificate
    """Of the last header."""
    hand_overs: tuple[HandOver, ...] = ()
    """Out of each epoch before the subject's, from the genesis' epoch on."""

    @property
    def subject(self) -> Header:
        """The header that is proved."""
        return self.headers[0].header


class MerklePath(msgspec.Struct, frozen=True, gc=False):
    """Audit path of one leaf (RFC 6962)."""

    index: int
    """Place of the leaf, from 0."""
    size: int
    """Leaves of the tree."""
    siblings: tuple[bytes, ...]
    """32 bytes each, from the leaf upwards."""


class RecordProof(msgspec.Struct, frozen=True, gc=False):
    """That a record stood in the state after ``header.subject.state_height``."""

    header: HeaderProof
    key: bytes
    """Table byte and key."""
    value: bytes
    """msgpack record."""
    state: StateProof


class ReceiptProof(msgspec.Struct, frozen=True, gc=False):
    """That a receipt is in the range under ``header.subject.receipts_root``."""

    header: HeaderProof
    receipt: Receipt
    path: RangeProof


class EnvelopeProof(msgspec.Struct, frozen=True, gc=False):
    """That an envelope is in a batch that ``header.subject`` lists."""

    header: HeaderProof
    envelope: Envelope
    in_batch: MerklePath
    """Its size is the batch's number of envelopes, to which the batch header commits."""
    batch_header: BatchHeader
    payload: Payload
    """All of the block's batch digests; no header commits to their number, so a path would not say which one it is."""


class Proof(msgspec.Struct, frozen=True, gc=False):
    """A proof file."""

    chain_id: bytes
    """Digest of the genesis it is to be checked against."""
    subject: RecordProof | ReceiptProof | EnvelopeProof
