"""The claim contract: its path, its guards, and that a refusal leaves the claim as it was."""

from __future__ import annotations

import pytest

from contracts.records import CLAIMS, ClaimRecord, ClaimState
from ledger import operations as ops
from ledger.codes import Code
from ledger.money import AMOUNT_MINOR_MAX
from tests.support.insurers import (
    ALL_DESKS,
    CLAIM,
    DEDUCTIBLE,
    END,
    FIRST,
    INSURERS,
    LIMIT,
    LOSS,
    START,
    SUPERVISOR,
    TODAY_DAYS,
    Ledger,
    Organisation,
    claim_notify,
    claim_path,
    policy_issue,
)

PAYABLE = LIMIT - DEDUCTIBLE
FOUR_EYES = 10_000_000  # 100,000.00, strictly above

STATES = ("NOTIFIED", "REGISTERED", "ASSESSED", "PAYMENT_DUE", "PAID", "CLOSED")


def at(state: str, amount_minor: int = 80_000, approved_minor: int | None = None) -> Ledger:
    """A ledger with the ordinary policy and a claim in this state."""
    ledger = Ledger()
    steps = [claim_notify(), *claim_path(amount_minor, approved_minor=approved_minor)]
    receipt = ledger.submit(policy_issue(), *steps[: STATES.index(state) + 1])
    assert receipt.code == Code.OK
    assert claim_of(ledger).state == ClaimState[state]
    return ledger


def claim_of(ledger: Ledger) -> ClaimRecord:
    claim = ledger.state.get(CLAIMS, CLAIM)
    assert claim is not None
    return claim


def refused(
    ledger: Ledger, operation: ops.Operation, desks: tuple[str, ...] = ALL_DESKS, by: Organisation = FIRST
) -> int:
    """The code of an operation that must change nothing."""
    before = ledger.state.get(CLAIMS, CLAIM)
    code = ledger.code(operation, desks=desks, by=by)
    assert code != Code.OK
    assert ledger.state.get(CLAIMS, CLAIM) == before
    return code


# -- the path ----------------------------------------------------------------------------------


def test_a_paid_claim_goes_from_notified_to_closed_and_keeps_every_step() -> None:
    claim = claim_of(at("CLOSED"))
    assert [ClaimState(step.state).name for step in claim.history] == [
        "NOTIFIED",
        "REGISTERED",
        "ASSESSED",
        "APPROVED",
        "PAYMENT_DUE",
        "PAID",
        "CLOSED",
    ]
    assert [step.date_days - LOSS for step in claim.history] == [1, 2, 3, 4, 4, 5, 6]
    assert (claim.assessed_minor, claim.approved_minor, claim.paid_minor) == (80_000, 80_000, 80_000)
    assert claim.date_of(ClaimState.APPROVED, ClaimState.PARTIALLY_APPROVED) == LOSS + 4
    assert claim.date_of(ClaimState.DECLINED) is None


@pytest.mark.parametrize(
    ("state", "outstanding", "paid"),
    [
        ("NOTIFIED", 0, 0),
        ("REGISTERED", 0, 0),
        ("ASSESSED", 80_000, 0),
        ("PAYMENT_DUE", 60_000, 0),
        ("PAID", 0, 60_000),
        ("CLOSED", 0, 60_000),
    ],
)
def test_the_case_reserve_moves_with_each_step(state: str, outstanding: int, paid: int) -> None:
    claim = claim_of(at(state, approved_minor=60_000))
    assert (claim.outstanding_minor, claim.paid_minor) == (outstanding, paid)
    assert claim.incurred_minor == outstanding + paid


def test_less_than_assessed_is_partially_approved() -> None:
    claim = claim_of(at("PAYMENT_DUE", approved_minor=79_999))
    assert [ClaimState(step.state).name for step in claim.history[-2:]] == ["PARTIALLY_APPROVED", "PAYMENT_DUE"]


@pytest.mark.parametrize(("assessed", "state"), [(0, ClaimState.APPROVED), (1, ClaimState.PARTIALLY_APPROVED)])
def test_with_nothing_payable_an_approval_leads_to_close(assessed: int, state: ClaimState) -> None:
    ledger = at("ASSESSED", amount_minor=assessed)
    assert ledger.code(ops.ClaimApprove(CLAIM, LOSS + 4, 0)) == Code.OK
    assert claim_of(ledger).state == state
    assert refused(ledger, ops.ClaimPay(CLAIM, LOSS + 5, 1, "USD")) == Code.ILLEGAL_TRANSITION
    assert ledger.code(ops.ClaimClose(CLAIM, LOSS + 5)) == Code.OK


def test_a_declined_claim_reserves_nothing_and_closes() -> None:
    ledger = at("ASSESSED")
    assert ledger.code(ops.ClaimDecline(CLAIM, LOSS + 4, ops.DeclineReason.NOT_LIABLE)) == Code.OK
    claim = claim_of(ledger)
    assert (claim.state, claim.decline_reason) == (ClaimState.DECLINED, ops.DeclineReason.NOT_LIABLE)
    assert (claim.outstanding_minor, claim.incurred_minor) == (0, 0)
    assert ledger.code(ops.ClaimClose(CLAIM, LOSS + 4)) == Code.OK


def test_all_of_limit_less_deductible_can_be_paid() -> None:
    assert claim_of(at("CLOSED", amount_minor=PAYABLE)).paid_minor == PAYABLE


def test_all_steps_may_bear_the_date_of_the_loss() -> None:
    ledger = Ledger()
    steps: list[ops.Operation] = [
        ops.ClaimRegister(CLAIM, LOSS),
        ops.ClaimAssess(CLAIM, LOSS, 1),
        ops.ClaimApprove(CLAIM, LOSS, 1),
        ops.ClaimPay(CLAIM, LOSS, 1, "USD"),
        ops.ClaimClose(CLAIM, LOSS),
    ]
    assert ledger.submit(policy_issue(), claim_notify(asserted_date_days=LOSS), *steps).code == Code.OK


def test_a_step_may_bear_the_date_of_the_block() -> None:
    ledger = at("NOTIFIED")
    assert ledger.code(ops.ClaimRegister(CLAIM, TODAY_DAYS)) == Code.OK


# -- notify ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"claim_id": bytes(15)}, Code.BAD_ID),
        ({"policy_id": b"x"}, Code.BAD_ID),
        ({"policy_id": bytes(16)}, Code.UNKNOWN_POLICY),
        ({"loss_date_days": START - 1}, Code.LOSS_OUTSIDE_PERIOD),
        ({"loss_date_days": END + 1, "asserted_date_days": END + 2}, Code.LOSS_OUTSIDE_PERIOD),
        ({"asserted_date_days": LOSS - 1}, Code.DATES_OUT_OF_ORDER),
        ({"asserted_date_days": TODAY_DAYS + 1}, Code.DATE_IN_FUTURE),
        ({"loss_date_days": TODAY_DAYS + 1, "asserted_date_days": TODAY_DAYS}, Code.DATES_OUT_OF_ORDER),
        ({"loss_date_days": -(1 << 31)}, Code.DATE_OUT_OF_RANGE),
        ({"asserted_date_days": (1 << 31) - 1}, Code.DATE_OUT_OF_RANGE),
    ],
)
def test_invalid_notifications(changes: dict[str, object], code: Code) -> None:
    ledger = Ledger()
    ledger.submit(policy_issue())
    assert refused(ledger, claim_notify(**changes)) == code


@pytest.mark.parametrize("day", [START, END])
def test_first_and_last_day_of_the_period_are_covered(day: int) -> None:
    ledger = Ledger()
    ledger.submit(policy_issue())
    assert ledger.code(claim_notify(loss_date_days=day, asserted_date_days=day)) == Code.OK


def test_invalid_with_a_claim_id_that_is_taken() -> None:
    ledger = at("ASSESSED")
    assert refused(ledger, claim_notify()) == Code.DUPLICATE_ID


def test_one_policy_may_have_several_claims() -> None:
    ledger = at("CLOSED")
    assert ledger.code(claim_notify(claim_id=b"claim-0000000002")) == Code.OK


# -- transitions -------------------------------------------------------------------------------

OPERATIONS: dict[str, ops.Operation] = {
    "register": ops.ClaimRegister(CLAIM, TODAY_DAYS),
    "assess": ops.ClaimAssess(CLAIM, TODAY_DAYS, 80_000),
    "approve": ops.ClaimApprove(CLAIM, TODAY_DAYS, 80_000),
    "decline": ops.ClaimDecline(CLAIM, TODAY_DAYS, 1),
    "pay": ops.ClaimPay(CLAIM, TODAY_DAYS, 80_000, "USD"),
    "close": ops.ClaimClose(CLAIM, TODAY_DAYS),
}
LEGAL = {
    "NOTIFIED": {"register"},
    "REGISTERED": {"assess"},
    "ASSESSED": {"approve", "decline"},
    "PAYMENT_DUE": {"pay"},
    "PAID": {"close"},
    "CLOSED": set[str](),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_only_the_legal_steps_are_taken_from_each_state(state: str, name: str) -> None:
    ledger = at(state)
    if name in LEGAL[state]:
        assert ledger.code(OPERATIONS[name]) == Code.OK
    else:
        assert refused(ledger, OPERATIONS[name]) == Code.ILLEGAL_TRANSITION


@pytest.mark.parametrize("name", OPERATIONS)
def test_invalid_on_a_claim_that_is_not_there(name: str) -> None:
    ledger = Ledger()
    ledger.submit(policy_issue())
    assert refused(ledger, OPERATIONS[name]) == Code.UNKNOWN_CLAIM


# -- authority ---------------------------------------------------------------------------------

STATE_BEFORE = {
    "register": "NOTIFIED",
    "assess": "REGISTERED",
    "approve": "ASSESSED",
    "decline": "ASSESSED",
    "pay": "PAYMENT_DUE",
    "close": "PAID",
}
DESKS = {
    "register": {"handler"},
    "assess": {"handler", "adjuster"},
    "approve": {"handler"},
    "decline": {"handler"},
    "pay": {"finance"},
    "close": {"handler"},
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("desk", ["underwriter", "handler", "adjuster", "finance", "auditor"])
def test_each_step_takes_its_role(name: str, desk: str) -> None:
    ledger = at(STATE_BEFORE[name])
    if desk in DESKS[name]:
        assert ledger.code(OPERATIONS[name], desks=(desk,)) == Code.OK
    else:
        assert refused(ledger, OPERATIONS[name], desks=(desk,)) == Code.WRONG_ROLE


@pytest.mark.parametrize("name", OPERATIONS)
def test_invalid_on_another_insurers_claim(name: str) -> None:
    ledger = at(STATE_BEFORE[name])
    assert refused(ledger, OPERATIONS[name], by=INSURERS[1]) == Code.NOT_YOURS


@pytest.mark.parametrize("name", OPERATIONS)
def test_invalid_for_a_supervisor(name: str) -> None:
    ledger = at(STATE_BEFORE[name])
    assert refused(ledger, OPERATIONS[name], by=SUPERVISOR) == Code.WRONG_KIND


def test_invalid_under_another_insurers_policy() -> None:
    ledger = Ledger()
    ledger.submit(policy_issue())
    assert refused(ledger, claim_notify(), by=INSURERS[1]) == Code.NOT_YOURS
    assert refused(ledger, claim_notify(), by=SUPERVISOR) == Code.WRONG_KIND
    assert refused(ledger, claim_notify(), desks=("underwriter",)) == Code.WRONG_ROLE


def test_one_pair_of_eyes_is_enough_at_the_amount_and_two_are_needed_above() -> None:
    exact = at("ASSESSED", amount_minor=FOUR_EYES)
    assert exact.code(ops.ClaimApprove(CLAIM, LOSS + 4, FOUR_EYES), desks=("handler",)) == Code.OK
    assert exact.code(ops.ClaimPay(CLAIM, LOSS + 5, FOUR_EYES, "USD"), desks=("finance",)) == Code.OK
    above = at("ASSESSED", amount_minor=FOUR_EYES + 1)
    approve, pay = ops.ClaimApprove(CLAIM, LOSS + 4, FOUR_EYES + 1), ops.ClaimPay(CLAIM, LOSS + 5, FOUR_EYES + 1, "USD")
    assert refused(above, approve, desks=("handler",)) == Code.FOUR_EYES_REQUIRED
    assert refused(above, approve, desks=("handler", "finance", "adjuster")) == Code.FOUR_EYES_REQUIRED
    assert above.code(approve, desks=("handler", "handler-2")) == Code.OK
    assert refused(above, pay, desks=("finance",)) == Code.FOUR_EYES_REQUIRED
    assert refused(above, pay, desks=("finance", "handler", "handler-2")) == Code.FOUR_EYES_REQUIRED
    assert refused(above, pay, desks=("handler", "handler-2")) == Code.WRONG_ROLE
    assert above.code(pay, desks=("finance-2", "finance")) == Code.OK


# -- dates and amounts -------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    ("day", "code"),
    [
        (LOSS, Code.DATES_OUT_OF_ORDER),
        (TODAY_DAYS + 1, Code.DATE_IN_FUTURE),
        (-(1 << 31), Code.DATE_OUT_OF_RANGE),
        ((1 << 31) - 1, Code.DATE_OUT_OF_RANGE),
    ],
)
def test_invalid_dates(name: str, day: int, code: Code) -> None:
    operation = OPERATIONS[name]
    fields = {field: getattr(operation, field) for field in operation.__struct_fields__}
    changed = type(operation)(**(fields | {"asserted_date_days": day}))
    assert refused(at(STATE_BEFORE[name]), changed) == code


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        (-1, Code.NEGATIVE_AMOUNT),
        (AMOUNT_MINOR_MAX + 1, Code.AMOUNT_TOO_LARGE),
        (-(1 << 63), Code.NEGATIVE_AMOUNT),
        (PAYABLE + 1, Code.PAYMENT_ABOVE_LIMIT),
    ],
)
def test_invalid_assessments(amount: int, code: Code) -> None:
    assert refused(at("REGISTERED"), ops.ClaimAssess(CLAIM, LOSS + 3, amount)) == code


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        (-1, Code.NEGATIVE_AMOUNT),
        (AMOUNT_MINOR_MAX + 1, Code.AMOUNT_TOO_LARGE),
        (80_001, Code.ASSESSED_EXCEEDED),
        (PAYABLE + 1, Code.ASSESSED_EXCEEDED),
    ],
)
def test_invalid_approvals(amount: int, code: Code) -> None:
    assert refused(at("ASSESSED"), ops.ClaimApprove(CLAIM, LOSS + 4, amount)) == code


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (-1, "USD", Code.NEGATIVE_AMOUNT),
        (0, "USD", Code.ZERO_AMOUNT),
        (AMOUNT_MINOR_MAX + 1, "USD", Code.AMOUNT_TOO_LARGE),
        (PAYABLE + 1, "USD", Code.PAYMENT_ABOVE_LIMIT),
        (79_999, "USD", Code.AMOUNT_NOT_DUE),
        (80_001, "USD", Code.AMOUNT_NOT_DUE),
        (80_000, "EUR", Code.CURRENCY_MISMATCH),
        (80_000, "XAU", Code.UNKNOWN_CURRENCY),
        (80_000, "", Code.UNKNOWN_CURRENCY),
    ],
)
def test_invalid_payments(amount: int, currency: str, code: Code) -> None:
    assert refused(at("PAYMENT_DUE"), ops.ClaimPay(CLAIM, LOSS + 5, amount, currency)) == code


@pytest.mark.parametrize("reason", [0, 3, -1])
def test_invalid_reasons_for_declining(reason: int) -> None:
    assert refused(at("ASSESSED"), ops.ClaimDecline(CLAIM, LOSS + 4, reason)) == Code.UNKNOWN_REASON


def test_the_policy_is_what_claims_are_held_against() -> None:
    ledger = Ledger()
    ledger.submit(policy_issue(policy_id=b"another-policy-2", limit_minor=2_000, deductible_minor=500))
    ledger.submit(claim_notify(policy_id=b"another-policy-2"), ops.ClaimRegister(CLAIM, LOSS + 2))
    assert refused(ledger, ops.ClaimAssess(CLAIM, LOSS + 3, 1_501)) == Code.PAYMENT_ABOVE_LIMIT
    assert ledger.code(ops.ClaimAssess(CLAIM, LOSS + 3, 1_500)) == Code.OK
