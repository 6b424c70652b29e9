"""Pinned bytes of the committed records, and a row for each in the documentation."""

from __future__ import annotations

import pytest

from contracts.records import CLAIMS, POLICIES, ClaimRecord, PolicyRecord, Step
from ledger.epochs import EPOCHS, MEMBERSHIP, ApprovedChange, EpochRecord, MembershipRecord, PassedChange, Seat
from ledger.evidence import EVIDENCE, EvidenceRecord
from ledger.execution import HEADS, REPLAYS, HeadRecord, ReplayRecord
from ledger.organisations import KEYS, ORGANISATIONS, KeyRecord, OrganisationRecord
from ledger.parameters import PARAMETERS, Parameters, ParametersRecord
from ledger.view_marks import VIEW_MARKS, ViewMark
from tests.support.pages import read_page

TABLES = (ORGANISATIONS, KEYS, PARAMETERS, REPLAYS, HEADS, EPOCHS, MEMBERSHIP, EVIDENCE, VIEW_MARKS, POLICIES, CLAIMS)
STEP = Step(1, 20_000, 1_750_000_000_000, 7, 2, 3)
ID_1, ID_2 = b"\x01" * 16, b"\x02" * 16


def test_every_table_has_its_own_prefix() -> None:
    assert " ".join(table.prefix.hex() for table in TABLES) == "01 02 03 04 05 06 07 0e 0f 10 11"


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (
            POLICIES.encode(PolicyRecord(ID_1, "a-b", 1, ID_2, 2, "USD", 500, 0, -1, 300, None, (STEP,))),
            (
                "9cc41001010101010101010101010101010101a3612d6201c4100202020202020202020202020202020202a3555344"
                "cd01f400ffcd012cc0919601cd4e20cf000001977420dc00070203"
            ),
        ),
        (
            CLAIMS.encode(ClaimRecord(ID_1, ID_2, "a-b", 2, "USD", 1, 300, 0, 1, 128, 65_536, 0, (STEP,))),
            (
                "9dc41001010101010101010101010101010101c41002020202020202020202020202020202a3612d6202a355534401"
                "cd012c0001cc80ce0001000000919601cd4e20cf000001977420dc00070203"
            ),
        ),
        (
            ORGANISATIONS.encode(OrganisationRecord(3, "Äb", b"\x01", (b"\x02",), 1, True, False)),
            "9703a3c38462c4010191c4010201c3c2",
        ),
        (KEYS.encode(KeyRecord("a-b", 20)), "92a3612d6214"),
        (REPLAYS.encode(ReplayRecord(1, 2)), "920102"),
        (EVIDENCE.encode(EvidenceRecord(3, "a-b", 0, 7, 9, 1, b"\x03")), "9703a3612d6200070901c40103"),
        (VIEW_MARKS.encode(ViewMark(7, 8)), "920708"),
        (HEADS.encode(HeadRecord(1, 2, b"\x03")), "930102c40103"),
        (
            PARAMETERS.encode(ParametersRecord.from_parameters(Parameters())),
            "99009293a345555202ce0098968093a355534402ce00989680a3616c6c14ce05265c00ce00400000ce000400003201",
        ),
        (
            EPOCHS.encode(EpochRecord((Seat("a-b", b"\x04"), Seat("c", b"")), 1 << 63, 5, 6)),
            "959292a3612d62c4010492a163c400cf80000000000000000506c400",
        ),
        (MEMBERSHIP.encode(MembershipRecord(1)), "9401c0c090"),
        (
            MEMBERSHIP.encode(MembershipRecord(1, PassedChange(b"\x01", 2, 3, ("a", "b"), ("a",)))),
            "940196c40101020392a161a16291a16190c090",
        ),
        (
            MEMBERSHIP.encode(MembershipRecord(1, None, ApprovedChange(1, 2, b"\x03", (Seat("a", b"\x05"),)))),
            "9401c0950102c401039192a161c401059090",
        ),
    ],
    ids=[
        "policy",
        "claim",
        "organisation",
        "key",
        "replay",
        "evidence",
        "view-mark",
        "head",
        "parameters",
        "epoch",
        "membership",
        "passed",
        "approved",
    ],
)
def test_records_have_these_bytes(encoded: bytes, expected: str) -> None:
    assert encoded.hex() == expected


def test_the_documentation_has_a_row_for_every_table() -> None:
    text = read_page("insurance.md")
    for table in TABLES:
        assert f"| {table.prefix.hex()} {table.name} |" in text
