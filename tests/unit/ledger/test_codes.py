"""Codes: numbers that never change, and words for every one of them."""

from __future__ import annotations

import pytest

from ledger.codes import Code, advice, name, retryable, text
from tests.support.pages import read_page

PINNED = {
    "OK": 0,
    "EXPIRED": 1,
    "NOT_AFTER_TOO_FAR": 2,
    "REPLAYED": 3,
    "UNKNOWN_ORGANISATION": 4,
    "KEY_NOT_REGISTERED": 5,
    "KEY_OF_ANOTHER_ORGANISATION": 6,
    "ATOMIC_FAILED": 7,
    "OPERATIONS_FAILED": 8,
    "MALFORMED": 100,
    "TOO_LARGE": 101,
    "TOO_MANY_OPERATIONS": 102,
    "NO_OPERATIONS": 103,
    "WRONG_CHAIN": 104,
    "BAD_SIGNATURE": 105,
    "MISSING_SIGNATURE": 106,
    "BAD_SIGNERS": 107,
    "OVERLOADED": 110,
    "NOT_READY": 111,
    "READ_ONLY": 112,
    "NOT_VOTING": 113,
    "UNKNOWN_OPERATION": 200,
    "CONTRACT_FAULT": 201,
    "WRONG_KIND": 202,
    "WRONG_ROLE": 203,
    "FOUR_EYES_REQUIRED": 204,
    "NOT_YOURS": 205,
    "BAD_ID": 206,
    "DUPLICATE_ID": 207,
    "DATE_OUT_OF_RANGE": 208,
    "DATE_IN_FUTURE": 209,
    "DATES_OUT_OF_ORDER": 210,
    "NEGATIVE_AMOUNT": 211,
    "ZERO_AMOUNT": 212,
    "AMOUNT_TOO_LARGE": 213,
    "UNKNOWN_CURRENCY": 214,
    "CURRENCY_MISMATCH": 215,
    "UNKNOWN_POLICY": 300,
    "UNKNOWN_CLAIM": 301,
    "UNKNOWN_LINE": 302,
    "UNKNOWN_REASON": 303,
    "BAD_PERIOD": 304,
    "BAD_LIMIT": 305,
    "LOSS_OUTSIDE_PERIOD": 306,
    "ILLEGAL_TRANSITION": 307,
    "PAYMENT_ABOVE_LIMIT": 308,
    "ASSESSED_EXCEEDED": 309,
    "AMOUNT_NOT_DUE": 310,
    "NOT_A_VALIDATOR": 400,
    "WRONG_EPOCH": 401,
    "UNKNOWN_PROPOSAL": 402,
    "PROPOSAL_CLOSED": 403,
    "PROPOSAL_EXPIRED": 404,
    "ALREADY_VOTED": 405,
    "BAD_EXPIRY": 406,
    "BAD_CHANGE": 407,
    "BAD_CARD": 408,
    "KEY_TAKEN": 409,
    "KIND_CHANGED": 410,
    "ALREADY_IN_SET": 411,
    "NOT_IN_SET": 412,
    "NOT_SUSPENDED": 413,
    "SET_SIZE": 414,
    "EPOCH_ENDING": 415,
    "TOO_MANY_ORGANISATIONS": 416,
    "BAD_PARAMETER": 417,
    "BAD_ACTIVATION": 418,
    "BAD_KEY": 419,
    "UNKNOWN_KEY": 420,
    "LAST_ADMIN_KEY": 421,
    "TOO_MANY_KEYS": 422,
    "BAD_POSSESSION": 423,
    "TWO_ADMINS_REQUIRED": 424,
}


def test_numbers_are_part_of_the_protocol() -> None:
    assert {code.name: code.value for code in Code} == PINNED


@pytest.mark.parametrize("code", Code)
def test_every_code_says_what_happened_and_what_to_do(code: Code) -> None:
    assert text(code)
    assert "\n" not in text(code) + advice(code)
    assert advice(code) or code is Code.OK
    assert name(code) == code.name


def test_codes_of_a_later_version_can_be_shown() -> None:
    assert "9999" in text(9999)
    assert advice(9999)
    assert name(9999) == "9999"


def test_every_code_stands_in_the_documentation() -> None:
    rows = set(read_page("insurance.md").splitlines())
    wanted = [f"| {code.value} | {code.name} | {text(code)} | {advice(code)} |" for code in Code]
    assert [row for row in wanted if row not in rows] == []


def test_only_what_may_change_by_itself_is_worth_a_retry() -> None:
    elsewhere = {Code.OVERLOADED, Code.NOT_READY, Code.READ_ONLY, Code.NOT_VOTING}
    assert {code for code in Code if retryable(code)} == elsewhere
