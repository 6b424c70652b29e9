"""What the ledger handles, as values: envelopes, batches, payloads, receipts, blocks.

Every value that is hashed or signed keeps the exact bytes it came from in ``raw`` (and its digest),
so that passing it on, storing it or proving it never encodes it again. ``ledger.wire`` is the only
maker of these from bytes.
"""

from __future__ import annotations

import msgspec

from consensus.evidence import ConflictingVotes, FalseJustification
from consensus.types import Certificate, Header, Justification
from ledger.operations import Operation

ENVELOPE_BYTES_MAX = 1 << 20  #: one gRPC message stays below 4 MiB with room for three of them
OPERATIONS_MAX = 1000  #: an envelope executes within one slice of the loop
SIGNERS_MAX = 16  #: verification work of one envelope is bounded
BATCH_BYTES_MAX = 2 << 20  #: at least one whole envelope always fits
BATCH_ENVELOPES_MAX = 4096  #: envelopes of a batch; bounds the work of one check
PAYLOAD_BATCHES_MAX = 256  #: batches a block may list
STATEMENT_BYTES_MAX = 256 << 10  #: a justification of four validators over 1,200 skipped views still fits
PAYLOAD_STATEMENTS_MAX = 64  #: statements a block may list: 128 signatures of evidence, some 10 ms of checking
PAYLOAD_STATEMENT_BYTES_MAX = 512 << 10  #: their bytes: a proposal stays far below the 4 MiB of a message


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A signed transaction that decoded; its signatures may not have been checked yet."""

    raw: bytes  #: serialized Envelope message, signatures included (the Merkle leaf of a batch)
    id: bytes  #: SHA-256(TAG_ENVELOPE_ID | body)
    body: bytes  #: exact signed bytes
    signatures: tuple[bytes, ...]
    chain_id: bytes
    organisation: str
    signer_keys: tuple[bytes, ...]
    not_after_ms: int
    atomic: bool
    operations: tuple[Operation, ...]


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """One link of an origin's chain of batches; fields as in ``block.proto``."""

    chain_id: bytes
    epoch: int
    origin: str
    incarnation: int
    sequence: int
    previous: bytes
    count: int
    envelope_bytes: int
    attachment_root: bytes
    envelope_root: bytes
    digest: bytes  #: SHA-256(TAG_BATCH | raw)
    raw: bytes

    @property
    def position(self) -> tuple[str, int, int]:
        """(origin, incarnation, sequence): a validator acknowledges one digest for each."""
        return (self.origin, self.incarnation, self.sequence)


class Batch(msgspec.Struct, frozen=True, gc=False):
    """A batch whose envelopes are still bytes: storing and forwarding it costs no decoding."""

    header: BatchHeader
    signature: bytes
    envelopes: tuple[bytes, ...]
    raw: bytes


class Ack(msgspec.Struct, frozen=True, gc=False):
    """An acknowledgement: the acker holds this batch and all before it in its incarnation, synced and checked."""

    kind: int
    epoch: int
    acker: int
    origin: str
    incarnation: int
    sequence: int
    digest: bytes
    signature: bytes


class KeyRegistration(msgspec.Struct, frozen=True, gc=False):
    """The consensus key that a validator will use in the next epoch; fields as in ``block.proto``."""

    epoch: int  #: the present one
    signer: int  #: index in its set
    consensus_key: bytes  #: 32 bytes, of the next epoch
    signature: bytes  #: by the present consensus key over ``registration_message``
    possession: bytes  #: by the new one over ``possession_message``


class Readiness(msgspec.Struct, frozen=True, gc=False):
    """A member of the next set is ready to take over; fields as in ``block.proto``."""

    epoch: int  #: the one that ends
    proposal_id: bytes  #: 16 bytes: the change that passed
    consensus_key: bytes  #: 32 bytes: registered for the next epoch
    signature: bytes  #: by that key over ``readiness_message``


StatementContent = ConflictingVotes | FalseJustification | KeyRegistration | Readiness
"""What validators state: evidence, of either form, and what they say about their own keys of the next epoch."""


class Statement(msgspec.Struct, frozen=True, gc=False):
    """What a validator states and everybody can check; it needs no client's envelope."""

    content: StatementContent
    digest: bytes  #: SHA-256(TAG_STATEMENT | raw)
    raw: bytes


class Payload(msgspec.Struct, frozen=True, gc=False):
    """What a block lists: ordered digests of batches, and whole statements in the order in which they execute."""

    batch_digests: tuple[bytes, ...]
    statements: tuple[bytes, ...]  #: serialized Statement messages, not read yet
    root: bytes  #: RFC 6962 root over the digests, then the statements
    raw: bytes

    @property
    def empty(self) -> bool:
        """Whether it lists nothing."""
        return not self.batch_digests and not self.statements


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What became of one listed envelope; fields as in ``receipt.proto``."""

    envelope_id: bytes
    height: int
    index: int
    position: int
    block_time_ms: int
    code: int
    operation_codes: tuple[int, ...]
    original_position_plus_1: int
    raw: bytes


class JustifiedHeader(msgspec.Struct, frozen=True, gc=False):
    """A header and the preimage of its justification digest."""

    header: Header
    justification: Justification


class Block(msgspec.Struct, frozen=True, gc=False):
    """A header with everything it commits to, and its Finalization where one is held."""

    header: Header
    justification: Justification
    payload: Payload
    batches: tuple[Batch, ...]
    finalization: Certificate | None = None
    """Of this block; of the last tail, if there are tails."""
    tails: tuple[JustifiedHeader, ...] = ()
    """Of the last block of an epoch: the tails that lead from it to the one that was finalized, oldest first."""
