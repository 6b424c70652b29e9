"""Money: exact text to minor units and back."""

from __future__ import annotations

import pytest

from ledger.money import AMOUNT_MINOR_MAX, MINOR_DIGITS, MoneyError, parse, render, to_minor


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("0", 0),
        ("1", 100),
        ("1.005", 100),
        ("1.015", 102),
        ("2.675", 268),
        ("1.0050000001", 101),
        ("-1.005", -100),
        ("1234567.89", 123_456_789),
        (" 7.5 ", 750),
        ("1e3", 100_000),
        ("90071992547409.91", AMOUNT_MINOR_MAX),
    ],
)
def test_decimal_text_rounds_half_even(text: str, minor: int) -> None:
    assert to_minor(text, 2) == minor


@pytest.mark.parametrize("text", ["", "abc", "NaN", "Infinity", "1,5", "1e400", "90071992547409.92", "--1", "1 2"])
def test_invalid_amounts(text: str) -> None:
    with pytest.raises(MoneyError):
        to_minor(text, 2)


@pytest.mark.parametrize(
    ("text", "minor", "currency"),
    [
        ("1234.56 USD", 123_456, "USD"),
        ("1,234.50 usd", 123_450, "USD"),
        ("15 JPY", 15, "JPY"),
        ("1.234 BHD", 1234, "BHD"),
    ],
)
def test_amounts_with_their_currency(text: str, minor: int, currency: str) -> None:
    assert parse(text) == (minor, currency)


@pytest.mark.parametrize("text", ["1234.56", "1.234 USD", "1.5 JPY", "1 XYZ", "USD 1", "1 USD now", "x USD", ""])
def test_invalid_amounts_with_their_currency(text: str) -> None:
    with pytest.raises(MoneyError):
        parse(text)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (123_456_789, "USD", "1,234,567.89 USD"),
        (5, "USD", "0.05 USD"),
        (-5, "USD", "-0.05 USD"),
        (1234, "JPY", "1,234 JPY"),
        (1234, "KWD", "1.234 KWD"),
    ],
)
def test_amounts_are_shown_with_separators(minor: int, currency: str, text: str) -> None:
    assert render(minor, currency) == text


@pytest.mark.parametrize("currency", MINOR_DIGITS)
def test_what_is_shown_is_read_back(currency: str) -> None:
    assert parse(render(AMOUNT_MINOR_MAX, currency)) == (AMOUNT_MINOR_MAX, currency)
    assert len(currency) == 3
