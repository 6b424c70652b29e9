"""Getting what is missing from other nodes, in virtual time: the rules of ``node.fetcher``.

Sources are asked one after another, each for a limited time, until one has all that was asked for; what a source had is
handed in at once, if it is what its digest names. When none is left ``FetchFailed`` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from crypto.merkle import root as merkle_root
from ledger import wire
from ledger.snapshot import LeafChunk
from ledger.wire.snapshots import decode_chunk, decode_manifest
from lossbook.v1 import block_pb2, peer_pb2
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
    Input,
    ProposalsFetched,
    SnapshotOffered,
)
from simulator.serving import Answer

if TYPE_CHECKING:
    from simulator.node import Node

PATIENCE_MS: Final = {
    FetchBatches: 1_000,
    FetchProposals: 600,
    FetchBlocks: 3_000,
    FetchSnapshot: 1_000,
    FetchChunks: 6_000,
}
"""For one source; a fifth of the daemon's, as all times here."""


class _Unusable(Exception):
    """What a source answered cannot be used."""


class _Request:
    """One fetch under way."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.wanted = set(fetch.digests) if isinstance(fetch, FetchBatches | FetchProposals) else set()
        self.got = False  #: what is not named by digests: all of it came
        self.gone = False  #: somebody no longer holds the blocks
        self.at = 0  #: which source is being asked
        self.done = False


class Fetcher:
    """Carries out one node's fetches."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._active: dict[Fetch, _Request] = {}

    def forget(self) -> None:
        """The node was started again."""
        self._active.clear()

    def fetch(self, fetch: Fetch) -> None:
        """Begin; the same request is not made twice at a time."""
        if fetch not in self._active:
            request = self._active[fetch] = _Request(fetch)
            self._ask(request)

    def _ask(self, request: _Request) -> None:
        node, sources = self._node, request.fetch.sources
        while request.at < len(sources) and sources[request.at] == node.id:
            request.at += 1
        if request.at >= len(sources):
            self._end(request)
            node.give(FetchFailed(request.fetch, sources[-1] if sources else "", request.gone))
            return
        cluster = node.cluster
        source = cluster.market.index(sources[request.at])
        cluster.timeline.after(PATIENCE_MS[type(request.fetch)], self._next, request, request.at, node.life)
        if cluster.network.reachable(node.index, source):
            delay_ms = cluster.network.delay(node.index, source)
            cluster.timeline.after(delay_ms, self._reach, request, source, node.life)

    def _reach(self, request: _Request, source: int, life: int) -> None:
        """The request arrives at its source."""
        node, other = self._node, self._node.cluster.nodes[source]
        if not other.up or other.paused or not node.cluster.network.reachable(source, node.index):
            return
        answer = other.serve(request.fetch)
        if answer.silent:
            return
        delay_ms = node.cluster.network.delay(source, node.index)
        node.cluster.timeline.after(delay_ms, self._answered, request, source, answer, life)

    def _answered(self, request: _Request, source: int, answer: Answer, life: int) -> None:
        node = self._node
        member = node.cluster.market.member(source)
        if life != node.life or request.done or member != request.fetch.sources[request.at]:
            return
        try:
            for item in self._read(request, member, answer):
                node.give(item)
        except (wire.WireError, _Unusable):
            self._next(request, request.at, life)
            return
        request.gone = request.gone or answer.gone
        by_digest = isinstance(request.fetch, FetchBatches | FetchProposals)
        if not request.wanted if by_digest else request.got:
            self._end(request)
        else:
            self._next(request, request.at, life)

    def _next(self, request: _Request, at: int, life: int) -> None:
        """This source failed, or kept us waiting."""
        if life == self._node.life and not request.done and request.at == at:
            request.at += 1
            self._ask(request)

    def _end(self, request: _Request) -> None:
        request.done = True
        self._active.pop(request.fetch, None)

    def _read(self, request: _Request, source: str, answer: Answer) -> list[Input]:
        """Form, and that it is what its digest names; nothing else is judged here."""
        items: list[Input] = []
        for raw in answer.batches:
            batch = wire.decode_batch(raw)
            if batch.header.digest not in request.wanted:
                raise _Unusable
            if merkle_root(batch.envelopes) != batch.header.envelope_root:
                raise _Unusable
            request.wanted.discard(batch.header.digest)
            items.append(BatchesFetched(source, (batch,)))
        if answer.proposals:
            proposals = [wire.decode_proposal(wire.parse(block_pb2.Proposal, raw)) for raw in answer.proposals]
            if not {proposal.header.digest for proposal in proposals} <= request.wanted:
                raise _Unusable
            if any(each.justification.digest != each.header.justification_digest for each in proposals):
                raise _Unusable
            request.wanted -= {proposal.header.digest for proposal in proposals}
            items.append(ProposalsFetched(source, tuple(proposals)))
        if answer.blocks:
            blocks = [wire.decode_block(wire.parse(block_pb2.Block, raw)) for raw in answer.blocks]
            request.got = True
            items.append(BlocksFetched(source, tuple(blocks)))
        if answer.manifest:
            request.got = True
            items.append(SnapshotOffered(source, decode_manifest(answer.manifest)))
        if isinstance(request.fetch, FetchChunks):
            for raw in answer.chunks:
                chunk = decode_chunk(wire.parse(peer_pb2.GetSnapshotChunksResponse, raw))
                stop = chunk.first + len(chunk.leaves if isinstance(chunk, LeafChunk) else chunk.receipts)
                request.got = stop == request.fetch.stop
                items.append(ChunkFetched(source, request.fetch, chunk))
        return items
