"""The finalized chain as servicers read it, and the reading side of BlocksService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ledger.ports import CorruptStore
from ledger.types import Block, JustifiedHeader
from ledger.wire import decode_block, make_justification
from lossbook.v1 import blocks_pb2_grpc
from services import subscription
from services.auth import Authenticator
from services.blocks import BlocksServicer, block_message
from services.health import Health
from services.server import Server
from services.stored_chain import StoredChain, block_writes
from services.subscription import FeedLost, ServerHeartbeat, subscribe
from store.memory_blocks import MemoryBlockStore
from tests.support.chain import Chain, altered_header
from tests.support.chain_server import identity_of
from tests.support.insurers import INSURERS, SUPERVISOR, policy_issue


@pytest.fixture(scope="module")
def chain() -> Chain:
    made = Chain()
    for at in range(4):
        policy = policy_issue(policy_id=b"policy-%09d" % at)
        made.block([made.ledger.envelope([policy])], finalized=at != 1)
    return made


def stored(chain: Chain, height: int | None = None, *, leave_out_batches: bool = False) -> StoredChain:
    store = MemoryBlockStore()
    for block in chain.blocks:
        writes = block_writes(block)
        store.commit(writes[len(block.batches) :] if leave_out_batches else writes)
    return StoredChain(store, lambda: len(chain.blocks) if height is None else height)


def test_a_stored_block_is_served_as_it_came(chain: Chain) -> None:
    served = stored(chain)
    for block in chain.blocks:
        found = served.block(block.header.height)
        assert found is not None
        assert decode_block(block_message(found)) == block
        assert served.header(block.header.height) == block.header


def with_tails(chain: Chain, count: int) -> Block:
    """The newest block as if it ended its epoch, finalized with so many tails."""
    last = chain.blocks[-1]
    tails: list[JustifiedHeader] = []
    for view in range(1, count + 1):
        parent = tails[-1].header if tails else last.header
        justification = make_justification(chain.notarization(parent), ())
        after = altered_header(
            last, view=parent.view + view, parent_digest=parent.digest, justification_digest=justification.digest
        )
        tails.append(JustifiedHeader(after.header, justification))
    final = chain.finalization(tails[-1].header if tails else last.header)
    return Block(last.header, last.justification, last.payload, last.batches, final, tuple(tails))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_tails_that_finalized_the_last_block_of_an_epoch_are_served_with_it(chain: Chain, count: int) -> None:
    store = MemoryBlockStore()
    block = with_tails(chain, count)
    store.commit(block_writes(block))
    found = StoredChain(store, lambda: block.header.height).block(block.header.height)
    assert found is not None
    assert decode_block(block_message(found)) == block


def test_a_missing_tail_is_a_damaged_store(chain: Chain) -> None:
    store = MemoryBlockStore()
    block = with_tails(chain, 2)
    lost = block.tails[0].header.digest
    store.commit([write for write in block_writes(block) if write.digest != lost])
    with pytest.raises(CorruptStore, match="tail"):
        StoredChain(store, lambda: block.header.height).block(block.header.height)


def test_headers_only_leave_the_batches_out(chain: Chain) -> None:
    found = stored(chain).block(1, with_batches=False)
    assert found is not None
    assert found.batches == []


def test_nothing_above_the_height_the_daemon_vouches_for_is_served(chain: Chain) -> None:
    served = stored(chain, height=2)
    assert served.finalized_height() == 2
    assert served.block(3) is None
    assert served.block(0) is None


def test_a_missing_batch_of_a_final_block_is_corruption(chain: Chain) -> None:
    served = stored(chain, leave_out_batches=True)
    with pytest.raises(CorruptStore, match="is missing from the block store"):
        served.block(1)
    assert served.block(1, with_batches=False) is not None


# ---------------------------------------------------------------- subscription


async def take(events: AsyncIterator[Block | ServerHeartbeat], count: int) -> list[Block | ServerHeartbeat]:
    return [await anext(events) for _ in range(count)]


async def serving(chain: Chain, heartbeat_s: float) -> tuple[Server, BlocksServicer, str]:
    identity = identity_of(INSURERS[0], chain.genesis, "node")
    server = Server(identity, Authenticator(identity.members), Health(), on_refused=lambda *_: None)
    servicer = BlocksServicer(stored(chain), heartbeat_s=heartbeat_s)
    server.add("lossbook.v1.BlocksService", blocks_pb2_grpc.add_BlocksServiceServicer_to_server, servicer)
    await server.start(["127.0.0.1:0"])
    return server, servicer, f"127.0.0.1:{server.ports['127.0.0.1:0']}"


def test_blocks_then_heartbeats_come_in_order(chain: Chain) -> None:
    async def main() -> None:
        server, _, address = await serving(chain, 0.01)
        identity = identity_of(SUPERVISOR, chain.genesis, "replica")
        events = subscribe(identity, INSURERS[0].id, address, 2, silence_s=10)
        seen = await take(events, 4)
        assert seen[:3] == chain.blocks[1:]
        assert isinstance(seen[3], ServerHeartbeat)
        assert seen[3].finalized_height == 4
        await events.aclose()
        await server.stop(0)

    asyncio.run(main())


def test_credit_is_given_back_as_blocks_are_taken(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "CREDIT_BYTES", 1)
    monkeypatch.setattr(subscription, "GRANT_BYTES", 1)

    async def main() -> None:
        server, _, address = await serving(chain, 10)
        identity = identity_of(SUPERVISOR, chain.genesis, "replica")
        events = subscribe(identity, INSURERS[0].id, address, 1, silence_s=10)
        assert await take(events, 4) == chain.blocks
        await events.aclose()
        await server.stop(0)

    asyncio.run(main())


@pytest.mark.parametrize(("organisation", "from_height"), [(INSURERS[0].id, 0), (INSURERS[1].id, 1)])
def test_what_goes_wrong_with_the_connection_is_a_lost_feed(chain: Chain, organisation: str, from_height: int) -> None:
    """A refused request, and a server that shows another member's certificate than the one that was dialled."""

    async def main() -> None:
        server, _, address = await serving(chain, 10)
        identity = identity_of(SUPERVISOR, chain.genesis, "replica")
        events = subscribe(identity, organisation, address, from_height, silence_s=3)
        with pytest.raises(FeedLost) as caught:
            await anext(events)
        assert caught.value.organisation == organisation
        await server.stop(0)

    asyncio.run(main())


def test_a_silent_server_and_one_that_leaves_are_lost_feeds(chain: Chain) -> None:
    async def main() -> None:
        server, servicer, address = await serving(chain, 60)
        identity = identity_of(SUPERVISOR, chain.genesis, "replica")
        silent = subscribe(identity, INSURERS[0].id, address, 5, silence_s=0.05)
        with pytest.raises(FeedLost, match=r"no message for 0\.05 s"):
            await anext(silent)
        leaving = subscribe(identity, INSURERS[0].id, address, 4, silence_s=10)
        await anext(leaving)
        servicer.close()
        with pytest.raises(FeedLost, match="the server ended the stream"):
            await anext(leaving)
        await server.stop(0)

    asyncio.run(main())
