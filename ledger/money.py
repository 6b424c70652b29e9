"""Money as text and as integer minor units; the minor digits of ISO 4217.

The ledger itself counts minor units only. Text is for people and files, and is read through
``decimal``, never through a float: binary fractions put the Home total of the demonstration data
one cent off.
"""

from __future__ import annotations

import decimal
from typing import Final

AMOUNT_MINOR_MAX: Final = (1 << 53) - 1  #: every reader of JSON represents it exactly; nine thousand billion cents

_CONTEXT: Final = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN)

_TWO_DIGITS: Final = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC "
    "CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR "
    "JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD "
    "NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN "
    "SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_NO_DIGITS: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DIGITS: Final = "BHD IQD JOD KWD LYD OMR TND"

MINOR_DIGITS: Final[dict[str, int]] = {
    code: digits for digits, codes in ((2, _TWO_DIGITS), (0, _NO_DIGITS), (3, _THREE_DIGITS)) for code in codes.split()
}
"""Active ISO 4217 codes of currencies in circulation; a network allows a subset of them (its parameters)."""


class MoneyError(ValueError):
    """Text that is no amount; says what would be."""


def to_minor(text: str, digits: int) -> int:
    """Minor units of a decimal number as text, rounded half-even to ``digits`` places.

    Raises:
        MoneyError: not a plain decimal number, or beyond ``AMOUNT_MINOR_MAX``.
    """
    try:
        number = decimal.Decimal(text.strip())
        if not number.is_finite() or abs(number) > AMOUNT_MINOR_MAX:
            raise MoneyError(f"{text!r} is not an amount this ledger can hold")
        minor = int(_CONTEXT.quantize(number, decimal.Decimal(1).scaleb(-digits)).scaleb(digits, _CONTEXT))
    except decimal.InvalidOperation as error:
        raise MoneyError(f"{text!r} is not an amount: write it like 1234.56") from error
    if abs(minor) > AMOUNT_MINOR_MAX:
        raise MoneyError(f"{text!r} is more than this ledger can hold in one amount")
    return minor


def parse(text: str) -> tuple[int, str]:
    """(minor units, currency) of text like ``1234.56 USD``; exact, nothing is rounded away.

    Raises:
        MoneyError: not that form, unknown currency, or more decimals than the currency has.
    """
    parts = text.split()
    if len(parts) != 2:
        raise MoneyError(f"{text!r} is not an amount with its currency: write it like 1234.56 USD")
    number, currency = parts[0].replace(",", ""), parts[1].upper()
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        raise MoneyError(f"{currency} is not an ISO 4217 currency")
    minor = to_minor(number, digits)
    if decimal.Decimal(number) != decimal.Decimal(minor).scaleb(-digits, _CONTEXT):
        raise MoneyError(f"{currency} has {digits} decimals: {text!r} has more")
    return minor, currency


def render(minor: int, currency: str) -> str:
    """``1,234.56 USD``; minor units are shown as they are where the currency is unknown."""
    digits = MINOR_DIGITS.get(currency, 0)
    whole, part = divmod(abs(minor), 10**digits)
    sign = "-" if minor < 0 else ""
    fraction = f".{part:0{digits}d}" if digits else ""
    return f"{sign}{whole:,}{fraction} {currency}"
