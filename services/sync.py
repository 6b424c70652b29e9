"""SyncService: what a lagging node fetches. Raw bytes from the store, nothing decoded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from lossbook.v1 import block_pb2, peer_pb2, peer_pb2_grpc
from services.blocks import block_message
from services.sources import ChainSource

BLOCKS_BYTES_MAX: Final = 16 << 20
"""Of one answer, whatever was asked for: the next request goes on from there."""

PROPOSALS_BYTES_MAX: Final = 16 << 20
"""Of one answer: what does not fit is asked for again. Below what a client takes in one message."""

DIGESTS_MAX: Final = 1024
"""Asked for at once; a block lists at most 256 batches."""


class SyncServicer(peer_pb2_grpc.SyncServiceServicer):
    """Serves a ``ChainSource`` to other validators."""

    def __init__(self, source: ChainSource) -> None:
        self._source = source

    async def GetBlocks(  # noqa: N802 - gRPC's name
        self, request: peer_pb2.GetBlocksRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_pb2.GetBlocksResponse]:
        """Consecutive finalized blocks; ends after the limit with a block that carries its own certificate."""
        height = max(request.from_height, 1)
        if height < self._source.first_height():
            await context.abort(
                grpc.StatusCode.OUT_OF_RANGE, f"blocks below {self._source.first_height()} are pruned here"
            )
        budget = min(request.limit_bytes or BLOCKS_BYTES_MAX, BLOCKS_BYTES_MAX)
        while height <= self._source.finalized_height():
            stored = self._source.block(height)
            if stored is None:
                return
            response = peer_pb2.GetBlocksResponse(block=block_message(stored))
            budget -= response.ByteSize()
            yield response
            if budget <= 0 and stored.finalization:
                return
            height += 1

    async def GetBatches(  # noqa: N802 - gRPC's name
        self, request: peer_pb2.GetBatchesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_pb2.GetBatchesResponse]:
        """Those of the batches that are held here, each in a message of its own."""
        await self._check_digests(request.digests, context)
        for digest in dict.fromkeys(request.digests):
            batch = self._source.batch(digest)
            if batch is not None:
                yield peer_pb2.GetBatchesResponse(batch=batch)

    async def GetProposals(  # noqa: N802 - gRPC's name
        self, request: peer_pb2.GetProposalsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> peer_pb2.GetProposalsResponse:
        """Those of the proposals that are held here."""
        await self._check_digests(request.digests, context)
        response, budget = peer_pb2.GetProposalsResponse(), PROPOSALS_BYTES_MAX
        for digest in dict.fromkeys(request.digests):
            raw = self._source.proposal(digest)
            if raw is None:
                continue
            budget -= len(raw)
            if budget < 0 and response.proposals:
                break
            response.proposals.append(block_pb2.Proposal.FromString(raw))
        return response

    async def _check_digests(self, digests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if len(digests) > DIGESTS_MAX:  # type: ignore[arg-type]
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"at most {DIGESTS_MAX} digests at once: ask in parts"
            )
