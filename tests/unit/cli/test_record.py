"""Records as people and programs read them: what a number stands for is said in words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cli.record import decode, shown
from contracts.records import CLAIMS, POLICIES, ClaimRecord, ClaimState, PolicyRecord, PolicyState, Step
from ledger.operations import DeclineReason, Line
from ledger.organisations import KEYS, ORGANISATIONS, KeyRecord, Kind, OrganisationRecord, Role

STEP = Step(ClaimState.PAID, 20_149, 1_700_000_000_000, 13, 1, 2)
CLAIM = ClaimRecord(
    bytes(16), bytes(16), "alpha", Line.AUTO, "USD", ClaimState.PAID, 20_148, 123_456, 123_456, 123_456, 0, 0, (STEP,)
)
ISSUED = msgspec.structs.replace(STEP, state=PolicyState.ISSUED)
POLICY = PolicyRecord(
    bytes(16), "alpha", PolicyState.ISSUED, bytes(16), Line.HOME, "USD", 5, 0, 20_000, 20_364, None, (ISSUED,)
)


def fields(table: Any, record: Any) -> dict[str, Any]:
    return decode(table.prefix, msgspec.msgpack.encode(record))


def test_states_lines_reasons_kinds_and_roles_are_words() -> None:
    claim = fields(CLAIMS, CLAIM)
    assert (claim["line"], claim["state"], claim["decline_reason"]) == ("Auto", "PAID", None)
    assert claim["history"][0]["state"] == "PAID"
    declined = msgspec.structs.replace(CLAIM, decline_reason=int(DeclineReason.NOT_LIABLE))
    assert fields(CLAIMS, declined)["decline_reason"] == "not-liable"
    assert fields(POLICIES, POLICY)["state"] == "ISSUED"
    assert fields(KEYS, KeyRecord("alpha", Role.FINANCE | Role.ADMIN))["roles"] == ["admin", "finance"]
    office = OrganisationRecord(Kind.ADJUSTER_FIRM, "A", bytes(32), (), 0, True, False)
    assert fields(ORGANISATIONS, office)["kind"] == "adjuster-firm"


@pytest.mark.parametrize("name", ["state", "decline_reason"])
def test_a_number_of_a_later_version_stays_a_number(name: str) -> None:
    assert fields(CLAIMS, msgspec.structs.replace(CLAIM, **{name: 99}))[name] == 99


def test_people_read_amounts_and_dates() -> None:
    rows = dict(shown(fields(CLAIMS, CLAIM)))
    assert (rows["paid"], rows["loss date"]) == ("1,234.56 USD", "2025-03-01")
    assert rows["history"] == "PAID on 2025-03-02, recorded 2023-11-14 22:13:20Z in block 13, envelope 1, operation 2"
    assert dict(shown(fields(POLICIES, POLICY)))["premium"] == "-"
