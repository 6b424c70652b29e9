"""Checks that several contracts make: ids, dates, amounts. Each refuses with its code or returns."""

from __future__ import annotations

from typing import Final

from ledger.codes import Code
from ledger.contract import Context, Refused
from ledger.money import AMOUNT_MINOR_MAX
from ledger.parameters import CurrencyRule

ID_BYTES: Final = 16
DAYS_MIN: Final = -25_567  #: 1900-01-01: no policy in force is older
DAYS_MAX: Final = 2_932_896  #: 9999-12-31: the last day ISO 8601 writes with four digits


def check_id(value: bytes) -> None:
    """BAD_ID unless 16 bytes."""
    if len(value) != ID_BYTES:
        raise Refused(Code.BAD_ID)


def check_date(days: int) -> None:
    """DATE_OUT_OF_RANGE unless within 1900 to 9999."""
    if not DAYS_MIN <= days <= DAYS_MAX:
        raise Refused(Code.DATE_OUT_OF_RANGE)


def check_asserted_date(days: int, context: Context) -> None:
    """An asserted date is a date, and not after the date of the block (DATE_IN_FUTURE)."""
    check_date(days)
    if days > context.today_days:
        raise Refused(Code.DATE_IN_FUTURE)


def check_not_before(days: int, earlier_days: int) -> None:
    """DATES_OUT_OF_ORDER if a step is dated before the one it follows."""
    if days < earlier_days:
        raise Refused(Code.DATES_OUT_OF_ORDER)


def check_amount(minor: int) -> None:
    """NEGATIVE_AMOUNT or AMOUNT_TOO_LARGE; zero is an amount."""
    if minor < 0:
        raise Refused(Code.NEGATIVE_AMOUNT)
    if minor > AMOUNT_MINOR_MAX:
        raise Refused(Code.AMOUNT_TOO_LARGE)


def check_positive(minor: int) -> None:
    """As ``check_amount``, and ZERO_AMOUNT."""
    check_amount(minor)
    if minor == 0:
        raise Refused(Code.ZERO_AMOUNT)


def currency_rule(currency: str, context: Context) -> CurrencyRule:
    """The network's rule for a currency, or UNKNOWN_CURRENCY."""
    rule = context.parameters.currencies.get(currency)
    if rule is None:
        raise Refused(Code.UNKNOWN_CURRENCY)
    return rule
