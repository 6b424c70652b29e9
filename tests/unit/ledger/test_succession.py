"""A genesis on the books of a network before: what it carries on, what it replaces, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from consensus.types import VoteKind
from contracts.dispatch import CONTRACTS
from contracts.records import POLICIES
from ledger import wire
from ledger.cards import Card, GenesisError
from ledger.codes import Code
from ledger.epochs import EPOCHS, current_epoch, membership
from ledger.evidence import EVIDENCE, EvidenceRecord
from ledger.execution import HEADS, REPLAYS, ExecutableBlock, Execution, ListedBatch
from ledger.genesis import Genesis, load_genesis, require_no_predecessor
from ledger.genesis_header import genesis_header_of
from ledger.organisations import CARDS, KEYS, find_key, find_organisation
from ledger.parameters import PARAMETERS, Parameters, ParametersRecord, activation_key, parameters_at
from ledger.registrations import NODE_KEYS
from ledger.state import State, StateView, Table
from ledger.succession import PREDECESSORS, SuccessionError, first_epoch, succeed
from ledger.view_marks import VIEW_MARKS, ViewMark
from ledger.wellformed import structure
from tests.support.chains import Chain
from tests.support.insurers import INSURERS, POLICY, Organisation, key_of, market_genesis, policy_issue
from tests.support.rebuilt import RENEWED, books, cards, ended, lost_chain, rebuild, renewed

UNTOUCHED: tuple[Table[Any], ...] = (POLICIES, REPLAYS, HEADS, EVIDENCE, VIEW_MARKS)


@pytest.fixture(scope="module")
def chain() -> Chain:
    made = lost_chain()
    state = made.ledger.state
    state.put(EVIDENCE, b"\0" * 21, EvidenceRecord(1, "insurer-2", 0, 3, 2, made.ledger.time_ms, bytes(32)))
    state.put(VIEW_MARKS, (0).to_bytes(8, "big") + (2).to_bytes(8, "big"), ViewMark(2, made.ledger.time_ms))
    state.put(PARAMETERS, activation_key(900), ParametersRecord.from_parameters(Parameters(k_max=30), 3))
    made.add()
    return made


@pytest.fixture(scope="module")
def genesis(chain: Chain) -> Genesis:
    return rebuild(chain)


def carried(chain: Chain, genesis: Genesis) -> State:
    """The state after the genesis block."""
    state = books(chain)
    succeed(genesis, state)
    return state


def rows(view: StateView, table: Table[Any]) -> list[tuple[bytes, Any]]:
    return list(view.iterate(table))


# -- what it says and begins with


def test_it_names_the_network_before_and_begins_one_height_and_one_epoch_later(chain: Chain, genesis: Genesis) -> None:
    before, head = genesis.predecessor, chain.ledger.state.head
    assert before is not None
    assert head is not None
    assert (before.chain_id, before.height, before.epoch) == (chain.genesis.chain_id, 5, 0)
    assert (before.state_root, before.receipts_root) == (head.state_root, head.receipts_root)
    assert before.finalization.kind is VoteKind.FINALIZE
    header = genesis_header_of(genesis)
    assert (header.height, header.state_height, header.epoch, header.view) == (6, 6, 1, 0)
    assert header.parent_digest == chain.headers[-1].justified.header.digest
    assert genesis.chain_id != chain.genesis.chain_id
    assert genesis.validator_set().epoch == 1


def test_a_genesis_with_empty_books_says_nothing_of_a_predecessor() -> None:
    assert b"predecessor" not in market_genesis().raw
    assert (market_genesis().height, market_genesis().first_epoch) == (0, 0)


def test_every_member_computes_the_roots_that_the_file_states(chain: Chain, genesis: Genesis) -> None:
    state = books(chain)
    record = succeed(genesis, state).record
    header = genesis_header_of(genesis)
    assert (record.state_root, record.receipts_root) == (header.state_root, header.receipts_root)
    assert record.height == header.height


def test_the_old_roots_stay_under_their_own_height(chain: Chain, genesis: Genesis) -> None:
    state, old = carried(chain, genesis), chain.ledger.state
    assert [state.height_record(height) for height in range(6)] == [old.height_record(height) for height in range(6)]


def test_the_same_cards_and_books_give_the_same_file_in_any_order(chain: Chain, genesis: Genesis) -> None:
    assert rebuild(chain, cards()[::-1]).raw == genesis.raw


# -- what it carries on


@pytest.mark.parametrize("table", UNTOUCHED, ids=lambda table: table.name)
def test_business_replays_heads_evidence_and_marks_stay(chain: Chain, genesis: Genesis, table: Table[Any]) -> None:
    before = rows(chain.ledger.state, table)
    assert before
    assert rows(carried(chain, genesis), table) == before


def test_parameters_are_the_new_ones_and_what_was_decided_for_later_still_comes(chain: Chain) -> None:
    state = carried(chain, rebuild(chain, parameters=Parameters(k_max=11)))
    assert [parameters_at(state, height, height - 1).k_max for height in (5, 7, 899, 900)] == [20, 11, 11, 30]


def test_the_epoch_goes_on_with_the_new_members_and_keys(chain: Chain, genesis: Genesis) -> None:
    state = carried(chain, genesis)
    epoch, record = current_epoch(state)
    assert (epoch, record.first_height, record.began_ms) == (1, 7, genesis.time_ms)
    assert [seat.consensus_key for seat in record.members] == [card.consensus_key for card in genesis.validators]
    assert record.validator_set(1).hash == genesis.validator_set().hash
    assert state.get(EPOCHS, (0).to_bytes(8, "big")) == chain.ledger.state.get(EPOCHS, (0).to_bytes(8, "big"))
    assert (membership(state).passed, membership(state).approved) == (None, None)
    assert (first_epoch(state), first_epoch(chain.ledger.state)) == (1, 0)


def test_who_hands_in_no_card_is_no_member_and_stays_in_the_books(chain: Chain) -> None:
    state = carried(chain, rebuild(chain, cards(RENEWED[1:])))
    gone = INSURERS[0]
    assert find_organisation(state, gone.id) is None
    assert state.get(CARDS, gone.id.encode()) is None
    assert find_key(state, gone.desks["underwriter"].public) is None
    policy = state.get(POLICIES, POLICY)
    assert policy is not None
    assert policy.insurer == gone.id


def test_signing_keys_that_are_not_on_a_new_card_are_keys_no_more(chain: Chain) -> None:
    changed = renewed(INSURERS[1])
    changed.desks["auditor"] = key_of("insurer-2", "auditor", "new")
    state = carried(chain, rebuild(chain, [*cards(RENEWED[:1]), changed.card(), *cards(RENEWED[2:])]))
    assert find_key(state, INSURERS[1].desks["auditor"].public) is None
    assert find_key(state, changed.desks["auditor"].public) is not None


def test_the_state_tells_whose_books_these_were(chain: Chain, genesis: Genesis) -> None:
    [(key, record)] = rows(carried(chain, genesis), PREDECESSORS)
    assert int.from_bytes(key, "big") == 6
    assert (record.chain_id, record.state_root) == (chain.genesis.chain_id, ended(chain).state_root)


def test_an_envelope_of_the_old_network_is_ill_formed_in_the_new_one(chain: Chain, genesis: Genesis) -> None:
    envelope = chain.ledger.envelope([policy_issue(policy_id=b"another-policy-1")])
    assert structure(envelope, chain.genesis.chain_id) == Code.OK
    assert structure(envelope, genesis.chain_id) is not Code.OK


def test_what_was_insured_twice_is_refused_after_as_before(chain: Chain, genesis: Genesis) -> None:
    ledger = chain.ledger
    state = carried(chain, genesis)
    not_after = genesis.time_ms + 3_600_000
    again = ledger.envelope([policy_issue()], chain_id=genesis.chain_id, not_after_ms=not_after)
    other = ledger.envelope(
        [policy_issue(policy_id=b"another-policy-1")], chain_id=genesis.chain_id, not_after_ms=not_after
    )
    batch = ListedBatch(ledger.batch_header(7, [again, other]), [again, other])
    result = Execution(state, CONTRACTS).run(ExecutableBlock(7, genesis.time_ms + 1000, bytes(32), [batch], epoch=1))
    assert [receipt.operation_codes for receipt in result.receipts] == [(Code.DUPLICATE_ID,), (Code.OK,)]
    assert [receipt.position for receipt in result.receipts] == [6, 7]


# -- what it refuses


def refused(chain: Chain, organisations: list[Card]) -> str:
    with pytest.raises(SuccessionError) as refusal:
        rebuild(chain, organisations)
    return str(refusal.value)


def with_first(card: Card) -> list[Card]:
    return [card, *cards(RENEWED[1:])]


def test_invalid_a_consensus_key_of_the_network_before(chain: Chain) -> None:
    assert "consensus key of insurer-1 was used" in refused(chain, with_first(INSURERS[0].card()))


def test_invalid_a_consensus_key_that_was_anothers(chain: Chain) -> None:
    taker = renewed(INSURERS[0])
    taker.consensus_key = INSURERS[1].consensus_key
    assert "consensus key of insurer-1 was used" in refused(chain, with_first(taker.card()))


def test_invalid_a_consensus_key_that_was_a_signing_key(chain: Chain) -> None:
    taker = renewed(INSURERS[0])
    taker.consensus_key = INSURERS[1].desks["admin"]
    taker.desks["admin"] = key_of("insurer-1", "admin", "new")
    others = renewed(INSURERS[1])
    others.desks["admin"] = key_of("insurer-2", "admin", "new")
    assert "consensus key of insurer-1" in refused(chain, [taker.card(), others.card(), *cards(RENEWED[2:])])


def test_invalid_a_ledger_key_that_was_anothers(chain: Chain) -> None:
    taker = Organisation("newcomer", "insurer")
    taker.ledger_key = INSURERS[0].ledger_key
    assert "ledger key of newcomer" in refused(chain, [*cards(RENEWED[1:]), taker.card()])


def test_invalid_a_signing_key_that_was_anothers(chain: Chain) -> None:
    taker = renewed(INSURERS[0])
    taker.desks["admin"] = INSURERS[1].desks["admin"]
    others = renewed(INSURERS[1])
    others.desks["admin"] = key_of("insurer-2", "admin", "new")
    assert "signing key of insurer-1" in refused(chain, [taker.card(), others.card(), *cards(RENEWED[2:])])


def test_invalid_another_kind(chain: Chain) -> None:
    other = renewed(INSURERS[0])
    assert "another kind" in refused(chain, with_first(other.card(kind="reinsurer")))


def test_invalid_books_that_were_altered(chain: Chain, genesis: Genesis) -> None:
    """The same height, without the evidence."""
    other = lost_chain()
    other.add()
    with pytest.raises(SuccessionError, match="the books end with the state root"):
        succeed(genesis, books(other))


def test_invalid_books_that_end_too_early(genesis: Genesis) -> None:
    with pytest.raises(SuccessionError, match="the books end with the height 4"):
        succeed(genesis, books(lost_chain()))


@pytest.mark.parametrize("name", ["genesis_state_root", "state_root", "receipts_root", "header_digest"])
def test_invalid_a_genesis_over_other_roots(chain: Chain, genesis: Genesis, name: str) -> None:
    forged = altered(genesis, **{name: "77" * 32})
    with pytest.raises(SuccessionError):
        succeed(load_genesis(forged), books(chain))


@pytest.mark.parametrize("name", ["genesis_leaf_count", "receipt_count", "time_ms", "height", "epoch"])
def test_invalid_a_genesis_over_other_numbers(chain: Chain, genesis: Genesis, name: str) -> None:
    forged = altered(genesis, **{name: 1 if name == "epoch" else 3})
    with pytest.raises(SuccessionError):
        succeed(load_genesis(forged), books(chain))


def altered(genesis: Genesis, **changes: object) -> bytes:
    """The file with something else in what it says of the network before."""
    document = json.loads(genesis.raw)
    document["predecessor"].update(changes)
    return json.dumps(document, indent=2).encode() + b"\n"


def _certificate(genesis: Genesis, **changes: Any) -> str:
    assert genesis.predecessor is not None
    certificate = replace(genesis.predecessor.finalization, **changes)
    return wire.certificate_bytes(certificate).hex()


WRONG: dict[str, tuple[Callable[[Genesis], dict[str, object]], str]] = {
    "short digest": (lambda g: {"state_root": "00" * 31}, "state_root of the network before: 31 bytes"),
    "upper case": (lambda g: {"chain_id": "AB" * 32}, "lower-case"),
    "no hex": (lambda g: {"header_digest": "xy" * 32}, "not hexadecimal"),
    "height 0": (lambda g: {"height": 0}, "0 is outside 1 to"),
    "negative": (lambda g: {"receipt_count": -1}, "-1 is outside 0 to"),
    "too high": (lambda g: {"height": 1 << 63}, "is outside"),
    "no certificate": (lambda g: {"finalization": "ff"}, "finalization of the network before"),
    "notarization": (lambda g: {"finalization": _certificate(g, kind=VoteKind.NOTARIZE)}, "a notarize certificate"),
    "a later epoch": (lambda g: {"finalization": _certificate(g, epoch=1)}, "of epoch 1"),
    "an earlier epoch": (lambda g: {"epoch": 2}, "of epoch 0, and epoch 2"),
    "dated later": (lambda g: {"time_ms": g.time_ms}, "not dated after"),
    "a stranger": (lambda g: {"witness": "me"}, "not a genesis file"),
    "a word for a number": (lambda g: {"height": "five"}, "not a genesis file"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_invalid_predecessor(genesis: Genesis, wrong: str) -> None:
    changes, problem = WRONG[wrong]
    with pytest.raises(GenesisError, match=problem):
        load_genesis(altered(genesis, **changes(genesis)))


def test_invalid_predecessor_without_one_of_its_names(genesis: Genesis) -> None:
    document = json.loads(genesis.raw)
    for name in document["predecessor"]:
        short = {key: value for key, value in document["predecessor"].items() if key != name}
        with pytest.raises(GenesisError, match=name):
            load_genesis(json.dumps(document | {"predecessor": short}).encode())


def test_invalid_start_without_the_books(genesis: Genesis) -> None:
    with pytest.raises(GenesisError, match="--state ARCHIVE"):
        require_no_predecessor(genesis)
    require_no_predecessor(market_genesis())


def test_node_keys_of_both_networks_are_remembered(chain: Chain, genesis: Genesis) -> None:
    state = carried(chain, genesis)
    for old, new in zip(INSURERS, genesis.validators, strict=True):
        assert old.consensus_key is not None
        before, now = state.get(NODE_KEYS, old.consensus_key.public), state.get(NODE_KEYS, new.consensus_key)
        assert before is not None
        assert now is not None
        assert (before.epoch, now.epoch) == (0, 1)
    assert {record.organisation for _, record in rows(state, KEYS)} == {card.id for card in genesis.organisations}
