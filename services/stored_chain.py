"""The finalized chain in a block store, as the servicers read it (``services.sources.ChainSource``).

A follower has no leader's vote beside a block, so its stored proposals leave that field out; header, justification and
payload stand where a node's stand, and everything that serves blocks reads only those.
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.types import Header
from ledger.block_port import BatchWrite, BlockStore, BlockWrite, FinalizedWrite, ProposalWrite
from ledger.invariant import invariant
from ledger.ports import CorruptStore
from ledger.types import Block, JustifiedHeader
from ledger.wire import WireError, decode_header, decode_payload, decode_stored_parts, encode_certificate, parse
from lossbook.v1 import block_pb2
from services.pulse import Pulse
from services.sources import StoredBlock


def block_writes(block: Block) -> list[BlockWrite]:
    """What a follower stores of a block it has verified: batches, the proposal without a vote, finality."""
    finalization = b""
    if block.finalization is not None:
        finalization = encode_certificate(block.finalization).SerializeToString(deterministic=True)
    proposal = block_pb2.Proposal(
        header=block.header.raw, justification=block.justification.raw, payload=block.payload.raw
    )
    return [
        *[BatchWrite(batch.header.digest, batch.raw) for batch in block.batches],
        ProposalWrite(block.header.digest, proposal.SerializeToString(deterministic=True)),
        *[_tail_write(tail) for tail in block.tails],
        FinalizedWrite(
            block.header.height,
            block.header.digest,
            finalization,
            tuple([batch.header.digest for batch in block.batches]),
        ),
    ]


def _tail_write(tail: JustifiedHeader) -> ProposalWrite:
    proposal = block_pb2.Proposal(header=tail.header.raw, justification=tail.justification.raw)
    return ProposalWrite(tail.header.digest, proposal.SerializeToString(deterministic=True))


class StoredChain:
    """Finalized blocks of a store, up to the height the daemon vouches for.

    Args:
        store: where the blocks lie.
        height: highest height to serve: what is final here, or for a replica what it has executed.
    """

    def __init__(self, store: BlockStore, height: Callable[[], int]) -> None:
        self._store = store
        self._height = height
        self._grown = Pulse()

    @property
    def grown(self) -> Pulse:
        """See ChainSource; the daemon beats it."""
        return self._grown

    def finalized_height(self) -> int:
        """See ChainSource."""
        return self._height()

    def first_height(self) -> int:
        """See ChainSource."""
        return self._store.first_height()

    def block(self, height: int, *, with_batches: bool = True) -> StoredBlock | None:
        """See ChainSource; CorruptStore where a part of a final block is missing."""
        if not 1 <= height <= self._height() or (with_batches and height < self.first_height()):
            return None
        digest = self._store.digest_at(height)
        if digest is None:
            return None
        proposal = self._required(self._store.proposal(digest), f"the block of height {height}")
        batches = self._batches(proposal, height) if with_batches else []
        finalization = self._store.finalization(height) or b""
        return StoredBlock(proposal, batches, finalization, self._tails(digest, finalization))

    def header(self, height: int) -> Header | None:
        """Header of a finalized height; None where it is not stored."""
        digest = self._store.digest_at(height)
        if digest is None:
            return None
        proposal = self._required(self._store.proposal(digest), f"the block of height {height}")
        try:
            header = decode_header(parse(block_pb2.Proposal, proposal).header)
        except WireError as error:
            raise CorruptStore(f"the block of height {height} is unreadable ({error})") from error
        invariant(header.digest == digest, f"the block store gave another block for height {height}")
        return header

    def batch(self, digest: bytes) -> bytes | None:
        """See ChainSource."""
        return self._store.batch(digest)

    def proposal(self, digest: bytes) -> bytes | None:
        """See ChainSource. Not the block with which an epoch ended below a snapshot: what it listed is not here."""
        raw = self._store.proposal(digest)
        if raw is None:
            return None
        parts = decode_stored_parts(raw)
        return raw if parts.payload.root == parts.header.payload_root else None

    def _batches(self, proposal: bytes, height: int) -> list[bytes]:
        try:
            payload = decode_payload(parse(block_pb2.Proposal, proposal).payload)
        except WireError as error:
            raise CorruptStore(f"the block of height {height} is unreadable ({error})") from error
        return [
            self._required(self._store.batch(digest), f"batch {digest.hex()} of height {height}")
            for digest in payload.batch_digests
        ]

    def _tails(self, digest: bytes, finalization: bytes) -> list[bytes]:
        """What stands between the last block of an epoch and the tail that its certificate names, oldest first."""
        tails: list[bytes] = []
        at = block_pb2.Certificate.FromString(finalization).digest if finalization else digest
        while at != digest:
            proposal = self._required(self._store.proposal(at), f"tail {at.hex()[:16]}")
            tails.append(proposal)
            at = decode_header(parse(block_pb2.Proposal, proposal).header).parent_digest
        return tails[::-1]

    @staticmethod
    def _required(raw: bytes | None, what: str) -> bytes:
        if raw is None:
            raise CorruptStore(f"{what} is missing from the block store")
        return raw
