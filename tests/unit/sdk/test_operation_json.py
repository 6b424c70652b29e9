"""Every operation there is can be written as JSON, is read back as itself, and crosses the wire unchanged."""

from __future__ import annotations

import json
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import operations as ops
from ledger.codes import Code
from ledger.operations import Operation
from ledger.wire import decode_envelope
from lossbook_sdk import governance
from lossbook_sdk.envelopes import build_and_sign
from lossbook_sdk.errors import BadInput
from lossbook_sdk.operation_json import KINDS, document, read_operations
from tests.support.insurers import FIRST, INSURERS, Ledger, key_of, market_genesis
from tests.support.voting import DAY_MS, NEWCOMER, Assembly, next_key, plain_card, seat_card

CHAIN = market_genesis().chain_id

ids = st.binary(min_size=16, max_size=16)
keys = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
days = st.integers(-20_000, 40_000)
minor = st.integers(-(1 << 62), 1 << 62)
numbers = st.integers(0, (1 << 63) - 1)
words = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20)
lists = st.lists(words, max_size=3).map(tuple)
cards = st.text(st.characters(codec="utf-8"), min_size=1, max_size=50).map(str.encode)
roles = st.integers(1, 127)

changes: st.SearchStrategy[Any] = st.one_of(
    st.builds(ops.SetChange, st.lists(cards, max_size=2).map(tuple), lists, lists, lists),
    st.builds(ops.CardChange, cards),
    st.builds(
        ops.ParameterChange,
        numbers,
        words,
        st.lists(st.builds(ops.NumberParameter, words, numbers), max_size=3).map(tuple),
        st.lists(st.builds(ops.CurrencyParameter, words, st.integers(0, 9), numbers), max_size=3).map(tuple),
    ),
)

STRATEGIES: dict[type, st.SearchStrategy[Any]] = {
    ops.PolicyIssue: st.builds(
        ops.PolicyIssue, ids, ids, st.integers(0, 9), words, minor, minor, days, days, days, st.none() | minor
    ),
    ops.ClaimNotify: st.builds(ops.ClaimNotify, ids, ids, days, days),
    ops.ClaimRegister: st.builds(ops.ClaimRegister, ids, days),
    ops.ClaimAssess: st.builds(ops.ClaimAssess, ids, days, minor),
    ops.ClaimApprove: st.builds(ops.ClaimApprove, ids, days, minor),
    ops.ClaimDecline: st.builds(ops.ClaimDecline, ids, days, st.integers(0, 9)),
    ops.ClaimPay: st.builds(ops.ClaimPay, ids, days, minor, words),
    ops.ClaimClose: st.builds(ops.ClaimClose, ids, days),
    ops.GovernancePropose: st.builds(
        lambda change, epoch, expires, name: governance.propose(
            change, epoch=epoch, expires_ms=expires, proposal_id=name
        ),
        changes,
        numbers,
        numbers,
        ids,
    ),
    ops.GovernanceVote: st.builds(ops.GovernanceVote, ids, st.booleans()),
    ops.OrganisationChangeKey: st.one_of(
        st.builds(ops.OrganisationChangeKey, keys, roles, keys, signatures),
        st.builds(lambda drop: ops.OrganisationChangeKey(drop=drop), keys),
    ),
    ops.OrganisationAuthoriseKey: st.builds(ops.OrganisationAuthoriseKey, keys, roles, keys),
    ops.OrganisationRegisterConsensusKey: st.builds(ops.OrganisationRegisterConsensusKey, numbers, keys, signatures),
}


def test_every_operation_that_can_be_sent_has_a_kind() -> None:
    sent = set(typing.get_args(Operation)) - {ops.UnknownOperation}
    assert set(KINDS.values()) == sent == set(STRATEGIES)


@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda kind: kind.__name__)
@pytest.mark.property
@given(data=st.data())
def test_an_operation_is_read_back_from_its_json_and_from_the_wire(kind: type, data: st.DataObject) -> None:
    operation = data.draw(STRATEGIES[kind])
    (read,) = read_operations(json.dumps([document(operation)]).encode())
    assert read == operation
    signed = build_and_sign(
        chain_id=CHAIN, organisation="alpha", keys=[key_of("x")], operations=[operation], not_after_ms=5
    )
    assert decode_envelope(signed.raw).operations == (operation,)


PROPOSE = {"kind": "governance_propose", "proposal_id": "01" * 16, "epoch": 0, "expires_ms": 5}
KEY = {"kind": "organisation_change_key", "key": "02" * 32, "roles": ["finance", "auditor"], "possession": "03" * 64}


def test_roles_are_named_or_summed() -> None:
    for roles_given in (["finance", "auditor"], 48):
        (read,) = read_operations(json.dumps(KEY | {"roles": roles_given}).encode())
        assert isinstance(read, ops.OrganisationChangeKey)
        assert read.roles == 48


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (PROPOSE | {"set_change": []}, "set_change that is not an object"),
        (PROPOSE | {"set_change": {"remove": "beta"}}, "in set_change has remove that is not a list"),
        (PROPOSE | {"set_change": {"remove": [5]}}, "in set_change has a bad remove"),
        (PROPOSE | {"set_change": {"ad": []}}, "in set_change has an unknown field 'ad'"),
        (PROPOSE | {"set_change": {"add": [""]}}, "the text of its file"),
        (PROPOSE | {"card_change": {}}, "in card_change has no field 'card'"),
        (PROPOSE | {"parameter_change": {"activation_height": -1}}, "not an integer within range"),
        (PROPOSE | {"parameter_change": {"activation_height": 1, "numbers": [{"name": "k_max"}]}}, "no field 'value'"),
        (PROPOSE | {"epoch": 1 << 64}, "not an integer within range"),
        (PROPOSE | {"expires_ms": "tomorrow"}, "not an integer within range"),
        ({"kind": "governance_vote", "proposal_id": "01" * 16, "approve": "yes"}, "not true or false"),
        ({"kind": "governance_vote", "proposal_id": "01", "approve": True}, "32 hex digits"),
        (KEY | {"key": "02"}, "64 hex digits"),
        (KEY | {"possession": "03"}, "128 hex digits"),
        (KEY | {"roles": []}, "one or more different roles"),
        (KEY | {"roles": ["finance", "finance"]}, "one or more different roles"),
        (KEY | {"roles": ["boss"]}, "'boss' is not a role"),
    ],
)
def test_invalid_json_is_named_with_its_place(item: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_operations(json.dumps([item]).encode())
    assert caught.value.problem.startswith("operation 1 (")
    assert why in str(caught.value)


# -- builders --------------------------------------------------------------------------------------


def test_what_the_builders_make_the_ledger_takes() -> None:
    house = Assembly()
    ledger = house.ledger
    chain_id, until = ledger.genesis.chain_id, ledger.time_ms + DAY_MS
    changes_made: list[governance.Change] = [
        governance.set_change(add=[seat_card(NEWCOMER)], remove=[INSURERS[3].id]),
        governance.set_change(),
        governance.card_change(plain_card(INSURERS[1])),
        governance.parameter_change(["k_max=30", "block_interval_ms=70"], activation_height=1_000, four_eyes=["5 JPY"]),
    ]
    for change in changes_made:
        proposal = governance.propose(change, epoch=0, expires_ms=until)
        assert house.code(proposal, FIRST) == Code.OK
        assert house.code(governance.vote(proposal.proposal_id, True), INSURERS[1]) == Code.OK
    added = governance.change_key(chain_id, FIRST.id, key=key_of("new"), roles=16)
    assert house.code(added, FIRST) == Code.OK
    assert house.code(governance.change_key(chain_id, FIRST.id, drop=key_of("new").public), FIRST) == Code.OK
    assert house.code(governance.authorise_key(added), FIRST) == Code.OK
    key = next_key(FIRST.id, 1)
    assert house.code(governance.register_consensus_key(chain_id, FIRST.id, epoch=1, key=key), FIRST) == Code.OK


def test_a_proof_of_possession_is_of_one_network_organisation_and_epoch() -> None:
    house = Assembly(Ledger())
    chain_id, key = house.ledger.genesis.chain_id, next_key(FIRST.id, 1)
    for wrong in (
        governance.register_consensus_key(bytes(32), FIRST.id, epoch=1, key=key),
        governance.register_consensus_key(chain_id, INSURERS[1].id, epoch=1, key=key),
        governance.change_key(bytes(32), FIRST.id, key=key, roles=16),
        governance.change_key(chain_id, INSURERS[1].id, key=key, roles=16),
    ):
        assert house.code(wrong, FIRST) == Code.BAD_POSSESSION


@pytest.mark.parametrize(
    ("pairs", "four_eyes", "why"),
    [
        ([], [], "no parameter is named"),
        (["k_max"], [], "not NAME=VALUE"),
        (["k_max=many"], [], "not a whole number"),
        (["k_max=-1"], [], "not a whole number"),
        (["k_max=" + "9" * 21], [], "not a whole number"),
        (["kmax=3"], [], "no parameter 'kmax'"),
        (["currencies=USD"], [], "no parameter 'currencies'"),
        (["k_max=3", "k_max=4"], [], "k_max is named twice"),
        (["verification="], [], "without a value"),
        ([], ["5 USD", "6 USD"], "USD is named twice"),
        ([], ["5"], "not an amount"),
    ],
)
def test_invalid_parameters_are_refused_before_anything_is_sent(
    pairs: list[str], four_eyes: list[str], why: str
) -> None:
    with pytest.raises(BadInput, match=why):
        governance.parameter_change(pairs, activation_height=1, four_eyes=four_eyes)


def test_invalid_sets_and_cards_are_refused_before_anything_is_sent() -> None:
    seat, no_seat = seat_card(NEWCOMER), plain_card(NEWCOMER)
    with pytest.raises(BadInput, match="has no consensus key"):
        governance.set_change(add=[no_seat])
    with pytest.raises(BadInput, match="has a consensus key"):
        governance.card_change(seat)
    with pytest.raises(BadInput, match="named twice"):
        governance.set_change(add=[seat], remove=[NEWCOMER.id])
    with pytest.raises(BadInput, match="no organisation id"):
        governance.set_change(suspend=["Not An Id"])
    with pytest.raises(BadInput, match="not a card"):
        governance.set_change(add=[b"{}"])
    with pytest.raises(BadInput, match="not by its ledger key"):
        governance.card_change(no_seat.replace(NEWCOMER.id.encode(), b"newcomes"))
