"""Preference, back-off and distrust of the nodes a replica follows."""

import pytest

from replica.sources import BACKOFF_MS_MAX, BACKOFF_MS_MIN, DISTRUST_MS, Source, Sources

A, B, C = (Source(name, f"127.0.0.1:{port}") for name, port in (("aster", 1), ("birch", 2), ("cedar", 3)))


def test_the_most_preferred_source_is_followed_first() -> None:
    sources = Sources([A, B, C])
    assert sources.choose(0) == A
    assert [entry["state"] for entry in sources.status(0)] == ["following", "standby", "standby"]


def test_a_failing_source_waits_and_the_next_one_is_followed() -> None:
    sources = Sources([A, B])
    sources.choose(1_000)
    sources.failed(A, 1_000, "connection refused")
    assert sources.choose(1_000) == B
    assert sources.status(1_000)[0]["state"] == "waiting"
    assert sources.status(1_000)[0]["last_error"] == "connection refused"


def test_the_source_in_use_stays_when_a_preferred_one_comes_back() -> None:
    sources = Sources([A, B])
    sources.choose(0)
    sources.failed(A, 0, "down")
    sources.choose(0)
    assert sources.choose(BACKOFF_MS_MIN + 1) == B


def test_back_off_doubles_to_its_cap_and_starts_anew_after_a_good_block() -> None:
    sources = Sources([A])
    now, waits = 0, []
    for _ in range(10):
        assert sources.choose(now) == A
        sources.failed(A, now, "down")
        waits.append(sources.next_ms() - now)
        now = sources.next_ms()
    assert waits[:3] == [BACKOFF_MS_MIN, 2 * BACKOFF_MS_MIN, 4 * BACKOFF_MS_MIN]
    assert waits[-1] == BACKOFF_MS_MAX
    sources.worked(A)
    sources.failed(A, now, "down")
    assert sources.next_ms() - now == BACKOFF_MS_MIN


def test_a_liar_is_not_asked_again_for_a_day_and_is_named() -> None:
    sources = Sources([A, B])
    sources.choose(5)
    distrust = sources.lied(A, 5, 17, "envelope root of a batch does not match")
    assert (distrust.organisation, distrust.height) == ("aster", 17)
    assert sources.choose(5) == B
    sources.failed(B, 5, "down")
    assert sources.choose(5) is None
    assert sources.choose(5 + BACKOFF_MS_MIN) == B
    assert sources.status(6)[0]["distrusted"] == {"height": 17, "reason": "envelope root of a batch does not match"}
    assert sources.status(5 + DISTRUST_MS)[0]["state"] != "distrusted"


def test_distrust_survives_a_restart() -> None:
    first = Sources([A, B])
    first.choose(0)
    kept = first.lied(A, 0, 3, "forged")
    assert Sources([A, B], [kept]).choose(1) == B


def test_when_all_wait_none_is_chosen_and_the_next_time_is_known() -> None:
    sources = Sources([A, B])
    for source in (A, B):
        sources.choose(10)
        sources.failed(source, 10, "down")
    assert sources.choose(10) is None
    assert sources.next_ms() == 10 + BACKOFF_MS_MIN
    assert not sources.has_other(A, 10)
    assert sources.has_other(A, 10 + BACKOFF_MS_MIN)


@pytest.mark.parametrize("listed", [[], [A, A]])
def test_a_useless_list_of_sources_is_refused(listed: list[Source]) -> None:
    with pytest.raises(ValueError):
        Sources(listed)


def test_later_validators_are_followed_after_those_that_are_known() -> None:
    sources = Sources([A, B])
    assert sources.choose(0) == A
    moved = Source(B.organisation, "127.0.0.1:9")
    sources.learn([moved, C])
    assert sources.choose(0) == A
    sources.failed(A, 0, "down")
    assert sources.choose(0) == moved
    sources.failed(moved, 0, "down")
    assert sources.choose(0) == C


def test_the_source_in_use_may_move_while_it_serves() -> None:
    sources = Sources([A])
    in_use = sources.choose(0)
    assert in_use == A
    sources.learn([Source(A.organisation, "127.0.0.1:9")])
    sources.worked(A)
    assert not sources.has_other(A, 0)
    sources.failed(A, 0, "moved away")
    assert sources.choose(BACKOFF_MS_MIN) == Source(A.organisation, "127.0.0.1:9")
