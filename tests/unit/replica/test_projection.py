"""Totals by line and insurer, in memory."""

from __future__ import annotations

import msgspec

from ledger.operations import Line
from replica.projection import Projection, Report
from tests.support.insurers import INSURERS, Ledger, claim_notify, claim_path, policy_issue


def project(ledger: Ledger, *batches: list) -> Report:  # type: ignore[type-arg]
    result = ledger.block(*batches)
    return Projection().apply(result.height, ledger.time_ms, result.outcomes, 5)


def test_rows_are_kept_apart_by_line_insurer_and_currency_and_sorted() -> None:
    ledger = Ledger()
    report = project(
        ledger,
        [
            ledger.envelope([policy_issue(policy_id=b"a" * 16, line=Line.AUTO)], by=INSURERS[1]),
            ledger.envelope([policy_issue(policy_id=b"b" * 16)], by=INSURERS[1]),
            ledger.envelope([policy_issue(policy_id=b"c" * 16, currency="EUR")]),
            ledger.envelope([policy_issue(policy_id=b"d" * 16)]),
        ],
    )
    assert [(row.line_name, row.insurer, row.currency) for row in report.rows] == [
        ("Home", "insurer-1", "EUR"),
        ("Home", "insurer-1", "USD"),
        ("Home", "insurer-2", "USD"),
        ("Auto", "insurer-2", "USD"),
    ]


def test_a_claim_counts_when_notified_and_its_payment_when_paid() -> None:
    ledger = Ledger()
    report = project(ledger, [ledger.envelope([policy_issue(), claim_notify(), *claim_path(70_000)[:-1]])])
    (row,) = report.rows
    assert (row.policies, row.claims, row.paid_claims, row.paid_minor) == (1, 1, 1, 70_000)


def test_closing_a_paid_claim_does_not_count_it_again() -> None:
    ledger = Ledger()
    report = project(ledger, [ledger.envelope([policy_issue(), claim_notify(), *claim_path(70_000)])])
    assert report.rows[0].paid_claims == 1


def test_refused_operations_count_in_no_total() -> None:
    ledger = Ledger()
    atomic = ledger.envelope([policy_issue(policy_id=b"x" * 16), policy_issue(policy_id=b"x" * 16)], atomic=True)
    report = project(ledger, [ledger.envelope([policy_issue()]), ledger.envelope([policy_issue()]), atomic])
    assert report.rows[0].policies == 1
    assert (report.operations, report.envelopes, report.signatures) == (1, 3, 5)


def test_totals_go_on_from_a_stored_report() -> None:
    ledger = Ledger()
    first = project(ledger, [ledger.envelope([policy_issue()])])
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=Report)
    result = ledger.block([ledger.envelope([policy_issue(policy_id=b"y" * 16)])])
    second = Projection(stored).apply(result.height, ledger.time_ms, result.outcomes, 7)
    assert second.rows[0].policies == 2
    assert (second.operations, second.signatures, second.height) == (2, 12, 2)
