"""Any history of changing sets: every height is proved from the genesis alone, and no changed proof is."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from crypto.keys import verify_many
from ledger import operations as ops
from ledger.epochs import EPOCHS, current_epoch
from ledger.known_epochs import KnownEpochs
from ledger.proof_building import header_proof, record_proof
from ledger.proof_errors import ProofError
from ledger.proof_types import Proof
from ledger.proofs import verify_bytes, verify_header_proof, verify_proof
from ledger.wire.proofs import decode_proof, encode_proof
from tests.support.epoch_chain import EpochChain, guest
from tests.support.voting import seat_card

Step = tuple[str, int, tuple[int, ...]]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["renew", "add", "remove", "swap", "suspend"]),
        st.integers(0, 2),
        st.lists(st.integers(0, 2), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=4,
)


def history(steps: list[Step]) -> EpochChain:
    """A chain with one epoch for each step."""
    chain = EpochChain()
    for at, (what, skipped, tails) in enumerate(steps):
        new = guest(at)
        chain.house.known[new.id] = new
        seats = chain.house.seats
        leaving = seats[at % len(seats)] if len(seats) > 1 else None
        change = ops.SetChange(
            add=(seat_card(new),) if what in ("add", "swap") else (),
            remove=(leaving,) if what in ("remove", "swap") and leaving else (),
            suspend=(leaving,) if what == "suspend" and leaving else (),
        )
        chain.change(f"step-{at}", change, skipped=skipped, tails=tails)
        chain.block(skipped=skipped, finalized=False)
        chain.block()
    return chain


@pytest.mark.property
@hypothesis.settings(max_examples=25)
@hypothesis.given(STEPS)
def test_every_height_is_final_for_who_knows_the_genesis_only(steps: list[Step]) -> None:
    chain = history(steps)
    assert chain.epoch == len(steps)
    step_by_step = KnownEpochs.of_genesis(chain.genesis)
    for height in range(1, chain.finalized_height() + 1):
        proof = header_proof(chain, height)
        fresh, _ = verify_header_proof(proof, KnownEpochs.of_genesis(chain.genesis))
        step_by_step, _ = verify_header_proof(proof, step_by_step)
        assert fresh.latest == step_by_step.latest
        assert fresh.latest.validators.epoch == proof.subject.epoch
    assert step_by_step.latest.validators == chain.validators
    number, record = current_epoch(chain.ledger.state)
    assert step_by_step.latest.validators == record.validator_set(number)


HISTORY = history([("swap", 1, (0, 1)), ("suspend", 0, ()), ("renew", 0, (2,))])
RAW = encode_proof(
    Proof(HISTORY.genesis.chain_id, record_proof(HISTORY, HISTORY.ledger.state, EPOCHS, (3).to_bytes(8, "big")))
)


def test_the_proof_that_is_changed_below_is_good() -> None:
    proven = verify_bytes(RAW, HISTORY.genesis)
    assert proven.known is not None
    assert proven.known.latest.validators.epoch == 3
    assert encode_proof(decode_proof(RAW)) == RAW


@pytest.mark.property
@hypothesis.settings(max_examples=150)
@hypothesis.given(at=st.integers(0, len(RAW) - 1), by=st.integers(1, 255))
def test_no_byte_of_it_can_be_changed(at: int, by: int) -> None:
    changed = RAW[:at] + bytes((RAW[at] ^ by,)) + RAW[at + 1 :]
    with pytest.raises(ProofError):
        verify_bytes(changed, HISTORY.genesis)


@pytest.mark.property
@hypothesis.given(st.permutations(range(3)), st.integers(0, 3))
def test_hand_overs_count_in_their_order_and_number_only(order: list[int], count: int) -> None:
    proof = decode_proof(RAW)
    header = proof.subject.header
    chosen = tuple(header.hand_overs[at] for at in order[:count])
    if chosen == header.hand_overs:
        return
    subject = type(proof.subject)(
        **{name: getattr(proof.subject, name) for name in proof.subject.__struct_fields__ if name != "header"},
        header=type(header)(header.headers, header.finalization, chosen),
    )
    with pytest.raises(ProofError):
        verify_proof(Proof(proof.chain_id, subject), HISTORY.genesis, verify_many)
