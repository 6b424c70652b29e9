"""The mutation gate: a rule taken out is noticed; the product as it is passes the same seeds."""

from __future__ import annotations

import pytest

from consensus.types import ValidatorSet
from simulator.mutants.gate import MUTANTS, UnknownMutant, honest, hunt, named
from simulator.mutants.planting import Mutant, planted

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_found_and_nothing_is_without_it(mutant: Mutant) -> None:
    verdict = hunt(mutant)
    assert verdict.killed, f"{mutant.name} survives its seeds"
    assert verdict.oracle != "determinism"
    assert honest(mutant, verdict) == []


def test_the_list_is_as_long_as_it_has_to_be_and_each_stands_there_once() -> None:
    assert len(MUTANTS) >= 24
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_mutant_is_gone_when_its_run_is_over() -> None:
    before = ValidatorSet.__dict__["quorum"]
    [mutant] = named(["quorum-off-by-one"])
    with planted(mutant):
        assert ValidatorSet.__dict__["quorum"] is not before
    assert ValidatorSet.__dict__["quorum"] is before


def test_a_mutant_whose_target_is_gone_is_no_mutant() -> None:
    renamed = Mutant("x", "R0", ((ValidatorSet, "majority", lambda original: original),), (1,))
    with pytest.raises(KeyError, match="majority"), planted(renamed):
        pass


def test_invalid_names_are_explained() -> None:
    with pytest.raises(UnknownMutant, match="sim mutants --list"):
        named(["no-such"])
