"""Execution: order of checks, receipts, replay, atomicity, faults, heads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contracts.dispatch import CONTRACTS
from contracts.records import CLAIMS, POLICIES
from ledger import operations as ops
from ledger.codes import Code
from ledger.contract import Context, Refused
from ledger.execution import HEADS, REPLAY_DROPS_MIN, REPLAY_DROPS_PER_ENVELOPE, REPLAYS, ExecutableBlock
from ledger.invariant import InvariantViolated
from ledger.parameters import PARAMETERS, activation_key
from ledger.ports import CorruptStore
from ledger.wire import decode_receipt
from tests.support.insurers import (
    CLAIM,
    FIRST,
    INSURERS,
    LOSS,
    POLICY,
    START,
    Ledger,
    claim_notify,
    key_of,
    policy_issue,
)

DAY_MS = 86_400_000


def numbered(number: int) -> ops.PolicyIssue:
    return policy_issue(policy_id=number.to_bytes(16, "big"))


# -- receipts ----------------------------------------------------------------------------------


def test_every_listed_envelope_has_one_receipt_in_order_of_listing() -> None:
    ledger = Ledger()
    first, second, third = (ledger.envelope([numbered(i)]) for i in range(3))
    result = ledger.block([first, second], [third])
    assert [r.envelope_id for r in result.receipts] == [first.id, second.id, third.id]
    assert [(r.index, r.position, r.height) for r in result.receipts] == [(0, 0, 1), (1, 1, 1), (2, 2, 1)]
    later = ledger.block([ledger.envelope([numbered(3)])])
    assert [(r.index, r.position, r.height) for r in later.receipts] == [(0, 3, 2)]
    assert decode_receipt(later.receipts[0].raw) == later.receipts[0]
    assert ledger.state.receipt_blob(3) == later.receipts[0].raw


def test_each_operation_has_its_code_and_a_refused_one_stops_no_other() -> None:
    ledger = Ledger()
    receipt = ledger.submit(policy_issue(), policy_issue(), claim_notify(), ops.ClaimClose(CLAIM, LOSS + 2))
    assert receipt.code == Code.OPERATIONS_FAILED
    assert receipt.operation_codes == (Code.OK, Code.DUPLICATE_ID, Code.OK, Code.ILLEGAL_TRANSITION)


def test_an_empty_block_changes_no_root() -> None:
    ledger = Ledger()
    before = ledger.block([ledger.envelope([policy_issue()])])
    after = ledger.block()
    assert (after.state_root, after.receipts_root) == (before.state_root, before.receipts_root)
    assert after.receipts == ()


def test_outcomes_carry_what_the_operations_left() -> None:
    ledger = Ledger()
    result = ledger.block([ledger.envelope([policy_issue(), policy_issue(), claim_notify()])])
    (outcome,) = result.outcomes
    assert outcome.receipt is result.receipts[0]
    assert outcome.events == (ledger.state.get(POLICIES, POLICY), ledger.state.get(CLAIMS, CLAIM))


# -- the envelope as a whole -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead_ms", "code"),
    [(-1, Code.EXPIRED), (0, Code.OK), (DAY_MS, Code.OK), (DAY_MS + 1, Code.NOT_AFTER_TOO_FAR)],
)
def test_an_envelope_executes_from_max_ahead_before_its_not_after_until_it(ahead_ms: int, code: Code) -> None:
    ledger = Ledger()
    envelope = ledger.envelope([policy_issue()], not_after_ms=ledger.time_ms + 1000 + ahead_ms)
    receipt = ledger.block([envelope], after_ms=1000).receipts[0]
    assert receipt.code == code
    assert (ledger.state.get(POLICIES, POLICY) is not None) == (code == Code.OK)
    assert receipt.operation_codes == ((Code.OK,) if code == Code.OK else ())


def test_a_replay_is_answered_with_the_position_of_the_first_receipt() -> None:
    ledger = Ledger()
    other, envelope = ledger.envelope([numbered(1)]), ledger.envelope([policy_issue()])
    ledger.block([other, envelope])
    receipt = ledger.block([envelope]).receipts[0]
    assert (receipt.code, receipt.original_position_plus_1) == (Code.REPLAYED, 2)
    assert receipt.operation_codes == ()


def test_listed_twice_in_one_block_an_envelope_executes_once() -> None:
    ledger = Ledger()
    envelope = ledger.envelope([policy_issue()])
    first, second = ledger.block([envelope], [envelope]).receipts
    assert (first.code, first.original_position_plus_1) == (Code.OK, 0)
    assert (second.code, second.original_position_plus_1) == (Code.REPLAYED, 1)


def test_a_refused_envelope_is_remembered_too() -> None:
    ledger = Ledger()
    envelope = ledger.envelope([policy_issue(limit_minor=-1)])
    assert ledger.block([envelope]).receipts[0].code == Code.OPERATIONS_FAILED
    assert ledger.block([envelope]).receipts[0].code == Code.REPLAYED


def test_until_it_expires_a_replay_is_known_and_afterwards_it_is_expired() -> None:
    ledger = Ledger()
    envelope = ledger.envelope([policy_issue()], not_after_ms=ledger.time_ms + 120_000)
    codes = [ledger.block([envelope], after_ms=step).receipts[0].code for step in (1_000, 60_000, 59_000, 1, 60_000)]
    assert codes == [Code.OK, Code.REPLAYED, Code.REPLAYED, Code.EXPIRED, Code.EXPIRED]


def test_lapsed_ids_are_forgotten_a_bounded_number_a_block() -> None:
    ledger = Ledger()
    ledger.block([ledger.envelope([numbered(i)], not_after_ms=ledger.time_ms + 2_000) for i in range(50)])
    ledger.time_ms += 120_000
    left: list[int] = []
    for i in range(100, 104):
        ledger.block([ledger.envelope([numbered(i)])])
        left.append(len(list(ledger.state.iterate(REPLAYS))) - len(left) - 1)
    quota = REPLAY_DROPS_MIN + REPLAY_DROPS_PER_ENVELOPE
    assert left == [50 - quota, 50 - 2 * quota, 0, 0]


def test_invalid_from_an_organisation_that_is_not_registered() -> None:
    ledger = Ledger()
    envelope = ledger.envelope([policy_issue()], organisation="insurer-9")
    assert ledger.block([envelope]).receipts[0].code == Code.UNKNOWN_ORGANISATION


def test_invalid_with_a_key_that_is_not_registered() -> None:
    ledger = Ledger()
    envelope = ledger.envelope([policy_issue()], keys=[FIRST.desks["underwriter"], key_of("stranger")])
    receipt = ledger.block([envelope]).receipts[0]
    assert (receipt.code, receipt.operation_codes) == (Code.KEY_NOT_REGISTERED, ())


def test_invalid_with_a_key_of_another_organisation() -> None:
    ledger = Ledger()
    envelope = ledger.envelope([policy_issue()], keys=[FIRST.desks["underwriter"], INSURERS[1].desks["underwriter"]])
    assert ledger.block([envelope]).receipts[0].code == Code.KEY_OF_ANOTHER_ORGANISATION
    assert ledger.state.get(POLICIES, POLICY) is None


def test_invalid_with_an_organisations_consensus_or_ledger_key() -> None:
    ledger = Ledger()
    assert FIRST.consensus_key is not None
    for key in (FIRST.consensus_key, FIRST.ledger_key):
        assert ledger.block([ledger.envelope([policy_issue()], keys=[key])]).receipts[0].code == Code.KEY_NOT_REGISTERED


# -- atomic ------------------------------------------------------------------------------------


def test_an_atomic_envelope_takes_effect_as_a_whole() -> None:
    ledger = Ledger()
    result = ledger.block([ledger.envelope([policy_issue(), claim_notify()], atomic=True)])
    assert result.receipts[0].code == Code.OK
    assert ledger.state.get(CLAIMS, CLAIM) is not None


def test_an_atomic_envelope_with_a_refused_operation_takes_no_effect() -> None:
    ledger = Ledger()
    operations: list[ops.Operation] = [policy_issue(), claim_notify(loss_date_days=START - 1), numbered(7)]
    result = ledger.block([ledger.envelope(operations, atomic=True)])
    receipt = result.receipts[0]
    assert receipt.code == Code.ATOMIC_FAILED
    assert receipt.operation_codes == (Code.ATOMIC_FAILED, Code.LOSS_OUTSIDE_PERIOD, Code.ATOMIC_FAILED)
    assert list(ledger.state.iterate(POLICIES)) == []
    assert result.outcomes[0].events == ()
    assert len(list(ledger.state.iterate(REPLAYS))) == 1


# -- faults ------------------------------------------------------------------------------------


def failing(error: Exception) -> Callable[[ops.ClaimNotify, Context], None]:
    def handler(operation: ops.ClaimNotify, context: Context) -> None:
        context.view.delete(POLICIES, operation.policy_id)
        context.emit(operation)
        raise error

    return handler


def with_notify(error: Exception) -> Ledger:
    ledger = Ledger(contracts={**CONTRACTS, ops.ClaimNotify: failing(error)})
    ledger.submit(policy_issue())
    return ledger


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ZeroDivisionError(), Code.CONTRACT_FAULT),
        (OverflowError(), Code.CONTRACT_FAULT),
        (KeyError("x"), Code.CONTRACT_FAULT),
        (ValueError(), Code.CONTRACT_FAULT),
        (TypeError(), Code.CONTRACT_FAULT),
        (Refused(Code.BAD_ID), Code.BAD_ID),
    ],
)
def test_a_failing_operation_leaves_no_trace_but_its_code(error: Exception, code: Code) -> None:
    ledger = with_notify(error)
    result = ledger.block([ledger.envelope([claim_notify(), numbered(9)])])
    assert result.receipts[0].operation_codes == (code, Code.OK)
    assert ledger.state.get(POLICIES, POLICY) is not None
    assert len(result.outcomes[0].events) == 1


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError(), OSError(28, "full"), CorruptStore("leaf 3"), InvariantViolated("x")]
)
def test_what_another_machine_might_not_suffer_stops_the_node(error: Exception) -> None:
    ledger = with_notify(error)
    with pytest.raises(type(error)):
        ledger.block([ledger.envelope([claim_notify()])])


def test_an_operation_of_a_later_version_is_refused_and_stops_no_other() -> None:
    ledger = Ledger(contracts={ops.PolicyIssue: CONTRACTS[ops.PolicyIssue]})
    receipt = ledger.submit(policy_issue(), claim_notify())
    assert receipt.operation_codes == (Code.OK, Code.UNKNOWN_OPERATION)


# -- blocks ------------------------------------------------------------------------------------


def test_the_last_listed_batch_of_each_origin_is_recorded() -> None:
    ledger = Ledger()
    ledger.block([ledger.envelope([numbered(1)])], [ledger.envelope([numbered(2)])])
    heads = {key.decode(): head.sequence for key, head in ledger.state.iterate(HEADS)}
    assert heads == {"insurer-1": 100, "insurer-2": 101}
    ledger.block([ledger.envelope([numbered(3)])])
    assert {key.decode(): head.sequence for key, head in ledger.state.iterate(HEADS)} == {
        "insurer-1": 200,
        "insurer-2": 101,
    }


def test_slices_and_a_whole_run_come_to_the_same_roots() -> None:
    whole, sliced = Ledger(), Ledger()
    envelopes = [whole.envelope([numbered(i)]) for i in range(3)]
    expected = whole.block(envelopes[:2], envelopes[2:])
    sliced.execution.begin(sliced.executable(envelopes[:2], envelopes[2:]))
    assert [sliced.execution.advance() for _ in range(3)] == [True, True, False]
    assert sliced.execution.busy
    result = sliced.execution.finish()
    assert (result.state_root, result.receipts_root) == (expected.state_root, expected.receipts_root)
    assert not sliced.execution.busy


@pytest.mark.parametrize("height", [0, 2])
def test_heights_follow_each_other(height: int) -> None:
    ledger = Ledger()
    with pytest.raises(InvariantViolated):
        ledger.execution.begin(ExecutableBlock(height, ledger.time_ms + 1, bytes(32), []))


def test_block_time_rises() -> None:
    ledger = Ledger()
    with pytest.raises(InvariantViolated):
        ledger.execution.begin(ExecutableBlock(1, ledger.time_ms, bytes(32), []))


def test_a_block_is_finished_once_and_only_when_all_is_executed() -> None:
    ledger = Ledger()
    with pytest.raises(InvariantViolated):
        ledger.execution.advance()
    with pytest.raises(InvariantViolated):
        ledger.execution.finish()


def test_parameters_come_from_the_state() -> None:
    ledger = Ledger()
    record = ledger.state.get(PARAMETERS, activation_key(0))
    assert record is not None
    assert record.parameters() == ledger.genesis.parameters
