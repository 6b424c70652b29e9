"""A fork that f + 1 validators force convicts at least f + 1, and nobody honest, in every run."""

from __future__ import annotations

from itertools import combinations

import pytest

from consensus.evidence import evidence_problem
from consensus.forks import conflicting, culprits
from consensus.justification import HeaderRules
from consensus.votes import VoteChecker
from tests.unit.consensus.forks import ForkCluster
from tests.unit.consensus.support import CHAIN_ID, FakeSignatures

SEEDS = {4: range(200), 7: range(20)}


def forks(seed: int, n: int) -> int:
    """Conflicting pairs of chains in one run, each of them judged."""
    cluster = ForkCluster(seed, n)
    cluster.run_phases()
    rules = HeaderRules(1, CHAIN_ID, cluster.validators, cluster.genesis)
    checker = VoteChecker(CHAIN_ID, cluster.validators, FakeSignatures())
    chains = [cluster.chain(node) for node in cluster.nodes]
    pairs = [(one, other) for one, other in combinations(chains, 2) if conflicting(one, other)]
    for one, other in pairs:
        found = culprits(one, other, rules, checker)
        named = {evidence.culprit for evidence in found}
        assert named <= cluster.liars, f"seed {seed}: honest {named - cluster.liars} accused"
        assert len(named) >= cluster.validators.f + 1, f"seed {seed}: only {named} named"
        assert all(evidence_problem(evidence, rules, checker) is None for evidence in found)

    assert {evidence.culprit for evidence in cluster.unwatched.evidence} <= cluster.liars
    return len(pairs)


@pytest.mark.parametrize("n", SEEDS)
def test_every_forced_fork_names_more_than_f_and_nobody_honest(n: int) -> None:
    forked = sum(1 for seed in SEEDS[n] if forks(seed, n))
    assert forked > len(SEEDS[n]) // 2, f"{forked} of {len(SEEDS[n])} runs forked"
