"""The claims file: read with the standard library, and its totals computed without any of the ledger's code.

``prism.csv`` of the package ``chainladder`` (MPL-2.0): individual home and auto claims, 2008 to 2017. Dates are mixed,
ISO 8601 and month/day/year; amounts are decimal text with more places than cents. Each row is rounded half-even to
cents from that text, then summed: through floats the Home total comes out one cent off, and rounding the sum instead of
the rows gives six cents less.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import msgspec

from cli.base import Stop

PACKAGE: Final = "chainladder"
FILE_NAME: Final = "prism.csv"
HOW_TO_GET_IT: Final = (
    "Get it with `make demo`, or `pip install --no-deps chainladder==0.10.1` in the environment of lossbook; "
    "or give a CSV file with the same columns: `lossbook demo claims --claims-file PATH`"
)

COLUMNS: Final = (
    "ClaimNo",
    "AccidentDate",
    "ReportDate",
    "Line",
    "ClaimLiability",
    "Limit",
    "Deductible",
    "TotalPayment",
    "PaymentDate",
    "CloseDate",
)
LINES: Final = ("Auto", "Home")
ROWS_MAX: Final = 10_000_000
"""A file with more is not this demonstration's."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One claim of the file. Amounts in cents, dates as calendar dates."""

    number: int
    line: str
    liable: bool
    limit_cents: int
    deductible_cents: int
    payment_cents: int
    accident: datetime.date
    report: datetime.date
    payment: datetime.date
    close: datetime.date


class Total(msgspec.Struct):
    """What the file says of one line and insurer."""

    policies: int = 0
    claims: int = 0
    paid_claims: int = 0
    paid_minor: int = 0


def locate() -> Path:
    """The file in the installed package; importing the package is not needed, and would fail without pandas.

    Raises:
        Stop: it is not installed; says how to get it.
    """
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        raise Stop(f"the claims file is not here: the package {PACKAGE} is not installed", HOW_TO_GET_IT) from None
    for file in files:
        if file.name == FILE_NAME:
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise Stop(f"the package {PACKAGE} is installed without {FILE_NAME}", HOW_TO_GET_IT)


def read(path: Path, limit: int | None = None) -> list[Row]:
    """The first ``limit`` rows (default: all).

    Raises:
        Stop: the file cannot be read, lacks a column, or a row cannot be understood; says which.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(_rows(csv.DictReader(file), path, limit))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Stop(f"the claims file {path} cannot be read: {error}", HOW_TO_GET_IT) from error


def totals(rows: Sequence[Row], insurers: Sequence[str]) -> dict[tuple[str, str], Total]:
    """(line, insurer) -> totals, from the rows alone; row i belongs to insurer ClaimNo mod their number."""
    found: dict[tuple[str, str], Total] = {}
    for row in rows:
        total = found.setdefault((row.line, insurers[row.number % len(insurers)]), Total())
        total.policies += 1
        total.claims += 1
        if row.payment_cents > 0:
            total.paid_claims += 1
            total.paid_minor += row.payment_cents
    return found


def _rows(reader: csv.DictReader[str], path: Path, limit: int | None) -> Iterator[Row]:
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise Stop(f"the claims file {path} has no column {missing[0]}", f"It needs {', '.join(COLUMNS)}")
    for at, fields in enumerate(reader):
        if limit is not None and at >= limit:
            return
        if at >= ROWS_MAX:
            raise Stop(f"the claims file {path} has more than {ROWS_MAX:,} rows", "Give --claims to limit them")
        try:
            yield _row(fields)
        except (ValueError, InvalidOperation, KeyError, TypeError) as error:
            problem = f"line {reader.line_num} of {path} cannot be understood: {error}"
            raise Stop(problem, "Correct the row, or give --claims to stop before it") from error


def _row(fields: dict[str, str]) -> Row:
    if fields["Line"] not in LINES:
        raise ValueError(f"Line is {fields['Line']!r}, not one of {', '.join(LINES)}")
    if fields["ClaimLiability"] not in ("True", "False"):
        raise ValueError(f"ClaimLiability is {fields['ClaimLiability']!r}, neither True nor False")
    return Row(
        number=int(fields["ClaimNo"]),
        line=fields["Line"],
        liable=fields["ClaimLiability"] == "True",
        limit_cents=cents(fields["Limit"]),
        deductible_cents=cents(fields["Deductible"]),
        payment_cents=cents(fields["TotalPayment"]),
        accident=date(fields["AccidentDate"]),
        report=date(fields["ReportDate"]),
        payment=date(fields["PaymentDate"]),
        close=date(fields["CloseDate"]),
    )


def cents(text: str) -> int:
    """Half-even, from the decimal text; ValueError or InvalidOperation where it is none."""
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(f"{text!r} is no amount")
    return int(number.quantize(Decimal("0.01"), ROUND_HALF_EVEN).scaleb(2))


def date(text: str) -> datetime.date:
    """ISO 8601, or month/day/year; ValueError for anything else."""
    if "/" in text:
        month, day, year = text.split("/")
        return datetime.date(int(year), int(month), int(day))
    return datetime.date.fromisoformat(text)
