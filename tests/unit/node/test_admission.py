"""What the door takes and refuses."""

from __future__ import annotations

import pytest

from ledger.codes import Code
from ledger.organisations import KeyRecord, OrganisationRecord, find_key, find_organisation
from ledger.types import Envelope
from node.admission import REFUSED_BYTES_MIN, RETRY_MS_MAX, RETRY_MS_MIN, Rejection, RoomKeeper, judge
from tests.support.insurers import FIRST, INSURERS, Ledger, key_of, policy_issue

LEDGER = Ledger()
CHAIN = LEDGER.genesis.chain_id
MIB = 1 << 20


class StateRegister:
    """The market's genesis state."""

    def organisation(self, organisation: str) -> OrganisationRecord | None:
        return find_organisation(LEDGER.state, organisation)

    def key(self, public: bytes) -> KeyRecord | None:
        return find_key(LEDGER.state, public)


REGISTER = StateRegister()


def test_an_ordinary_envelope_is_taken_as_decoded() -> None:
    envelope = LEDGER.envelope([policy_issue()])
    assert judge(envelope.raw, CHAIN, REGISTER) == envelope


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (LEDGER.envelope([policy_issue()], chain_id=bytes(32)), Code.WRONG_CHAIN),
        (LEDGER.envelope([policy_issue()], organisation="nobody"), Code.UNKNOWN_ORGANISATION),
        (LEDGER.envelope([policy_issue()], keys=[key_of("stranger")]), Code.KEY_NOT_REGISTERED),
        (
            LEDGER.envelope([policy_issue()], keys=[FIRST.desks["underwriter"], INSURERS[1].desks["underwriter"]]),
            Code.KEY_OF_ANOTHER_ORGANISATION,
        ),
    ],
)
def test_invalid_envelope_is_refused_with_its_code_and_what_to_do(envelope: Envelope, code: Code) -> None:
    refused = judge(envelope.raw, CHAIN, REGISTER)
    assert isinstance(refused, Rejection)
    assert (refused.code, refused.retry_after_ms) == (code, 0)
    assert refused.text.endswith(".")


@pytest.mark.parametrize("raw", [b"", b"\xff" * 40, bytes(2 * MIB)])
def test_invalid_bytes_are_refused_and_never_raise(raw: bytes) -> None:
    refused = judge(raw, CHAIN, REGISTER)
    assert isinstance(refused, Rejection)
    assert refused.code in (Code.MALFORMED, Code.TOO_LARGE)


def test_beyond_the_bytes_that_may_wait_the_client_is_told_when_to_retry() -> None:
    room = RoomKeeper(waiting_bytes_max=10 * MIB, rate_bytes_s=MIB, burst_bytes=100 * MIB)
    assert room.ask("a", MIB, waiting_bytes=9 * MIB, now_ms=0) is None
    refused = room.ask("a", MIB, waiting_bytes=12 * MIB, now_ms=0)
    assert refused is not None
    assert refused.code is Code.OVERLOADED
    assert refused.retry_after_ms == 3000  # three MiB too much at one MiB a second


def test_one_envelope_always_fits_into_an_empty_gateway() -> None:
    room = RoomKeeper(waiting_bytes_max=1, rate_bytes_s=MIB, burst_bytes=1)
    assert room.ask("a", MIB, waiting_bytes=0, now_ms=0) is None


def test_an_organisation_that_sends_too_fast_waits_and_no_other_does() -> None:
    room = RoomKeeper(waiting_bytes_max=1 << 40, rate_bytes_s=1000, burst_bytes=MIB)
    assert room.ask("fast", MIB, 0, now_ms=0) is None
    refused = room.ask("fast", 500, 0, now_ms=0)
    assert refused is not None
    assert refused.retry_after_ms == 500
    assert room.ask("other", 500, 0, now_ms=0) is None
    assert room.ask("fast", 500, 0, now_ms=500) is None
    assert room.ask("fast", 500, 0, now_ms=500) is not None


def test_what_is_refused_at_sight_is_paid_for_before_anything_else_is_looked_at() -> None:
    room = RoomKeeper(waiting_bytes_max=1 << 40, rate_bytes_s=MIB, burst_bytes=2 * MIB)
    room.charge_refused("garbage", 3 * MIB, now_ms=0)
    owes = room.debt("garbage", now_ms=0)
    assert owes is not None
    assert (owes.code, owes.retry_after_ms) == (Code.OVERLOADED, 1000)
    assert room.debt("garbage", now_ms=1000) is None
    assert room.ask("garbage", 1, 0, now_ms=1000) is not None
    assert room.debt("other", now_ms=0) is None
    assert room.ask("other", 2 * MIB, 0, now_ms=0) is None


def test_a_debt_is_at_most_what_may_be_saved_up() -> None:
    room = RoomKeeper(waiting_bytes_max=1 << 40, rate_bytes_s=MIB, burst_bytes=2 * MIB)
    for _ in range(100):
        room.charge_refused("garbage", MIB, now_ms=0)
    assert room.debt("garbage", now_ms=1999) is not None
    assert room.debt("garbage", now_ms=2000) is None


def test_a_byte_of_garbage_is_charged_as_a_kilobyte() -> None:
    room = RoomKeeper(waiting_bytes_max=1 << 40, rate_bytes_s=1, burst_bytes=MIB)
    for _ in range(MIB // REFUSED_BYTES_MIN):
        assert room.debt("garbage", now_ms=0) is None
        room.charge_refused("garbage", 1, now_ms=0)
    assert room.ask("garbage", 1, 0, now_ms=0) is not None


def test_the_time_to_retry_is_bounded() -> None:
    room = RoomKeeper(waiting_bytes_max=1, rate_bytes_s=1 << 30, burst_bytes=MIB)
    short = room.ask("a", 1, waiting_bytes=100, now_ms=0)
    assert short is not None
    assert short.retry_after_ms == RETRY_MS_MIN
    slow = RoomKeeper(waiting_bytes_max=1, rate_bytes_s=1, burst_bytes=MIB).ask("a", MIB, 100, 0)
    assert slow is not None
    assert slow.retry_after_ms == RETRY_MS_MAX
