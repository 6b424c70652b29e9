"""What offences cost a peer."""

from __future__ import annotations

import pytest

from node.reputation import (
    FORGIVEN_S,
    IGNORED_S,
    IGNORED_S_MAX,
    MESSAGES_BURST,
    MESSAGES_PER_S,
    Patience,
    Reputation,
    Standing,
)


def test_a_peer_without_offences_is_listened_to() -> None:
    peer = Reputation()
    assert not peer.is_ignored(0.0)
    assert peer.standing(0.0) == Standing()


def test_an_offence_costs_a_while_and_then_the_peer_is_heard_again() -> None:
    peer = Reputation()
    assert peer.offence("lied", 100.0) == IGNORED_S
    assert peer.is_ignored(100.0)
    assert peer.is_ignored(100.0 + IGNORED_S - 0.1)
    assert not peer.is_ignored(100.0 + IGNORED_S)


def test_every_further_offence_costs_twice_as_much_up_to_a_bound_and_never_for_ever() -> None:
    peer = Reputation()
    assert [peer.offence("lied", at) for at in (0.0, 1.0, 2.0, 3.0)] == [IGNORED_S * factor for factor in (1, 2, 4, 8)]
    for at in range(4, 100):
        peer.offence("lied", float(at))
    assert peer.standing(99.0) == Standing(100, "lied", int(IGNORED_S_MAX))
    assert not peer.is_ignored(99.0 + IGNORED_S_MAX)


@pytest.mark.parametrize(("quiet", "cost"), [(FORGIVEN_S - 1, 4), (FORGIVEN_S, 2), (2 * FORGIVEN_S, 1), (9e9, 1)])
def test_time_without_offences_forgives_one_after_the_other(quiet: float, cost: int) -> None:
    peer = Reputation()
    peer.offence("lied", 0.0)
    peer.offence("lied", 1.0)
    assert peer.offence("lied", 1.0 + quiet) == cost * IGNORED_S


def test_the_standing_counts_down_and_keeps_the_last_reason() -> None:
    peer = Reputation()
    peer.offence("a forged vote", 10.0)
    assert peer.standing(10.5) == Standing(1, "a forged vote", 10)
    assert peer.standing(19.5) == Standing(1, "a forged vote", 1)
    assert peer.standing(20.0) == Standing(1, "a forged vote", 0)


def test_as_many_messages_as_honest_nodes_send_are_read_for_ever() -> None:
    patience = Patience()
    assert all(patience.lasts(MESSAGES_PER_S // 10, second / 10) for second in range(10_000))


def test_a_whole_queue_may_come_at_once_after_a_pause_and_a_flood_may_not_go_on() -> None:
    patience = Patience()
    assert patience.lasts(MESSAGES_BURST, 100.0)
    assert not patience.lasts(MESSAGES_PER_S, 100.5)
    assert patience.lasts(MESSAGES_BURST, 100.6), "who was punished begins anew"


@pytest.mark.parametrize("factor", [1.5, 2, 10])
def test_a_flood_is_noticed_after_a_time_that_shrinks_with_its_rate(factor: float) -> None:
    patience = Patience()
    seconds = next(s for s in range(1, 1_000) if not patience.lasts(int(factor * MESSAGES_PER_S), float(s)))
    assert seconds <= 2 + MESSAGES_BURST / (MESSAGES_PER_S * (factor - 1))
