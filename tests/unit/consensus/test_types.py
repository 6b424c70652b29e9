"""Quorums, leaders, and settings that contradict each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.config import Config
from consensus.types import Validator, ValidatorSet
from tests.unit.consensus.support import CHAIN_ID, CONFIG, VALSET_HASH, validators


@pytest.mark.parametrize(
    ("n", "f", "quorum"),
    [(1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 1, 3), (5, 1, 4), (6, 1, 5), (7, 2, 5), (8, 2, 6), (9, 2, 7), (10, 3, 7)],
)
def test_quorum_for_each_size(n: int, f: int, quorum: int) -> None:
    members = validators(n)
    assert (members.f, members.quorum) == (f, quorum)
    assert 2 * quorum - n >= f + 1, "two quorums share an honest validator"
    assert quorum <= n - f, "the honest alone are a quorum"


def test_leaders_rotate_and_the_seed_moves_them() -> None:
    assert [validators(4).leader(view) for view in range(1, 6)] == [1, 2, 3, 0, 1]
    assert [validators(4, seed=2).leader(view) for view in range(1, 4)] == [3, 0, 1]


def test_invalid_validator_sets() -> None:
    a, b = Validator("a", b"1"), Validator("b", b"2")
    for members in [(), (b, a), (a, a), (a, replace(b, public_key=b"1"))]:
        with pytest.raises(ValueError, match="validator set"):
            ValidatorSet(0, members, 0, VALSET_HASH)


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": b"short"},
        {"delay_ms": 0},
        {"retry_ms": 0},
        {"skip_ms": 300},
        {"skip_ms": 150, "delay_ms": 10, "retry_ms": 200},
        {"timeout_ms_max": 299},
        {"retention_views": 0},
    ],
)
def test_invalid_settings(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_defaults_agree_with_each_other() -> None:
    config = Config(CHAIN_ID)
    assert 0 < config.leader_ms < config.certification_ms < config.skip_ms
