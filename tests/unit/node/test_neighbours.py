"""Whom a node speaks to follows executed state: joiners are dialled, who left is let go, new keys are met anew."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from ledger import operations as ops
from lossbook.v1 import peer_pb2_grpc
from node.fetcher import Fetcher
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.neighbours import Neighbours, others_of
from node.peers import Peers, PeerServicer
from node.turn import FetchBlocks, FetchFailed, PeerConnected, PeerLost
from services.members import Members, members_of
from services.tasks import Tasks
from tests.support.insurers import FIRST, INSURERS, market_genesis
from tests.support.tls import identity, market_members, serving
from tests.support.voting import NEWCOMER, Assembly, plain_card, seat_card
from tests.unit.node.test_peers import inputs
from tests.unit.services.test_members import rotated

CHAIN = market_genesis().chain_id
SECOND, LAST = INSURERS[1], INSURERS[3]


class Told:
    """Writes down whom to follow."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], set[str]]] = []

    def follow(self, addresses: Mapping[str, str], renewed: Collection[str]) -> None:
        self.calls.append((dict(addresses), set(renewed)))


def test_votes_decide_whom_a_node_speaks_to() -> None:
    market, told = Assembly(), Told()
    members = Members(CHAIN, members_of(market.ledger.state))
    neighbours = Neighbours(FIRST.id, market.ledger.state, members, [told])
    neighbours.follow()
    assert told.calls == [], "nothing changed"
    own_of_last = Neighbours(LAST.id, market.ledger.state, members, [])
    others = others_of(members, FIRST.id)
    assert list(others) == [insurer.id for insurer in INSURERS[1:]]

    market.register_keys()
    market.pass_("join", ops.SetChange(add=(seat_card(NEWCOMER, peer_address="10.0.0.9:7100"),)))
    neighbours.follow()
    others[NEWCOMER.id] = "10.0.0.9:7100"
    assert told.calls.pop() == (others, set())

    market.pass_("move", ops.CardChange(plain_card(SECOND, peer_address="10.0.0.2:7100")))
    neighbours.follow()
    others[SECOND.id] = "10.0.0.2:7100"
    assert told.calls.pop() == (others, set())

    market.pass_("rotate", ops.CardChange(plain_card(rotated(LAST))))
    neighbours.follow()
    assert told.calls.pop() == (others, {LAST.id})
    assert own_of_last.replaced, "its node has to be given the new key"
    assert not neighbours.replaced

    assert not own_of_last.suspended
    market.change_set("suspend", ops.SetChange(suspend=(LAST.id,)))
    neighbours.follow()
    told.calls.clear()
    assert own_of_last.suspended
    assert not neighbours.suspended

    market.change_set("leave", ops.SetChange(remove=(SECOND.id,)))
    neighbours.follow()
    market.pass_("off", ops.CardChange(plain_card(SECOND, peer_address="")))
    neighbours.follow()
    del others[SECOND.id]
    assert told.calls.pop(0)[0] == {**others, SECOND.id: "10.0.0.2:7100"}, "it follows as long as its card names a node"
    assert told.calls.pop() == (others, set())


class Dialling:
    """One node's streams and fetcher, and another node that takes streams."""

    def __init__(self) -> None:
        self.mailbox, self.metrics, self.tasks = Mailbox(), Metrics(), Tasks()
        own = identity(FIRST, members=market_members())
        self.peers = Peers({}, own, self.mailbox, self.metrics, self.tasks)
        self.fetcher = Fetcher({}, own, self.mailbox, self.metrics, self.tasks)
        self.receiver = PeerServicer({FIRST.id}, Mailbox(), Metrics())
        self.registration = (
            "lossbook.v1.PeerService",
            peer_pb2_grpc.add_PeerServiceServicer_to_server,
            self.receiver,
        )


def test_a_joiner_is_dialled_and_one_that_left_is_let_go() -> None:
    async def main() -> None:
        node = Dialling()
        node.peers.start()
        async with serving(SECOND, node.registration) as (address, _):
            node.peers.follow({SECOND.id: address}, ())
            assert await inputs(node.mailbox, 1) == [PeerConnected(SECOND.id)]
            same = node.peers.links[SECOND.id]
            node.peers.follow({SECOND.id: address}, ())
            assert node.peers.links[SECOND.id] is same
            node.peers.follow({SECOND.id: address}, {SECOND.id})
            assert await inputs(node.mailbox, 2) == [PeerLost(SECOND.id), PeerConnected(SECOND.id)]
            node.peers.follow({}, ())
            assert await inputs(node.mailbox, 1) == [PeerLost(SECOND.id)]
            assert not node.peers.links
            await node.tasks.stop()

    asyncio.run(main())


def test_the_stream_of_one_that_left_is_ended_and_refused() -> None:
    async def main() -> None:
        node = Dialling()
        async with serving(SECOND, node.registration) as (address, _):
            node.peers.follow({SECOND.id: address}, ())
            assert await inputs(node.mailbox, 1) == [PeerConnected(SECOND.id)]
            noted = asyncio.Event()
            link = node.peers.links[SECOND.id]
            link._note = lambda problem: noted.set() if "PERMISSION_DENIED" in problem.text else None  # type: ignore[method-assign]
            node.receiver.follow({}, ())
            assert await inputs(node.mailbox, 1) == [PeerLost(SECOND.id)]
            await noted.wait()
            node.receiver.follow({FIRST.id: "127.0.0.1:1"}, ())
            assert await inputs(node.mailbox, 1) == [PeerConnected(SECOND.id)]
            node.receiver.follow({FIRST.id: "127.0.0.1:1"}, {FIRST.id})
            assert await inputs(node.mailbox, 2) == [PeerLost(SECOND.id), PeerConnected(SECOND.id)]
            await node.tasks.stop()

    asyncio.run(main())


def test_a_source_that_left_while_others_were_asked_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = FetchBlocks((SECOND.id, LAST.id), 1)

    async def main() -> None:
        node = Dialling()
        node.fetcher.follow({SECOND.id: "127.0.0.1:9", LAST.id: "127.0.0.1:8"}, ())

        async def ask(_: object, source: str, wanted: object) -> bool:
            assert source == SECOND.id
            node.fetcher.follow({SECOND.id: "127.0.0.1:9"}, ())
            return False

        monkeypatch.setattr(node.fetcher, "_ask", ask)
        node.fetcher.fetch(fetch)
        assert await inputs(node.mailbox, 1) == [FetchFailed(fetch, LAST.id)]
        await node.tasks.stop()

    asyncio.run(main())


def test_blocks_are_fetched_from_whom_the_state_names_now() -> None:
    fetch = FetchBlocks((SECOND.id,), 1)

    async def main() -> None:
        node = Dialling()
        node.fetcher.fetch(fetch)
        assert await inputs(node.mailbox, 1) == [FetchFailed(fetch, SECOND.id)]
        node.fetcher.follow({SECOND.id: "127.0.0.1:9"}, ())
        channel = node.fetcher._stub(SECOND.id)
        assert channel is not None
        first = node.fetcher._channels[SECOND.id]
        node.fetcher.follow({SECOND.id: "127.0.0.1:9"}, {SECOND.id})
        assert SECOND.id not in node.fetcher._channels
        await asyncio.sleep(0)
        node.fetcher._stub(SECOND.id)
        assert node.fetcher._channels[SECOND.id] is not first
        node.fetcher.follow({SECOND.id: "127.0.0.1:8"}, ())
        assert not node.fetcher._channels
        await node.tasks.stop()

    asyncio.run(main())
