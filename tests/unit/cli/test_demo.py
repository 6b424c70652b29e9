"""The demonstration's parts, without its daemons: the file, the operations, the forger, the figures."""

from __future__ import annotations

import asyncio
import datetime
from decimal import Decimal
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.base import Stop
from cli.demo import data, report
from cli.demo.data import Row, Total
from cli.demo.forgery import alter
from cli.demo.loader import Progress, percentile
from cli.demo.operations import bundles, case_of, count_of, refused_operation
from cli.demo.outage import keep_busy
from consensus.types import VoteKind
from ledger import operations as ops
from ledger.codes import Code
from ledger.types import Block
from ledger.wire import WireError, decode_block, encode_block
from lossbook_sdk.stream import Moment
from tests.support.chains import Chain
from tests.support.commands import lossbook
from tests.support.insurers import Ledger, policy_issue

HEADER = ",".join(data.COLUMNS)
ROW = "7,2008-01-22,4/19/2010,Home,True,300000.0,20000,1234.565,2010-10-08,10/8/2010"


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def row(**changes: Any) -> Row:
    fields: dict[str, Any] = {
        "number": 1,
        "line": "Home",
        "liable": True,
        "limit_cents": 30_000_000,
        "deductible_cents": 2_000_000,
        "payment_cents": 100,
        "accident": datetime.date(2008, 1, 22),
        "report": datetime.date(2010, 4, 19),
        "payment": datetime.date(2010, 10, 8),
        "close": datetime.date(2010, 10, 8),
    }
    return Row(**(fields | changes))


# -- the file ----------------------------------------------------------------------------------------


def test_a_row_is_read_with_both_forms_of_dates(tmp_path: Path) -> None:
    (read,) = data.read(write(tmp_path / "c.csv", ROW))
    assert read == row(number=7, payment_cents=123_456)


@pytest.mark.parametrize(
    ("text", "cents"),
    [("0.0", 0), ("0.005", 0), ("0.015", 2), ("0.025", 2), ("10748.02515", 1_074_803), ("1e2", 10_000)],
)
def test_cents_are_rounded_half_even_from_the_text(text: str, cents: int) -> None:
    assert data.cents(text) == cents


@given(cents=st.integers(0, 10**12), half=st.booleans())
def test_halves_go_to_the_even_cent(cents: int, half: bool) -> None:
    text = f"{Decimal(cents).scaleb(-2):f}" + ("5" if half else "")
    assert data.cents(text) == cents + (cents % 2 if half else 0)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (ROW.replace("Home", "Marine"), "Line is 'Marine'"),
        (ROW.replace("True", "maybe"), "ClaimLiability"),
        (ROW.replace("4/19/2010", "19/4/2010"), "line 2"),
        (ROW.replace("1234.565", "much"), "line 2"),
        (ROW.replace("1234.565", "NaN"), "no amount"),
        ("7,2008-01-22", "line 2"),
    ],
)
def test_a_row_that_cannot_be_understood_is_named(tmp_path: Path, bad: str, why: str) -> None:
    with pytest.raises(Stop, match=why):
        data.read(write(tmp_path / "c.csv", bad))


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="no column CloseDate"):
        data.read(write(tmp_path / "c.csv", header=HEADER.replace(",CloseDate", "")))


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(data, "distribution", missing)
    shown = lossbook("demo", "claims", code=1).output
    assert "pip install --no-deps chainladder==0.10.1" in shown
    assert "--claims-file" in shown


def test_missing_and_empty_files(tmp_path: Path) -> None:
    assert "cannot be read" in lossbook("demo", "claims", "--claims-file", tmp_path / "none", code=1).output
    assert "no rows" in lossbook("demo", "claims", "--claims-file", write(tmp_path / "c.csv"), code=2).output


def test_totals_by_line_and_insurer() -> None:
    rows = [
        row(number=4, payment_cents=5),
        row(number=8, payment_cents=0),
        row(number=5, line="Auto", payment_cents=7),
        row(number=1, line="Auto", liable=False, payment_cents=0),
    ]
    assert data.totals(rows, ["a", "b", "c", "d"]) == {
        ("Home", "a"): Total(2, 2, 1, 5),
        ("Auto", "b"): Total(2, 2, 1, 7),
    }


@pytest.fixture(scope="module")
def prism() -> list[Row]:
    try:
        return data.read(data.locate())
    except Stop:
        pytest.skip("the package chainladder is not installed; `make demo` installs it")


def test_facts_of_the_real_file(prism: list[Row]) -> None:
    assert len(prism) == 34_244
    assert sum(one.line == "Auto" for one in prism) == 25_302
    assert sum(one.line == "Home" for one in prism) == 8_942
    assert sum(one.liable and one.payment_cents == 0 for one in prism) == 9
    assert sum(one.payment_cents > 10_000_000 for one in prism) == 5_047
    assert all(one.payment_cents <= one.limit_cents - one.deductible_cents for one in prism)
    assert all(one.accident <= one.report <= one.payment <= one.close for one in prism)
    assert sum(count_of(one) for one in prism) == 234_442
    assert sum(one.payment_cents for one in prism if one.line == "Home") == 103_664_564_998
    assert sum(one.payment_cents for one in prism if one.line == "Auto") == 17_210_975_300


# -- the operations ----------------------------------------------------------------------------------

KINDS = {
    "paid": (row(), ["ClaimApprove", "ClaimPay", "ClaimClose"]),
    "nothing payable": (row(payment_cents=0), ["ClaimApprove", "ClaimClose"]),
    "not liable": (row(liable=False, payment_cents=0), ["ClaimDecline", "ClaimClose"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_life_of_a_claim(kind: str) -> None:
    one, ends = KINDS[kind]
    names = [type(operation).__name__ for operation in case_of(one).operations]
    assert names == ["PolicyIssue", "ClaimNotify", "ClaimRegister", "ClaimAssess", *ends]
    assert len(names) == count_of(one)


def test_the_contract_accepts_every_kind_of_row_and_refuses_the_filler() -> None:
    ledger = Ledger()
    for one, _ in KINDS.values():
        assert ledger.submit(*case_of(one).operations).code == Code.OK
    assert ledger.submit(*case_of(row(payment_cents=28_000_000)).operations).code == Code.OK
    assert ledger.submit(refused_operation()).operation_codes == (Code.UNKNOWN_CLAIM,)


def test_above_the_four_eyes_amount_one_pair_is_not_enough() -> None:
    operations = case_of(row(payment_cents=10_000_001)).operations
    receipt = Ledger().submit(*operations, desks=("underwriter", "handler", "finance"))
    assert Code.FOUR_EYES_REQUIRED in receipt.operation_codes


def test_period_is_the_calendar_year_of_the_accident() -> None:
    issue = case_of(row(accident=datetime.date(2012, 12, 31))).operations[0]
    assert isinstance(issue, ops.PolicyIssue)
    assert (issue.period_start_days, issue.period_end_days) == (15_340, 15_705)


@given(st.lists(st.sampled_from([0, 100]), max_size=40), st.integers(7, 60))
def test_a_rows_operations_are_never_parted(payments: list[int], most: int) -> None:
    rows = [row(payment_cents=payment) for payment in payments]
    made = list(bundles(rows, most))
    assert [case.row for bundle in made for case in bundle] == rows
    assert all(sum(len(case.operations) for case in bundle) <= most for bundle in made)


# -- the forger --------------------------------------------------------------------------------------


def _block(chain: Chain, at: int) -> Block:
    found = chain.headers[at]
    return Block(
        found.justified.header, found.justified.justification, chain.payloads[at], chain.batches[at], found.finalization
    )


def test_exactly_one_operation_is_altered_and_nothing_else() -> None:
    chain = Chain(Ledger())
    chain.add(chain.ledger.envelope([policy_issue()]), chain.ledger.envelope([policy_issue(policy_id=bytes(16))]))
    original = _block(chain, 0)
    message = encode_block(original)
    assert alter(message)
    forged = decode_block(message)
    assert (forged.header, forged.justification, forged.payload) == (
        original.header,
        original.justification,
        original.payload,
    )
    before = [raw for batch in original.batches for raw in batch.envelopes]
    after = [raw for batch in forged.batches for raw in batch.envelopes]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]
    assert forged.batches[0].header == original.batches[0].header


def test_a_block_without_operations_stays_as_it_is() -> None:
    chain = Chain(Ledger())
    chain.add()
    message = encode_block(_block(chain, 0))
    before = message.SerializeToString()
    assert not alter(message)
    assert message.SerializeToString() == before


def test_chain_support_makes_blocks_that_decode() -> None:
    chain = Chain(Ledger())
    chain.add()
    try:
        assert decode_block(encode_block(_block(chain, 0))).finalization is not None
    except WireError as error:
        pytest.fail(str(error))
    assert chain.headers[0].finalization is not None
    assert chain.headers[0].finalization.kind is VoteKind.FINALIZE


# -- the figures -------------------------------------------------------------------------------------


def test_percentiles_are_values_that_were_seen() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.99) == 5.0
    assert percentile([7.0], 0.5) == 7.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_at_least_that_share_is_not_above_the_percentile(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)


def test_progress_tells_when_a_share_is_final_and_how_long_nothing_came() -> None:
    async def story() -> None:
        progress = Progress(10)
        progress.first_sent_s = 100.0
        waiting = asyncio.create_task(progress.reached(0.3))
        progress.answered(Moment(100.0, 101.0), 2)
        await asyncio.sleep(0)
        assert not waiting.done()
        progress.answered(Moment(100.0, 104.0), 1)
        await waiting
        progress.answered(Moment(103.5, 104.5), 0)
        assert (progress.final, progress.longest_stall_s) == (3, 3.0)
        assert progress.finality_ms == [1000.0, 4000.0, 1000.0]

    asyncio.run(story())


def test_filler_ends_with_the_last_task_and_with_the_first_error() -> None:
    async def story() -> None:
        sent = []

        async def submit() -> None:
            sent.append(1)

        async def quick() -> None:
            return

        async def failing() -> None:
            raise Stop("broken")

        await keep_busy([asyncio.create_task(quick())], submit)
        assert len(sent) == 1
        with pytest.raises(Stop, match="broken"):
            await keep_busy([asyncio.create_task(failing()), asyncio.create_task(asyncio.sleep(60))], submit)

    asyncio.run(story())


def test_differences_name_line_insurer_and_figures() -> None:
    shown = {
        "line": "Home",
        "insurer": "a",
        "currency": "USD",
        "policies": 2,
        "claims": 2,
        "paid_claims": 1,
        "paid_minor": 5,
    }
    expected = {("Home", "a"): Total(2, 2, 1, 5)}
    assert report.differences([shown], expected) == []
    assert "Home a" in report.differences([shown | {"paid_minor": 6}], expected)[0]
    assert "None" in report.differences([], expected)[0]
    assert "currency EUR" in report.differences([shown | {"currency": "EUR"}], expected)
    assert report.paid_by_line([shown, shown | {"line": "Auto", "paid_minor": 1}]) == {"Auto": 1, "Home": 5}
