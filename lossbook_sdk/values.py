"""What people write, as the ledger counts it: amounts, dates, ids. No float anywhere."""

from __future__ import annotations

import datetime
import re
import secrets
from collections.abc import Iterable
from typing import Final

import msgspec

from ledger.money import AMOUNT_MINOR_MAX, MINOR_DIGITS, render
from ledger.operations import DeclineReason, Line
from ledger.organisations import Role
from lossbook_sdk.errors import BadInput

ID_BYTES: Final = 16

_EPOCH: Final = datetime.date(1970, 1, 1)
_AMOUNT: Final = re.compile(r"(?P<sign>[-+]?)(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.(?P<part>[0-9]+))?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}")


class Amount(msgspec.Struct, frozen=True, order=True):
    """Money: integer minor units of an ISO 4217 currency."""

    minor: int
    currency: str

    def __str__(self) -> str:
        return render(self.minor, self.currency)


def parse_amount(text: str) -> Amount:
    """``1234.56 USD`` or ``1,234.56 USD``: zero or more, exact; nothing is rounded.

    Raises:
        BadInput: another form, a negative amount, more decimals than the currency has, or an unknown currency.
    """
    parts = text.split()
    number = _AMOUNT.fullmatch(parts[0]) if parts else None
    if len(parts) != 2 or number is None or not _CURRENCY.fullmatch(parts[1]):
        raise BadInput(
            f"{text!r} is not an amount with its currency", advice="Write it like 1234.56 USD, in quotation marks"
        )
    currency = parts[1].upper()
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        raise BadInput(f"{currency} is not an ISO 4217 currency", advice="Use a code such as USD or EUR")
    if number["sign"] == "-":
        raise BadInput(f"{text!r} is negative", advice="Amounts are zero or more")
    part = (number["part"] or "").rstrip("0")
    if len(part) > digits:
        raise BadInput(
            f"{text!r} has a fraction of {currency}'s smallest unit",
            advice=f"{currency} has {digits} decimals; round it yourself, the ledger never does",
        )
    minor = int(number["whole"].replace(",", "") + part.ljust(digits, "0"))
    if minor > AMOUNT_MINOR_MAX:
        raise BadInput(f"{text!r} is above the largest amount, {render(AMOUNT_MINOR_MAX, currency)}")
    return Amount(minor, currency)


def parse_date(text: str) -> int:
    """Days since 1970-01-01 of an ISO 8601 date.

    Raises:
        BadInput: not ``YYYY-MM-DD``, or no day of the calendar.
    """
    advice = "Write it like 2024-01-31"
    if not _DATE.fullmatch(text):  # fromisoformat also takes 20240131 and 2024-W05-3
        raise BadInput(f"{text!r} is not a date", advice=advice)
    try:
        return days_of(datetime.date.fromisoformat(text))
    except ValueError as error:
        raise BadInput(f"{text!r} is not a date of the calendar", advice=advice) from error


def days_of(date: datetime.date) -> int:
    """Days since 1970-01-01."""
    return (date - _EPOCH).days


def render_date(days: int) -> str:
    """ISO 8601; the number itself where it is outside the calendar."""
    try:
        return (_EPOCH + datetime.timedelta(days=days)).isoformat()
    except OverflowError:
        return str(days)


def render_time(milliseconds: int) -> str:
    """A block time as ISO 8601, UTC, to the second."""
    try:
        moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    except (OverflowError, OSError, ValueError):
        return str(milliseconds)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def new_id() -> bytes:
    """16 random bytes for a policy, claim or subject."""
    return secrets.token_bytes(ID_BYTES)


def parse_id(text: str, what: str = "id", length: int = ID_BYTES) -> bytes:
    """Bytes of an id in hex; dashes as in a UUID are ignored.

    Raises:
        BadInput: not so many hex digits.
    """
    try:
        found = bytes.fromhex(text.replace("-", "").strip())
    except ValueError:
        found = b""
    if len(found) != length:
        raise BadInput(f"{text!r} is no {what}", advice=f"Write the {what} as {2 * length} hex digits")
    return found


def parse_line(text: str) -> Line:
    """A line of business by name, e.g. ``home``; BadInput for another."""
    try:
        return Line[text.upper()]
    except KeyError as error:
        known = ", ".join(line.name.lower() for line in Line)
        raise BadInput(f"{text!r} is not a line of business", advice=f"Use one of {known}") from error


def parse_reason(text: str) -> DeclineReason:
    """A reason to decline by name, e.g. ``not-liable``; BadInput for another."""
    try:
        return DeclineReason[text.upper().replace("-", "_")]
    except KeyError as error:
        known = ", ".join(reason.name.lower().replace("_", "-") for reason in DeclineReason)
        raise BadInput(f"{text!r} is not a reason to decline", advice=f"Use one of {known}") from error


def parse_roles(names: Iterable[object]) -> int:
    """The sum of roles given by name, e.g. ``claims-handler``.

    Raises:
        BadInput: none, one twice, or an unknown one.
    """
    listed = list(names)
    found = [Role.from_slug(name) if isinstance(name, str) else None for name in listed]
    known = ", ".join(role.slug for role in Role)
    for name, role in zip(listed, found, strict=True):
        if role is None:
            raise BadInput(f"{name!r} is not a role", advice=f"Use one or more of {known}")
    roles = [role for role in found if role is not None]
    if not roles or len(set(roles)) != len(roles):
        raise BadInput("a key has one or more different roles", advice=f"Use one or more of {known}")
    return sum(roles)


def name_of_line(number: int) -> str:
    """``Home``; the number itself where this version does not know it."""
    try:
        return Line(number).name.capitalize()
    except ValueError:
        return str(number)
