"""``lossbook governance``: proposed, voted for, waited for and in force, as an operator sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.base import Stop
from cli.governance.reading import read_book, read_network, read_proposal, record_of
from cli.governance.standing import OVER, Network, standing_of
from cli.governance.words import next_in_words, waits_for
from contracts.governance.records import PROPOSALS, Ballot, ProposalRecord, ProposalState
from contracts.governance.voting import outcome
from ledger import operations as ops
from ledger.codes import Code, text
from ledger.epochs import EpochRecord, MembershipRecord, PassedChange, Seat, current_epoch, membership
from ledger.parameters import ACTIVATION_MARGIN, latest_parameters
from ledger.proofs import verify_bytes
from lossbook_sdk import governance
from lossbook_sdk.errors import VerificationFailed
from lossbook_sdk.query import Found
from tests.support.assembly_client import ChainSession, organisation
from tests.support.commands import document, lossbook
from tests.support.epoch_chain import EpochChain
from tests.support.insurers import FIRST, INSURERS, SUPERVISOR
from tests.support.voting import NEWCOMER, next_key, plain_card, proposal_id, seat_card

SECOND, THIRD, FOURTH = (insurer.id for insurer in INSURERS[1:])
NAME = "5f" * 16


class Town:
    """A chain, and the command run by one organisation after another."""

    def __init__(self) -> None:
        self.chain = EpochChain()
        self.chain.block()
        self.chain.block()
        self.by = FIRST

    @contextmanager
    def client(self, *_: object) -> Iterator[ChainSession]:
        yield ChainSession(self.chain, self.by)

    def run(self, *words: object, by: str = FIRST.id, code: int = 0) -> str:
        self.by = organisation(by)
        return lossbook("governance", *words, code=code).output

    def json(self, *words: object, by: str = FIRST.id) -> Any:
        self.by = organisation(by)
        return document("governance", *words)

    def propose(self, *words: object) -> str:
        self.run("propose", *words, "--id", NAME)
        return NAME

    def vote(self, *voters: str) -> Any:
        return [self.json("vote", NAME, "yes", by=voter) for voter in voters][-1]


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Town:
    made = Town()
    monkeypatch.setattr("cli.session.client", made.client)
    return made


def card_file(folder: Path, raw: bytes) -> Path:
    path = folder / "card.json"
    path.write_bytes(raw)
    return path


# -- parameters ------------------------------------------------------------------------------------


def test_a_parameter_is_proposed_voted_for_and_waits_for_its_block(town: Town) -> None:
    shown = town.json("propose", "parameter", "block_interval_ms=70", "--from-height", 60, "--id", NAME)
    assert (shown["proposal"], shown["state"], shown["receipt"]["code"]) == (NAME, "open", "OK")
    assert shown["change"]["parameter_change"]["numbers"] == [{"name": "block_interval_ms", "value": 70}]
    assert shown["votes"] == {"needed": 3, "yes": [FIRST.id], "no": [], "missing": [SECOND, THIRD, FOURTH]}
    assert shown["last_height"] == 60 - 20 - ACTIVATION_MARGIN
    said = town.run("vote", NAME, "yes", by=SECOND)
    assert f"1 more vote of {THIRD} and {FOURTH}" in said
    assert f"lossbook governance vote {NAME} yes" in said
    done = town.vote(FOURTH)
    assert (done["state"], done["from_height"], done["over"]) == ("activation", 60, False)
    assert "block_interval_ms = 70 from block 60" in town.run("list")
    assert latest_parameters(town.chain.ledger.state)[1].block_interval_ms == 70
    while town.chain.finalized_height() < 61:
        town.chain.block()
    assert town.json("show", NAME)["state"] == "in-force"
    assert town.json("list", "--open")["proposals"] == []


def test_who_checks_signatures_takes_a_supervisors_consent(town: Town) -> None:
    town.propose("parameter", "verification=all", "--from-height", 500)
    shown = town.vote(SECOND, THIRD)
    assert (shown["state"], shown["consent"]) == ("open", {"asked": True, "yes": [], "no": []})
    assert "a supervisor's consent" in town.run("list")
    shown = town.vote(SUPERVISOR.id)
    assert (shown["state"], shown["consent"]["yes"]) == ("activation", [SUPERVISOR.id])
    town.run("propose", "parameter", "k_max=30", "--from-height", 600, "--id", "0a" * 16)
    assert text(Code.NOT_A_VALIDATOR) in town.run("vote", "0a" * 16, "yes", by=SUPERVISOR.id, code=1)


def test_a_height_that_is_too_near_is_refused_with_the_earliest_one(town: Town) -> None:
    height = town.json("list")["from_height_min"]
    assert f"from block {height}" in town.run("propose", "parameter", "k_max=30", "--from-height", 5, code=1)
    assert town.json("list")["proposals"] == []
    town.run("propose", "parameter", "k_max=20", "--from-height", height + 2)


def test_votes_that_come_too_late_for_the_height_are_said_to(town: Town) -> None:
    town.propose("parameter", "k_max=20", "--from-height", town.json("list")["from_height_min"] + 2)
    for _ in range(5):
        town.chain.block()
    shown = town.json("show", NAME)
    assert (shown["state"], shown["over"]) == ("expired", True)
    assert "cannot be met any more" in shown["next"]
    town.run("vote", NAME, "yes", by=SECOND)
    assert text(Code.BAD_ACTIVATION) in town.run("vote", NAME, "yes", by=THIRD, code=1)


def test_two_noes_vote_it_down(town: Town) -> None:
    town.propose("parameter", "k_max=30", "--from-height", 500)
    town.run("vote", NAME, "no", by=SECOND)
    shown = town.json("vote", NAME, "no", by=THIRD)
    assert (shown["state"], shown["votes"]["no"]) == ("rejected", [SECOND, THIRD])
    assert text(Code.PROPOSAL_CLOSED) in town.run("vote", NAME, "yes", by=FOURTH, code=1)


def test_a_proposal_expires_after_the_days_it_is_given(town: Town) -> None:
    town.propose("rotate", "--days", 1)
    listed = town.json("list")
    (proposal,) = listed["proposals"]
    assert 0 < proposal["expires_ms"] - listed["time_ms"] <= 86_400_000
    assert "x<=30" in town.run("propose", "rotate", "--days", 31, code=2)


# -- the set ---------------------------------------------------------------------------------------


def test_a_newcomer_is_added_as_soon_as_enough_are_ready(town: Town, tmp_path: Path) -> None:
    card = card_file(tmp_path, seat_card(NEWCOMER))
    said = town.run("propose", "add", card, "--id", NAME)
    assert f"add {NEWCOMER.id}" in said
    assert NEWCOMER.ledger_key.public.hex() in said, "voters compare the card's ledger key with its owner's word"
    shown = town.vote(SECOND, THIRD)
    assert shown["state"] == "readiness"
    everybody = sorted([FIRST.id, SECOND, THIRD, FOURTH, NEWCOMER.id])
    assert shown["readiness"] == {
        "needed": 4,
        "ready": [],
        "not_ready": everybody,
        "without_key": sorted([FIRST.id, SECOND, THIRD, FOURTH]),
    }
    assert "a running node registers it" in shown["next"]
    house = town.chain.house
    house.register_keys()
    house.ready(FIRST.id, SECOND, NEWCOMER.id)
    town.chain.block()
    shown = town.json("show", NAME)
    assert shown["readiness"]["ready"] == sorted([FIRST.id, SECOND, NEWCOMER.id])
    assert shown["readiness"]["without_key"] == []
    assert f"1 of {', '.join(shown['readiness']['not_ready'])} to be ready" in town.run("list")
    house.ready(THIRD)
    town.chain.block()
    assert town.json("show", NAME)["state"] == "boundary"
    town.chain.boundary()
    town.chain.block()
    town.chain.block()
    listed = town.json("list")
    assert (listed["epoch"], listed["validators"]) == (1, everybody)
    assert (listed["proposals"][0]["state"], listed["proposals"][0]["over"]) == ("in-force", True)
    assert listed["proposals"][0]["votes"]["missing"] == [FOURTH], "counted in the set that voted"
    assert f"since block {listed['proposals'][0]['from_height']}" in town.run("show", NAME)


def test_a_later_change_takes_the_place_of_one_that_waits_and_an_epoch_ends_open_proposals(town: Town) -> None:
    chain, house = town.chain, town.chain.house
    town.propose("suspend", FOURTH)
    town.vote(SECOND, THIRD)
    open_one = "0a" * 16
    town.run("propose", "parameter", "k_max=30", "--from-height", 900, "--id", open_one)
    town.run("propose", "remove", THIRD, "--id", "0b" * 16)
    for voter in (SECOND, FOURTH):
        town.run("vote", "0b" * 16, "yes", by=voter)
    assert town.json("show", NAME)["state"] == "superseded"
    house.register_keys()
    house.ready(FIRST.id, SECOND, FOURTH)
    chain.boundary()
    chain.block()
    chain.block()
    states = {one["proposal"]: one["state"] for one in town.json("list")["proposals"]}
    assert states == {NAME: "superseded", open_one: "lapsed", "0b" * 16: "in-force"}
    assert town.json("list", "--open")["proposals"] == []
    assert text(Code.WRONG_EPOCH) in town.run("vote", open_one, "yes", by=SECOND, code=1)
    assert text(Code.NOT_A_VALIDATOR) in town.run("propose", "rotate", by=THIRD, code=1)


def test_suspended_and_reinstated(town: Town) -> None:
    chain = town.chain
    chain.change("suspend", ops.SetChange(suspend=(FOURTH,)))
    chain.block()
    chain.block()
    listed = town.json("list")
    assert (listed["suspended"], listed["proposals"][0]["text"]) == ([FOURTH], f"suspend {FOURTH}")
    silent = f"{FOURTH} has no key for epoch 2"
    assert f"warning: {silent}" in town.run("propose", "reinstate", FOURTH, "--id", NAME)
    assert silent in town.json("show", NAME)["next"]
    assert silent in town.vote(SECOND, THIRD)["next"]


def test_who_registers_first_comes_back_with_a_key(town: Town) -> None:
    chain = town.chain
    chain.change("suspend", ops.SetChange(suspend=(FOURTH,)))
    key = next_key(FOURTH, 2)
    operation = governance.register_consensus_key(chain.genesis.chain_id, FOURTH, epoch=2, key=key)
    assert chain.house.code(operation, organisation(FOURTH)) == Code.OK
    chain.block()
    chain.block()
    assert "warning" not in town.run("propose", "reinstate", FOURTH, "--id", NAME)
    assert "no key" not in town.json("show", NAME)["next"]


def test_whoever_leaves_too_few_is_warned(town: Town) -> None:
    assert "warning: 3 of 4 validators" in town.run("propose", "remove", FOURTH)
    assert "warning" not in town.run("propose", "rotate")


def test_several_seats_change_at_once(town: Town, tmp_path: Path) -> None:
    card = card_file(tmp_path, seat_card(NEWCOMER))
    shown = town.json("propose", "set", "--add", card, "--remove", SECOND, "--suspend", THIRD)
    assert shown["text"] == f"add {NEWCOMER.id}, remove {SECOND}, suspend {THIRD}"
    assert "at least one seat" in town.run("propose", "set", code=2)


# -- cards -----------------------------------------------------------------------------------------


def test_a_members_keys_are_changed_by_its_card(town: Town, tmp_path: Path) -> None:
    town.propose("rotate", card_file(tmp_path, plain_card(INSURERS[1], public_address="10.0.0.9:1")))
    shown = town.vote(THIRD, FOURTH)
    assert (shown["state"], shown["text"]) == ("in-force", f"card of {SECOND}")
    assert "10.0.0.9:1" in town.run("show", NAME)


def test_a_member_without_a_seat_is_admitted(town: Town, tmp_path: Path) -> None:
    town.propose("admit", card_file(tmp_path, plain_card(NEWCOMER)))
    assert town.vote(THIRD, FOURTH)["state"] == "in-force"
    assert town.json("list")["validators"] == [FIRST.id, SECOND, THIRD, FOURTH]


@pytest.mark.parametrize("verb", ["add", "admit", "rotate"])
def test_invalid_cards_are_refused_before_anything_is_sent(town: Town, tmp_path: Path, verb: str) -> None:
    wrong = plain_card(NEWCOMER) if verb == "add" else seat_card(NEWCOMER)
    assert "consensus key" in town.run("propose", verb, card_file(tmp_path, wrong), code=2)
    assert "not a card" in town.run("propose", verb, card_file(tmp_path, b"{}"), code=2)
    town.run("propose", verb, tmp_path / "none.json", code=1)
    assert town.json("list")["proposals"] == []


# -- reading ---------------------------------------------------------------------------------------


def test_a_proposal_can_be_proved_to_others(town: Town, tmp_path: Path) -> None:
    town.propose("rotate")
    out = tmp_path / "proposal.proof"
    assert str(out) in town.run("show", NAME, "--prove", out)
    proven = verify_bytes(out.read_bytes(), town.chain.genesis)
    assert proven.key[1:].hex() == NAME


def test_the_newest_come_first_and_a_limit_is_said(town: Town) -> None:
    for at in range(3):
        town.run("propose", "rotate", "--id", f"{at:02x}" * 16)
    assert [one["proposal"][:2] for one in town.json("list")["proposals"]] == ["02", "01", "00"]
    assert town.json("list", "--limit", 2)["more"]
    assert "raise --limit" in town.run("list", "--limit", 2)


def test_invalid_words(town: Town) -> None:
    assert "governance list" in town.run("show", "00" * 16, code=1)
    assert "32 hex digits" in town.run("show", "xyz", code=2)
    assert text(Code.UNKNOWN_PROPOSAL) in town.run("vote", "00" * 16, "yes", code=1)
    assert "'maybe' is not one of" in town.run("vote", "00" * 16, "maybe", code=2)
    assert "32 hex digits" in town.run("vote", "5f", "yes", code=2)
    assert "32 hex digits" in town.run("propose", "rotate", "--id", "5f", code=2)
    assert "no organisation id" in town.run("propose", "remove", "Not An Id", code=2)
    assert text(Code.NOT_IN_SET) in town.run("propose", "remove", "stranger", code=1)
    assert "no parameter is named" in town.run("propose", "parameter", "--from-height", 500, code=2)
    assert text(Code.NOT_A_VALIDATOR) in town.run("propose", "rotate", by=SUPERVISOR.id, code=1)


# -- how a proposal stands, alone --------------------------------------------------------------------


def test_every_state_has_its_words(town: Town) -> None:
    town.propose("rotate")
    session = ChainSession(town.chain)
    found = asyncio.run(read_proposal(session.query, bytes.fromhex(NAME)))
    assert found is not None
    record = record_of(found)
    network = asyncio.run(read_network(session.query, [record]))
    replace = msgspec.structs.replace
    passed = PassedChange(record.proposal_id, 5, record.expires_ms, network.validators, ())
    waiting = replace(network, membership=replace(network.membership, passed=passed))
    late = replace(network, time_ms=record.expires_ms + 1)
    cases = {
        "open": (record, network),
        "expired": (record, late),
        "rejected": (replace(record, state=3), network),
        "readiness": (replace(record, state=2), waiting),
        "not-ready": (replace(record, state=2), replace(waiting, time_ms=late.time_ms)),
        "superseded": (replace(record, state=2), network),
        "lapsed": (record, replace(network, membership=replace(network.membership, epoch=1))),
    }
    for state, (proposal, seen) in cases.items():
        standing = standing_of(proposal, seen)
        assert standing.state == state
        assert next_in_words(proposal, standing, seen)
        assert standing.over == (state in OVER) == (waits_for(standing) == "-")


@pytest.mark.property
@given(votes=st.lists(st.booleans(), max_size=7), n=st.integers(1, 10), consent=st.sampled_from([None, True, False]))
def test_what_is_said_of_votes_is_what_the_contract_makes_of_them(
    votes: list[bool], n: int, consent: bool | None
) -> None:
    members = [f"m-{at}" for at in range(n)]
    ballots = tuple(Ballot(name, vote, 1, 1, 0, 0) for name, vote in zip(members, votes, strict=False))
    consents = () if consent is None else (Ballot("watch", consent, 1, 1, 0, 0),)
    decided = outcome(members, ballots, consents, True)
    epoch = EpochRecord(tuple(Seat(name, bytes(32)) for name in members), 0, 1, 0)
    network = Network(5, 10, MembershipRecord(0), {0: epoch}, k_max=20)
    record = ProposalRecord(bytes(16), 0, 100, decided, None, None, ops.ParameterChange(500, "all"), ballots, consents)
    if not ballots:
        return
    standing = standing_of(record, network)
    words = {ProposalState.OPEN: "open", ProposalState.REJECTED: "rejected", ProposalState.PASSED: "activation"}
    assert standing.state == words[decided]
    assert standing.needed == next(yes for yes in range(n + 1) if 3 * yes > 2 * n)
    assert sorted((*standing.yes, *standing.no, *standing.missing)) == sorted(members)
    assert next_in_words(record, standing, network)
    if standing.state == "open":
        lacking = standing.needed - len(standing.yes)
        assert waits_for(standing).startswith(f"{lacking} of" if lacking > 0 else "a supervisor")


class Behind:
    """A node whose certified state is some blocks behind what was executed."""

    def __init__(self, *heights: int) -> None:
        self.heights = list(heights)

    async def record(self, key: bytes, *, prove: bool = False) -> Found:
        height = self.heights.pop(0) if len(self.heights) > 1 else self.heights[0]
        return Found(key, b"", height, FIRST.id)

    async def records(self, prefix: bytes, *, limit: int | None = None) -> AsyncIterator[Found]:
        return
        yield  # pragma: no cover


def test_whoever_has_written_waits_until_the_state_after_it_is_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.governance.reading.CERTIFY_PAUSE_S", 0)
    found = asyncio.run(read_proposal(Behind(3, 4, 5, 6), bytes(16), 5))
    assert found is not None
    assert found.height == 5
    with pytest.raises(Stop, match="not certified yet") as caught:
        asyncio.run(read_proposal(Behind(3), bytes(16), 5))
    assert caught.value.exit_code == 3


class Lister(Behind):
    """A node that lists what it likes."""

    def __init__(self, *listed: Found) -> None:
        super().__init__(3)
        self.listed = listed

    async def records(self, prefix: bytes, *, limit: int | None = None) -> AsyncIterator[Found]:
        for found in self.listed:
            yield found


@pytest.mark.parametrize("wrong", ["no ballots", "another id"])
def test_invalid_proposals_that_only_a_node_lists(wrong: str) -> None:
    """A list is not proved: what cannot stand in a ledger is the node's doing, and told as such."""
    ballots = () if wrong == "no ballots" else (Ballot(FIRST.id, True, 1, 1, 0, 0),)
    record = ProposalRecord(bytes(16), 0, 100, 1, None, None, ops.ParameterChange(500, "all"), ballots, ())
    key = PROPOSALS.prefix + (b"another".ljust(16) if wrong == "another id" else bytes(16))
    with pytest.raises(VerificationFailed, match="a proposal in its list") as caught:
        asyncio.run(read_book(Lister(Found(key, PROPOSALS.encode(record), 3, FIRST.id)), 10))
    assert FIRST.id in caught.value.problem
    assert caught.value.exit_code == 4


def test_a_vote_that_stands_is_told_although_the_state_after_it_is_not_certified(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.propose("rotate")
    monkeypatch.setattr("cli.governance.reading.CERTIFY_PAUSE_S", 0)
    monkeypatch.setattr(ChainSession, "certify", lambda _: None)
    shown = town.run("vote", NAME, "yes", by=SECOND)
    assert f"lossbook governance show {NAME}" in shown
    assert "not certified yet" in shown
    town.chain.block()
    assert town.json("show", NAME)["votes"]["yes"] == [FIRST.id, SECOND]


def test_consent_is_asked_for_when_signature_checks_change() -> None:
    chain = EpochChain()
    chain.block()
    _, epoch = current_epoch(chain.ledger.state)
    ballots = tuple(Ballot(name, True, 1, 1, 0, 0) for name in chain.house.seats[:3])
    change = ops.ParameterChange(500, "attested")
    record = ProposalRecord(proposal_id("x"), 0, 10**15, 1, None, None, change, ballots, ())
    network = Network(5, 10, membership(chain.ledger.state), {0: epoch}, k_max=20)
    standing = standing_of(record, network)
    assert (standing.state, waits_for(standing)) == ("open", "a supervisor's consent")
    assert "a supervisor's consent by" in next_in_words(record, standing, network)
