"""Who is charged for what is submitted."""

from __future__ import annotations

import asyncio

from ledger.codes import Code
from ledger.organisations import KeyRecord, OrganisationRecord, find_key, find_organisation
from ledger.types import ENVELOPE_BYTES_MAX, Envelope, Receipt
from ledger.wire import encode_envelope, envelope_id
from node.admission import REFUSED_BYTES_MIN, RoomKeeper
from node.intake import Intake, Outcome
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.tracking import Tracker
from node.turn import Stage
from services.verification import VerificationPool
from tests.support.insurers import FIRST, INSURERS, Ledger, policy_issue

LEDGER = Ledger()


class StateLedger:
    """The market's genesis; nothing was executed."""

    def organisation(self, organisation: str) -> OrganisationRecord | None:
        return find_organisation(LEDGER.state, organisation)

    def key(self, public: bytes) -> KeyRecord | None:
        return find_key(LEDGER.state, public)

    def receipt_of(self, envelope_id: bytes) -> Receipt | None:
        return None


def intake(rate_bytes_s: int) -> Intake:
    return Intake(
        chain_id=LEDGER.genesis.chain_id,
        ledger=StateLedger(),
        tracker=Tracker(),
        room=RoomKeeper(1 << 40, rate_bytes_s, 0),
        pool=VerificationPool(0),
        mailbox=Mailbox(),
        metrics=Metrics(),
        closed=lambda: None,
        clock_ms=lambda: 0,
    )


def large(by: int = 0) -> Envelope:
    """Some 90 KB: a dozen of them use up what an organisation may save."""
    return LEDGER.envelope([policy_issue()] * 1000, by=INSURERS[by], desks=("underwriter",))


def submit(target: Intake, raws: list[bytes], caller: str) -> list[Outcome]:
    return asyncio.run(target.submit(raws, caller))


def codes(outcomes: list[Outcome]) -> set[Code]:
    return {outcome.rejection.code if outcome.rejection else Code.OK for outcome in outcomes}


def test_garbage_in_anothers_name_is_charged_to_the_caller() -> None:
    target = intake(rate_bytes_s=1)
    victim = large()
    garbage = encode_envelope(victim.body, [bytes(64)])
    count = 2 * ENVELOPE_BYTES_MAX // len(garbage)
    assert codes(submit(target, [garbage] * count, INSURERS[1].id)) == {Code.BAD_SIGNATURE, Code.OVERLOADED}
    (outcome,) = submit(target, [victim.raw], FIRST.id)
    assert outcome.news is not None
    assert outcome.news.stage is Stage.PENDING


def test_malformed_envelopes_slow_their_sender_and_nobody_else() -> None:
    target = intake(rate_bytes_s=1)
    garbage = [b"\xff" * 64] * (2 * ENVELOPE_BYTES_MAX // REFUSED_BYTES_MIN)
    outcomes = submit(target, garbage, INSURERS[1].id)
    assert codes(outcomes) == {Code.MALFORMED, Code.OVERLOADED}
    assert codes(outcomes[: len(garbage) // 2]) == {Code.MALFORMED}
    assert codes(submit(target, [large(1).raw], INSURERS[1].id)) == {Code.OVERLOADED}
    assert codes(submit(target, [large().raw], FIRST.id)) == {Code.OK}


def test_one_envelope_several_times_in_one_message_is_taken_once() -> None:
    target = intake(rate_bytes_s=1 << 30)
    sent = large()
    outcomes = submit(target, [sent.raw, sent.raw], FIRST.id)
    assert [outcome.envelope_id for outcome in outcomes] == [sent.id, sent.id]
    assert codes(outcomes) == {Code.OK}
    (waiting,) = target._mailbox.drain()
    assert waiting.envelopes == (sent,)  # type: ignore[union-attr]


def test_what_is_refused_is_named_wherever_an_envelope_was_sent_at_all() -> None:
    """A client with many under way on a stream has nothing but the id to go by."""
    target = intake(rate_bytes_s=1 << 30)
    elsewhere = LEDGER.envelope([policy_issue()], chain_id=bytes(32))
    stranger = LEDGER.envelope([policy_issue()], organisation="stranger")
    unreadable = encode_envelope(b"\xff\xff", [bytes(64)])
    too_large = encode_envelope(bytes(ENVELOPE_BYTES_MAX), [bytes(64)])
    sent = [elsewhere.raw, stranger.raw, unreadable, b"\xff", b"", too_large, elsewhere.raw]
    outcomes = submit(target, sent, FIRST.id)
    assert [outcome.rejection.code for outcome in outcomes if outcome.rejection] == [
        Code.WRONG_CHAIN,
        Code.UNKNOWN_ORGANISATION,
        Code.MALFORMED,
        Code.MALFORMED,
        Code.MALFORMED,
        Code.TOO_LARGE,
        Code.OVERLOADED,
    ]
    named = [elsewhere.id, stranger.id, envelope_id(b"\xff\xff"), b"", b"", envelope_id(bytes(ENVELOPE_BYTES_MAX))]
    assert [outcome.envelope_id for outcome in outcomes] == [*named, b""]
    owes = outcomes[-1].rejection
    assert owes is not None
    assert owes.retry_after_ms > 0, "nothing of this caller is looked at before then"
