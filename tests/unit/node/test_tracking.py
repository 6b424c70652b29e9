"""Followed envelopes: every one ends in FINAL, PROVEN or EXPIRED, told once to each who waits."""

from __future__ import annotations

from ledger.types import Receipt
from ledger.wire import encode_receipt
from node.tracking import LAPSING_SLACK, News, Tracker
from node.turn import AcceptedNotice, CertifiedRootNotice, ExecutedNotice, Stage

ID, OTHER = b"i" * 32, b"o" * 32
DIGEST = b"d" * 32


def receipt(envelope_id: bytes, height: int, position: int = 0) -> Receipt:
    return encode_receipt(
        envelope_id=envelope_id,
        height=height,
        index=0,
        position=position,
        block_time_ms=height * 1000,
        code=0,
        operation_codes=(0,),
    )


def executed(height: int, *ids: bytes, time_ms: int | None = None) -> ExecutedNotice:
    receipts = [receipt(each, height) for each in ids]
    return ExecutedNotice(height, height * 1000 if time_ms is None else time_ms, receipts, len(ids), bytes(32))


def listening(tracker: Tracker, until: Stage, envelope_id: bytes = ID) -> list[Stage]:
    told: list[Stage] = []
    assert tracker.listen(envelope_id, until, lambda news: told.append(news.stage)) is not None
    return told


def test_each_stage_up_to_the_one_asked_for_is_told() -> None:
    tracker = Tracker()
    tracker.follow(ID, 10_000, size=100)
    accepted, final, proven = (listening(tracker, stage) for stage in (Stage.ACCEPTED, Stage.FINAL, Stage.PROVEN))
    tracker.accepted(AcceptedNotice(DIGEST, (ID,)))
    tracker.executed(executed(1, ID))
    tracker.certified(CertifiedRootNotice(state_height=0, header_height=1))
    assert proven == [Stage.ACCEPTED, Stage.FINAL]
    tracker.certified(CertifiedRootNotice(state_height=1, header_height=2))
    assert accepted == [Stage.ACCEPTED]
    assert final == [Stage.ACCEPTED, Stage.FINAL]
    assert proven == [Stage.ACCEPTED, Stage.FINAL, Stage.PROVEN]
    assert len(tracker) == 0


def test_news_carry_the_batch_and_the_receipt() -> None:
    tracker = Tracker()
    tracker.follow(ID, 10_000, size=100)
    told: list[News] = []
    tracker.listen(ID, Stage.FINAL, told.append)
    tracker.accepted(AcceptedNotice(DIGEST, (ID, OTHER)))
    tracker.executed(executed(3, ID))
    assert told == [News(ID, Stage.ACCEPTED, DIGEST), News(ID, Stage.FINAL, DIGEST, receipt(ID, 3))]


def test_bytes_wait_from_the_door_until_the_receipt() -> None:
    tracker = Tracker()
    tracker.follow(ID, 10_000, size=100)
    tracker.follow(OTHER, 10_000, size=50)
    tracker.follow(ID, 10_000, size=100)  # the same envelope again
    assert tracker.waiting_bytes == 150
    assert tracker.taken_here(ID)
    tracker.executed(executed(1, ID))
    assert tracker.waiting_bytes == 50
    assert not tracker.taken_here(ID)


def test_an_envelope_asked_for_and_then_submitted_here_counts_once() -> None:
    tracker = Tracker()
    tracker.follow(ID, 10_000)
    assert not tracker.taken_here(ID)
    tracker.follow(ID, 10_000, size=100)
    assert tracker.taken_here(ID)
    assert (len(tracker), tracker.waiting_bytes) == (1, 100)


def test_expired_is_told_only_when_block_time_has_passed_not_after() -> None:
    tracker = Tracker()
    tracker.follow(ID, 5_000, size=100)
    told = listening(tracker, Stage.PROVEN)
    tracker.executed(executed(5, time_ms=5_000))
    assert told == []
    tracker.executed(executed(6, time_ms=5_001))
    assert told == [Stage.EXPIRED]
    assert (len(tracker), tracker.waiting_bytes) == (0, 0)


def test_a_receipt_in_the_very_block_that_passes_not_after_wins() -> None:
    tracker = Tracker()
    tracker.follow(ID, 5_000, size=100)
    told = listening(tracker, Stage.FINAL)
    tracker.executed(executed(6, ID, time_ms=6_000))
    assert told == [Stage.FINAL]


def test_what_is_final_under_a_certified_root_is_proven_at_once() -> None:
    tracker = Tracker()
    tracker.certified(CertifiedRootNotice(state_height=9, header_height=10))
    tracker.follow(ID, 50_000, size=1)
    told = listening(tracker, Stage.PROVEN)
    tracker.executed(executed(9, ID))
    assert told == [Stage.FINAL, Stage.PROVEN]


def test_what_nobody_waits_for_any_more_is_forgotten() -> None:
    tracker = Tracker()
    tracker.follow(ID, 10_000)
    told: list[News] = []
    tracker.listen(ID, Stage.FINAL, told.append)
    tracker.unlisten(OTHER, told.append)  # never followed: nothing happens
    tracker.unlisten(ID, told.append)  # another object for the same bound method
    assert len(tracker) == 0
    tracker.follow(OTHER, 10_000, size=5)
    tracker.listen(OTHER, Stage.FINAL, told.append)
    tracker.unlisten(OTHER, told.append)
    assert tracker.taken_here(OTHER)  # what was taken stays taken


def test_the_number_of_followed_envelopes_is_bounded() -> None:
    tracker = Tracker(envelopes_max=2)
    tracker.follow(ID, 1, 1)
    assert not tracker.full
    tracker.follow(OTHER, 1, 1)
    assert tracker.full


def test_the_queue_of_lapsing_ids_does_not_grow_with_what_is_final() -> None:
    tracker = Tracker()
    for at in range(4 * LAPSING_SLACK):
        envelope_id = at.to_bytes(32, "big")
        tracker.follow(envelope_id, 1 << 60, size=1)
        tracker.executed(executed(at, envelope_id, time_ms=0))
    assert len(tracker._lapsing) <= LAPSING_SLACK + 2


def test_the_time_from_door_to_receipt_is_told() -> None:
    since: list[int] = []
    tracker = Tracker(on_final=since.append)
    tracker.follow(ID, 10_000, size=1, since_ms=42)
    tracker.follow(OTHER, 10_000)
    tracker.listen(OTHER, Stage.FINAL, lambda _: None)
    tracker.executed(executed(1, ID, OTHER))
    assert since == [42]
