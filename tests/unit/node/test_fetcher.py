"""Sources that lie or keep the fetcher waiting: the next one is asked, and what was asked for arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from consensus.types import Proposal
from ledger import wire
from ledger.types import Batch
from lossbook.v1 import peer_pb2, peer_pb2_grpc
from node.fetcher import ACTIVE_OF_SOURCE_MAX, Fetcher
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.turn import BatchesFetched, FetchBatches, FetchProposals, Input, ProposalsFetched
from services.sync import SyncServicer
from services.tasks import Tasks
from tests.support.insurers import INSURERS
from tests.support.snapshots import NoSnapshots
from tests.support.tls import identity, serving
from tests.unit.node.test_peer_wire import BATCH, CERTIFICATE, SIGNATURE, VOTE
from tests.unit.node.test_peers import Store, fetched

BETA, GAMMA = INSURERS[1], INSURERS[2]
DIGEST = BATCH.header.digest
GARBLED = wire.encode_batch(BATCH.header.raw, SIGNATURE, [bytes(len(BATCH.envelopes[0]))])


def proposal() -> Proposal:
    """A proposal of which nobody here judges more than its form."""
    justification = wire.make_justification(CERTIFICATE, ())
    payload = wire.encode_payload(())
    header = wire.encode_header(
        version=1,
        chain_id=bytes(32),
        epoch=0,
        height=1,
        view=1,
        parent_view=0,
        parent_digest=bytes(32),
        payload_root=payload.root,
        justification_digest=justification.digest,
        timestamp_ms=1,
        state_height=0,
        state_root=bytes(32),
        receipts_root=bytes(32),
        valset_hash=bytes(32),
        state_scheme=1,
    )
    return Proposal(header, justification, payload.raw, VOTE)


def raw(value: Proposal) -> bytes:
    return wire.encode_proposal(value).SerializeToString()


def test_other_envelopes_under_a_genuine_header_do_not_end_the_search() -> None:
    fetch = FetchBatches((BETA.id, GAMMA.id), (DIGEST,))
    assert fetched([Store(lie=GARBLED), Store([BATCH.raw])], fetch) == [BatchesFetched(GAMMA.id, (BATCH,))]


def test_another_justification_under_a_genuine_header_does_not_end_the_search() -> None:
    genuine = proposal()
    garbled = Proposal(genuine.header, wire.make_justification(None, ()), genuine.payload, genuine.vote)
    fetch = FetchProposals((BETA.id, GAMMA.id), (genuine.header.digest,))
    answers = fetched([Store(lie=raw(garbled)), Store(lie=raw(genuine))], fetch)
    assert answers == [ProposalsFetched(GAMMA.id, (genuine,))]


class Tarpit(SyncServicer):
    """Takes every question and answers none."""

    def __init__(self) -> None:
        super().__init__(Store(), NoSnapshots())
        self.asked = 0

    async def GetBatches(  # noqa: N802 - gRPC's name
        self, request: peer_pb2.GetBatchesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_pb2.GetBatchesResponse]:
        self.asked += 1
        await asyncio.Event().wait()
        yield peer_pb2.GetBatchesResponse()


def test_a_source_that_never_answers_takes_up_its_own_places_only() -> None:
    async def main() -> tuple[int, list[Input]]:
        tarpit, mailbox, tasks = Tarpit(), Mailbox(), Tasks()
        name, register = "lossbook.v1.SyncService", peer_pb2_grpc.add_SyncServiceServicer_to_server
        async with (
            serving(BETA, (name, register, tarpit)) as (slow, _),
            serving(GAMMA, (name, register, SyncServicer(Store([BATCH.raw]), NoSnapshots()))) as (good, _),
        ):
            addresses = {BETA.id: slow, GAMMA.id: good}
            fetcher = Fetcher(addresses, identity(INSURERS[0]), mailbox, Metrics(), tasks)
            for number in range(ACTIVE_OF_SOURCE_MAX):
                fetcher.fetch(FetchBatches((BETA.id, GAMMA.id), (bytes([number]) * 32,)))
            fetcher.fetch(FetchBatches((BETA.id, GAMMA.id), (DIGEST,)))
            try:
                async with asyncio.timeout(4):  # below BATCHES_S_MAX
                    await mailbox.wait(None)
                return tarpit.asked, mailbox.drain()
            finally:
                await tasks.stop()
                await fetcher.close()

    asked, answers = asyncio.run(main())
    assert asked <= ACTIVE_OF_SOURCE_MAX
    assert answers == [BatchesFetched(GAMMA.id, (Batch(BATCH.header, BATCH.signature, BATCH.envelopes, BATCH.raw),))]
