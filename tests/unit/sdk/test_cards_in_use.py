"""A client whose calls succeed notices that the ledger key of its node was rotated, and within which time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import grpc
import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from ledger import operations as ops
from ledger.organisations import CARDS, CardRecord
from ledger.proofs import Proven
from lossbook.v1 import blocks_pb2, blocks_pb2_grpc, gateway_pb2, gateway_pb2_grpc, query_pb2, query_pb2_grpc
from lossbook_sdk.answers import Stage
from lossbook_sdk.card_watch import CARD_AGAIN_S, CARD_RECENT_S, CardWatch
from lossbook_sdk.channel import Connector
from lossbook_sdk.errors import NodeRefused, ProfileError
from lossbook_sdk.gateway import Gateway
from lossbook_sdk.links import Link
from lossbook_sdk.nodes import Backoff, Nodes, _Place
from lossbook_sdk.profile import Node
from lossbook_sdk.query import Query
from lossbook_sdk.stream import BulkSubmitter
from lossbook_sdk.trust import Trust
from tests.support.epoch_chain import EpochChain
from tests.support.gateways import FakeGateway, PlainConnector, always, final
from tests.support.insurers import FIRST, INSURERS, SUPERVISOR, Organisation, market_genesis
from tests.support.tls import identity, serving
from tests.support.voting import plain_card
from tests.unit.sdk.test_gateway import envelope
from tests.unit.sdk.test_trust import ChainNode, chain_node, later, proved_card
from tests.unit.services.test_members import rotated

T = TypeVar("T")
SECOND = INSURERS[1]
FRESH = rotated(FIRST)  #: the first insurer with a new ledger key


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(bounded())


def voted(card: bytes) -> EpochChain:
    """A chain on which the first insurer's card was replaced by vote."""
    chain = EpochChain()
    chain.house.pass_("card", ops.CardChange(card))
    for _ in range(3):
        chain.block()
    return chain


def authority_before() -> str:
    """That of the first insurer in the genesis."""
    return next(card for card in market_genesis().organisations if card.id == FIRST.id).body.ca_certificate


def moved() -> EpochChain:
    """The same authority, another address."""
    return voted(plain_card(FIRST, public_address="10.0.0.9:1", ca_certificate=authority_before()))


def time_of(chain: EpochChain) -> int:
    return chain.headers[-1].justified.header.timestamp_ms


class Clock:
    """Own time, wall and monotonic alike."""

    def __init__(self, ms: int) -> None:
        self.start_ms = self.ms = ms

    def __call__(self) -> int:
        return self.ms

    def seconds(self) -> float:
        return (self.ms - self.start_ms) / 1000

    def pass_s(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


def nodes_at(clock: Clock, *gateways: FakeGateway) -> Nodes:
    connector = PlainConnector(Trust(market_genesis(), now_ms=clock), b"", b"")
    places = [gateway.node for gateway in gateways]
    return Nodes(connector, places, clock_s=clock.seconds, backoff=lambda: Backoff(0.01, 0.05))


def card_asked(node: ChainNode) -> int:
    return node.asked.count(CARDS.prefix + FIRST.id.encode())


# -- the bound ---------------------------------------------------------------------------------------


def old_proof(chain: EpochChain) -> Proven:
    return proved_card(chain, Trust(chain.genesis), FIRST.id)


BEFORE, AFTER = later(0), voted(plain_card(FRESH))
OLD, NEW = old_proof(BEFORE), old_proof(AFTER)
START_MS = time_of(AFTER) + 1_000_000


def at(proven: Proven, ms: int) -> Proven:
    """The same from a header of this time, so many milliseconds after the start."""
    header = dataclasses.replace(proven.header, timestamp_ms=START_MS + ms, state_height=1_000_000 + ms)
    return msgspec.structs.replace(proven, header=header)


class World(Nodes):
    """A thief's node that answers everything, and what it and an honest node prove: no connection is made."""

    def __init__(self, clock: Clock, rotated_ms: int, thief: Callable[[], int | None]) -> None:
        self.clock, self.rotated_ms, self.thief = clock, rotated_ms, thief
        self.dialled: dict[grpc.aio.Channel, str] = {}
        world = self

        class Recording(PlainConnector, frozen=True):
            def channel(self, node: Node) -> grpc.aio.Channel:
                card, channel = self.card_of(node), super().channel(node)
                world.dialled[channel] = card.body.ca_certificate
                return channel

        connector = Recording(Trust(market_genesis(), now_ms=clock), b"", b"")
        places = [Node(FIRST.id, "127.0.0.1:1"), Node(SECOND.id, "127.0.0.1:2")]
        super().__init__(connector, places, clock_s=clock.seconds)
        self.asked = 0

    async def _proved(self, place: _Place, key: bytes) -> Proven | None:
        now_ms = self.clock.ms - START_MS
        if place.node.organisation == SECOND.id:
            return at(NEW if now_ms >= self.rotated_ms else OLD, now_ms)
        if place.link is not None and place.link.authority != authority_before().encode():
            return at(NEW, now_ms)  # the owner of the new key
        self.asked += 1
        age_ms = self.thief()
        shown_ms = now_ms if age_ms is None else now_ms - age_ms
        if age_ms is None or shown_ms >= self.rotated_ms:
            return None  # there is no such proof: the card was another one by then
        return at(OLD, shown_ms)

    async def believed(self) -> str:
        """The authority whose answer a call took."""

        def method(channel: grpc.aio.Channel) -> Callable[..., Awaitable[str]]:
            async def answer(*_: object, **__: object) -> str:
                return self.dialled[channel]

            return answer

        answer, _ = await self.call(method, None)
        return answer


@pytest.mark.property
@hypothesis.settings(deadline=None)
@hypothesis.given(
    rotated_s=st.integers(1, 200),
    steps=st.lists(st.integers(0, 200), min_size=12, max_size=30),
    ages=st.lists(st.none() | st.integers(0, 1_000_000), min_size=1, max_size=3),
)
def test_no_answer_of_a_rotated_key_is_believed_after_the_bound_whatever_the_thief_proves(
    rotated_s: int, steps: list[int], ages: list[int | None]
) -> None:
    async def story() -> None:
        clock, turn = Clock(START_MS), iter(range(10_000))
        world = World(clock, rotated_s * 1000, lambda: ages[next(turn) % len(ages)])
        now_s = 0
        for step in steps:
            clock.pass_s(step)
            now_s += step
            authority = await world.believed()
            if now_s < rotated_s:
                assert authority == authority_before()
            if now_s >= rotated_s + CARD_AGAIN_S + CARD_RECENT_S:
                assert authority != authority_before()
        assert world.asked <= 1 + now_s / CARD_AGAIN_S, "once a minute, however many calls"
        await world.close()

    asyncio.run(story())


def test_a_card_is_asked_for_again_after_its_time_and_with_every_new_epoch() -> None:
    watch = CardWatch()
    assert watch.due("a", 0, 0.0)
    watch.asked("a", 0, 10.0)
    assert not watch.due("a", 0, 10.0 + CARD_AGAIN_S - 1)
    assert watch.due("a", 0, 10.0 + CARD_AGAIN_S)
    assert watch.due("a", 1, 10.0)
    assert watch.due("b", 0, 10.0)


# -- with TLS ----------------------------------------------------------------------------------------


def registrations(gateway: FakeGateway, node: ChainNode) -> tuple[Any, Any]:
    return (
        ("lossbook.v1.GatewayService", gateway_pb2_grpc.add_GatewayServiceServicer_to_server, gateway),
        ("lossbook.v1.QueryService", query_pb2_grpc.add_QueryServiceServicer_to_server, node),
    )


def dialling(clock: Clock, *nodes: Node, me: Organisation = SUPERVISOR) -> Nodes:
    leaf = identity(me, "client")
    connector = Connector(Trust(market_genesis(), now_ms=clock), leaf.leaf_pem, leaf.leaf_key_pem)
    return Nodes(connector, nodes, clock_s=clock.seconds, backoff=lambda: Backoff(0.01, 0.05))


@pytest.mark.parametrize("proves", [True, False], ids=["an-old-state", "nothing"])
def test_a_thief_of_a_rotated_key_loses_the_client_although_every_call_succeeds(
    proves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thief sits where the client dials; the owner with its new key elsewhere; another member is honest."""
    stolen, honest = FakeGateway(FIRST.id, always(final)), FakeGateway(SECOND.id, always(final))
    mirror, fellow = chain_node(BEFORE), chain_node(BEFORE)
    if not proves:
        monkeypatch.setattr(ChainNode, "GetRecord", _silent_where(mirror, ChainNode.GetRecord))
        monkeypatch.setattr("lossbook_sdk.nodes.LEARN_S", 0.2)
    clock = Clock(time_of(BEFORE) + 1_000)

    async def story() -> None:
        async with (
            serving(FIRST, *registrations(stolen, mirror)) as (taken, _),
            serving(SECOND, *registrations(honest, fellow)) as (address, _),
        ):
            nodes = dialling(clock, Node(FIRST.id, taken), Node(SECOND.id, address))
            for _ in range(3):
                assert (await Gateway(nodes).submit(envelope())).node == FIRST.id, "nothing is wrong yet"
            fellow.chain = AFTER  # the vote passes; only honest nodes show it
            clock.pass_s(CARD_AGAIN_S)
            assert clock.ms - time_of(BEFORE) > CARD_RECENT_S * 1000 >= clock.ms - time_of(AFTER)
            status = await Gateway(nodes).submit(envelope())
            assert status.node == SECOND.id, "what the thief said last was not believed"
            card = nodes.connector.trust.card(FIRST.id)
            assert card is not None
            assert card.ledger_key == FRESH.ledger_key.public
            assert (await Gateway(nodes).submit(envelope())).node == SECOND.id, "its leaf passes no handshake any more"
            await nodes.close()
        async with serving(FRESH, *registrations(stolen, chain_node(AFTER))) as (address, _):
            owner = Nodes(nodes.connector, [Node(FIRST.id, address)])
            assert (await Gateway(owner).submit(envelope())).stage is Stage.FINAL
            await owner.close()

    run(story())


def _silent_where(mirror: ChainNode, answer: Any) -> Any:
    async def get_record(self: ChainNode, request: query_pb2.GetRecordRequest, context: Any) -> Any:
        if self is mirror:
            await asyncio.Event().wait()
        return await answer(self, request, context)

    return get_record


def test_a_thief_that_refuses_every_call_is_noticed_too() -> None:
    class Refusing(FakeGateway):
        async def Submit(  # noqa: N802
            self, request: gateway_pb2.SubmitRequest, context: Any
        ) -> gateway_pb2.SubmitResponse:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "go away")
            return gateway_pb2.SubmitResponse()

    stolen, honest = Refusing(FIRST.id, always(final)), FakeGateway(SECOND.id, always(final))
    clock = Clock(time_of(AFTER) + 59_000)

    async def story() -> None:
        await stolen.start(query=chain_node(BEFORE))
        await honest.start(query=chain_node(AFTER))
        nodes = nodes_at(clock, stolen, honest)
        with pytest.raises(NodeRefused, match="go away"):
            await Gateway(nodes).submit(envelope())  # in the clear, it is let in under any authority
        card = nodes.connector.trust.card(FIRST.id)
        await nodes.close()
        await stolen.stop()
        await honest.stop()
        assert card is not None
        assert card.ledger_key == FRESH.ledger_key.public

    run(story())


def test_a_card_without_a_usable_certificate_takes_the_old_authority_away_too() -> None:
    """Execution judges no X.509, so such a card may come into the state; then nobody passes for its organisation."""
    chain = EpochChain()
    before = chain.ledger.state.get(CARDS, FIRST.id.encode())
    assert before is not None
    line = authority_before().split("\n")[1]
    broken = CardRecord(before.text.replace(line, "no certificate"), before.signature, before.possession)
    chain.ledger.state.put(CARDS, FIRST.id.encode(), broken)
    for _ in range(4):
        chain.block()
    used, second = FakeGateway(FIRST.id, always(final)), FakeGateway(SECOND.id, always(final))
    clock = Clock(time_of(chain))

    async def story() -> None:
        await used.start(query=chain_node(chain))
        await second.start(query=chain_node(chain))
        nodes = nodes_at(clock, used, second)
        assert (await Gateway(nodes).submit(envelope())).node == SECOND.id
        assert nodes.connector.trust.card(FIRST.id) is None
        alone = nodes_at(clock, used)
        with pytest.raises(ProfileError, match="not known to be a member"):
            await Gateway(alone).submit(envelope())
        await alone.close()
        await nodes.close()
        await used.stop()
        await second.stop()

    run(story())


def test_ones_own_daemon_is_known_by_its_certificate_and_proves_no_card() -> None:
    used, query = FakeGateway(FIRST.id, always(final)), chain_node(BEFORE)

    async def story() -> None:
        await used.start(query=query)
        connector = PlainConnector(Trust(market_genesis()), b"", b"", authority=b"its own leaf")
        nodes = Nodes(connector, [used.node])
        assert (await Gateway(nodes).submit(envelope())).stage is Stage.FINAL
        await nodes.close()
        await used.stop()

    run(story())
    assert query.asked == []


# -- calls under way -----------------------------------------------------------------------------------


class Slow(FakeGateway):
    """Answers once it is told to."""

    def __init__(self, organisation: str) -> None:
        self.go = asyncio.Event()

        async def answer(raw: bytes, wait: int) -> list[gateway_pb2.EnvelopeStatus]:
            await self.go.wait()
            return [final(raw)]

        super().__init__(organisation, answer)


async def under_way(chain: EpochChain) -> tuple[int, list[Link], Nodes]:
    """A call is under way when another one brings a new card; how often it was sent, and its connections."""
    slow = Slow(FIRST.id)
    query = chain_node(BEFORE)
    clock = Clock(time_of(BEFORE))
    await slow.start(query=query)
    nodes = nodes_at(clock, slow)
    links: list[Link] = []
    using = nodes.using

    @contextlib.asynccontextmanager
    async def noted(node: Node) -> AsyncIterator[Link]:
        async with using(node) as link:
            links.append(link)
            yield link

    nodes.using = noted  # type: ignore[method-assign]
    call = asyncio.create_task(Gateway(nodes).submit(envelope()))
    await slow.saw(1)
    query.chain = chain
    clock.ms = time_of(chain)
    assert await Query(nodes, give_up_s=5.0).record(CARDS.prefix + FIRST.id.encode()) is not None
    assert await Query(nodes, give_up_s=5.0).record(CARDS.prefix + FIRST.id.encode()) is not None
    assert not call.done(), "what another call learned has not ended it"
    slow.go.set()
    assert (await call).stage is Stage.FINAL
    await nodes.close()
    await slow.stop()
    return len(slow.seen), links, nodes


def test_a_call_under_way_goes_on_when_its_node_moves_under_the_same_authority() -> None:
    sent, links, nodes = run(under_way(moved()))
    card = nodes.connector.trust.card(FIRST.id)
    assert card is not None
    assert card.body.public_address == "10.0.0.9:1"
    assert sent == 1
    assert len(set(links)) == 1


def test_a_call_under_way_is_not_cut_off_by_a_new_authority_but_asked_again_under_it() -> None:
    sent, links, _ = run(under_way(AFTER))
    assert sent == 2, "once on either connection, under one id"
    first, *_, last = links
    assert first.authority == authority_before().encode() != last.authority
    assert first.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN, "closed with its last call"


def test_a_stream_leaves_a_connection_whose_authority_was_replaced_and_sends_all_again() -> None:
    used = FakeGateway(FIRST.id, always(final))
    query = chain_node(BEFORE)
    clock = Clock(time_of(BEFORE))
    answered: list[bytes] = []

    async def story() -> None:
        await used.start(query=query)
        nodes = nodes_at(clock, used)
        async with BulkSubmitter(nodes, on_answer=lambda status, _: answered.append(status.envelope_id)) as bulk:
            await (await bulk.submit(envelope()))
            query.chain = AFTER
            clock.ms = time_of(AFTER)
            clock.pass_s(CARD_AGAIN_S - 1)
            await (await bulk.submit(envelope()))
        assert nodes.connector.trust.card(FIRST.id) is not None
        await nodes.close()
        await used.stop()

    run(story())
    assert len(answered) == 2
    assert len(used.seen) == 3, "the second one twice: what came of it first was not believed"


def test_reading_blocks_ends_where_the_authority_was_replaced() -> None:
    clock = Clock(time_of(BEFORE))

    asked = asyncio.Event()

    class Telling(ChainNode):
        async def GetRecord(  # noqa: N802
            self, request: query_pb2.GetRecordRequest, context: Any
        ) -> query_pb2.GetRecordResponse:
            asked.set()
            return await super().GetRecord(request, context)

    class Blocks(blocks_pb2_grpc.BlocksServiceServicer):
        async def Subscribe(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
            while True:
                await asyncio.sleep(0)
                yield blocks_pb2.SubscribeResponse(heartbeat=blocks_pb2.Heartbeat(finalized_height=1))

    async def story() -> None:
        query = Telling(BEFORE)  # type: ignore[abstract]
        registered = ("lossbook.v1.BlocksService", blocks_pb2_grpc.add_BlocksServiceServicer_to_server, Blocks())
        silent = FakeGateway(FIRST.id, always(final))
        async with serving(FIRST, registrations(silent, query)[1], registered) as (address, _):
            nodes = dialling(clock, Node(FIRST.id, address))

            async def read() -> None:
                async for _ in Query(nodes).tail(1):
                    pass

            reading = asyncio.create_task(read())
            await asked.wait()
            query.chain = AFTER
            clock.ms = time_of(AFTER)
            clock.pass_s(CARD_AGAIN_S - 1)
            with pytest.raises(NodeRefused, match="another TLS authority"):
                await reading
            await nodes.close()

    run(story())
