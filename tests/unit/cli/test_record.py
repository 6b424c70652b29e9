"""Records as people and programs read them: what a number stands for is said in words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cli.record import decode, parse_name, shown
from contracts.governance.records import PROPOSALS, Ballot, ProposalRecord, ProposalState
from contracts.records import CLAIMS, POLICIES, ClaimRecord, ClaimState, PolicyRecord, PolicyState, Step
from ledger.epochs import EPOCHS, MEMBERSHIP
from ledger.operations import DeclineReason, Line, NumberParameter, ParameterChange
from ledger.organisations import CARDS, KEYS, ORGANISATIONS, KeyRecord, Kind, OrganisationRecord, Role
from ledger.registrations import REGISTRATIONS

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


def test_records_of_governance_have_names_and_words() -> None:
    ballot = Ballot("alpha", True, 1, 2, 0, 0)
    change = ParameterChange(90, "", (NumberParameter("k_max", 30),))
    proposal = ProposalRecord(bytes(16), 0, 9, ProposalState.PASSED, None, None, change, (ballot,), ())
    shown = fields(PROPOSALS, proposal)
    assert (shown["state"], shown["ballots"][0]["organisation"]) == ("PASSED", "alpha")
    assert shown["parameter_change"]["numbers"] == [{"name": "k_max", "value": 30}]
    for name, table, key in (
        (f"proposal/{'00' * 16}", PROPOSALS, bytes(16)),
        ("card/alpha", CARDS, b"alpha"),
        ("registration/alpha", REGISTRATIONS, b"alpha"),
        ("membership", MEMBERSHIP, b""),
        ("epoch/1", EPOCHS, bytes(7) + b"\1"),
    ):
        assert parse_name(name) == table.prefix + key


def test_people_read_amounts_and_dates() -> None:
    rows = dict(shown(fields(CLAIMS, CLAIM)))
    assert (rows["paid"], rows["loss date"]) == ("1,234.56 USD", "2025-03-01")
    assert rows["history"] == "PAID on 2025-03-02, recorded 2023-11-14 22:13:20Z in block 13, envelope 1, operation 2"
    assert dict(shown(fields(POLICIES, POLICY)))["premium"] == "-"
