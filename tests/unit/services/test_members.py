"""Members as executed state has them: admitted later, with rotated keys, and what running servers make of it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from crypto import tls
from ledger import operations as ops
from ledger.organisations import CARDS, CardRecord
from services.identity import Identity
from services.members import Members, members_of
from tests.support.insurers import SUPERVISOR, Organisation
from tests.support.tls import LEAF_TIME, identity, market_members, serving
from tests.support.voting import NEWCOMER, Assembly, plain_card, seat_card
from tests.unit.services.test_auth import QUERY, SERVER, ask


def rotated(organisation: Organisation) -> Organisation:
    """The same organisation with a new ledger key."""
    fresh = Organisation(organisation.id, organisation.kind)
    fresh.ledger_key = Organisation(f"{organisation.id}-again", organisation.kind).ledger_key
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
