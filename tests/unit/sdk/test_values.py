"""Amounts, dates and ids as people write them: exact, or refused with what would be right."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import AMOUNT_MINOR_MAX, MINOR_DIGITS, render
from ledger.operations import DeclineReason, Line
from lossbook_sdk.errors import BadInput
from lossbook_sdk.values import (
    Amount,
    parse_amount,
    parse_date,
    parse_id,
    parse_line,
    parse_reason,
    render_date,
    render_time,
)

CURRENCIES = st.sampled_from(sorted(MINOR_DIGITS))


@given(minor=st.integers(0, AMOUNT_MINOR_MAX), currency=CURRENCIES)
def test_what_is_shown_can_be_read_back(minor: int, currency: str) -> None:
    assert parse_amount(render(minor, currency)) == Amount(minor, currency)


@given(minor=st.integers(0, AMOUNT_MINOR_MAX), currency=CURRENCIES, zeros=st.integers(0, 6))
def test_plain_decimals_are_exact(minor: int, currency: str, zeros: int) -> None:
    digits = MINOR_DIGITS[currency]
    text = f"{Decimal(minor).scaleb(-digits):f}"
    text += "0" * zeros if "." in text else "." + "0" * zeros if zeros else ""
    assert parse_amount(f"{text} {currency.lower()}").minor == minor


@given(minor=st.integers(1, 10**9), currency=CURRENCIES, extra=st.integers(1, 9))
def test_fractions_of_the_smallest_unit_are_refused(minor: int, currency: str, extra: int) -> None:
    digits = MINOR_DIGITS[currency]
    text = f"{Decimal(minor * 10 + extra).scaleb(-digits - 1):f}"
    with pytest.raises(BadInput, match="smallest unit"):
        parse_amount(f"{text} {currency}")


@given(text=st.text(max_size=30))
def test_arbitrary_text_is_refused_or_exact(text: str) -> None:
    try:
        amount = parse_amount(text)
    except BadInput:
        return
    number, currency = text.split()
    assert currency.upper() == amount.currency
    assert Decimal(number.replace(",", "")) == Decimal(amount.minor).scaleb(-MINOR_DIGITS[amount.currency])


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("1234.56 USD", 123_456),
        ("1,234.56 USD", 123_456),
        ("0 USD", 0),
        ("1.5 KWD", 1_500),
        ("7 JPY", 7),
        ("+1 USD", 100),
    ],
)
def test_amounts(text: str, minor: int) -> None:
    assert parse_amount(text).minor == minor


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-1.00 USD", "negative"),
        ("1.005 USD", "smallest unit"),
        ("1.5 JPY", "smallest unit"),
        ("1.00 XYZ", "ISO 4217"),
        ("1.00", "currency"),
        ("USD 1.00", "currency"),
        ("1e3 USD", "currency"),
        ("1_000 USD", "currency"),
        ("1,00 USD", "currency"),
        ("٣ USD", "currency"),
        ("NaN USD", "currency"),
        ("inf USD", "currency"),
        ("", "currency"),
        ("90071992547409.92 USD", "largest"),
    ],
)
def test_bad_amounts_say_why(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse_amount(text)


@given(date=st.dates(datetime.date(1900, 1, 1), datetime.date(9999, 12, 31)))
def test_dates_round_trip(date: datetime.date) -> None:
    days = parse_date(date.isoformat())
    assert (datetime.date(1970, 1, 1) + datetime.timedelta(days=days)) == date
    assert render_date(days) == date.isoformat()


@pytest.mark.parametrize("text", ["2025-02-29", "20250131", "2025-W05-3", "31.1.2025", "2025-1-31", "", "tomorrow"])
def test_bad_dates_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not a date"):
        parse_date(text)


def test_what_lies_outside_the_calendar_is_shown_as_a_number() -> None:
    assert render_date(10**9) == str(10**9)
    assert render_time(10**18) == str(10**18)
    assert render_time(0) == "1970-01-01 00:00:00Z"


def test_ids_are_hex_with_or_without_dashes() -> None:
    assert parse_id("00112233-4455-6677-8899-aabbccddeeff").hex() == "00112233445566778899aabbccddeeff"
    with pytest.raises(BadInput, match="32 hex digits"):
        parse_id("0011")
    with pytest.raises(BadInput, match="no claim id"):
        parse_id("x" * 32, "claim id")


def test_lines_and_reasons_by_name() -> None:
    assert parse_line("Home") is Line.HOME
    assert parse_reason("not-liable") is DeclineReason.NOT_LIABLE
    with pytest.raises(BadInput, match="home, auto"):
        parse_line("marine")
    with pytest.raises(BadInput, match="below-deductible"):
        parse_reason("because")
