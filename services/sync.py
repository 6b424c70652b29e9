"""SyncService: what a lagging node fetches. Blocks are raw bytes from the store, nothing decoded; snapshots are made as
they are asked for, chunk by chunk.

A chunk costs milliseconds of the loop that also votes, and so does a block or a batch. So an organisation has a few
places to read them, and for all readers together at most one of them is made in a turn of the loop: a hostile reader
makes a turn longer by that, and by no more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc

from ledger.snapshot import Chunk
from ledger.snapshot_making import PinnedSnapshot, SnapshotShelf
from ledger.state_log import ProofUnavailable
from ledger.wire.snapshots import encode_chunk
from lossbook.v1 import block_pb2, peer_pb2, peer_pb2_grpc
from services.auth import caller_of
from services.blocks import block_message
from services.sources import ChainSource

BLOCKS_BYTES_MAX: Final = 16 << 20
"""Of one answer, whatever was asked for: the next request goes on from there."""

PROPOSALS_BYTES_MAX: Final = 16 << 20
"""Of one answer: what does not fit is asked for again. Below what a client takes in one message."""

DIGESTS_MAX: Final = 1024
"""Asked for at once; a block lists at most 256 batches."""

CHUNKS_BYTES_MAX: Final = 16 << 20
"""Of one answer, whatever was asked for: some seconds of a slow link."""

CHUNK_CALLS_PER_ORGANISATION_MAX: Final = 8
"""Running at a time. A node makes 4 (``node.fetcher``); as many again may have ended there and not yet here."""


class SyncServicer(peer_pb2_grpc.SyncServiceServicer):
    """Serves a ``ChainSource`` and a ``SnapshotShelf`` to other validators."""

    def __init__(self, source: ChainSource, snapshots: SnapshotShelf) -> None:
        self._source = source
        self._snapshots = snapshots
        self._chunk_calls: Counter[str] = Counter()  #: running, by organisation
        self._making = asyncio.Lock()

    async def GetBlocks(  # noqa: N802 - gRPC's name
        self, request: peer_pb2.GetBlocksRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_pb2.GetBlocksResponse]:
        """Consecutive finalized blocks; ends after the limit with a block that carries its own certificate."""
        height = max(request.from_height, 1)
        if height < self._source.first_height():
            await context.abort(
                grpc.StatusCode.OUT_OF_RANGE, f"blocks below {self._source.first_height()} are not held here"
            )
        budget = min(request.limit_bytes or BLOCKS_BYTES_MAX, BLOCKS_BYTES_MAX)
        while height <= self._source.finalized_height():
            async with self._making:
                stored = self._source.block(height)
                if stored is None:
                    return
                response = peer_pb2.GetBlocksResponse(block=block_message(stored))
                await asyncio.sleep(0)  # whatever else waits for the loop comes before the next block
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
            async with self._making:
                batch = self._source.batch(digest)
                await asyncio.sleep(0)
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

    async def GetSnapshot(  # noqa: N802 - gRPC's name
        self, request: peer_pb2.GetSnapshotRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> peer_pb2.GetSnapshotResponse:
        """The manifest of the newest snapshot."""
        try:
            return peer_pb2.GetSnapshotResponse(manifest=self._snapshots.offer().manifest.raw)
        except ProofUnavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def GetSnapshotChunks(  # noqa: N802 - gRPC's name
        self, request: peer_pb2.GetSnapshotChunksRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_pb2.GetSnapshotChunksResponse]:
        """Consecutive chunks; ends at the end asked for, or once it has sent enough."""
        organisation = caller_of(context).organisation
        if self._chunk_calls[organisation] >= CHUNK_CALLS_PER_ORGANISATION_MAX:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{CHUNK_CALLS_PER_ORGANISATION_MAX} calls of {organisation} read chunks here: let one end first",
            )
        self._chunk_calls[organisation] += 1
        try:
            async with aclosing(self._chunks(request, context)) as responses:
                async for response in responses:
                    yield response
        finally:
            self._chunk_calls[organisation] -= 1
            if not self._chunk_calls[organisation]:
                del self._chunk_calls[organisation]

    async def _chunks(
        self, request: peer_pb2.GetSnapshotChunksRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[peer_pb2.GetSnapshotChunksResponse, None]:
        snapshot = self._snapshots.find(request.height)
        if snapshot is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"no snapshot of height {request.height} is kept here: ask for the newest"
            )
        first, budget = request.first, CHUNKS_BYTES_MAX
        while first < request.stop and budget > 0:
            async with self._making:
                try:
                    chunk, count = _chunk(snapshot, request.log, first, request.stop)
                except IndexError as error:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                response = encode_chunk(chunk)
                await asyncio.sleep(0)  # whatever else waits for the loop comes before the next chunk
            first += count
            budget -= response.ByteSize()
            yield response

    async def _check_digests(self, digests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if len(digests) > DIGESTS_MAX:  # type: ignore[arg-type]
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"at most {DIGESTS_MAX} digests at once: ask in parts"
            )


def _chunk(snapshot: PinnedSnapshot, log: peer_pb2.SnapshotLog.ValueType, first: int, stop: int) -> tuple[Chunk, int]:
    """The next chunk, and how many leaves or receipts it has."""
    if log == peer_pb2.SNAPSHOT_LOG_LEAVES:
        leaves = snapshot.leaves(first, stop)
        return leaves, len(leaves.leaves)
    if log == peer_pb2.SNAPSHOT_LOG_RECEIPTS:
        receipts = snapshot.receipts(first, stop)
        return receipts, len(receipts.receipts)
    raise IndexError("name the log: leaves or receipts")
