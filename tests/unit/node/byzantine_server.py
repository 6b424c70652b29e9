"""A node that answers everybody who lacks something, first and with garbage under genuine headers."""

from __future__ import annotations

from ledger import wire
from ledger.types import Block
from node.turn import BatchesFetched, BlocksFetched, Fetch, Input, ProposalsFetched
from tests.support.cluster import Node


class LyingServer(Node):
    """See the module text."""

    def serve(self, fetch: Fetch) -> Input | None:
        """Batches with other envelopes, blocks without a part of theirs, and no proposals."""
        answer = super().serve(fetch)
        match answer:
            case BatchesFetched():
                batches = [
                    wire.decode_batch(
                        wire.encode_batch(b.header.raw, b.signature, [bytes(len(raw)) for raw in b.envelopes])
                    )
                    for b in answer.batches
                ]
                return BatchesFetched(self.index, batches)
            case BlocksFetched():
                return BlocksFetched(self.index, [self.forged(block) for block in answer.blocks])
            case ProposalsFetched():
                return None
        return answer

    def forged(self, block: Block) -> Block:
        """Truncated, uncertified or without its batches, as it comes."""
        kind = self.cluster.random.randrange(3)
        batches = () if kind == 1 else block.batches
        certificate = None if kind == 2 else block.finalization
        justification = wire.make_justification(None, ()) if kind == 0 else block.justification
        return Block(block.header, justification, block.payload, batches, certificate)
