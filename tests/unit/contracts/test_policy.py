"""The policy contract: what it admits and what it refuses."""

from __future__ import annotations

import pytest

from contracts.records import POLICIES, PolicyState
from ledger.codes import Code
from ledger.money import AMOUNT_MINOR_MAX
from tests.support.insurers import (
    END,
    FIRST,
    INSURERS,
    LIMIT,
    POLICY,
    START,
    SUPERVISOR,
    TODAY_DAYS,
    Ledger,
    policy_issue,
)


def test_an_issued_policy_stands_as_stated_with_who_when_and_which_operation() -> None:
    ledger = Ledger()
    receipt = ledger.submit(policy_issue(), desks=["underwriter"])
    policy = ledger.state.get(POLICIES, POLICY)
    assert receipt.code == Code.OK
    assert policy is not None
    assert (policy.insurer, policy.state, policy.limit_minor) == (FIRST.id, PolicyState.ISSUED, LIMIT)
    assert (policy.period_start_days, policy.period_end_days, policy.premium_minor) == (START, END, 90_000)
    step = policy.history[0]
    assert (step.height, step.index, step.operation, step.time_ms) == (1, 0, 0, ledger.time_ms)


@pytest.mark.parametrize(
    "changes",
    [
        {"premium_minor": None},
        {"premium_minor": 0},
        {"deductible_minor": 0},
        {"deductible_minor": LIMIT - 1},
        {"limit_minor": AMOUNT_MINOR_MAX},
        {"period_end_days": START},
        {"period_end_days": START + 36_524},
        {"asserted_date_days": TODAY_DAYS},
        {"currency": "EUR"},
        {"period_start_days": TODAY_DAYS + 30, "period_end_days": TODAY_DAYS + 394},
    ],
)
def test_valid_policies(changes: dict[str, object]) -> None:
    assert Ledger().code(policy_issue(**changes)) == Code.OK


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"policy_id": b""}, Code.BAD_ID),
        ({"policy_id": bytes(15)}, Code.BAD_ID),
        ({"policy_id": bytes(17)}, Code.BAD_ID),
        ({"policy_id": bytes(1 << 19)}, Code.BAD_ID),
        ({"subject_id": bytes(8)}, Code.BAD_ID),
        ({"line": 0}, Code.UNKNOWN_LINE),
        ({"line": 99}, Code.UNKNOWN_LINE),
        ({"currency": ""}, Code.UNKNOWN_CURRENCY),
        ({"currency": "usd"}, Code.UNKNOWN_CURRENCY),
        ({"currency": "XXX"}, Code.UNKNOWN_CURRENCY),
        ({"currency": "CHF"}, Code.UNKNOWN_CURRENCY),
        ({"limit_minor": 0}, Code.ZERO_AMOUNT),
        ({"limit_minor": -1}, Code.NEGATIVE_AMOUNT),
        ({"limit_minor": AMOUNT_MINOR_MAX + 1}, Code.AMOUNT_TOO_LARGE),
        ({"limit_minor": (1 << 63) - 1}, Code.AMOUNT_TOO_LARGE),
        ({"deductible_minor": -1}, Code.NEGATIVE_AMOUNT),
        ({"deductible_minor": LIMIT}, Code.BAD_LIMIT),
        ({"deductible_minor": LIMIT + 1}, Code.BAD_LIMIT),
        ({"premium_minor": -1}, Code.NEGATIVE_AMOUNT),
        ({"premium_minor": AMOUNT_MINOR_MAX + 1}, Code.AMOUNT_TOO_LARGE),
        ({"period_end_days": START - 1}, Code.BAD_PERIOD),
        ({"period_end_days": START + 36_525}, Code.BAD_PERIOD),
        ({"period_start_days": -(1 << 31)}, Code.DATE_OUT_OF_RANGE),
        ({"period_end_days": (1 << 31) - 1}, Code.DATE_OUT_OF_RANGE),
        ({"asserted_date_days": TODAY_DAYS + 1}, Code.DATE_IN_FUTURE),
        ({"asserted_date_days": -(1 << 31)}, Code.DATE_OUT_OF_RANGE),
    ],
)
def test_invalid_policies(changes: dict[str, object], code: Code) -> None:
    ledger = Ledger()
    assert ledger.code(policy_issue(**changes)) == code
    assert list(ledger.state.iterate(POLICIES)) == []


@pytest.mark.parametrize("desks", [["handler"], ["finance"], ["adjuster"], ["auditor"], ["handler", "finance"]])
def test_invalid_without_the_underwriters_role(desks: list[str]) -> None:
    ledger = Ledger()
    assert ledger.code(policy_issue(), desks=desks) == Code.WRONG_ROLE
    assert ledger.state.get(POLICIES, POLICY) is None


def test_invalid_for_a_supervisor_whatever_its_keys_roles() -> None:
    ledger = Ledger()
    assert ledger.code(policy_issue(), by=SUPERVISOR) == Code.WRONG_KIND
    assert ledger.state.get(POLICIES, POLICY) is None


@pytest.mark.parametrize("again", INSURERS[:2])
def test_invalid_with_an_id_that_is_taken_by_whomever(again: object) -> None:
    ledger = Ledger()
    ledger.submit(policy_issue())
    before = ledger.state.get(POLICIES, POLICY)
    assert ledger.code(policy_issue(limit_minor=LIMIT + 1), by=again) == Code.DUPLICATE_ID  # type: ignore[arg-type]
    assert ledger.state.get(POLICIES, POLICY) == before
