"""The plan of a run: reproducible, complete, and never two faults of one track at a time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chaos.links import CLIENTS, Bad, Condition, conditions, everywhere, partition
from chaos.schedule import BACK_MS, CUTS, NETWORK, PROCESSES, QUIET_MS, TAIL_MS, Fault, Kind, minutes_enough, plan

VALIDATORS = ("alpha", "beta", "gamma", "delta")
MINUTES_3 = 180_000


def make(seed: int = 1, duration_ms: int = MINUTES_3, kinds: tuple[Kind, ...] = tuple(Kind)) -> tuple[Fault, ...]:
    return plan(seed, duration_ms, VALIDATORS, kinds, "delta")


def test_a_seed_gives_one_plan() -> None:
    assert make(7) == make(7)
    assert make(7) != make(8)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("duration_ms", [45_000, 60_000, MINUTES_3])
def test_every_kind_strikes(seed: int, duration_ms: int) -> None:
    assert {fault.kind for fault in make(seed, duration_ms)} == set(Kind)


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_one_track_follow_each_other_and_leave_quiet_at_both_ends(seed: int) -> None:
    for track in (PROCESSES, NETWORK):
        faults = [fault for fault in make(seed) if fault.kind in track]
        assert faults[0].at_ms >= QUIET_MS
        assert faults[-1].until_ms <= MINUTES_3 - TAIL_MS
        for one, other in pairwise(faults):
            assert one.at_ms < one.until_ms < other.at_ms


def test_tracks_meet_in_every_pair_of_kinds() -> None:
    met = {
        (one.kind, other.kind)
        for seed in range(40)
        for one in make(seed)
        for other in make(seed)
        if one.kind in PROCESSES and other.kind in NETWORK and one.at_ms < other.until_ms and other.at_ms < one.until_ms
    }
    assert met == {
        (one, other)
        for one in PROCESSES
        for other in NETWORK
        if one is not Kind.DESTROYED or other not in CUTS  # n = 4 forgives one that is gone, and nothing beside it
    }


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("duration_ms", [30_000, 60_000, MINUTES_3, 4 * MINUTES_3])
def test_while_a_validator_is_destroyed_no_other_is_taken(seed: int, duration_ms: int) -> None:
    faults = make(seed, duration_ms)
    for gone in (fault for fault in faults if fault.kind is Kind.DESTROYED):
        meanwhile = {
            fault.kind
            for fault in faults
            if fault is not gone and fault.at_ms < gone.until_ms + BACK_MS and fault.until_ms > gone.at_ms
        }
        assert meanwhile <= {Kind.LOSS, Kind.DELAY}
        assert gone.until_ms + BACK_MS <= duration_ms - TAIL_MS, "it is back before the end"


def test_anybody_is_destroyed_but_the_keeper_of_the_first_blocks_and_others_are_hit_afterwards() -> None:
    found = [(seed, fault) for seed in range(40) for fault in make(seed) if fault.kind is Kind.DESTROYED]
    assert {fault.nodes for _, fault in found} == {("alpha",), ("beta",), ("gamma",)}
    assert any(
        other.at_ms > gone.until_ms and gone.nodes[0] in other.nodes for seed, gone in found for other in make(seed)
    ), "the newcomer as well"


@pytest.mark.parametrize("seed", range(20))
def test_the_time_that_is_enough_is_and_less_is_not(seed: int) -> None:
    for kinds in ((Kind.KILL,), (Kind.DESTROYED, Kind.PARTITION), tuple(Kind)):
        least = minutes_enough(seed, VALIDATORS, kinds, "delta")
        assert 0.1 < least <= 1
        assert {fault.kind for fault in make(seed, int(least * 60_000), kinds)} == set(kinds)
        assert {fault.kind for fault in make(seed, int((least - 0.05) * 60_000), kinds)} != set(kinds)


def test_a_run_too_short_for_a_destruction_has_the_other_faults() -> None:
    found = {fault.kind for fault in make(duration_ms=20_000)}
    assert Kind.DESTROYED not in found
    assert found & set(PROCESSES)


def test_only_the_kinds_asked_for_strike() -> None:
    assert {fault.kind for fault in make(kinds=(Kind.KILL, Kind.LOSS))} == {Kind.KILL, Kind.LOSS}
    assert make(kinds=()) == ()


def test_a_run_too_short_for_a_fault_has_none() -> None:
    assert make(duration_ms=5_000) == ()


def test_a_storm_hits_all_at_a_time_in_some_run_and_again_and_again() -> None:
    storms = [fault for seed in range(20) for fault in make(seed) if fault.kind is Kind.STORM]
    assert max(len(strike.nodes) for storm in storms for strike in storm.strikes) == len(VALIDATORS)
    assert all(storm.at_ms <= strike.at_ms < storm.until_ms for storm in storms for strike in storm.strikes)
    assert max(len(storm.strikes) for storm in storms) >= 3


def test_only_the_small_disk_is_filled() -> None:
    assert {fault.nodes for fault in make() if fault.kind is Kind.DISK} == {("delta",)}


# -- links --------------------------------------------------------------------------------------


def test_a_partition_cuts_both_ways_between_groups_and_nothing_within() -> None:
    found = conditions((*VALIDATORS, CLIENTS), partition(("alpha",), ("beta", "gamma", "delta", CLIENTS)))
    assert found == {
        link: Condition(cut=True)
        for other in ("beta", "gamma", "delta", CLIENTS)
        for link in (("alpha", other), (other, "alpha"))
    }


def test_a_one_way_cut_leaves_the_way_back() -> None:
    assert conditions(VALIDATORS, [Bad(("alpha",), ("beta",), Condition(cut=True))]) == {
        ("alpha", "beta"): Condition(cut=True)
    }


def test_two_conditions_of_a_link_add_up() -> None:
    bad = [*everywhere(VALIDATORS, Condition(loss=0.5, delay_ms=200)), Bad(("alpha",), ("beta",), Condition(loss=0.5))]
    found = conditions(VALIDATORS, bad)
    assert found["alpha", "beta"] == Condition(loss=0.75, delay_ms=200)
    assert found["beta", "alpha"] == Condition(loss=0.5, delay_ms=200)
    assert len(found) == 12
