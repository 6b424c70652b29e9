"""What a node answers to whoever lacks something: bytes of its block store, as ``services.sync`` serves them."""

from __future__ import annotations

from typing import Final

import msgspec

from ledger import wire
from ledger.block_port import BlockStore
from ledger.epochs import find_epoch
from ledger.proof_building import FinalHeader, make_hand_over
from ledger.proof_types import HandOver
from ledger.snapshot import LeafChunk
from ledger.snapshot_import import Log
from ledger.snapshot_making import SnapshotShelf
from ledger.state import StateView
from ledger.state_log import ProofUnavailable
from ledger.succession import first_epoch
from ledger.types import Block, JustifiedHeader, Payload
from ledger.wire.snapshots import encode_chunk
from node.turn import Fetch, FetchBatches, FetchBlocks, FetchChunks, FetchProposals, FetchSnapshot

BLOCKS_MAX: Final = 6
"""Of one answer: a node far behind asks more than once."""

CHUNKS_MAX: Final = 8
"""Likewise, of parts of a snapshot."""


class Answer(msgspec.Struct, frozen=True):
    """The messages of one answer, encoded; empty where nothing is held."""

    batches: tuple[bytes, ...] = ()
    proposals: tuple[bytes, ...] = ()
    blocks: tuple[bytes, ...] = ()
    manifest: bytes = b""
    chunks: tuple[bytes, ...] = ()
    gone: bool = False
    """Blocks from this height on are not held any more."""
    silent: bool = False
    """No answer at all: whoever asked waits until its patience ends."""

    @property
    def empty(self) -> bool:
        """Nothing of what was asked for is here."""
        return not (self.batches or self.proposals or self.blocks or self.manifest or self.chunks)


class StoredBlocks:
    """Finalized headers and payloads of a block store, and who voted when, as snapshots need them."""

    def __init__(self, store: BlockStore, state: StateView) -> None:
        self._store = store
        self._state = state

    def finalized_height(self) -> int:
        """The highest final height."""
        return self._store.finalized_height() or 0

    def final_header(self, height: int) -> FinalHeader | None:
        """The finalized header of a height; None where it is not stored."""
        digest = self._store.digest_at(height)
        block = self._justified(digest) if digest is not None else None
        if digest is None or block is None:
            return None
        raw = self._store.finalization(height)
        finalization = wire.read_certificate(raw) if raw else None
        tails = _tails(self._store, digest, finalization.digest) if finalization is not None else ()
        return FinalHeader(block, finalization, tails)

    @property
    def first_epoch(self) -> int:
        """See ``HeaderSource``."""
        return first_epoch(self._state)

    def hand_over(self, epoch: int) -> HandOver | None:
        """How an epoch ended; None while it lasts, or where its last block is not stored."""
        record = find_epoch(self._state, epoch + 1)
        return None if record is None else make_hand_over(self.final_header(record.first_height - 1), record)

    def payload(self, height: int) -> Payload | None:
        """What the block of a height lists; None where it is not stored."""
        block = block_at(self._store, height)
        return block.payload if block else None

    def _justified(self, digest: bytes) -> JustifiedHeader | None:
        raw = self._store.proposal(digest)
        parts = wire.decode_stored_parts(raw) if raw is not None else None
        return JustifiedHeader(parts.header, parts.justification) if parts is not None else None


def serve(store: BlockStore, snapshots: SnapshotShelf, fetch: Fetch) -> Answer:
    """The honest answer."""
    match fetch:
        case FetchBatches():
            return Answer(batches=tuple(raw for digest in fetch.digests if (raw := store.batch(digest)) is not None))
        case FetchProposals():
            found = (store.proposal(digest) for digest in fetch.digests)
            return Answer(proposals=tuple(raw for raw in found if raw is not None))
        case FetchBlocks():
            gone = fetch.from_height < store.first_height()
            return Answer(blocks=() if gone else tuple(_blocks(store, fetch.from_height)), gone=gone)
        case FetchSnapshot():
            try:
                return Answer(manifest=snapshots.offer().manifest.raw)
            except ProofUnavailable:
                return Answer()
        case FetchChunks():
            return Answer(chunks=tuple(_chunks(snapshots, fetch)))


def _chunks(snapshots: SnapshotShelf, fetch: FetchChunks) -> list[bytes]:
    """Consecutive parts of a snapshot that was offered; none where it is kept no more."""
    served: list[bytes] = []
    snapshot, first = snapshots.find(fetch.height), fetch.first
    while snapshot is not None and first < fetch.stop and len(served) < CHUNKS_MAX:
        leaves = fetch.log is Log.LEAVES
        chunk = snapshot.leaves(first, fetch.stop) if leaves else snapshot.receipts(first, fetch.stop)
        first += len(chunk.leaves if isinstance(chunk, LeafChunk) else chunk.receipts)
        served.append(encode_chunk(chunk).SerializeToString(deterministic=True))
    return served


def _blocks(store: BlockStore, from_height: int) -> list[bytes]:
    """Consecutive finalized blocks; past the limit they end with one that carries its own certificate."""
    served: list[bytes] = []
    for height in range(max(1, from_height), (store.finalized_height() or 0) + 1):
        block = block_at(store, height)
        if block is None:
            break
        served.append(wire.encode_block(block).SerializeToString(deterministic=True))
        if len(served) >= BLOCKS_MAX and block.finalization is not None:
            break
    return served


def block_at(store: BlockStore, height: int) -> Block | None:
    """A final block with its batches; None where a part of it is not here."""
    digest = store.digest_at(height)
    raw = store.proposal(digest) if digest is not None else None
    if raw is None:
        return None
    proposal = wire.decode_stored_proposal(raw)
    payload = wire.decode_payload(proposal.payload)
    batches = [store.batch(each) for each in payload.batch_digests]
    raw_certificate = store.finalization(height)
    certificate = wire.read_certificate(raw_certificate) if raw_certificate else None
    return Block(
        proposal.header,
        proposal.justification,
        payload,
        tuple(wire.decode_batch(raw) for raw in batches if raw is not None),
        certificate,
        _tails(store, proposal.header.digest, certificate.digest) if certificate is not None else (),
    )


def _tails(store: BlockStore, block: bytes, final: bytes) -> tuple[JustifiedHeader, ...]:
    """Tails between a block and the last of them, which its certificate names."""
    tails: list[JustifiedHeader] = []
    while final != block and (raw := store.proposal(final)) is not None:
        tail = wire.decode_stored_proposal(raw)
        tails.append(JustifiedHeader(tail.header, tail.justification))
        final = tail.header.parent_digest
    return tuple(reversed(tails))
