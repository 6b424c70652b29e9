"""The whole protocol: happy path, dead leaders, loss, crashes."""

from __future__ import annotations

import pytest

from tests.unit.consensus.cluster import Cluster


def test_four_nodes_finalize_a_transaction() -> None:
    cluster = Cluster(4)
    cluster.run(50)
    transaction = cluster.submit()
    cluster.run_until(lambda: cluster.final_everywhere(transaction), within_ms=200)
    cluster.oracle.check_chain()


@pytest.mark.parametrize("n", range(1, 11))
def test_any_number_of_validators_makes_progress_with_f_of_them_dead(n: int) -> None:
    cluster = Cluster(n)
    cluster.run(50)
    faults = (n - 1) // 3
    for node in cluster.nodes[:faults]:
        node.crash()
    alive = range(faults, n)
    for _ in range(5):
        transaction = cluster.submit()
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx, alive))  # type: ignore[misc]
    cluster.oracle.check_chain()
