"""A validator that starts late fetches the state from running daemons, one of which lies; it is killed on the way, goes
on, and is a validator like the others."""

from __future__ import annotations

import secrets
from pathlib import Path

from ledger.types import Receipt
from ledger.wire import decode_receipt, envelope_id, parse
from lossbook.v1 import (
    block_pb2,
    blocks_pb2,
    blocks_pb2_grpc,
    envelope_pb2,
    gateway_pb2,
    peer_pb2,
    query_pb2,
    query_pb2_grpc,
)
from store.check import check_home
from store.findings import Verdict
from store.state import LevelStateStore
from tests.process.network import Network
from tests.support.insurers import policy_issue

OTHERS = ("alpha", "beta", "gamma")
AT_ONCE = 1  #: request for parts that an honest one answers before it waits (``snapshot_server``)
SETTINGS = {"consensus.snapshot_blocks": "8"}


def issue(network: Network, by: str, to: str) -> bytes:
    """One policy, final; the envelope."""
    raw = network.envelope(by, policy_issue(policy_id=secrets.token_bytes(16)), desks=("underwriter",))
    assert network.submit(to, raw).stage == gateway_pb2.STAGE_FINAL
    return raw


def receipt(network: Network, name: str, raw: bytes) -> Receipt:
    with network.channel(name) as channel:
        query = query_pb2_grpc.QueryServiceStub(channel)
        asked = envelope_id(parse(envelope_pb2.Envelope, raw).body)
        answer = query.GetReceipt(
            query_pb2.GetReceiptRequest(envelope_id=asked), metadata=network.metadata(), timeout=10
        )
    return decode_receipt(answer.receipt)


def subscribe(network: Network, name: str, height: int) -> block_pb2.Block:
    """The block of a height, from a node's feed."""
    with network.channel(name) as channel:
        stub = blocks_pb2_grpc.BlocksServiceStub(channel)
        asked = iter([blocks_pb2.SubscribeRequest(from_height=height, credit_bytes=1)])
        return next(iter(stub.Subscribe(asked, metadata=network.metadata(), timeout=10))).block


def blocks_from(network: Network, name: str) -> int:
    first = network.detail(name)["blocks_from"]
    assert isinstance(first, int)
    return first


def started(network: Network, name: str, mode: str) -> None:
    """A daemon with small parts (``snapshot_server``)."""
    program = (str(Path(__file__).with_name("snapshot_server.py")), mode, name, str(network.path))
    network.start(name, program=program)


def asked_for_leaves(network: Network) -> list[tuple[str, int]]:
    """Who was asked for leaves, from where on."""
    lines = [line.split() for line in (network.path / "asked").read_text().splitlines()]
    return [(name, int(first)) for name, log, first in lines if int(log) == peer_pb2.SNAPSHOT_LOG_LEAVES]


def killed_on_the_way(network: Network, name: str) -> int:
    """Start a node, kill it once both honest ones have served some and keep it waiting; how many leaves it has."""
    asked = network.path / "asked"
    started(network, name, "taker")

    def both_wait() -> bool:
        return asked.exists() and all(asked.read_text().count(other) > AT_ONCE for other in OTHERS[:2])

    network.wait_until("both were asked for more", both_wait)
    assert network.detail(name)["snapshot"], "it says how far it is; the turn that asked has ended, too"
    network.daemons[name].kill()
    store = LevelStateStore(network.home(name) / "state")
    progress, genesis = store.import_progress(), store.height_record(0)
    assert progress is not None
    assert genesis is not None
    assert store.executed_height() == 0, "what has come in only in part is not executed on"
    assert progress.leaves > genesis.leaf_count
    store.close()
    return progress.leaves


def test_a_late_validator_takes_a_snapshot_and_is_one_like_the_others(tmp_path: Path) -> None:
    with Network.create(tmp_path, settings=SETTINGS) as network:
        for name, mode in zip(OTHERS, ("honest", "honest", "liar"), strict=True):
            started(network, name, mode)
        for name in OTHERS:
            network.wait_ready(name)
        old = [issue(network, OTHERS[at % 3], OTHERS[at % 3]) for at in range(14)]

        leaves = killed_on_the_way(network, "delta")
        before = len(asked_for_leaves(network))
        (network.path / "open").touch()
        started(network, "delta", "taker")
        network.wait_ready("delta")
        later = asked_for_leaves(network)[before:]
        assert min(first for _, first in later) >= leaves, "nothing that it had is fetched again"
        assert "gamma" in {name for name, _ in asked_for_leaves(network)}
        assert "snapshot that does not hold" in network.daemons["delta"].said(), "the liar is found out"
        assert blocks_from(network, "delta") > 8
        assert blocks_from(network, "alpha") == 1
        assert "a snapshot has come in" in network.daemons["delta"].said()

        for raw in (old[0], old[-1]):
            assert receipt(network, "delta", raw) == receipt(network, "alpha", raw)
            again = [network.submit(name, raw) for name in ("alpha", "delta")]
            assert again[0].receipt == again[1].receipt, "a replay is answered with the first receipt by both"
        first = blocks_from(network, "delta")
        assert subscribe(network, "delta", first) == subscribe(network, "alpha", first)

        network.daemons["alpha"].kill()
        for _ in range(3):
            issue(network, "beta", "delta")  # nothing would be final without the newcomer's votes
        height = network.status("delta").executed_height
        network.wait_until("gamma executes it, too", lambda: network.status("gamma").executed_height >= height)
        roots = [
            {each.height: (each.state_root, each.receipts_root) for each in network.status(name).roots}
            for name in ("delta", "gamma")
        ]
        common = set(roots[0]) & set(roots[1])
        assert len(common) > 3
        assert all(roots[0][height] == roots[1][height] for height in common)

        assert network.daemons["delta"].stop() == 0
        findings = check_home(network.home("delta"))
        assert [finding for finding in findings if finding.verdict is Verdict.FAILURE] == []

        network.start("delta")
        network.wait_ready("delta")
        assert blocks_from(network, "delta") == first, "an ordinary restart"
