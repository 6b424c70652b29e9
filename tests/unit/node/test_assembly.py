"""What a validator is made of must belong together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.ports import CorruptStore
from tests.support.cluster import Cluster
from tests.support.insurers import INSURERS, make_genesis


def test_a_state_of_another_genesis_is_refused() -> None:
    cluster = Cluster(1)
    node = cluster.nodes[0]
    node.start()
    node.crash()
    cluster.market = replace(cluster.market, genesis=make_genesis(INSURERS))
    with pytest.raises(CorruptStore, match="began with another genesis"):
        node.start()
