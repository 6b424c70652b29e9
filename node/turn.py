"""What goes into a validator and what comes out: the seam between decision and driver.

``node.validator.Validator`` is pure: it takes the inputs below, one at a time, and collects its
effects in a ``Turn``. The driver (``node.loop``, or the simulator) collects inputs for one turn,
hands them over, and then carries the ``Turn`` out **in this order**:

1. ``turn.block_writes`` are committed to the block store and synced (if any is marked so);
2. ``turn.vote_records`` are appended to the vote log and synced;
3. only then ``turn.sends`` and ``turn.notices`` leave;
4. ``turn.checks`` go to the verification workers, ``turn.fetches`` to the fetcher; their results
   come back as ``BatchChecked``, ``BatchesFetched``, ``BlocksFetched``, ``ProposalsFetched``,
   ``SnapshotOffered``, ``ChunkFetched`` or ``FetchFailed``;
5. ``turn.import_rows`` go into the state store, in order, each synced;
6. with ``turn.install`` the validator ends here: ``node.assembly.open_state`` installs the snapshot
   that has come in, and another validator is assembled on it.

If step 1 or 2 fails, nothing of step 3 may leave: the driver stops voting (``StoreFailed``).

Peers are named by the organisation whose node they are: signer indexes change from epoch to epoch.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from consensus.messages import Muted, StartAnswer, StartQuery, Want
from consensus.types import Certificate, Proposal, Vote
from ledger.block_port import BlockWrite
from ledger.evidence import EvidenceRecord
from ledger.ports import ImportRows
from ledger.snapshot import Chunk, Manifest
from ledger.snapshot_import import Log
from ledger.types import Ack, Batch, Block, Envelope, Receipt, Statement

# -- what peers say to each other (proto/lossbook/v1/peer.proto as values) -------------------


class OriginQuery(msgspec.Struct, frozen=True, gc=False):
    """A starting origin asks for the highest incarnation seen of it."""

    nonce: bytes


class OriginAnswer(msgspec.Struct, frozen=True, gc=False):
    """The highest incarnation seen of the asking origin, bound to its nonce."""

    nonce: bytes
    incarnation: int


PeerMessage = (
    Proposal
    | Vote
    | Certificate
    | Want
    | StartQuery
    | StartAnswer
    | Muted
    | Batch
    | Ack
    | OriginQuery
    | OriginAnswer
    | Statement
)


# -- inputs ------------------------------------------------------------------------------------


class PeerMessages(msgspec.Struct, frozen=True, gc=False):
    """Decoded messages of one authenticated peer, in the order they were sent."""

    sender: str
    messages: Sequence[PeerMessage]


class PeerConnected(msgspec.Struct, frozen=True, gc=False):
    """The stream to this peer is up (again): what it may have missed is resent."""

    peer: str


class PeerLost(msgspec.Struct, frozen=True, gc=False):
    """The stream to this peer is down."""

    peer: str


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """Envelopes that passed admission here: well-formed, signatures checked."""

    envelopes: Sequence[Envelope]


class BatchChecked(msgspec.Struct, frozen=True, gc=False):
    """Verification of a batch ended; ``envelopes`` are its decoded envelopes where ``ok``."""

    digest: bytes
    ok: bool
    envelopes: tuple[Envelope, ...]


class BatchesFetched(msgspec.Struct, frozen=True, gc=False):
    """A peer answered ``FetchBatches``."""

    sender: str
    batches: Sequence[Batch]


class ProposalsFetched(msgspec.Struct, frozen=True, gc=False):
    """A peer answered ``FetchProposals``."""

    sender: str
    proposals: Sequence[Proposal]


class BlocksFetched(msgspec.Struct, frozen=True, gc=False):
    """Consecutive finalized blocks of a lagging node's request; verified here, not by the driver."""

    sender: str
    blocks: Sequence[Block]


class SnapshotOffered(msgspec.Struct, frozen=True, gc=False):
    """A peer answered ``FetchSnapshot``; verified here, not by the driver."""

    sender: str
    manifest: Manifest


class ChunkFetched(msgspec.Struct, frozen=True, gc=False):
    """The next part of a peer's answer to ``FetchChunks``; verified here, not by the driver."""

    sender: str
    fetch: FetchChunks
    chunk: Chunk


class FetchFailed(msgspec.Struct, frozen=True, gc=False):
    """The peer did not answer, or not with all that was asked."""

    fetch: Fetch
    sender: str
    gone: bool = False  #: somebody no longer holds the blocks asked for, and nobody else had them


class Tick(msgspec.Struct, frozen=True, gc=False):
    """Time has passed; the deadline was reached or a slice of execution may run."""


Input = (
    PeerMessages
    | PeerConnected
    | PeerLost
    | Submitted
    | BatchChecked
    | BatchesFetched
    | ProposalsFetched
    | BlocksFetched
    | SnapshotOffered
    | ChunkFetched
    | FetchFailed
    | Tick
)


# -- effects -----------------------------------------------------------------------------------


class FetchBatches(msgspec.Struct, frozen=True, gc=False):
    """Batches that a block lists or that somebody acknowledged."""

    sources: tuple[str, ...]
    digests: tuple[bytes, ...]


class FetchProposals(msgspec.Struct, frozen=True, gc=False):
    """Unfinalized blocks (without batches) that a certificate or a child names."""

    sources: tuple[str, ...]
    digests: tuple[bytes, ...]


class FetchBlocks(msgspec.Struct, frozen=True, gc=False):
    """Finalized blocks, with batches, from a height on."""

    sources: tuple[str, ...]
    from_height: int


class FetchSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The newest snapshot of one peer."""

    sources: tuple[str]


class FetchChunks(msgspec.Struct, frozen=True, gc=False):
    """Leaves or receipts first <= index < stop, proved under the snapshot that this one peer offered."""

    sources: tuple[str]
    height: int
    log: Log
    first: int
    stop: int


Fetch = FetchBatches | FetchProposals | FetchBlocks | FetchSnapshot | FetchChunks


class Stage(enum.IntEnum):
    """How far an envelope has come; numbers as in ``gateway.proto``."""

    PENDING = 1
    ACCEPTED = 2
    FINAL = 3
    PROVEN = 4
    EXPIRED = 5
    REJECTED = 6


class AcceptedNotice(msgspec.Struct, frozen=True, gc=False):
    """A quorum holds the batch of these envelopes (own batches only)."""

    batch_digest: bytes
    envelope_ids: tuple[bytes, ...]


class ExecutedNotice(msgspec.Struct, frozen=True, gc=False):
    """A block was executed and its state committed."""

    height: int
    block_time_ms: int
    receipts: Sequence[Receipt]
    operations: int
    state_root: bytes
    breaches: Sequence[EvidenceRecord] = ()  #: recorded by this block
    members_moved: bool = False  #: it may have changed who is on the network, or who has a seat


class CertifiedRootNotice(msgspec.Struct, frozen=True, gc=False):
    """A finalized header commits to the state after ``state_height``: receipts up to it are PROVEN."""

    state_height: int
    header_height: int


class FinalizedNotice(msgspec.Struct, frozen=True, gc=False):
    """Blocks up to ``height`` are final (they may not be executed yet)."""

    height: int


class EpochNotice(msgspec.Struct, frozen=True, gc=False):
    """An epoch has begun here."""

    epoch: int
    first_height: int
    validators: tuple[str, ...]  #: organisation ids, in signer order


class AlarmNotice(msgspec.Struct, frozen=True, gc=False):
    """Something an operator must see: divergence, evidence, muted, damaged."""

    kind: str
    text: str


Notice = AcceptedNotice | ExecutedNotice | CertifiedRootNotice | FinalizedNotice | EpochNotice | AlarmNotice


class Penalty(msgspec.Struct, frozen=True, gc=False):
    """A peer sent what an honest node cannot send."""

    peer: str
    reason: str


class Turn(msgspec.Struct):
    """Effects collected since the last turn; carried out in the order of the module text."""

    block_writes: list[BlockWrite] = []
    sync_blocks: bool = False
    vote_records: list[bytes] = []
    sends: list[tuple[str | None, PeerMessage]] = []  #: None: to every peer
    notices: list[Notice] = []
    checks: list[Batch] = []
    fetches: list[Fetch] = []
    penalties: list[Penalty] = []
    import_rows: list[ImportRows] = []
    install: bool = False
    remove_backup_marker: bool = False  #: the bound it asks for is among ``vote_records``; after their sync
