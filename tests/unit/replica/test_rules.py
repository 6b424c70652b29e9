"""What only the state decides of a block: its parameters, as of the parent's state height. Ends: test_epochs.py."""

from __future__ import annotations

import pytest

from ledger.parameters import PARAMETERS, Parameters, ParametersRecord, activation_key
from ledger.state import State
from ledger.types import Block
from replica.rules import block_problem
from tests.support.chain import Chain, altered_header
from tests.support.evidence import statement
from tests.support.insurers import policy_issue


@pytest.fixture
def chain() -> Chain:
    """Two blocks with two batches each."""
    made = Chain()
    for first in (1, 3):
        made.block(
            *[[made.ledger.envelope([policy_issue(policy_id=b"policy-%09d" % at)])] for at in (first, first + 1)]
        )
    return made


def problem(chain: Chain, block: Block, state: State | None = None) -> str | None:
    height = block.header.height
    parent = chain.blocks[height - 2].header if height > 1 else chain.genesis_header
    return block_problem(block, parent, state or chain.ledger.state)


def with_parameters(chain: Chain, *, approved: int, active: int, **changes: int) -> State:
    """The chain's state, in which other parameters were decided."""
    state = chain.ledger.state
    record = ParametersRecord.from_parameters(Parameters(**changes), approved)  # type: ignore[arg-type]
    state.put(PARAMETERS, activation_key(active), record)
    return state


def test_an_honest_block_keeps_the_rules(chain: Chain) -> None:
    assert [problem(chain, block) for block in chain.blocks] == [None, None]


def test_invalid_another_state_scheme(chain: Chain) -> None:
    assert problem(chain, altered_header(chain.blocks[1], state_scheme=9)) == "has state scheme 9 instead of 1"


@pytest.mark.parametrize("statements", [(), (statement(1).raw,)], ids=["batches", "statements"])
def test_invalid_a_listing_too_far_above_the_state(statements: tuple[bytes, ...]) -> None:
    chain = Chain()
    for _ in range(chain.genesis.parameters.k_max):
        assert problem(chain, altered_header(chain.block(), state_height=0)) is None, "it lists nothing"
    listed = [] if statements else [[chain.ledger.envelope([policy_issue()])]]
    block = altered_header(chain.block(*listed, statements=statements), state_height=0)
    assert problem(chain, block) == "lists batches or statements more than 20 heights above its state"
    assert problem(chain, altered_header(block, state_height=1)) is None


def test_invalid_more_bytes_than_a_block_may_list(chain: Chain) -> None:
    state = with_parameters(chain, approved=0, active=1, block_bytes_max=1000)
    assert "at most 1000 are allowed" in (problem(chain, chain.blocks[1], state) or "")


def test_one_batch_always_fits() -> None:
    chain = Chain()
    block = chain.block([chain.ledger.envelope([policy_issue()])])
    assert problem(chain, block, with_parameters(chain, approved=0, active=1, block_bytes_max=10)) is None


def test_parameters_hold_from_their_height_on(chain: Chain) -> None:
    state = with_parameters(chain, approved=0, active=2, block_bytes_max=1000)
    assert problem(chain, chain.blocks[0], state) is None
    assert problem(chain, chain.blocks[1], state) is not None


def test_parameters_do_not_hold_where_the_parents_state_has_not_seen_them(chain: Chain) -> None:
    state = with_parameters(chain, approved=1, active=2, block_bytes_max=1000)
    assert chain.blocks[0].header.state_height == 0
    assert problem(chain, chain.blocks[1], state) is None
