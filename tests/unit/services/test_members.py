"""Members as executed state has them: admitted later, with rotated keys, and what running servers make of it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from crypto import tls
from ledger import operations as ops
from ledger.commitment import writes_to
from ledger.organisations import CARDS, CardRecord
from ledger.ports import BlockWrites
from lossbook.v1 import query_pb2, query_pb2_grpc
from node.executor import MEMBERS_TABLES
from services.identity import Identity
from services.members import Members, members_of
from tests.support.insurers import INSURERS, SUPERVISOR, Organisation
from tests.support.tls import LEAF_TIME, identity, market_members, serving
from tests.support.voting import NEWCOMER, Assembly, plain_card, seat_card
from tests.unit.services.test_auth import QUERY, SERVER, ask


def rotated(organisation: Organisation, name: str = "again") -> Organisation:
    """The same organisation with a new ledger key."""
    fresh = Organisation(organisation.id, organisation.kind)
    fresh.ledger_key = Organisation(f"{organisation.id}-{name}", organisation.kind).ledger_key
    return fresh


def test_the_members_of_a_new_state_are_those_of_the_genesis() -> None:
    house = Assembly()
    genesis = house.ledger.genesis
    members = Members.from_genesis(genesis)
    assert sorted(members, key=lambda m: m.id) == members_of(house.ledger.state)
    assert not members.update(members_of(house.ledger.state))
    assert members.generation == 0


def test_who_was_admitted_is_a_member_and_a_validator_once_it_has_a_seat() -> None:
    house = Assembly()
    house.change_set("join", ops.SetChange(add=(seat_card(NEWCOMER),)))
    found = {member.id: member for member in members_of(house.ledger.state)}
    assert found[NEWCOMER.id].is_validator
    assert found[NEWCOMER.id].ledger_key == NEWCOMER.ledger_key.public
    assert found[NEWCOMER.id].public_address == "127.0.0.1:4001"
    house.change_set("leave", ops.SetChange(remove=(NEWCOMER.id,)))
    found = {member.id: member for member in members_of(house.ledger.state)}
    assert not found[NEWCOMER.id].is_validator, "it stays a member"


def test_a_rotated_ledger_key_and_a_new_address_are_the_members_own() -> None:
    house, fresh = Assembly(), rotated(SUPERVISOR)
    house.pass_("rotate", ops.CardChange(plain_card(fresh, public_address="127.0.0.1:9")))
    (found,) = [member for member in members_of(house.ledger.state) if member.id == SUPERVISOR.id]
    assert found.ledger_key == fresh.ledger_key.public
    assert found.public_address == "127.0.0.1:9"


def test_invalid_a_card_whose_certificate_is_none_hurts_its_owner_alone() -> None:
    """Execution judges no X.509, so such a card may come into the state."""
    house = Assembly()
    state, key = house.ledger.state, SUPERVISOR.id.encode()
    card = state.get(CARDS, key)
    assert card is not None
    certificate = SUPERVISOR.body().ca_certificate.split("\n")[1]
    broken = card.text.replace(certificate, "no certificate")
    assert broken != card.text
    state.put(CARDS, key, CardRecord(broken, card.signature, card.possession))
    found = {member.id for member in members_of(house.ledger.state)}
    assert SUPERVISOR.id not in found
    assert set(house.seats) <= found


def test_a_newcomer_has_a_node_from_the_vote_on_and_a_removed_member_keeps_its() -> None:
    """Neither has a seat: they follow the chain over the streams of the others."""
    house = Assembly()
    house.register_keys()
    house.pass_("join", ops.SetChange(add=(seat_card(NEWCOMER, peer_address="10.0.0.9:7100"),)))
    members = Members(house.ledger.genesis.chain_id, members_of(house.ledger.state))
    joining = members.get(NEWCOMER.id)
    assert joining is not None
    assert (joining.is_validator, joining.runs_node) == (False, True)
    assert members.nodes()[NEWCOMER.id] == "10.0.0.9:7100"
    assert SUPERVISOR.id not in members.nodes()
    house.ready(*house.seats, NEWCOMER.id)
    house.end_epoch()
    house.change_set("leave", ops.SetChange(remove=(INSURERS[3].id,)))
    members.update(members_of(house.ledger.state))
    removed = members.get(INSURERS[3].id)
    assert removed is not None
    assert (removed.is_validator, removed.runs_node, removed.may_read) == (False, True, True)


def test_a_card_without_a_peer_address_takes_the_node_off_the_network() -> None:
    house = Assembly()
    house.change_set("leave", ops.SetChange(remove=(INSURERS[3].id,)))
    house.pass_("off", ops.CardChange(plain_card(INSURERS[3], peer_address="")))
    members = Members(house.ledger.genesis.chain_id, members_of(house.ledger.state))
    assert INSURERS[3].id not in members.nodes()
    assert members.get(INSURERS[3].id) is not None


def test_a_block_that_may_change_members_is_known_by_its_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    house = Assembly()
    leaves: list[list[bytes]] = []
    commit = house.ledger.store.commit

    def keep(writes: BlockWrites, *, sync: bool = False) -> None:
        leaves.append(writes.leaves)
        commit(writes, sync=sync)

    monkeypatch.setattr(house.ledger.store, "commit", keep)

    def moved() -> list[bool]:
        found = [any(writes_to(each, table.prefix) for table in MEMBERS_TABLES) for each in leaves]
        leaves.clear()
        return found

    house.ledger.block()
    assert moved() == [False]
    house.register_keys()
    assert not any(moved()), "registered keys are nobody's business here"
    house.pass_("join", ops.SetChange(add=(seat_card(NEWCOMER),)))
    assert moved() == [False, False, True], "the deciding vote"
    house.ready(*[each.id for each in INSURERS])
    assert all(moved()), "each of them stands in the one record of the set"
    house.end_epoch()
    assert moved() == [True]


def caller_of_state(organisation: Organisation, members: Members) -> Identity:
    leaf, key = tls.issue_leaf(organisation.ledger_key, organisation.id, "client", LEAF_TIME, tls.CLOCK_SKEW)
    return Identity(organisation.id, leaf, key, members)


async def outcome(caller: Identity, address: str) -> grpc.StatusCode:
    """How one call on a new connection ends."""
    async with caller.channel(SERVER.id, address) as channel:
        try:
            await ask(channel, caller.metadata)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_a_running_server_lets_in_who_was_admitted_and_keeps_out_a_key_that_was_rotated() -> None:
    house = Assembly()
    members = market_members()
    newcomer = caller_of_state(NEWCOMER, members)
    old = identity(SUPERVISOR, "client", members)
    fresh = rotated(SUPERVISOR)
    new = caller_of_state(fresh, members)

    async def main() -> None:
        async with serving(SERVER, QUERY, members=members) as (address, _):
            assert await outcome(old, address) is grpc.StatusCode.OK
            assert await outcome(newcomer, address) is grpc.StatusCode.UNAVAILABLE
            assert await outcome(new, address) is grpc.StatusCode.UNAVAILABLE
            house.pass_("admit", ops.CardChange(plain_card(NEWCOMER)))
            house.pass_("rotate", ops.CardChange(plain_card(fresh)))
            async with old.channel(SERVER.id, address) as channel:
                await ask(channel, old.metadata)
                assert members.update(members_of(house.ledger.state))
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await ask(channel, old.metadata)
                assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED, "also on a connection that stands"
            assert await outcome(newcomer, address) is grpc.StatusCode.OK
            assert await outcome(new, address) is grpc.StatusCode.OK
            assert await outcome(old, address) is grpc.StatusCode.UNAVAILABLE

    asyncio.run(main())


def test_whoever_shows_a_daemons_own_certificate_learns_how_it_stands_when_the_ledger_key_was_replaced() -> None:
    house = Assembly()
    members = market_members()
    own, other = identity(SERVER, "node", members), identity(SERVER, "node", members)
    house.pass_("rotate", ops.CardChange(plain_card(rotated(SERVER))))
    members.update(members_of(house.ledger.state))
    by_leaf = grpc.ssl_channel_credentials(own.leaf_pem, own.leaf_key_pem, own.leaf_pem)
    name = (("grpc.ssl_target_name_override", f"{SERVER.id}.lossbook"),)

    async def main() -> None:
        async with serving(SERVER, QUERY, of=own) as (address, refused):
            async with grpc.aio.secure_channel(address, by_leaf, options=name) as channel:
                assert (await ask(channel, own.metadata)).kind == "node"
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await query_pb2_grpc.QueryServiceStub(channel).GetRecord(
                        query_pb2.GetRecordRequest(key=b"k"), metadata=own.metadata
                    )
                assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED, "and nothing else"
            refused.clear()
            by_other = grpc.ssl_channel_credentials(own.leaf_pem, other.leaf_key_pem, other.leaf_pem)
            async with grpc.aio.secure_channel(address, by_other, options=name) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await ask(channel, own.metadata)
            assert refused == [], "another one of the same key does not get through the handshake"

    asyncio.run(main())


def test_a_client_dials_a_member_by_the_key_it_has_now() -> None:
    house, fresh = Assembly(), rotated(SERVER)
    house.pass_("rotate", ops.CardChange(plain_card(fresh)))
    members = Members(house.ledger.genesis.chain_id, members_of(house.ledger.state))

    async def main() -> None:
        async with serving(fresh, QUERY, members=members) as (address, _):
            caller = identity(SUPERVISOR, "client", members)
            assert await outcome(caller, address) is grpc.StatusCode.OK
            assert await outcome(identity(SUPERVISOR, "client"), address) is grpc.StatusCode.UNAVAILABLE

    asyncio.run(main())
