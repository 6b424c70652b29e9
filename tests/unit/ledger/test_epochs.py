"""Epoch records: written at genesis, ended by the boundary block, and read only as of a height."""

from __future__ import annotations

import msgspec
import pytest

from consensus.types import Validator, ValidatorSet
from ledger.epochs import (
    MEMBERSHIP,
    NO_KEY,
    ApprovedChange,
    MembershipRecord,
    Seat,
    approved_change,
    current_epoch,
    epoch_seed,
    find_epoch,
    held_at,
    membership,
    valset_hash,
)
from ledger.execution import ExecutableBlock
from ledger.invariant import InvariantViolated
from ledger.state import State
from store.memory import MemoryStateStore
from tests.support.insurers import INSURERS, Ledger, key_of

DIGEST = bytes(range(32))


def next_seats() -> tuple[Seat, ...]:
    """The market without its first insurer; the last one has registered no key."""
    keys = [key_of(insurer.id, "consensus", "1").public for insurer in INSURERS]
    return tuple(Seat(insurer.id, key) for insurer, key in zip(INSURERS[1:], [*keys[1:3], b""], strict=True))


def approved(ledger: Ledger) -> ApprovedChange:
    change = ApprovedChange(0, ledger.state.height + 1, b"p" * 16, next_seats())
    ledger.state.put(MEMBERSHIP, b"", MembershipRecord(0, None, change))
    ledger.block()
    return change


def boundary(ledger: Ledger, next_valset_hash: bytes) -> ExecutableBlock:
    block = ledger.executable()
    return msgspec.structs.replace(block, digest=DIGEST, next_valset_hash=next_valset_hash)


def test_epoch_0_is_that_of_the_genesis() -> None:
    ledger = Ledger()
    number, record = current_epoch(ledger.state)
    assert (number, record.first_height, record.began_ms) == (0, 1, ledger.genesis.time_ms)
    assert record.validator_set(0) == ledger.genesis.validator_set()
    assert record.seed == epoch_seed(ledger.genesis.chain_id)
    assert approved_change(ledger.state) is None


def test_the_boundary_block_begins_the_next_epoch() -> None:
    ledger = Ledger()
    change = approved(ledger)
    block = boundary(ledger, change.next_valset_hash)
    ledger.store.commit(ledger.execution.run(block).writes)
    number, record = current_epoch(ledger.state)
    assert (number, record.first_height, record.began_ms) == (1, block.height + 1, block.timestamp_ms)
    assert record.members == next_seats()
    assert record.seed == int.from_bytes(DIGEST[:8], "big")
    assert record.validator_set(1).hash == change.next_valset_hash
    assert membership(ledger.state) == MembershipRecord(1)
    assert find_epoch(ledger.state, 0) == ledger.genesis.epoch_record()
    assert find_epoch(ledger.state, 2) is None


def test_a_block_that_is_no_boundary_leaves_the_change_as_it_is() -> None:
    ledger = Ledger()
    change = approved(ledger)
    ledger.block()
    assert approved_change(ledger.state) == change
    assert current_epoch(ledger.state)[0] == 0


def test_invalid_boundary_without_a_change_or_for_another_set() -> None:
    ledger = Ledger()
    with pytest.raises(InvariantViolated, match="no change was approved"):
        ledger.execution.run(boundary(ledger, bytes(32)))
    ledger = Ledger()
    approved(ledger)
    with pytest.raises(InvariantViolated, match="another next set"):
        ledger.execution.run(boundary(ledger, bytes(32)))


def test_a_change_is_held_from_its_approval_on() -> None:
    change = ApprovedChange(0, 7, b"p" * 16, next_seats())
    assert [held_at(change, height) for height in (6, 7, 8)] == [False, True, True]
    assert not held_at(None, 8)


def test_a_member_without_a_key_is_hashed_as_zeros_and_counts() -> None:
    seats = next_seats()
    members = tuple(Validator(seat.organisation, seat.consensus_key) for seat in seats)
    zeros = tuple(Validator(member.id, member.public_key or NO_KEY) for member in members)
    assert valset_hash(1, members) == valset_hash(1, zeros)
    assert valset_hash(1, members) != valset_hash(1, members[:2])
    assert ValidatorSet(1, (*members, Validator("zebra", b"")), 0, b"").quorum == 3


def test_invalid_state_without_genesis() -> None:
    state = State.open(MemoryStateStore())
    with pytest.raises(InvariantViolated):
        membership(state)
    state.put(MEMBERSHIP, b"", MembershipRecord(3))
    with pytest.raises(InvariantViolated, match="epoch 3"):
        current_epoch(state)
