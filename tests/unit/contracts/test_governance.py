"""Governance: who may propose and vote, how votes are counted, and what becomes of each kind of change."""

from __future__ import annotations

import itertools

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from contracts.governance.records import Ballot, ProposalState
from contracts.governance.voting import EXPIRY_AHEAD_MS_MAX, outcome
from ledger import operations as ops
from ledger.cards import card_of_record, encode_card
from ledger.codes import Code
from ledger.epochs import Seat, approved_change, current_epoch, find_epoch, membership, quorum_of
from ledger.organisations import CARDS, Role, find_key, find_organisation
from ledger.parameters import ACTIVATION_MARGIN, latest_parameters, parameters_at
from ledger.registrations import NODE_KEYS, registered_key
from tests.support.insurers import FIRST, INSURERS, SUPERVISOR, Ledger, Organisation, key_of, make_genesis
from tests.support.voting import DAY_MS, NEWCOMER, Assembly, next_key, plain_card, proposal_id, seat_card

SECOND, THIRD, FOURTH = INSURERS[1:]
RENEW = ops.SetChange()
FASTER = ops.ParameterChange(1_000, numbers=(ops.NumberParameter("block_interval_ms", 20),))


def ballots(yes: list[str], no: list[str]) -> list[Ballot]:
    return [Ballot(name, True, 0, 0, 0, 0) for name in yes] + [Ballot(name, False, 0, 0, 0, 0) for name in no]


# -- counting ----------------------------------------------------------------------------------


def test_it_takes_more_than_two_thirds_of_the_set_whatever_its_size() -> None:
    for n in range(1, 257):
        members = [f"m-{at:03}" for at in range(n)]
        needed = 2 * n // 3 + 1
        assert needed == quorum_of(n)
        assert outcome(members, ballots(members[:needed], []), (), False) is ProposalState.PASSED
        assert outcome(members, ballots(members[: needed - 1], []), (), False) is ProposalState.OPEN


def test_rejected_as_soon_as_it_cannot_pass_any_more() -> None:
    for n in range(1, 50):
        members = [f"m-{at:02}" for at in range(n)]
        spare = n - (2 * n // 3 + 1)
        assert outcome(members, ballots([], members[:spare]), (), False) is ProposalState.OPEN
        assert outcome(members, ballots([], members[: spare + 1]), (), False) is ProposalState.REJECTED


names = st.sampled_from([f"m-{at}" for at in range(12)])


@pytest.mark.property
@hypothesis.given(
    members=st.lists(names, min_size=1, unique=True),
    votes=st.lists(st.tuples(names, st.booleans()), unique_by=lambda vote: vote[0]),
)
def test_only_members_of_the_set_count(members: list[str], votes: list[tuple[str, bool]]) -> None:
    cast = [Ballot(name, approve, 0, 0, 0, 0) for name, approve in votes]
    own = [ballot for ballot in cast if ballot.organisation in members]
    found = outcome(members, cast, (), False)
    assert found is outcome(members, own, (), False)
    yes = sum(ballot.approve for ballot in own)
    no = len(own) - yes
    assert (found is ProposalState.PASSED) == (3 * yes > 2 * len(members))
    assert (found is ProposalState.REJECTED) == (3 * (len(members) - no) <= 2 * len(members))


# -- proposing and voting ----------------------------------------------------------------------


def test_the_proposers_vote_counts_and_the_third_of_four_decides() -> None:
    house = Assembly()
    assert house.propose("faster", FASTER) == Code.OK
    assert house.vote("faster", SECOND.id) == Code.OK
    assert house.record("faster").state == ProposalState.OPEN
    assert house.vote("faster", FOURTH.id) == Code.OK
    record = house.record("faster")
    assert record.state == ProposalState.PASSED
    assert [ballot.organisation for ballot in record.ballots] == [FIRST.id, SECOND.id, FOURTH.id]
    assert record.ballots[0].height < record.ballots[1].height
    assert house.vote("faster", THIRD.id) == Code.PROPOSAL_CLOSED


def test_two_against_of_four_reject_it() -> None:
    house = Assembly()
    house.propose("faster", FASTER)
    assert house.vote("faster", SECOND.id, approve=False) == Code.OK
    assert house.vote("faster", THIRD.id, approve=False) == Code.OK
    assert house.record("faster").state == ProposalState.REJECTED
    assert house.vote("faster", FOURTH.id) == Code.PROPOSAL_CLOSED
    assert latest_parameters(house.ledger.state)[0] == 0


def test_a_single_validator_decides_alone() -> None:
    house = Assembly(Ledger(make_genesis([FIRST, SUPERVISOR])), [FIRST])
    assert house.propose("faster", FASTER) == Code.OK
    assert house.record("faster").state == ProposalState.PASSED


def test_invalid_proposals() -> None:
    house = Assembly()
    good = house.proposal("one", FASTER)
    replace = msgspec.structs.replace
    cases = [
        (replace(good, proposal_id=b"short"), Code.BAD_ID),
        (replace(good, epoch=1), Code.WRONG_EPOCH),
        (replace(good, expires_ms=house.ledger.time_ms), Code.BAD_EXPIRY),
        (replace(good, expires_ms=house.ledger.time_ms + EXPIRY_AHEAD_MS_MAX + DAY_MS), Code.BAD_EXPIRY),
        (replace(good, expires_ms=(1 << 64) - 1), Code.BAD_EXPIRY),
        (replace(good, parameter_change=None), Code.BAD_CHANGE),
        (replace(good, set_change=RENEW), Code.BAD_CHANGE),
    ]
    for operation, code in cases:
        assert house.code(operation, FIRST) == code
    assert house.code(good, FIRST, ["finance", "underwriter"]) == Code.WRONG_ROLE
    assert house.code(good, SUPERVISOR) == Code.NOT_A_VALIDATOR
    assert house.code(good, FIRST) == Code.OK
    assert house.code(good, SECOND) == Code.DUPLICATE_ID


def test_invalid_votes() -> None:
    house = Assembly()
    house.propose("faster", FASTER)
    vote = ops.GovernanceVote(proposal_id("faster"), True)
    assert house.code(ops.GovernanceVote(b"", True), SECOND) == Code.BAD_ID
    assert house.code(ops.GovernanceVote(bytes(16), True), SECOND) == Code.UNKNOWN_PROPOSAL
    assert house.code(vote, SECOND, ["finance"]) == Code.WRONG_ROLE
    assert house.code(vote, FIRST) == Code.ALREADY_VOTED
    assert house.code(vote, SUPERVISOR) == Code.NOT_A_VALIDATOR
    assert house.vote("faster", SECOND.id, approve=False) == Code.OK
    assert house.vote("faster", SECOND.id) == Code.ALREADY_VOTED
    assert len(house.record("faster").ballots) == 2


def test_a_proposal_expires_by_block_time() -> None:
    house = Assembly()
    assert house.code(house.proposal("soon", FASTER, for_ms=5_000), FIRST) == Code.OK
    assert house.vote("soon", SECOND.id) == Code.OK
    house.ledger.block(after_ms=5_000)
    assert house.vote("soon", THIRD.id) == Code.PROPOSAL_EXPIRED
    assert house.record("soon").state == ProposalState.OPEN


def test_a_proposal_lapses_with_its_epoch_and_no_vote_counts_in_another_set() -> None:
    """Two of four have voted; one of them is removed; what they voted for cannot pass any more."""
    house = Assembly()
    house.propose("faster", FASTER)
    house.vote("faster", SECOND.id)
    house.change_set("farewell", ops.SetChange(remove=(FIRST.id,)))
    assert house.seats == [SECOND.id, THIRD.id, FOURTH.id]
    assert house.vote("faster", THIRD.id) == Code.WRONG_EPOCH
    assert house.code(house.proposal("again", FASTER), FIRST) == Code.NOT_A_VALIDATOR
    house.pass_("again", ops.ParameterChange(2_000, numbers=FASTER.numbers))
    assert [ballot.organisation for ballot in house.record("again").ballots] == [SECOND.id, THIRD.id, FOURTH.id]


# -- the set -----------------------------------------------------------------------------------


def test_a_new_organisation_gets_a_seat_and_its_keys() -> None:
    house = Assembly()
    house.change_set("welcome", ops.SetChange(add=(seat_card(NEWCOMER),)))
    number, epoch = current_epoch(house.ledger.state)
    assert (number, house.seats) == (1, [*sorted(i.id for i in INSURERS), NEWCOMER.id])
    assert epoch.proposal_id == proposal_id("welcome")
    assert NEWCOMER.consensus_key is not None
    seat = epoch.seat(NEWCOMER.id)
    assert seat is not None
    assert seat.consensus_key == NEWCOMER.consensus_key.public
    assert [s.consensus_key for s in epoch.members[:4]] == [next_key(i.id, 1).public for i in INSURERS]
    organisation = find_organisation(house.ledger.state, NEWCOMER.id)
    assert organisation is not None
    assert (organisation.may_read, organisation.may_subscribe) == (True, True)
    card = house.ledger.state.get(CARDS, NEWCOMER.id.encode())
    assert card is not None
    assert card_of_record(card) == NEWCOMER.card()
    assert house.code(house.proposal("hello", RENEW), NEWCOMER) == Code.OK


def test_nothing_changes_before_the_boundary() -> None:
    house = Assembly()
    house.register_keys()
    house.pass_("welcome", ops.SetChange(add=(seat_card(NEWCOMER),)))
    assert house.seats == [i.id for i in INSURERS]
    assert house.code(house.proposal("hello", RENEW), NEWCOMER) == Code.NOT_A_VALIDATOR
    house.ready(*[i.id for i in INSURERS])
    change = approved_change(house.ledger.state)
    assert change is not None
    assert (change.ending_epoch, change.approved_height) == (0, house.ledger.state.height)
    assert house.seats == [i.id for i in INSURERS]
    assert house.propose("late", RENEW) == Code.EPOCH_ENDING
    house.end_epoch()
    assert house.epoch == 1
    assert approved_change(house.ledger.state) is None


def test_it_takes_a_quorum_of_the_next_set_to_be_ready() -> None:
    """Five next members tolerate one fault: the fourth that is ready approves the change."""
    house = Assembly()
    house.register_keys()
    house.pass_("welcome", ops.SetChange(add=(seat_card(NEWCOMER),)))
    assert house.ready(FIRST.id, SECOND.id, SECOND.id, THIRD.id) == [FIRST.id, SECOND.id, THIRD.id]
    assert approved_change(house.ledger.state) is None
    passed = membership(house.ledger.state).passed
    assert passed is not None
    assert passed.ready == (FIRST.id, SECOND.id, THIRD.id)
    assert house.ready(NEWCOMER.id) == [NEWCOMER.id]
    assert approved_change(house.ledger.state) is not None


def test_a_member_that_registered_no_key_keeps_its_seat_without_one() -> None:
    house = Assembly()
    house.register_keys(THIRD.id)
    house.pass_("renew", RENEW)
    assert house.ready(FIRST.id, SECOND.id, THIRD.id) == [FIRST.id, SECOND.id]
    house.ready(FOURTH.id)
    house.end_epoch()
    record = find_epoch(house.ledger.state, 1)
    assert record is not None
    assert [bool(seat.consensus_key) for seat in record.members] == [True, True, False, True]
    assert record.validator_set(1).quorum == 3
    assert house.propose("renew-2", RENEW) == Code.OK
    assert house.vote("renew-2", THIRD.id) == Code.OK


def test_readiness_after_the_expiry_comes_too_late_and_another_proposal_takes_its_place() -> None:
    house = Assembly()
    house.register_keys()
    assert house.code(house.proposal("soon", RENEW, for_ms=10_000), FIRST) == Code.OK
    house.vote("soon", SECOND.id)
    house.vote("soon", THIRD.id)
    house.ledger.block(after_ms=10_000)
    assert house.ready(*[i.id for i in INSURERS]) == []
    house.pass_("later", RENEW)
    assert house.ready(*[i.id for i in INSURERS]) == [i.id for i in INSURERS[:3]]
    house.end_epoch()
    assert current_epoch(house.ledger.state)[1].proposal_id == proposal_id("later")


def test_the_later_of_two_changes_that_passed_stands_and_readiness_begins_anew() -> None:
    house = Assembly()
    house.register_keys()
    house.pass_("welcome", ops.SetChange(add=(seat_card(NEWCOMER),)))
    house.ready(FIRST.id, SECOND.id)
    house.pass_("farewell", ops.SetChange(remove=(FOURTH.id,)))
    passed = membership(house.ledger.state).passed
    assert passed is not None
    assert (passed.members, passed.ready) == ((FIRST.id, SECOND.id, THIRD.id), ())


def test_suspended_and_reinstated() -> None:
    house = Assembly()
    house.change_set("suspend", ops.SetChange(suspend=(FOURTH.id,)))
    assert house.seats == [FIRST.id, SECOND.id, THIRD.id]
    assert membership(house.ledger.state).suspended == (FOURTH.id,)
    assert house.code(house.proposal("own", RENEW), FOURTH) == Code.NOT_A_VALIDATOR
    assert house.propose("not", ops.SetChange(reinstate=(NEWCOMER.id,))) == Code.NOT_SUSPENDED
    key = next_key(FOURTH.id, 2)
    assert house.code(house.registration_by_admin(FOURTH, key), FOURTH) == Code.OK
    house.change_set("back", ops.SetChange(reinstate=(FOURTH.id,)))
    assert membership(house.ledger.state).suspended == ()
    seat = current_epoch(house.ledger.state)[1].seat(FOURTH.id)
    assert seat is not None
    assert seat.consensus_key == key.public


def test_a_suspended_seat_can_be_taken_for_good_or_come_back_with_a_new_card() -> None:
    house = Assembly()
    house.change_set("suspend", ops.SetChange(suspend=(THIRD.id, FOURTH.id)))
    fresh = Organisation(FOURTH.id, "insurer")
    fresh.consensus_key = key_of(FOURTH.id, "consensus", "fresh")
    house.change_set("both", ops.SetChange(add=(seat_card(fresh),), remove=(THIRD.id,)))
    assert membership(house.ledger.state).suspended == ()
    assert house.seats == [FIRST.id, SECOND.id, FOURTH.id]


def test_the_set_may_shrink_to_one_and_no_further() -> None:
    house = Assembly()
    everybody = tuple(i.id for i in INSURERS)
    assert house.propose("none", ops.SetChange(remove=everybody)) == Code.SET_SIZE
    house.change_set("one", ops.SetChange(remove=everybody[1:]))
    assert house.seats == [FIRST.id]
    assert house.propose("zero", ops.SetChange(suspend=(FIRST.id,))) == Code.SET_SIZE
    house.change_set("two", ops.SetChange(add=(seat_card(NEWCOMER),)))
    assert house.seats == [FIRST.id, NEWCOMER.id]


def test_quorums_are_right_in_every_intermediate_state() -> None:
    """From four validators to seven, then down to one: with f' silent members it is approved, and not before."""
    guests = [Organisation(f"guest-{at}", "insurer") for at in range(3)]
    house = Assembly()
    house.known |= {guest.id: guest for guest in guests}
    steps = [ops.SetChange(add=(seat_card(guest),)) for guest in guests]
    steps += [ops.SetChange(remove=(guest.id,)) for guest in guests]
    steps += [ops.SetChange(remove=(insurer.id,)) for insurer in INSURERS[1:]]
    for at, step in enumerate(steps):
        house.register_keys()
        house.pass_(f"step-{at}", step)
        passed = membership(house.ledger.state).passed
        assert passed is not None
        n = len(passed.members)
        least = n - (n - 1) // 3
        house.ready(*passed.members[: least - 1])
        assert approved_change(house.ledger.state) is None
        house.ready(passed.members[least - 1])
        assert approved_change(house.ledger.state) is not None
        house.end_epoch()
        validators = current_epoch(house.ledger.state)[1].validator_set(house.epoch)
        assert (validators.n, validators.quorum) == (n, least)
    assert house.epoch == len(steps)


def test_invalid_changes_of_the_set() -> None:
    house = Assembly()
    card = seat_card(NEWCOMER)
    damaged = bytearray(card)
    damaged[damaged.index(b"newcomer") + 1] ^= 1
    stolen = Organisation("stolen", "insurer")
    stolen.consensus_key = FIRST.consensus_key
    used = NEWCOMER.body().keys[0]
    taken = msgspec.structs.replace(used, public=FIRST.desks["finance"].public.hex())
    own_ledger = msgspec.structs.replace(used, public=FIRST.ledger_key.public.hex())
    cases = [
        (ops.SetChange(add=(bytes(damaged),)), Code.BAD_CARD),
        (ops.SetChange(add=(b"{}",)), Code.BAD_CARD),
        (ops.SetChange(add=(b"\xff" * 100,)), Code.BAD_CARD),
        (ops.SetChange(add=(card + b" " * (1 << 18),)), Code.BAD_CARD),
        (ops.SetChange(add=(plain_card(NEWCOMER),)), Code.BAD_CARD),
        (ops.SetChange(add=(card, card)), Code.KEY_TAKEN),
        (ops.SetChange(add=(seat_card(stolen),)), Code.KEY_TAKEN),
        (ops.SetChange(add=(seat_card(NEWCOMER, keys=(taken,)),)), Code.KEY_TAKEN),
        (ops.SetChange(add=(seat_card(NEWCOMER, keys=(own_ledger,)),)), Code.KEY_TAKEN),
        (ops.SetChange(add=(encode_card(FIRST.card()),)), Code.KEY_TAKEN),
        (ops.SetChange(remove=("nobody",)), Code.NOT_IN_SET),
        (ops.SetChange(suspend=(SUPERVISOR.id,)), Code.NOT_IN_SET),
        (ops.SetChange(remove=(FIRST.id, FIRST.id)), Code.BAD_CHANGE),
        (ops.SetChange(remove=(FIRST.id,), suspend=(FIRST.id,)), Code.BAD_CHANGE),
        (ops.SetChange(reinstate=(FIRST.id,)), Code.NOT_SUSPENDED),
    ]
    for at, (change, code) in enumerate(cases):
        assert house.propose(f"bad-{at}", change) == code, at


def test_invalid_card_of_a_present_validator_with_new_keys() -> None:
    house = Assembly()
    fresh = Organisation(FIRST.id, "insurer")
    fresh.consensus_key = key_of(FIRST.id, "consensus", "fresh")
    assert house.propose("again", ops.SetChange(add=(seat_card(fresh),))) == Code.ALREADY_IN_SET
    other_kind = Organisation(SUPERVISOR.id, "insurer")
    assert house.propose("kind", ops.SetChange(add=(seat_card(other_kind),))) == Code.KIND_CHANGED


def test_the_deciding_vote_is_refused_where_the_change_has_become_impossible() -> None:
    """A key on the newcomer's card is taken by somebody else between the votes."""
    house = Assembly()
    house.propose("welcome", ops.SetChange(add=(seat_card(NEWCOMER),)))
    house.vote("welcome", SECOND.id)
    hospital = Organisation("hospital", "provider")
    house.pass_("admit", ops.CardChange(encode_card(hospital.card(keys=NEWCOMER.body().keys[:1]))))
    assert house.vote("welcome", THIRD.id) == Code.KEY_TAKEN
    record = house.record("welcome")
    assert (record.state, len(record.ballots)) == (ProposalState.OPEN, 2)
    assert membership(house.ledger.state).passed is None


# -- cards -------------------------------------------------------------------------------------


def test_who_will_or_may_have_a_seat_cannot_take_its_node_off_the_network() -> None:
    house = Assembly()
    house.change_set("suspend", ops.SetChange(suspend=(SECOND.id,)))
    without = ops.CardChange(plain_card(SECOND, peer_address=""))
    assert house.propose("suspended", without) == Code.BAD_CARD
    house.register_keys()
    house.pass_("join", ops.SetChange(add=(seat_card(NEWCOMER),)))
    coming = ops.CardChange(plain_card(NEWCOMER, peer_address=""))
    assert house.propose("coming", coming) == Code.BAD_CARD
    house.ready(*house.seats, NEWCOMER.id)
    assert house.propose("approved", coming) == Code.BAD_CARD
    house.end_epoch()
    house.change_set("leave", ops.SetChange(remove=(NEWCOMER.id, SECOND.id)))
    assert house.propose("gone", coming) == Code.OK


def test_a_members_ledger_key_and_signing_keys_are_rotated_at_once() -> None:
    house = Assembly()
    fresh = Organisation(SECOND.id, "insurer")
    fresh.ledger_key = key_of(SECOND.id, "ledger", "2")
    fresh.desks = {desk: key_of(SECOND.id, desk, "2") for desk in fresh.desks}
    house.pass_("rotate", ops.CardChange(plain_card(fresh, public_address="127.0.0.1:9")))
    state = house.ledger.state
    organisation = find_organisation(state, SECOND.id)
    assert organisation is not None
    assert organisation.ledger_key == fresh.ledger_key.public
    assert organisation.admin_keys == (fresh.desks["admin"].public, fresh.desks["admin-2"].public)
    assert all(find_key(state, key.public) is None for key in SECOND.desks.values())
    assert all(find_key(state, key.public) is not None for key in fresh.desks.values())
    assert house.seats[1] == SECOND.id
    assert house.ledger.submit(house.proposal("x", RENEW), by=SECOND, desks=["admin"]).code == Code.KEY_NOT_REGISTERED
    assert house.code(house.proposal("x", RENEW), fresh) == Code.OK


def test_a_card_admits_a_new_member_without_a_seat() -> None:
    house = Assembly()
    hospital = Organisation("hospital", "provider")
    house.pass_("admit", ops.CardChange(encode_card(hospital.card())))
    found = find_organisation(house.ledger.state, hospital.id)
    assert found is not None
    assert found.ledger_key == hospital.ledger_key.public
    assert house.seats == [i.id for i in INSURERS]
    key = find_key(house.ledger.state, hospital.desks["auditor"].public)
    assert key is not None
    assert key.roles == Role.AUDITOR


def test_invalid_cards() -> None:
    house = Assembly()
    assert house.propose("seat", ops.CardChange(seat_card(NEWCOMER))) == Code.BAD_CARD
    assert house.propose("kind", ops.CardChange(plain_card(Organisation(FIRST.id, "trust")))) == Code.KIND_CHANGED
    assert house.propose("no node", ops.CardChange(plain_card(SECOND, peer_address=""))) == Code.BAD_CARD, (
        "it has a seat"
    )
    theirs = Organisation("hospital", "provider")
    theirs.ledger_key = FIRST.ledger_key
    assert house.propose("key", ops.CardChange(encode_card(theirs.card()))) == Code.KEY_TAKEN


def test_an_old_ledger_key_is_never_taken_again() -> None:
    house = Assembly()
    fresh = Organisation(SECOND.id, "insurer")
    fresh.ledger_key = key_of(SECOND.id, "ledger", "2")
    house.pass_("rotate", ops.CardChange(plain_card(fresh)))
    assert house.propose("back", ops.CardChange(plain_card(SECOND))) == Code.KEY_TAKEN
    assert house.propose("same", ops.CardChange(plain_card(fresh))) == Code.OK
    record = house.ledger.state.get(NODE_KEYS, SECOND.ledger_key.public)
    assert record is not None
    assert record.organisation == SECOND.id


# -- parameters --------------------------------------------------------------------------------


def test_parameters_change_at_their_height_and_not_before() -> None:
    house = Assembly()
    yen = ops.CurrencyParameter("JPY", 0, 7)
    house.pass_("params", ops.ParameterChange(100, "", (ops.NumberParameter("k_max", 30),), (yen,)))
    approved = house.ledger.state.height
    state = house.ledger.state
    assert parameters_at(state, 99, 98) == house.ledger.genesis.parameters
    assert parameters_at(state, 100, approved - 1) == house.ledger.genesis.parameters
    changed = parameters_at(state, 100, approved)
    assert (changed.k_max, changed.currencies["JPY"].four_eyes_minor) == (30, 7)
    assert changed.currencies["USD"] == house.ledger.genesis.parameters.currencies["USD"]
    assert changed.max_ahead_ms == house.ledger.genesis.parameters.max_ahead_ms


def test_a_change_builds_on_the_last_decision_and_comes_after_it() -> None:
    house = Assembly()
    house.pass_("one", ops.ParameterChange(100, numbers=(ops.NumberParameter("k_max", 30),)))
    slower = (ops.NumberParameter("block_interval_ms", 70),)
    assert house.propose("same", ops.ParameterChange(100, numbers=slower)) == Code.BAD_ACTIVATION
    house.pass_("two", ops.ParameterChange(101, numbers=slower))
    _, last = latest_parameters(house.ledger.state)
    assert (last.k_max, last.block_interval_ms) == (30, 70)


def test_activation_leaves_k_max_and_a_margin() -> None:
    house = Assembly()
    least = house.ledger.state.height + 1 + house.ledger.genesis.parameters.k_max + ACTIVATION_MARGIN
    numbers = (ops.NumberParameter("block_interval_ms", 70),)
    assert house.propose("near", ops.ParameterChange(least - 1, numbers=numbers)) == Code.BAD_ACTIVATION
    assert house.propose("far", ops.ParameterChange(1 << 40, numbers=numbers)) == Code.BAD_ACTIVATION
    least = house.ledger.state.height + 1 + house.ledger.genesis.parameters.k_max + ACTIVATION_MARGIN
    assert house.propose("right", ops.ParameterChange(least, numbers=numbers)) == Code.OK
    assert house.vote("right", SECOND.id) == Code.OK
    assert house.vote("right", THIRD.id) == Code.BAD_ACTIVATION  # the deciding vote came too late
    assert house.record("right").state == ProposalState.OPEN


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (ops.ParameterChange(500), Code.BAD_CHANGE),
        (ops.ParameterChange(500, numbers=(ops.NumberParameter("k_max", 5), ops.NumberParameter("k_max", 6))), 407),
        (ops.ParameterChange(500, numbers=(ops.NumberParameter("speed", 5),)), Code.BAD_PARAMETER),
        (ops.ParameterChange(500, numbers=(ops.NumberParameter("currencies", 5),)), Code.BAD_PARAMETER),
        (ops.ParameterChange(500, numbers=(ops.NumberParameter("k_max", 1),)), Code.BAD_PARAMETER),
        (ops.ParameterChange(500, numbers=(ops.NumberParameter("state_scheme", 2),)), Code.BAD_PARAMETER),
        (ops.ParameterChange(500, "none"), Code.BAD_PARAMETER),
        (ops.ParameterChange(500, currencies=(ops.CurrencyParameter("XXX", 2, 1),)), Code.BAD_PARAMETER),
        (ops.ParameterChange(500, currencies=(ops.CurrencyParameter("USD", 3, 1),)), Code.BAD_PARAMETER),
        (ops.ParameterChange(500, currencies=(ops.CurrencyParameter("USD", 2, 1 << 63),)), Code.BAD_PARAMETER),
    ],
)
def test_invalid_parameters(change: ops.ParameterChange, code: int) -> None:
    assert Assembly().propose("bad", change) == code


def test_who_checks_signatures_takes_a_supervisors_consent() -> None:
    house = Assembly()
    change = ops.ParameterChange(500, "all")
    assert house.propose("verify", change) == Code.OK
    for voter in (SECOND, THIRD, FOURTH):
        assert house.vote("verify", voter.id) == Code.OK
    assert house.record("verify").state == ProposalState.OPEN
    consent = ops.GovernanceVote(proposal_id("verify"), True)
    assert house.code(consent, SUPERVISOR, ["auditor"]) == Code.WRONG_ROLE
    assert house.code(consent, SUPERVISOR) == Code.OK
    record = house.record("verify")
    assert record.state == ProposalState.PASSED
    assert [ballot.organisation for ballot in record.consents] == [SUPERVISOR.id]
    assert latest_parameters(house.ledger.state)[0] == 500


def test_a_supervisors_refusal_rejects_it() -> None:
    house = Assembly()
    house.propose("verify", ops.ParameterChange(500, "all"))
    assert house.code(ops.GovernanceVote(proposal_id("verify"), False), SUPERVISOR) == Code.OK
    assert house.record("verify").state == ProposalState.REJECTED


def test_consents_are_not_votes() -> None:
    """Two of four and a supervisor are no quorum."""
    house = Assembly()
    house.propose("verify", ops.ParameterChange(500, "all"))
    house.code(ops.GovernanceVote(proposal_id("verify"), True), SUPERVISOR)
    house.vote("verify", SECOND.id)
    assert house.record("verify").state == ProposalState.OPEN


# -- consensus keys by an admin ----------------------------------------------------------------


def test_an_admin_registers_the_key_of_a_node_that_lost_its_own() -> None:
    house = Assembly()
    house.register_keys()
    house.pass_("renew", RENEW)
    house.ready(SECOND.id)
    key = key_of(SECOND.id, "consensus", "rescued")
    assert house.code(house.registration_by_admin(SECOND, key), SECOND) == Code.OK
    assert registered_key(house.ledger.state, SECOND.id, 1) == key.public
    passed = membership(house.ledger.state).passed
    assert passed is not None
    assert passed.ready == ()
    assert house.ready(FIRST.id, SECOND.id, THIRD.id) == [FIRST.id, SECOND.id, THIRD.id]
    change = approved_change(house.ledger.state)
    assert change is not None
    assert change.members[1].consensus_key == key.public
    late = key_of(SECOND.id, "consensus", "late")
    assert house.code(house.registration_by_admin(SECOND, late), SECOND) == Code.EPOCH_ENDING


def test_invalid_registrations() -> None:
    house = Assembly()
    replace = msgspec.structs.replace
    key = key_of("x")
    good = house.registration_by_admin(FIRST, key)
    assert house.code(good, FIRST, ["finance"]) == Code.WRONG_ROLE
    assert house.code(replace(good, epoch=2), FIRST) == Code.WRONG_EPOCH
    assert house.code(replace(good, epoch=0), FIRST) == Code.WRONG_EPOCH
    assert house.code(replace(good, consensus_key=b"short"), FIRST) == Code.BAD_KEY
    assert house.code(replace(good, possession=bytes(64)), FIRST) == Code.BAD_POSSESSION
    assert house.code(good, SECOND) == Code.BAD_POSSESSION
    assert house.code(house.registration_by_admin(SUPERVISOR, key), SUPERVISOR) == Code.NOT_A_VALIDATOR
    assert FIRST.consensus_key is not None
    for used in (FIRST.consensus_key, SECOND.ledger_key, FIRST.desks["finance"]):
        assert house.code(house.registration_by_admin(FIRST, used), FIRST) == Code.KEY_TAKEN
    assert house.code(good, FIRST) == Code.OK
    assert house.code(good, FIRST) == Code.KEY_TAKEN


def test_no_consensus_key_serves_twice_in_any_epoch() -> None:
    house = Assembly()
    for at in range(3):
        house.change_set(f"renew-{at}", RENEW)
    keys = [seat.consensus_key for number in range(4) for seat in _members(house, number)]
    assert len(set(keys)) == len(keys) == 16
    for old in itertools.islice(INSURERS, 2):
        assert old.consensus_key is not None
        operation = house.registration_by_admin(old, old.consensus_key)
        assert house.code(operation, old) == Code.KEY_TAKEN


def _members(house: Assembly, epoch: int) -> tuple[Seat, ...]:
    record = find_epoch(house.ledger.state, epoch)
    assert record is not None
    return record.members
