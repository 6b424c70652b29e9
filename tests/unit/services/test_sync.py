"""What a peer that asks may cost: an answer is bounded, however the question repeats itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from lossbook.v1 import block_pb2, peer_pb2, query_pb2
from lossbook.v1.peer_pb2_grpc import add_SyncServiceServicer_to_server
from lossbook.v1.query_pb2_grpc import add_QueryServiceServicer_to_server
from services import sync
from services.limits import METHOD_CALLS_PER_CALLER_MAX
from services.pulse import Pulse
from services.query import QueryServicer
from services.sources import StoredBlock
from services.sync import SyncServicer
from tests.support.insurers import INSURERS
from tests.support.snapshots import NoSnapshots
from tests.support.tls import identity, serving
from tests.support.unread import unread

CONTEXT: Any = None  #: never aborted in these tests


class Everything:
    """A source that holds a batch and a proposal for every digest."""

    def __init__(self) -> None:
        self.grown = Pulse()

    def finalized_height(self) -> int:
        return 0

    def first_height(self) -> int:
        return 1

    def block(self, height: int, *, with_batches: bool = True) -> StoredBlock | None:
        return None

    def batch(self, digest: bytes) -> bytes | None:
        return digest * 100

    def proposal(self, digest: bytes) -> bytes | None:
        return block_pb2.Proposal(header=digest * 100).SerializeToString()


SERVICER = SyncServicer(Everything(), NoSnapshots())


def digests(count: int) -> list[bytes]:
    return [bytes([number]) * 32 for number in range(count)]


def test_a_digest_that_is_repeated_is_answered_once() -> None:
    async def main() -> None:
        asked = digests(3) * 300
        batches = peer_pb2.GetBatchesRequest(digests=asked)
        assert len([response async for response in SERVICER.GetBatches(batches, CONTEXT)]) == 3
        proposals = await SERVICER.GetProposals(peer_pb2.GetProposalsRequest(digests=asked), CONTEXT)
        assert len(proposals.proposals) == 3

    asyncio.run(main())


def test_proposals_fill_one_message_only_and_the_first_always_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    request = peer_pb2.GetProposalsRequest(digests=digests(10))

    async def count(limit: int) -> int:
        monkeypatch.setattr(sync, "PROPOSALS_BYTES_MAX", limit)
        return len((await SERVICER.GetProposals(request, CONTEXT)).proposals)

    assert asyncio.run(count(4 * 3_300)) == 4
    assert asyncio.run(count(1)) == 1


# -- what is not read ----------------------------------------------------------------------------------

HELD = INSURERS[1]
REQUESTS: dict[str, Any] = {
    "lossbook.v1.SyncService/GetBlocks": peer_pb2.GetBlocksRequest(from_height=1),
    "lossbook.v1.SyncService/GetBatches": peer_pb2.GetBatchesRequest(digests=digests(100)),
    "lossbook.v1.SyncService/GetProposals": peer_pb2.GetProposalsRequest(digests=digests(100)),
    "lossbook.v1.QueryService/GetBlock": query_pb2.GetBlockRequest(height=1),
}


class Endless(Everything):
    """It has any number of blocks too; counts how often one was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def finalized_height(self) -> int:
        return 1 << 40

    def block(self, height: int, *, with_batches: bool = True) -> StoredBlock | None:
        self.read += 1
        proposal = block_pb2.Proposal(header=bytes(300)).SerializeToString()
        return StoredBlock(proposal=proposal, batches=[bytes(1 << 16)], finalization=b"", tails=())


class OneReader:
    """As much of a ``Reader`` as GetBlock takes."""

    def __init__(self, source: Endless) -> None:
        self.block = source.block


@pytest.mark.parametrize("method", REQUESTS)
def test_whoever_does_not_read_its_answers_has_few_of_them_here_and_takes_nobody_elses_places(
    method: str, tmp_path: Path
) -> None:
    source, most = Endless(), METHOD_CALLS_PER_CALLER_MAX[method]
    servicers = (
        ("lossbook.v1.SyncService", add_SyncServiceServicer_to_server, SyncServicer(source, NoSnapshots())),
        ("lossbook.v1.QueryService", add_QueryServiceServicer_to_server, QueryServicer(OneReader(source))),  # type: ignore[arg-type]
    )

    async def main() -> None:
        async with (
            asyncio.timeout(20),
            serving(INSURERS[0], *servicers) as (address, refused),
            unread(identity(HELD), address, tmp_path) as hostile,
        ):
            asked = [await hostile.ask(method, REQUESTS[method].SerializeToString()) for _ in range(most + 1)]
            assert await hostile.next_end() == asked[-1], "also an answer that is complete counts until it is read"
            ((reason, text),) = refused
            assert reason == "calls"
            assert f"{most} calls of {method.rpartition('/')[2]} of {HELD.id} (node) are running here" in text
            assert source.read <= most, "one block in memory for each of them"
            for other, role in ((INSURERS[2], "node"), (HELD, "client")):
                who = identity(other, role)
                if role == "node" or "Query" in method:
                    async with who.channel(INSURERS[0].id, address) as channel:
                        call = channel.unary_stream(f"/{method}", type(REQUESTS[method]).SerializeToString, bytes)
                        assert await call(REQUESTS[method], metadata=who.metadata).read()
            assert len(refused) == 1

    asyncio.run(main())


@pytest.mark.parametrize("what", ["blocks", "batches"])
def test_readers_together_have_one_block_or_batch_read_in_a_turn_of_the_loop(what: str) -> None:
    class Noting(Endless):
        def block(self, height: int, *, with_batches: bool = True) -> StoredBlock | None:
            made.append(turn)
            return None if height > 3 else super().block(height)

        def batch(self, digest: bytes) -> bytes | None:
            made.append(turn)
            return super().batch(digest)

    turn, made = 0, list[int]()

    async def main() -> None:
        nonlocal turn
        servicer = SyncServicer(Noting(), NoSnapshots())

        async def read() -> int:
            if what == "blocks":
                blocks = servicer.GetBlocks(peer_pb2.GetBlocksRequest(from_height=1), CONTEXT)
                return len([response async for response in blocks])
            batches = servicer.GetBatches(peer_pb2.GetBatchesRequest(digests=digests(3)), CONTEXT)
            return len([response async for response in batches])

        readers = asyncio.gather(*(read() for _ in range(8)))
        while not readers.done():
            await asyncio.sleep(0)
            turn += 1
        assert await readers == [3] * 8
        assert len(made) >= 3 * 8
        assert max(Counter(made).values()) == 1, "somebody else had the loop between two of them"

    asyncio.run(main())


def test_a_call_that_its_caller_gave_up_leaves_its_place(tmp_path: Path) -> None:
    method = "lossbook.v1.QueryService/GetBlock"
    servicer = ("lossbook.v1.QueryService", add_QueryServiceServicer_to_server, QueryServicer(OneReader(Endless())))  # type: ignore[arg-type]

    async def main() -> None:
        async with asyncio.timeout(20), serving(INSURERS[0], servicer) as (address, refused):
            async with unread(identity(HELD), address, tmp_path) as hostile:
                for _ in range(METHOD_CALLS_PER_CALLER_MAX[method] + 1):
                    await hostile.ask(method, REQUESTS[method].SerializeToString())
                await hostile.next_end()
            who = identity(HELD)
            async with who.channel(INSURERS[0].id, address) as channel:
                call = channel.unary_unary(f"/{method}", type(REQUESTS[method]).SerializeToString, bytes)
                while True:  # the server hears of the lost connection a moment later
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await call(REQUESTS[method], metadata=who.metadata)
                        break
            assert refused

    asyncio.run(main())
