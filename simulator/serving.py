"""What a node answers to whoever lacks something: bytes of its block store, as ``services.sync`` serves them."""

from __future__ import annotations

from typing import Final

import msgspec

from ledger import wire
from ledger.block_port import BlockStore
from ledger.types import Block
from node.turn import Fetch, FetchBatches, FetchBlocks, FetchProposals

BLOCKS_MAX: Final = 6
"""Of one answer: a node far behind asks more than once."""


class Answer(msgspec.Struct, frozen=True):
    """The messages of one answer, encoded; empty where nothing is held."""

    batches: tuple[bytes, ...] = ()
    proposals: tuple[bytes, ...] = ()
    blocks: tuple[bytes, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing of what was asked for is here."""
        return not (self.batches or self.proposals or self.blocks)


def serve(store: BlockStore, fetch: Fetch) -> Answer:
    """The honest answer."""
    match fetch:
        case FetchBatches():
            return Answer(batches=tuple(raw for digest in fetch.digests if (raw := store.batch(digest)) is not None))
        case FetchProposals():
            found = (store.proposal(digest) for digest in fetch.digests)
            return Answer(proposals=tuple(raw for raw in found if raw is not None))
        case FetchBlocks():
            return Answer(blocks=tuple(_blocks(store, fetch.from_height)))


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
    certificate = store.finalization(height)
    return Block(
        proposal.header,
        proposal.justification,
        payload,
        tuple(wire.decode_batch(raw) for raw in batches if raw is not None),
        wire.read_certificate(certificate) if certificate else None,
    )
