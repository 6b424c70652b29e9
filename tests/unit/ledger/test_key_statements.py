"""What validators state about their own keys: when it is true, when it is due, and how a set changes by it."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from consensus.justification import HeaderRules
from contracts.governance.records import ProposalState
from ledger import operations as ops
from ledger import statements, wire
from ledger.epochs import approved_change, current_epoch, membership
from ledger.execution import ExecutableBlock
from ledger.genesis_header import genesis_header_of
from ledger.key_statements import owes_readiness, owes_registration
from ledger.readiness import readiness_message
from ledger.registrations import possession_message, registered_key, registration_message
from ledger.statement_types import Ed25519, Judge, Moment
from ledger.types import KeyRegistration, Readiness, Statement, StatementContent
from ledger.wire import WireError
from tests.support.insurers import INSURERS, key_of, market_genesis
from tests.support.voting import NEWCOMER, Assembly, next_key, proposal_id, seat_card

GENESIS = market_genesis()
RULES = HeaderRules(1, GENESIS.chain_id, GENESIS.validator_set(), genesis_header_of(GENESIS))
JUDGE = Judge({0: RULES}.get, Ed25519())
FIRST = INSURERS[0]


def registration(signer: int = 0, epoch: int = 0, *, key: str = "", **changes: object) -> KeyRegistration:
    """Genuine, unless changed afterwards."""
    member = INSURERS[signer]
    new = key_of(key) if key else next_key(member.id, epoch + 1)
    present = member.consensus_key if epoch == 0 else next_key(member.id, epoch)
    assert present is not None
    parts = (GENESIS.chain_id, epoch + 1, member.id, new.public)
    made = KeyRegistration(
        epoch, signer, new.public, present.sign(registration_message(*parts)), new.sign(possession_message(*parts))
    )
    return msgspec.structs.replace(made, **changes)


def readiness(organisation: str, name: str = "renew", epoch: int = 0, **changes: object) -> Readiness:
    """Genuine, unless changed afterwards."""
    key = next_key(organisation, epoch + 1)
    message = readiness_message(GENESIS.chain_id, epoch, proposal_id(name), key.public)
    return msgspec.structs.replace(Readiness(epoch, proposal_id(name), key.public, key.sign(message)), **changes)


def problem(content: StatementContent) -> str | None:
    return statements.problem(wire.encode_statement(content), JUDGE)


class Net(Assembly):
    """The market whose blocks list statements."""

    def list(self, *contents: StatementContent) -> list[bool]:
        """Execute a block that lists these; which of them were due before it."""
        listed: list[Statement] = [wire.encode_statement(content) for content in contents]
        state = self.ledger.state
        moment = Moment(state.height, self.ledger.time_ms, self.epoch, 1)
        due = [statements.is_due(each, state, moment) for each in listed]
        self.ledger.time_ms += 1000
        block = ExecutableBlock(state.height + 1, self.ledger.time_ms, bytes(32), [], statements=listed)
        self.ledger.store.commit(self.ledger.execution.run(block).writes)
        return due


# -- form and truth ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [registration(), readiness(FIRST.id)], ids=["registration", "readiness"])
def test_a_statement_comes_back_as_it_was_made(content: StatementContent) -> None:
    made = wire.encode_statement(content)
    assert wire.decode_statement(made.raw) == made
    assert made.content == content
    assert statements.problem(made, JUDGE) is None


@pytest.mark.parametrize(
    "content",
    [
        registration(consensus_key=b"short"),
        registration(signature=b""),
        registration(possession=bytes(63)),
        KeyRegistration((1 << 64) - 1, 0, bytes(32), bytes(64), bytes(64)),
        readiness(FIRST.id, proposal_id=b""),
        readiness(FIRST.id, consensus_key=bytes(33)),
        readiness(FIRST.id, signature=bytes(65)),
    ],
)
def test_invalid_lengths_do_not_decode(content: KeyRegistration | Readiness) -> None:
    with pytest.raises(WireError):
        wire.encode_statement(content)


@pytest.mark.parametrize(
    "content",
    [
        registration(signature=bytes(64)),
        registration(possession=bytes(64)),
        registration(signature=registration().possession),
        registration(signer=1, signature=registration().signature),
        registration(consensus_key=key_of("other").public),
        msgspec.structs.replace(registration(), signer=1),
        msgspec.structs.replace(registration(), signer=4),
        msgspec.structs.replace(registration(), epoch=1),
        readiness(FIRST.id, signature=bytes(64)),
        readiness(FIRST.id, proposal_id=bytes(16)),
        readiness(FIRST.id, consensus_key=next_key(INSURERS[1].id, 1).public),
        msgspec.structs.replace(readiness(FIRST.id), epoch=1),
    ],
)
def test_invalid_statements_are_not_true(content: StatementContent) -> None:
    assert problem(content)


@pytest.mark.property
@hypothesis.given(st.data())
def test_no_changed_byte_stays_true(data: st.DataObject) -> None:
    genuine: list[StatementContent] = [registration(), readiness(FIRST.id)]
    content = data.draw(st.sampled_from(genuine))
    raw = bytearray(wire.encode_statement(content).raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        statement = wire.decode_statement(bytes(raw))
    except WireError:
        return
    assert statements.problem(statement, JUDGE)


# -- effect --------------------------------------------------------------------------------------


def test_a_set_changes_by_votes_and_statements_alone() -> None:
    house = Net()
    assert house.list(*[registration(at) for at in range(4)]) == [True] * 4
    assert [registered_key(house.ledger.state, i.id, 1) for i in INSURERS] == [
        next_key(i.id, 1).public for i in INSURERS
    ]
    house.pass_("renew", ops.SetChange())
    assert house.record("renew").state == ProposalState.PASSED
    assert house.list(readiness(FIRST.id), readiness(INSURERS[3].id)) == [True, True]
    assert approved_change(house.ledger.state) is None
    assert house.list(readiness(INSURERS[1].id)) == [True]
    change = approved_change(house.ledger.state)
    assert change is not None
    assert change.approved_height == house.ledger.state.height
    assert house.list(readiness(INSURERS[2].id)) == [False]
    house.end_epoch()
    assert [seat.consensus_key for seat in current_epoch(house.ledger.state)[1].members] == [
        next_key(i.id, 1).public for i in INSURERS
    ]


def test_the_first_registration_stands() -> None:
    house = Net()
    assert house.list(registration(), registration(key="second thoughts")) == [True, True]
    assert registered_key(house.ledger.state, FIRST.id, 1) == next_key(FIRST.id, 1).public
    assert house.list(registration(key="later")) == [False]


def test_two_statements_of_one_validator_are_about_one_thing() -> None:
    made = [wire.encode_statement(content) for content in (registration(), registration(key="other"))]
    assert statements.identity(made[0]) == statements.identity(made[1])
    assert statements.subject(made[0]) == (0, 0)
    ready = [wire.encode_statement(readiness(insurer.id)) for insurer in INSURERS[:2]]
    assert statements.identity(ready[0]) != statements.identity(ready[1])
    assert statements.subject(ready[0]) != statements.subject(ready[1])


@pytest.mark.parametrize("used", ["consensus", "ledger", "finance"])
def test_a_key_that_is_or_was_in_use_is_not_due(used: str) -> None:
    house = Net()
    new = key_of(INSURERS[2].id, used)
    parts = (GENESIS.chain_id, 1, FIRST.id, new.public)
    assert FIRST.consensus_key is not None
    signature = FIRST.consensus_key.sign(registration_message(*parts))
    content = KeyRegistration(0, 0, new.public, signature, new.sign(possession_message(*parts)))
    assert problem(content) is None
    assert house.list(content) == [False]
    assert registered_key(house.ledger.state, FIRST.id, 1) == b""


def test_what_comes_too_late_has_no_effect() -> None:
    house = Net()
    house.list(*[registration(at) for at in range(3)])
    house.pass_("renew", ops.SetChange())
    house.list(*[readiness(insurer.id) for insurer in INSURERS[:3]])
    assert house.list(registration(3)) == [False]
    house.end_epoch()
    before = membership(house.ledger.state)
    assert house.list(registration(3), readiness(FIRST.id), readiness(INSURERS[3].id)) == [False] * 3
    assert membership(house.ledger.state) == before
    assert registered_key(house.ledger.state, INSURERS[3].id, 1) == b""


def test_readiness_without_a_change_or_of_strangers_has_no_effect() -> None:
    house = Net()
    house.list(*[registration(at) for at in range(4)])
    assert house.list(readiness(FIRST.id)) == [False]
    house.pass_("renew", ops.SetChange(remove=(INSURERS[3].id,)))
    assert house.list(readiness(INSURERS[3].id), readiness(NEWCOMER.id), readiness(FIRST.id, "other")) == [False] * 3


# -- what a node owes ----------------------------------------------------------------------------


def test_a_node_owes_its_registration_once() -> None:
    house = Net()
    state = house.ledger.state
    assert [owes_registration(state, i.id) for i in INSURERS] == [0, 1, 2, 3]
    assert owes_registration(state, NEWCOMER.id) is None
    house.list(registration())
    assert owes_registration(state, FIRST.id) is None
    assert house.code(house.registration_by_admin(INSURERS[1], key_of("own")), INSURERS[1]) == 0
    assert owes_registration(state, INSURERS[1].id) is None
    house.pass_("renew", ops.SetChange())
    assert owes_registration(state, INSURERS[2].id) == 2


def test_a_member_without_a_present_key_owes_nothing_it_could_not_sign() -> None:
    house = Net()
    house.list(*[registration(at) for at in range(3)])
    house.pass_("renew", ops.SetChange())
    house.list(*[readiness(insurer.id) for insurer in INSURERS[:3]])
    house.end_epoch()
    assert [owes_registration(house.ledger.state, i.id) for i in INSURERS] == [0, 1, 2, None]


def test_members_of_the_next_set_owe_their_readiness_newcomers_too() -> None:
    house = Net()
    house.list(*[registration(at) for at in range(4)])
    state, now = house.ledger.state, house.ledger.time_ms
    assert owes_readiness(state, FIRST.id, now) is None
    house.pass_("welcome", ops.SetChange(add=(seat_card(NEWCOMER),), remove=(INSURERS[3].id,)))
    now = house.ledger.time_ms
    assert owes_readiness(state, FIRST.id, now) == (proposal_id("welcome"), next_key(FIRST.id, 1).public)
    assert NEWCOMER.consensus_key is not None
    assert owes_readiness(state, NEWCOMER.id, now) == (proposal_id("welcome"), NEWCOMER.consensus_key.public)
    assert owes_readiness(state, INSURERS[3].id, now) is None
    passed = membership(state).passed
    assert passed is not None
    assert owes_readiness(state, FIRST.id, passed.expires_ms + 1) is None
    house.list(readiness(FIRST.id, "welcome"))
    assert owes_readiness(state, FIRST.id, now) is None


def test_while_one_validator_is_down_the_set_still_changes() -> None:
    """The fourth neither registers, votes nor is ready; the others renew twice; an admin gets it its key back."""
    house = Net()
    for epoch in range(2):
        house.list(*[registration(at, epoch) for at in range(3)])
        house.pass_(f"renew-{epoch}", ops.SetChange())
        house.list(*[readiness(insurer.id, f"renew-{epoch}", epoch) for insurer in INSURERS[:3]])
        house.end_epoch()
    assert [bool(seat.consensus_key) for seat in current_epoch(house.ledger.state)[1].members] == [True] * 3 + [False]
    back = next_key(INSURERS[3].id, 3)
    assert house.code(house.registration_by_admin(INSURERS[3], back), INSURERS[3]) == 0
    house.list(*[registration(at, 2) for at in range(3)])
    house.pass_("renew-2", ops.SetChange())
    house.list(*[readiness(insurer.id, "renew-2", 2) for insurer in INSURERS])
    house.end_epoch()
    assert all(seat.consensus_key for seat in current_epoch(house.ledger.state)[1].members)
