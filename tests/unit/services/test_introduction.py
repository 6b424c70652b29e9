"""Who was away long enough that all ledger keys were replaced gets to know the present ones, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ledger import operations as ops
from ledger.known_epochs import KnownEpochs
from lossbook.v1 import blocks_pb2, blocks_pb2_grpc, query_pb2_grpc
from replica.introductions import ASK_AGAIN_S, Introductions, follow
from replica.sources import Source
from services.introduction import Introduced, NotIntroduced, introduce
from services.subscription import FeedLost, ServerHeartbeat
from tests.support.epoch_chain import EpochChain
from tests.support.insurers import FIRST, INSURERS, SUPERVISOR, Organisation
from tests.support.tls import identity, serving
from tests.support.voting import plain_card
from tests.unit.sdk.test_trust import ChainNode, chain_node
from tests.unit.services.test_members import rotated

FRESH = rotated(FIRST)
ME = identity(SUPERVISOR, "replica")  #: whose members are those of the genesis


def chain_of_three_epochs() -> EpochChain:
    """Sets change twice; then the first insurer's ledger key is replaced."""
    chain = EpochChain()
    chain.change("one", ops.SetChange())
    chain.change("two", ops.SetChange())
    chain.house.pass_("rotate", ops.CardChange(plain_card(FRESH)))
    for _ in range(3):
        chain.block()
    return chain


def chain_before() -> EpochChain:
    chain = EpochChain()
    for _ in range(3):
        chain.block()
    return chain


CHAIN, BEFORE = chain_of_three_epochs(), chain_before()
KNOWN = KnownEpochs.of_genesis(CHAIN.genesis)


def time_of(chain: EpochChain) -> int:
    return chain.headers[-1].justified.header.timestamp_ms


class OneHeartbeat(blocks_pb2_grpc.BlocksServiceServicer):
    """Says that it lives, and where it stands."""

    async def Subscribe(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        yield blocks_pb2.SubscribeResponse(heartbeat=blocks_pb2.Heartbeat(finalized_height=CHAIN.finalized_height()))


@asynccontextmanager
async def node(organisation: Organisation, query: ChainNode) -> AsyncIterator[str]:
    """A member's node under the ledger key it has here; its address."""
    services = (
        ("lossbook.v1.QueryService", query_pb2_grpc.add_QueryServiceServicer_to_server, query),
        ("lossbook.v1.BlocksService", blocks_pb2_grpc.add_BlocksServiceServicer_to_server, OneHeartbeat()),
    )
    async with asyncio.timeout(20), serving(organisation, *services) as (address, _):
        yield address


async def met(address: str, *, now_ms: int = 0, known: KnownEpochs = KNOWN) -> Introduced:
    return await introduce(ME, FIRST.id, address, CHAIN.genesis, known, lambda: now_ms or time_of(CHAIN) + 1_000)


def test_a_member_with_a_new_ledger_key_is_known_by_its_proved_card_across_epochs() -> None:
    async def main() -> None:
        async with node(FRESH, chain_node(CHAIN)) as address:
            introduced = await met(address)
        assert introduced.card.ledger_key == FRESH.ledger_key.public
        assert introduced.height > 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("impostor", "query", "now_ms", "why"),
    [
        (FIRST, chain_node(BEFORE), 0, "no block of the last minute"),
        (FIRST, chain_node(CHAIN), 0, "not of the ledger key on its card"),
        (INSURERS[1], chain_node(CHAIN), 0, "UNAVAILABLE"),
        (FRESH, chain_node(CHAIN, forge=True), 0, "does not verify"),
        (FRESH, chain_node(CHAIN), time_of(CHAIN) + 61_000, "no block of the last minute"),
    ],
    ids=["old key, old card", "old key, present card", "another member", "forged proof", "stale proof"],
)
def test_invalid_introductions(impostor: Organisation, query: ChainNode, now_ms: int, why: str) -> None:
    if query.chain is BEFORE:
        now_ms = time_of(BEFORE) + 61_000

    async def main() -> None:
        async with node(impostor, query) as address:
            with pytest.raises(NotIntroduced, match=why):
                await met(address, now_ms=now_ms)

    asyncio.run(main())


def test_invalid_a_chain_that_ends_below_own_last_block() -> None:
    own = CHAIN.headers[BEFORE.finalized_height()].justified.header
    known = KNOWN.above(own.height, own.digest, KNOWN.starts[0])

    async def main() -> None:
        async with node(FIRST, chain_node(BEFORE)) as address:
            assert (await met(address, now_ms=time_of(BEFORE))).card.ledger_key == FIRST.ledger_key.public
            with pytest.raises(NotIntroduced, match="does not verify"):
                await met(address, now_ms=time_of(BEFORE), known=known)

    asyncio.run(main())


def test_invalid_nobody_there() -> None:
    async def main() -> None:
        with pytest.raises(NotIntroduced, match="nobody answers there"):
            await met("127.0.0.1:1")

    asyncio.run(main())


# -- a replica that follows ------------------------------------------------------------------------------


def test_a_replica_follows_a_source_whose_key_was_replaced_while_it_was_away() -> None:
    async def main() -> None:
        async with node(FRESH, chain_node(CHAIN)) as address:
            height = [0]

            async def ask(source: Source) -> Introduced:
                return await met(source.address)

            introductions = Introductions(ask, lambda: height[0])
            source = Source(FIRST.id, address)

            async def first_event() -> object:
                async for event in follow(ME, introductions, source, 1, silence_s=10.0):
                    return event
                return None

            with pytest.raises(FeedLost, match="the members have replaced its ledger key"):
                await first_event()
            heartbeat = await first_event()
            assert isinstance(heartbeat, ServerHeartbeat)
            assert heartbeat.finalized_height == CHAIN.finalized_height()
            height[0] = CHAIN.finalized_height()
            assert introductions.authority(FIRST.id) is None, "own state says it from here on"

    asyncio.run(main())


def test_invalid_a_source_that_ends_its_feed_under_the_key_it_always_had_is_not_said_to_have_another() -> None:
    async def main() -> None:
        add = query_pb2_grpc.add_QueryServiceServicer_to_server
        only_query = ("lossbook.v1.QueryService", add, chain_node(BEFORE))  # it has blocks, and sends none
        async with asyncio.timeout(20), serving(FIRST, only_query) as (address, _):

            async def ask(source: Source) -> Introduced:
                return await met(source.address, now_ms=time_of(BEFORE) + 1_000)

            introductions = Introductions(ask, lambda: 0)
            with pytest.raises(FeedLost) as lost:
                async for _ in follow(ME, introductions, Source(FIRST.id, address), 1, silence_s=10.0):
                    pass
            assert introductions.authority(FIRST.id) == FIRST.body().ca_certificate.encode(), "its card was proved"
            assert "replaced" not in str(lost.value)

    asyncio.run(main())


def test_a_source_that_is_down_is_asked_for_its_card_once_a_minute() -> None:
    asked: list[str] = []
    now_s = [5.0]

    async def ask(source: Source) -> Introduced:
        asked.append(source.organisation)
        raise NotIntroduced("nobody answers there")

    async def main() -> None:
        introductions = Introductions(ask, lambda: 0, clock_s=lambda: now_s[0])
        source = Source(FIRST.id, "127.0.0.1:1")
        for _ in range(3):
            assert not await introductions.meet(source, None)
        now_s[0] += ASK_AGAIN_S
        assert not await introductions.meet(source, None)

    asyncio.run(main())
    assert asked == [FIRST.id] * 2
