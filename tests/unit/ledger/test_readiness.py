"""Readiness and registration: what is signed, whose it is, and when it counts."""

from __future__ import annotations

from ledger import operations as ops
from ledger.epochs import MEMBERSHIP, MembershipRecord, PassedChange, membership
from ledger.readiness import declare_ready, readiness_message, ready_member, withdraw_readiness
from ledger.registrations import (
    is_fresh,
    possession_message,
    register,
    registered_key,
    registration_message,
)
from tests.support.insurers import INSURERS, key_of
from tests.support.voting import NEWCOMER, Assembly, next_key, proposal_id

CHAIN, KEY, PROPOSAL = bytes(range(32)), key_of("k").public, proposal_id("renew")


def waiting() -> Assembly:
    """Keys are registered, renewal is voted for."""
    house = Assembly()
    house.register_keys()
    house.pass_("renew", ops.SetChange())
    return house


def test_what_is_signed_differs_in_every_part() -> None:
    messages = [
        registration_message(CHAIN, 1, "ab", KEY),
        possession_message(CHAIN, 1, "ab", KEY),
        registration_message(CHAIN, 2, "ab", KEY),
        registration_message(CHAIN, 1, "a", KEY),
        registration_message(bytes(32), 1, "ab", KEY),
        registration_message(CHAIN, 1, "ab", bytes(32)),
        readiness_message(CHAIN, 1, PROPOSAL, KEY),
        readiness_message(CHAIN, 2, PROPOSAL, KEY),
        readiness_message(CHAIN, 1, bytes(16), KEY),
        readiness_message(CHAIN, 1, PROPOSAL, bytes(32)),
        readiness_message(bytes(32), 1, PROPOSAL, KEY),
    ]
    assert len(set(messages)) == len(messages)
    assert {len(message) for message in messages} == {32}


def test_only_a_next_members_registered_key_for_this_change_counts() -> None:
    house = waiting()
    state, name = house.ledger.state, INSURERS[0].id
    key, now = next_key(name, 1).public, house.ledger.time_ms
    assert ready_member(state, 0, PROPOSAL, key, now) == name
    assert INSURERS[0].consensus_key is not None
    assert ready_member(state, 1, PROPOSAL, key, now) == ""
    assert ready_member(state, 0, bytes(16), key, now) == ""
    assert ready_member(state, 0, PROPOSAL, INSURERS[0].consensus_key.public, now) == ""
    assert ready_member(state, 0, PROPOSAL, key_of("stranger").public, now) == ""
    passed = membership(state).passed
    assert passed is not None
    assert ready_member(state, 0, PROPOSAL, key, passed.expires_ms) == name
    assert ready_member(state, 0, PROPOSAL, key, passed.expires_ms + 1) == ""
    house.ready(name)
    assert ready_member(state, 0, PROPOSAL, key, now) == ""


def test_one_who_leaves_the_set_is_not_asked() -> None:
    house = Assembly()
    house.register_keys()
    house.pass_("renew", ops.SetChange(remove=(INSURERS[3].id,)))
    key = next_key(INSURERS[3].id, 1).public
    assert ready_member(house.ledger.state, 0, PROPOSAL, key, house.ledger.time_ms) == ""


def test_a_replaced_key_takes_its_readiness_along() -> None:
    house = waiting()
    name = INSURERS[0].id
    house.ready(name)
    register(house.ledger.state, name, 1, key_of("other").public, 9)
    withdraw_readiness(house.ledger.state, name)
    passed = membership(house.ledger.state).passed
    assert passed is not None
    assert passed.ready == ()
    assert ready_member(house.ledger.state, 0, PROPOSAL, next_key(name, 1).public, house.ledger.time_ms) == ""


def test_without_a_change_that_passed_nothing_is_counted() -> None:
    house = Assembly()
    before = membership(house.ledger.state)
    declare_ready(house.ledger.state, INSURERS[0].id, 1)
    withdraw_readiness(house.ledger.state, INSURERS[0].id)
    assert membership(house.ledger.state) == before


def test_a_registration_is_for_one_epoch_and_the_key_for_ever() -> None:
    house = Assembly()
    state, name, key = house.ledger.state, NEWCOMER.id, key_of("n").public
    assert is_fresh(state, key)
    register(state, name, 1, key, 1)
    assert registered_key(state, name, 1) == key
    assert registered_key(state, name, 2) == b""
    register(state, name, 2, key_of("m").public, 2)
    assert registered_key(state, name, 1) == b""
    assert not is_fresh(state, key)


def test_approval_takes_the_keys_as_they_are_then() -> None:
    house = Assembly()
    members = tuple(insurer.id for insurer in INSURERS)
    passed = PassedChange(PROPOSAL, 1, house.ledger.time_ms + 1, members, members[:2])
    house.ledger.state.put(MEMBERSHIP, b"", MembershipRecord(0, passed))
    register(house.ledger.state, members[3], 1, KEY, 1)
    declare_ready(house.ledger.state, members[2], 7)
    record = membership(house.ledger.state)
    assert record.passed is None
    assert record.approved is not None
    assert record.approved.approved_height == 7
    assert [seat.consensus_key for seat in record.approved.members] == [b"", b"", b"", KEY]
