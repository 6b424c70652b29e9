"""Getting what is missing from other validators, through their SyncService.

Each request names its sources, best first. They are asked one after another, each for a limited time, until one has
all that was asked for; what a source had is handed in at once. When none is left ``FetchFailed`` says so, and the
validator decides whether to ask again. Nothing that comes back is believed here but its form, and that it is what its
digest names: a source that answers with something else under a genuine header must not end the search.

A source that keeps us waiting takes up only its own places: the next one is asked in its stead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import grpc

from crypto.merkle import root as merkle_root
from ledger import wire
from ledger.snapshot import LeafChunk
from ledger.snapshot_import import Log
from ledger.types import Batch, Block
from ledger.wire.snapshots import decode_chunk, decode_manifest
from lossbook.v1 import peer_pb2, peer_pb2_grpc
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.turn import (
    BatchesFetched,
    BlocksFetched,
    ChunkFetched,
    Fetch,
    FetchBatches,
    FetchBlocks,
    FetchChunks,
    FetchFailed,
    FetchProposals,
    FetchSnapshot,
    ProposalsFetched,
    SnapshotOffered,
)
from services.identity import Identity
from services.logs import get_logger
from services.tasks import Tasks

ACTIVE_MAX: Final = 64
"""Requests at a time; a validator that wants more is told that they failed, and asks again later."""

ACTIVE_OF_SOURCE_MAX: Final = 4
"""Of them at one source, for each kind of request: an honest one answers before more are made."""

BATCHES_S_MAX: Final = 5.0
PROPOSALS_S_MAX: Final = 3.0
BLOCKS_S_MAX: Final = 15.0
SNAPSHOT_S_MAX: Final = 5.0
CHUNKS_S_MAX: Final = 30.0
"""For one source: a slow link carries the bytes asked for in this time."""

BLOCKS_BYTES: Final = 8 << 20
"""Of blocks asked for at once: some thousand small ones, one or two of the largest."""

BLOCKS_BYTES_MAX: Final = 96 << 20
"""More than this from one source is not what was asked for."""

CHUNKS_BYTES_MAX: Final = 24 << 20
"""Likewise of one answer with parts of a snapshot; an honest source ends it after sixteen megabytes."""

_LOGS: Final = {Log.LEAVES: peer_pb2.SNAPSHOT_LOG_LEAVES, Log.RECEIPTS: peer_pb2.SNAPSHOT_LOG_RECEIPTS}

_log = get_logger("fetcher")


class _Unusable(Exception):
    """What a source answered cannot be used."""


class Fetcher:
    """Carries out ``Fetch`` effects.

    Args:
        addresses: host:port of the others, by organisation.
        tasks: where the requests run.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        identity: Identity,
        mailbox: Mailbox,
        metrics: Metrics,
        tasks: Tasks,
    ) -> None:
        self._tasks = tasks
        self._addresses = addresses
        self._identity = identity
        self._mailbox = mailbox
        self._metrics = metrics
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._active: set[Fetch] = set()
        self._asked: Counter[tuple[type[Fetch], str]] = Counter()  #: requests under way, by kind and source
        self.snapshot_bytes = 0  #: that came of snapshots, used or not

    def follow(self, addresses: Mapping[str, str], renewed: Collection[str]) -> None:
        """These are the others now. ``renewed``: those of them that are to be dialled anew."""
        before, self._addresses = self._addresses, addresses
        for source in [name for name in self._channels if name in renewed or before.get(name) != addresses.get(name)]:
            self._tasks.start(self._channels.pop(source).close(BLOCKS_S_MAX))  # what runs there may end

    def fetch(self, fetch: Fetch) -> None:
        """Begin; the same request is not made twice at a time."""
        if fetch in self._active:
            return
        sources = [source for source in fetch.sources if source in self._addresses]
        if not sources or len(self._active) >= ACTIVE_MAX:
            self._fail(fetch, fetch.sources[-1] if fetch.sources else "")
            return
        self._active.add(fetch)
        self._tasks.start(self._run(fetch, sources), lambda: self._active.discard(fetch))

    async def close(self) -> None:
        """Close the connections, once ``tasks`` has ended the requests."""
        for channel in self._channels.values():
            await channel.close()

    async def _run(self, fetch: Fetch, sources: Sequence[str]) -> None:
        wanted = set(fetch.digests) if isinstance(fetch, FetchBatches | FetchProposals) else set()
        gone = False
        for source in sources:
            place = (type(fetch), source)
            if self._asked[place] >= ACTIVE_OF_SOURCE_MAX or source not in self._addresses:
                continue
            self._asked[place] += 1
            try:
                if await self._ask(fetch, source, wanted):
                    self._metrics.fetches.labels(type(fetch).__name__, "done").inc()
                    return
            except grpc.aio.AioRpcError as error:
                gone = gone or error.code() is grpc.StatusCode.OUT_OF_RANGE
                _log.debug("source failed", source=source, problem=error.details())
            except (wire.WireError, _Unusable) as error:
                _log.warning("source answered nonsense", source=source, problem=str(error))
            finally:
                self._asked[place] -= 1
        if isinstance(fetch, FetchSnapshot | FetchChunks):
            # Behind the parts of this answer that still wait for a turn.
            await self._mailbox.put(_snapshots_of(sources[-1]), 1, self._failed(fetch, sources[-1]))
        else:
            self._fail(fetch, sources[-1], gone=gone)

    async def _ask(self, fetch: Fetch, source: str, wanted: set[bytes]) -> bool:
        """Ask one source; True once nothing is missing."""
        if isinstance(fetch, FetchBatches):
            return await self._batches(source, wanted)
        if isinstance(fetch, FetchProposals):
            return await self._proposals(source, wanted)
        if isinstance(fetch, FetchSnapshot):
            return await self._snapshot(source)
        if isinstance(fetch, FetchChunks):
            return await self._chunks(source, fetch)
        return await self._blocks(source, fetch.from_height)

    async def _batches(self, source: str, wanted: set[bytes]) -> bool:
        call = self._stub(source).GetBatches(
            peer_pb2.GetBatchesRequest(digests=sorted(wanted)),
            metadata=self._identity.metadata,
            timeout=BATCHES_S_MAX,
        )
        async for response in call:
            self._came(FetchBatches, response.ByteSize())
            batch: Batch = wire.decode_batch(response.batch)
            if batch.header.digest not in wanted:
                raise _Unusable("a batch that was not asked for")
            if merkle_root(batch.envelopes) != batch.header.envelope_root:
                raise _Unusable("other envelopes than the batch's header commits to")
            wanted.discard(batch.header.digest)
            await self._mailbox.put(source, len(batch.raw), BatchesFetched(source, (batch,)))
        return not wanted

    async def _proposals(self, source: str, wanted: set[bytes]) -> bool:
        response = await self._stub(source).GetProposals(
            peer_pb2.GetProposalsRequest(digests=sorted(wanted)),
            metadata=self._identity.metadata,
            timeout=PROPOSALS_S_MAX,
        )
        self._came(FetchProposals, response.ByteSize())
        proposals = [wire.decode_proposal(message) for message in response.proposals]
        found = {proposal.header.digest for proposal in proposals}
        if not found <= wanted:
            raise _Unusable("a proposal that was not asked for")
        if any(each.justification.digest != each.header.justification_digest for each in proposals):
            raise _Unusable("another justification than the proposal's header commits to")
        wanted -= found
        if proposals:
            await self._mailbox.put(source, response.ByteSize(), ProposalsFetched(source, tuple(proposals)))
        return not wanted

    async def _blocks(self, source: str, from_height: int) -> bool:
        call = self._stub(source).GetBlocks(
            peer_pb2.GetBlocksRequest(from_height=from_height, limit_bytes=BLOCKS_BYTES),
            metadata=self._identity.metadata,
            timeout=BLOCKS_S_MAX,
        )
        blocks: list[Block] = []
        size = 0
        async for response in call:
            length = response.ByteSize()
            size += length
            self._came(FetchBlocks, length)
            if size > BLOCKS_BYTES_MAX:
                raise _Unusable(f"more than {BLOCKS_BYTES_MAX} bytes")
            blocks.append(wire.decode_block(response.block))
        if not blocks:
            return False
        await self._mailbox.put(source, size, BlocksFetched(source, tuple(blocks)))
        return True

    async def _snapshot(self, source: str) -> bool:
        response = await self._stub(source).GetSnapshot(
            peer_pb2.GetSnapshotRequest(), metadata=self._identity.metadata, timeout=SNAPSHOT_S_MAX
        )
        self._came(FetchSnapshot, response.ByteSize())
        offered = SnapshotOffered(source, decode_manifest(response.manifest))
        await self._mailbox.put(_snapshots_of(source), len(response.manifest), offered)
        return True

    async def _chunks(self, source: str, fetch: FetchChunks) -> bool:
        call = self._stub(source).GetSnapshotChunks(
            peer_pb2.GetSnapshotChunksRequest(
                height=fetch.height, log=_LOGS[fetch.log], first=fetch.first, stop=fetch.stop
            ),
            metadata=self._identity.metadata,
            timeout=CHUNKS_S_MAX,
        )
        size, stop = 0, fetch.first
        async for response in call:
            length = response.ByteSize()
            size += length
            self._came(FetchChunks, length)
            chunk = decode_chunk(response)
            stop = chunk.first + len(chunk.leaves if isinstance(chunk, LeafChunk) else chunk.receipts)
            if size > CHUNKS_BYTES_MAX:
                raise _Unusable(f"more than {CHUNKS_BYTES_MAX} bytes")
            await self._mailbox.put(_snapshots_of(source), length, ChunkFetched(source, fetch, chunk))
        return stop == fetch.stop

    def _stub(self, source: str) -> peer_pb2_grpc.SyncServiceAsyncStub:
        channel = self._channels.get(source)
        if channel is None:
            channel = self._channels[source] = self._identity.channel(source, self._addresses[source])
        return peer_pb2_grpc.SyncServiceStub(channel)

    def _came(self, kind: type[Fetch], size: int) -> None:
        self.snapshot_bytes += size if kind is FetchChunks else 0
        self._metrics.fetched_bytes.labels(kind.__name__).inc(size)

    def _fail(self, fetch: Fetch, source: str, *, gone: bool = False) -> None:
        self._mailbox.put_now(self._failed(fetch, source, gone=gone))

    def _failed(self, fetch: Fetch, source: str, *, gone: bool = False) -> FetchFailed:
        self._metrics.fetches.labels(type(fetch).__name__, "failed").inc()
        return FetchFailed(fetch, source, gone)


def _snapshots_of(source: str) -> str:
    """The source's own place in the mailbox for parts of snapshots: large, wanted, and not to hold up its votes."""
    return f"{source} snapshot"
