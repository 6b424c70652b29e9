"""Changes of the validator set on real daemons, under load, with one of them down."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Collection
from pathlib import Path

import grpc

from contracts.records import POLICIES
from crypto import keyfile
from ledger import operations as ops
from ledger.codes import Code
from ledger.wire import decode_receipt
from ledger.wire.snapshots import decode_manifest
from lossbook.v1 import gateway_pb2, peer_pb2, peer_pb2_grpc, query_pb2, query_pb2_grpc
from tests.process.network import INSURERS, Network
from tests.support.commands import lossbook
from tests.support.insurers import policy_issue
from tests.support.voting import proposal_id

DAY_MS = 86_400_000
STAYING = ("alpha", "beta", "gamma")


class Load(threading.Thread):
    """A client of one node that never stops, and keeps what was acknowledged as final."""

    def __init__(self, network: Network, to: str) -> None:
        super().__init__(name=f"load on {to}", daemon=True)
        self.network = network
        self.to = to
        self.final: list[bytes] = []
        self.failed: list[str] = []
        self._ends = threading.Event()

    def run(self) -> None:
        while not self._ends.is_set():
            policy = secrets.token_bytes(16)
            raw = self.network.envelope(self.to, policy_issue(policy_id=policy), desks=("underwriter",))
            try:
                status = self.network.submit(self.to, raw)
            except grpc.RpcError as error:
                self.failed.append(str(error))
                continue
            if status.stage == gateway_pb2.STAGE_FINAL and decode_receipt(status.receipt).code == Code.OK:
                self.final.append(policy)
            else:
                self.failed.append(str(status))

    def end(self) -> None:
        self._ends.set()
        self.join(60)


PATIENT = {
    "LOSSBOOK_CONSENSUS_DELAY_MS": "2000",
    "LOSSBOOK_CONSENSUS_SKIP_MS": "20000",
    "LOSSBOOK_CONSENSUS_TIMEOUT_MS_MAX": "20000",
}
"""A D that holds on a busy machine, too: a node takes blocks if it heard of no snapshot within 2 D."""


def admin(network: Network, by: str, operation: ops.Operation) -> None:
    """An operation of an insurer's admin, final and accepted."""
    status = network.submit(by, network.envelope(by, operation, desks=("admin",)))
    assert decode_receipt(status.receipt).operation_codes == (Code.OK,), (by, operation)


def decide(network: Network, name: str, change: ops.SetChange | ops.CardChange, by: Collection[str]) -> None:
    """Proposed by the first of these, voted for by the others."""
    first, *others = by
    epoch = network.detail(first)["epoch"]
    assert isinstance(epoch, int)
    proposal = ops.GovernancePropose(
        proposal_id(name),
        epoch,
        time.time_ns() // 1_000_000 + DAY_MS,
        set_change=change if isinstance(change, ops.SetChange) else None,
        card_change=change if isinstance(change, ops.CardChange) else None,
    )
    admin(network, first, proposal)
    for voter in others:
        admin(network, voter, ops.GovernanceVote(proposal_id(name), True))


def reach(network: Network, epoch: int, names: Collection[str]) -> None:
    for name in names:
        network.wait_until(f"{name} is in epoch {epoch}", lambda name=name: network.detail(name)["epoch"] == epoch)  # type: ignore[misc]


def consensus_keys(network: Network, name: str) -> set[str]:
    return {path.name for path in (network.home(name) / "keys").glob("consensus*.key")}


def reasons(network: Network, name: str) -> list[str]:
    """Their kinds, as the node lists them."""
    found = network.detail(name)["reasons"]
    assert isinstance(found, list)
    return [reason["kind"] for reason in found]


def told(network: Network, name: str, *kinds: str) -> str:
    """What an operator reads in the node's home, once it is of one of these kinds."""
    found: dict[str, str] = {}

    def said() -> bool:
        done = lossbook("node", "status", "--home", network.home(name), "--json", code=None)
        given = json.loads(done.stdout).get("detail", {}).get("reasons", ()) if done.stdout else ()
        found.update({each["kind"]: each["text"] for each in given})
        return any(kind in found for kind in kinds)

    network.wait_until(f"{name} says {kinds}", said)
    return next(found[kind] for kind in kinds if kind in found)


def answers(network: Network, name: str) -> bool:
    try:
        network.status(name)
    except grpc.RpcError:
        return False
    return True


def wait_keys(network: Network, name: str, *expected: str) -> None:
    network.wait_until(
        f"{name} holds {expected}", lambda: consensus_keys(network, name) == {f"{key}.key" for key in expected}
    )


def wait_signing(network: Network, name: str) -> None:
    network.wait_until(f"{name} signs", lambda: network.detail(name)["signing"] == "signing")


def lost_peers(network: Network, name: str) -> set[str]:
    peers = network.detail(name)["peers"]
    assert isinstance(peers, dict)
    return {peer for peer, state in peers.items() if state != "connected"}


def wait_level(network: Network, names: Collection[str]) -> int:
    """Until all have executed what the first of these has; that height."""
    height = network.status(next(iter(names))).executed_height
    for name in names:
        network.wait_until(
            f"{name} executes {height}",
            lambda name=name: network.status(name).executed_height >= height,  # type: ignore[misc]
        )
    return height


def has_all(network: Network, name: str, policies: Collection[bytes]) -> bool:
    with network.channel(name) as channel:
        query = query_pb2_grpc.QueryServiceStub(channel)
        for policy in policies:
            request = query_pb2.GetRecordRequest(key=POLICIES.prefix + policy)
            if not query.GetRecord(request, metadata=network.metadata(), timeout=10).value:
                return False
    return True


def offered(network: Network, name: str) -> int:
    """Height of the snapshot that a node serves; it makes a new one every ten seconds at most."""
    with network.channel(name, caller="delta", role="node") as channel:
        stub = peer_pb2_grpc.SyncServiceStub(channel)
        answer = stub.GetSnapshot(peer_pb2.GetSnapshotRequest(), metadata=network.metadata(), timeout=10)
        return decode_manifest(answer.manifest).ancestors[0].height


def assert_equal_roots(network: Network, names: Collection[str]) -> None:
    """At every height that all of them still list, and there is one."""
    listed = [
        {each.height: each.state_root + each.receipts_root for each in network.status(name).roots} for name in names
    ]
    common = set.intersection(*[set(roots) for roots in listed])
    assert common
    assert all(len({roots[height] for roots in listed}) == 1 for height in common)


def test_a_member_joins_and_another_leaves_while_one_is_down_and_clients_go_on(tmp_path: Path) -> None:
    with Network.create(tmp_path, protected=("gamma",)) as network:
        network.start_all()
        for name in INSURERS:
            wait_keys(network, name, "consensus", "consensus-1")
        loads = [Load(network, "alpha"), Load(network, "beta")]
        for load in loads:
            load.start()

        # One is down when an organisation that the genesis does not know is voted in; its node has to catch up first.
        network.daemons["delta"].kill()
        card = network.newcomer("echo")
        network.start("echo")
        assert "Either echo is no member of the network as they know it yet" in told(network, "echo", "not-let-in")
        decide(network, "echo joins", ops.SetChange(add=(card,)), STAYING)
        reach(network, 1, (*STAYING, "echo"))
        assert network.detail("echo")["validators"] == ["alpha", "beta", "delta", "echo", "gamma"]
        wait_signing(network, "echo")
        network.submit("echo", network.envelope("echo", policy_issue(policy_id=secrets.token_bytes(16))))
        entered = network.status("alpha").executed_height

        # Who was down follows into the epoch whose key it had made in time, by a snapshot; the old keys are gone
        # everywhere.
        network.wait_until(
            "snapshots of the new epoch", lambda: all(offered(network, name) >= entered for name in STAYING)
        )
        network.start("delta", PATIENT | {"LOSSBOOK_CONSENSUS_SNAPSHOT_BLOCKS": "4"})
        network.wait_ready("delta")
        assert network.detail("delta")["blocks_from"] != 1
        reach(network, 1, ("delta",))
        wait_signing(network, "delta")
        for name in INSURERS:
            wait_keys(network, name, "consensus-1", "consensus-2")
        assert keyfile.is_encrypted(network.home("gamma") / "keys" / "consensus-2.key")
        wait_keys(network, "echo", "consensus", "consensus-2")

        # An organisation's ledger key is replaced; its node starts in a later epoch, without the key on its first card.
        decide(
            network, "gamma's ledger key", ops.CardChange(network.renewed("gamma")), ("alpha", "beta", "delta", "echo")
        )
        network.wait_until("the others let go of gamma", lambda: "gamma" in lost_peers(network, "alpha"))
        # Whether the vote reached it before they did: its operator is told by `node status` there, and by /readyz.
        text = told(network, "gamma", "card-replaced", "not-let-in")
        assert "ledger key" in text
        assert f"[-] certificate: {text}" in network.readyz("gamma")
        found = lossbook("doctor", "--home", network.home("gamma"), code=1).output
        assert text in found
        assert "put the new ledger key into the home" in found.replace("Put", "put")
        assert network.daemons["gamma"].stop() == 0
        network.put_ledger_key("gamma")
        network.start("gamma")
        network.wait_ready("gamma")
        wait_signing(network, "gamma")
        network.wait_until("gamma is reached again", lambda: not lost_peers(network, "alpha"))

        # Delta is removed: it follows, is read, and sends clients elsewhere.
        decide(network, "delta leaves", ops.SetChange(remove=("delta",)), ("alpha", "beta", "gamma", "echo"))
        reach(network, 2, (*STAYING, "echo", "delta"))
        assert network.detail("alpha")["validators"] == ["alpha", "beta", "echo", "gamma"]
        wait_keys(network, "delta", "consensus-2")
        for load in loads:
            load.end()
        everybody = (*INSURERS, "echo")
        wait_level(network, everybody)
        assert network.detail("delta")["voting"] is False
        assert reasons(network, "delta")[0] == "no-seat"
        refused = network.submit("delta", network.envelope("delta", policy_issue(policy_id=secrets.token_bytes(16))))
        assert refused.rejection.code == Code.NOT_VOTING
        final = [policy for load in loads for policy in load.final]
        assert len(final) > 20, "clients went on all the time"
        assert not [failed for load in loads for failed in load.failed]
        assert all(has_all(network, name, final) for name in everybody)
        assert_equal_roots(network, everybody)

        # A node whose keys are lost starts all the same, observes, and has one for the next epoch.
        assert network.daemons["echo"].stop() == 0
        for name in consensus_keys(network, "echo"):
            (network.home("echo") / "keys" / name).unlink()
        network.start("echo")
        network.wait_until("echo answers", lambda: answers(network, "echo"))
        network.wait_until("echo says what it lacks", lambda: "no-key" in reasons(network, "echo"))
        wait_keys(network, "echo", "consensus-3")
