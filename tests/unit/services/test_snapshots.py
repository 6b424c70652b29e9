"""Offering snapshots: held still, bounded in number, served in chunks of one stream, refused with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextvars import Token
from typing import Any

import grpc
import pytest

from ledger.commitment import TWIG_LEAVES
from ledger.known_epochs import KnownEpochs
from ledger.snapshot import LeafChunk, ReceiptChunk, verify_leaves, verify_manifest, verify_receipts
from ledger.snapshot_making import PIN_EVERY_S, PINS_MAX, SnapshotShelf
from ledger.state_log import ProofUnavailable
from ledger.wire.snapshots import decode_chunk, decode_manifest
from lossbook.v1 import peer_pb2
from services import auth, sync
from services.auth import Caller
from services.sync import CHUNK_CALLS_PER_ORGANISATION_MAX, SyncServicer
from tests.support.chains import Chain
from tests.support.insurers import Ledger
from tests.support.snapshots import NoSnapshots, long_chain, policies
from tests.unit.services.test_sync import Everything


class Aborted(Exception):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Context:
    """Of a call: aborting ends it."""

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code, details)


CONTEXT: Any = Context()


def calling(organisation: str) -> Token[Caller]:
    """The calls that this task makes are of this organisation's node."""
    return auth._caller.set(Caller(organisation, "node", True, True, True, True))


@pytest.fixture(autouse=True)
def _alpha() -> Iterator[None]:
    before = calling("alpha")
    yield
    auth._caller.reset(before)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def shelf(chain: Chain) -> tuple[SnapshotShelf, Clock]:
    clock = Clock()
    return SnapshotShelf(chain.ledger.state, chain, clock), clock


def grown() -> Chain:
    chain = Chain(Ledger())
    chain.add(*policies(chain.ledger, 5))
    chain.add()
    return chain


def test_an_offer_is_made_anew_only_after_a_while() -> None:
    chain = grown()
    held, clock = shelf(chain)
    first = held.offer()
    chain.add()
    clock.now_s += PIN_EVERY_S - 1
    assert held.offer() is first
    clock.now_s += 1
    assert held.offer().height == first.height + 1


def test_a_few_are_kept_and_the_oldest_goes() -> None:
    chain = grown()
    held, clock = shelf(chain)
    heights = []
    for _ in range(PINS_MAX + 2):
        heights.append(held.offer().height)
        chain.add()
        clock.now_s += PIN_EVERY_S
    assert [held.find(height) is not None for height in heights] == [False, False] + [True] * PINS_MAX


def test_a_height_that_comes_again_after_an_idle_time_is_the_newest() -> None:
    chain = grown()
    held, clock = shelf(chain)
    first = held.offer()
    clock.now_s += PIN_EVERY_S
    again = held.offer()
    assert again.height == first.height
    assert held.find(first.height) is again


def test_nothing_is_offered_before_anything_is_certified() -> None:
    chain = Chain(Ledger())
    held, _ = shelf(chain)
    with pytest.raises(ProofUnavailable):
        held.offer()


async def fetched(
    servicer: SyncServicer, height: int, log: peer_pb2.SnapshotLog.ValueType, first: int, stop: int
) -> list[LeafChunk | ReceiptChunk]:
    request = peer_pb2.GetSnapshotChunksRequest(height=height, log=log, first=first, stop=stop)
    return [decode_chunk(response) async for response in servicer.GetSnapshotChunks(request, CONTEXT)]


def test_the_service_gives_manifest_and_chunks_that_verify() -> None:
    async def main() -> None:
        chain = long_chain()
        servicer = SyncServicer(Everything(), shelf(chain)[0])
        answer = await servicer.GetSnapshot(peer_pb2.GetSnapshotRequest(), CONTEXT)
        snapshot = verify_manifest(decode_manifest(answer.manifest), KnownEpochs.of_genesis(chain.genesis))
        count = snapshot.record.leaf_count
        leaves = await fetched(servicer, snapshot.height, peer_pb2.SNAPSHOT_LOG_LEAVES, 100, count)
        at = 100
        for chunk in leaves:
            assert isinstance(chunk, LeafChunk)
            assert chunk.first == at
            at += len(verify_leaves(chunk, snapshot))
        assert at == count
        assert leaves[0].first // TWIG_LEAVES == 0
        receipts = await fetched(servicer, snapshot.height, peer_pb2.SNAPSHOT_LOG_RECEIPTS, 0, 10)
        assert isinstance(receipts[0], ReceiptChunk)
        assert len(verify_receipts(receipts[0], snapshot)) == 10

    asyncio.run(main())


def test_an_answer_ends_after_some_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        chain = long_chain()
        servicer = SyncServicer(Everything(), shelf(chain)[0])
        answer = await servicer.GetSnapshot(peer_pb2.GetSnapshotRequest(), CONTEXT)
        snapshot = verify_manifest(decode_manifest(answer.manifest), KnownEpochs.of_genesis(chain.genesis))
        monkeypatch.setattr(sync, "CHUNKS_BYTES_MAX", 1)
        count = snapshot.record.leaf_count
        leaves = peer_pb2.SNAPSHOT_LOG_LEAVES
        assert len(await fetched(servicer, snapshot.height, leaves, 0, count)) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("height", "log", "first", "stop", "code"),
    [
        (999, peer_pb2.SNAPSHOT_LOG_LEAVES, 0, 5, grpc.StatusCode.NOT_FOUND),
        (1, peer_pb2.SNAPSHOT_LOG_UNSPECIFIED, 0, 5, grpc.StatusCode.INVALID_ARGUMENT),
        (1, peer_pb2.SNAPSHOT_LOG_LEAVES, 1 << 50, 1 << 51, grpc.StatusCode.INVALID_ARGUMENT),
        (1, peer_pb2.SNAPSHOT_LOG_RECEIPTS, 5, 9, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_invalid_requests_are_refused(
    height: int, log: peer_pb2.SnapshotLog.ValueType, first: int, stop: int, code: grpc.StatusCode
) -> None:
    async def main() -> None:
        servicer = SyncServicer(Everything(), shelf(grown())[0])
        await servicer.GetSnapshot(peer_pb2.GetSnapshotRequest(), CONTEXT)
        with pytest.raises(Aborted) as caught:
            await fetched(servicer, height, log, first, stop)
        assert caught.value.code is code

    asyncio.run(main())


class Reader:
    """A call that reads chunks and has had its first."""

    def __init__(self, servicer: SyncServicer, height: int) -> None:
        leaves = peer_pb2.SNAPSHOT_LOG_LEAVES
        request = peer_pb2.GetSnapshotChunksRequest(height=height, log=leaves, first=0, stop=1 << 40)
        self._answer = servicer.GetSnapshotChunks(request, CONTEXT)

    async def begin(self) -> None:
        assert (await anext(aiter(self._answer))).ByteSize()

    async def end(self) -> None:
        assert isinstance(self._answer, AsyncGenerator)
        await self._answer.aclose()


def test_an_organisation_has_a_few_places_to_read_chunks_and_takes_none_of_anothers() -> None:
    async def main() -> None:
        chain = grown()
        servicer = SyncServicer(Everything(), shelf(chain)[0])
        await servicer.GetSnapshot(peer_pb2.GetSnapshotRequest(), CONTEXT)
        readers = [Reader(servicer, 1) for _ in range(CHUNK_CALLS_PER_ORGANISATION_MAX)]
        for reader in readers:
            await reader.begin()
        with pytest.raises(Aborted, match="calls of alpha read chunks here: let one end first") as caught:
            await Reader(servicer, 1).begin()
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        calling("beta")
        await Reader(servicer, 1).begin()
        calling("alpha")
        await readers[0].end()
        await Reader(servicer, 1).begin()

    asyncio.run(main())


def test_a_refused_request_gives_its_place_back() -> None:
    async def main() -> None:
        servicer = SyncServicer(Everything(), shelf(grown())[0])
        await servicer.GetSnapshot(peer_pb2.GetSnapshotRequest(), CONTEXT)
        for _ in range(2 * CHUNK_CALLS_PER_ORGANISATION_MAX):
            with pytest.raises(Aborted) as caught:
                await fetched(servicer, 999, peer_pb2.SNAPSHOT_LOG_LEAVES, 0, 5)
            assert caught.value.code is grpc.StatusCode.NOT_FOUND

    asyncio.run(main())


def test_readers_of_chunks_together_have_one_chunk_made_in_a_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        servicer = SyncServicer(Everything(), shelf(grown())[0])
        await servicer.GetSnapshot(peer_pb2.GetSnapshotRequest(), CONTEXT)
        turn, made = 0, list[int]()
        make = sync._chunk

        def noted(*given: Any) -> Any:
            made.append(turn)
            return make(*given)

        monkeypatch.setattr(sync, "_chunk", noted)
        readers = asyncio.gather(
            *(fetched(servicer, 1, peer_pb2.SNAPSHOT_LOG_LEAVES, 0, 5) for _ in range(CHUNK_CALLS_PER_ORGANISATION_MAX))
        )
        while not readers.done():
            await asyncio.sleep(0)
            turn += 1
        await readers
        assert len(made) == CHUNK_CALLS_PER_ORGANISATION_MAX
        assert len(set(made)) == len(made), "somebody else had the loop between two chunks"

    asyncio.run(main())


def test_a_node_without_a_snapshot_says_so() -> None:
    async def main() -> None:
        servicer = SyncServicer(Everything(), NoSnapshots())
        with pytest.raises(Aborted) as caught:
            await servicer.GetSnapshot(peer_pb2.GetSnapshotRequest(), CONTEXT)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE

    asyncio.run(main())
