"""Up to f validators of each kind of malice: safety, progress, and nobody honest blamed."""

from __future__ import annotations

import pytest

from consensus.evidence import ConflictingVotes, FalseJustification
from tests.unit.consensus.byzantine import Liar
from tests.unit.consensus.byzantine_body_withholder import BodyWithholder, LateBody
from tests.unit.consensus.byzantine_double_voter import DoubleVoter
from tests.unit.consensus.byzantine_equivocating_leader import EquivocatingLeader
from tests.unit.consensus.byzantine_forger import Forger
from tests.unit.consensus.byzantine_selective_sender import SelectiveSender
from tests.unit.consensus.byzantine_skipper import Skipper
from tests.unit.consensus.cluster import Cluster, Network
from tests.unit.consensus.support import X

LIARS: list[type[Liar]] = [
    EquivocatingLeader,
    BodyWithholder,
    LateBody,
    Skipper,
    DoubleVoter,
    SelectiveSender,
    Forger,
]


def attacked(n: int, seed: int, *liars: type[Liar], transactions: int = 8) -> Cluster:
    """A loaded cluster with these liars, over a network that reorders; checked for safety and blame."""
    network = Network(latency_ms=(1, 20), duplicate=0.05)
    cluster = Cluster(n, seed, network=network, byzantine=dict(enumerate(liars, start=1)))
    honest = [node.index for node in cluster.honest]
    for _ in range(transactions):
        transaction = cluster.submit(*honest)
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx, honest))  # type: ignore[misc]
    cluster.oracle.check_chain()
    for node in cluster.honest:
        assert not node.alarms, node.alarms
        assert {penalty.sender for penalty in node.penalties} <= set(range(n)) - set(honest), node.penalties
    return cluster


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("liar", LIARS)
def test_one_liar_of_four_neither_forks_nor_stops_the_others(liar: type[Liar], seed: int) -> None:
    attacked(4, seed, liar)


@pytest.mark.parametrize("seed", range(8))
def test_two_liars_of_seven_neither_fork_nor_stop_the_others(seed: int) -> None:
    attacked(7, seed, LIARS[seed % len(LIARS)], LIARS[(seed * 3 + 1) % len(LIARS)], transactions=5)


def test_an_equivocating_leader_is_named() -> None:
    cluster = attacked(4, 1, EquivocatingLeader)
    assert any(isinstance(e, ConflictingVotes) and e.culprit == 1 for e in cluster.oracle.evidence)


def test_an_x_f_double_voter_is_named() -> None:
    cluster = attacked(4, 1, DoubleVoter)
    kinds = {
        frozenset((e.first.kind, e.second.kind)) for e in cluster.oracle.evidence if isinstance(e, ConflictingVotes)
    }
    assert any(X in pair for pair in kinds)


def test_who_skips_views_without_nullifications_is_named_and_gets_no_notarization() -> None:
    cluster = attacked(4, 1, Skipper)
    assert any(isinstance(e, FalseJustification) and e.culprit == 1 for e in cluster.oracle.evidence)


def test_a_forger_is_penalised_by_everybody() -> None:
    cluster = attacked(4, 1, Forger)
    assert all({p.sender for p in node.penalties} == {1} for node in cluster.honest)
