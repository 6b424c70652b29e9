"""A replica follows four real nodes: roots equal at one height, an outage, a restart, a claim in its report."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from crypto.hashing import TAG_ENVELOPE_SIGNATURE
from ledger.operations import Operation
from ledger.wire import encode_envelope, encode_envelope_body
from lossbook.v1 import gateway_pb2, gateway_pb2_grpc
from tests.process.network import SUPERVISOR, Network, free_ports
from tests.support.insurers import ALL_DESKS, claim_notify, claim_path, policy_issue
from tests.support.replica_process import ReplicaProcess


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.create(tmp_path) as made:
        yield made


@pytest.fixture
def replica(network: Network) -> Iterator[ReplicaProcess]:
    public, http = free_ports(2)
    made = ReplicaProcess.create(
        network.path / "supervision",
        network.genesis,
        network.organisations[SUPERVISOR],
        public=public,
        http=http,
        settings={},
    )
    yield made
    made.kill()


def envelope(network: Network, name: str, operations: Sequence[Operation]) -> bytes:
    """Signed by the insurer's desks."""
    keys = [network.organisations[name].desks[desk] for desk in ALL_DESKS]
    body = encode_envelope_body(
        chain_id=network.genesis.chain_id,
        organisation=name,
        signer_keys=[key.public for key in keys],
        not_after_ms=time.time_ns() // 1_000_000 + 60_000,
        salt=secrets.token_bytes(16),
        operations=operations,
    )
    return encode_envelope(body, [key.sign(TAG_ENVELOPE_SIGNATURE + body) for key in keys])


def submit(network: Network, name: str, *operations: Operation) -> None:
    """Through the insurer's own node; final when this returns."""
    with network.channel(name, caller=name) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        request = gateway_pb2.SubmitRequest(envelope=envelope(network, name, operations), wait=gateway_pb2.STAGE_FINAL)
        answer = stub.Submit(request, metadata=network.metadata(), timeout=30)
    assert answer.status.stage == gateway_pb2.STAGE_FINAL, answer


def new_id() -> bytes:
    return secrets.token_bytes(16)


def test_follows_four_nodes_through_an_outage_and_its_own_restart(network: Network, replica: ReplicaProcess) -> None:
    network.start_all()
    replica.start()
    policy, claim = new_id(), new_id()
    submit(network, "alpha", policy_issue(policy_id=policy), claim_notify(policy_id=policy, claim_id=claim))
    submit(network, "beta", policy_issue(policy_id=new_id()))
    replica.wait_until(lambda status: status.operations == 3)

    network.daemons["alpha"].kill()
    submit(network, "gamma", policy_issue(policy_id=new_id()))
    status = replica.wait_until(lambda status: status.operations == 4)
    following = next(source for source in status.sources if source.state == "following")
    assert following.organisation != "alpha"
    assert status.last_fault is None

    replica.kill()
    submit(network, "delta", policy_issue(policy_id=new_id()))
    network.start("alpha")
    network.wait_ready("alpha")
    replica.start()
    submit(network, "alpha", *claim_path(70_000, claim_id=claim))
    status = replica.wait_until(lambda status: status.operations == 10)

    rows = {row.insurer: row for row in replica.report().rows}
    assert {name: row.policies for name, row in rows.items()} == {"alpha": 1, "beta": 1, "gamma": 1, "delta": 1}
    assert (rows["alpha"].claims, rows["alpha"].paid_claims, rows["alpha"].paid_minor) == (1, 1, 70_000)
    assert_roots_equal(network, replica)
    assert replica.stop() == 0


def assert_roots_equal(network: Network, replica: ReplicaProcess) -> None:
    """All five daemons computed the same state root at the greatest height that all show."""
    shown = {SUPERVISOR: dict(replica.status().roots)}
    for name in ("alpha", "beta", "gamma", "delta"):
        shown[name] = {each.height: each.state_root.hex() for each in network.status(name).roots}
    common = set.intersection(*(set(roots) for roots in shown.values()))
    assert common
    assert len({roots[max(common)] for roots in shown.values()}) == 1
