"""A validator votes twice on real nodes: it is recorded everywhere, once, and anybody can check it offline."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import grpc
import pytest

from consensus.types import Vote, VoteKind
from consensus.votes import vote_message
from ledger import wire
from ledger.evidence import EVIDENCE, EvidenceRecord
from lossbook.v1 import peer_pb2, peer_pb2_grpc, query_pb2, query_pb2_grpc
from lossbook_sdk import profile
from lossbook_sdk.profile import Node
from tests.process.network import INSURERS, SUPERVISOR, Network, free_ports
from tests.support.commands import document, lossbook
from tests.support.evidence import forged_statement
from tests.support.replica_process import ReplicaProcess

RUNNING = INSURERS[:3]
LIAR = INSURERS[3]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.create(tmp_path) as made:
        made.start_all(RUNNING)
        yield made
        for daemon in made.daemons.values():
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.said()


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
    made.start()
    yield made
    made.kill()


@contextlib.contextmanager
def said_to(network: Network, names: tuple[str, ...], *messages: peer_pb2.PeerMessage) -> Iterator[None]:
    """The liar's streams to these nodes, with these messages on them."""
    over = threading.Event()

    def requests() -> Iterator[peer_pb2.ExchangeRequest]:
        yield peer_pb2.ExchangeRequest(messages=messages)
        over.wait(60)

    def drain(call: Iterator[peer_pb2.ExchangeResponse]) -> None:
        with contextlib.suppress(grpc.RpcError):
            for _ in call:
                pass

    with contextlib.ExitStack() as stack:
        for name in names:
            channel = stack.enter_context(network.channel(name, caller=LIAR, role="node"))
            call = peer_pb2_grpc.PeerServiceStub(channel).Exchange(requests(), metadata=network.metadata())
            stack.callback(call.cancel)
            threading.Thread(target=drain, args=(call,), daemon=True).start()
        stack.callback(over.set)
        yield


def double_vote(network: Network, view: int) -> list[peer_pb2.PeerMessage]:
    """N for two blocks, genuinely signed by the liar."""
    signer = [member.id for member in network.genesis.validator_set().members].index(LIAR)
    key = network.organisations[LIAR].consensus_key
    assert key is not None
    votes = []
    for name in (b"one", b"other"):
        digest = sha256(name).digest()
        message = vote_message(network.genesis.chain_id, VoteKind.NOTARIZE, 0, view, 0, digest)
        votes.append(Vote(VoteKind.NOTARIZE, 0, view, 0, digest, signer, key.sign(message)))
    return [peer_pb2.PeerMessage(vote=wire.encode_vote(vote)) for vote in votes]


def records(network: Network, name: str) -> list[EvidenceRecord]:
    with network.channel(name) as channel:
        request = query_pb2.ListRecordsRequest(prefix=EVIDENCE.prefix, limit=100)
        answer = query_pb2_grpc.QueryServiceStub(channel).ListRecords(request, metadata=network.metadata(), timeout=10)
    return [EVIDENCE.decode(entry.value) for entry in answer.entries]


def client_profile(network: Network) -> Path:
    """A profile of alpha's, that asks bravo's node."""
    certificate, key = network.leaf("alpha", "client")
    (network.path / "client.pem").write_bytes(certificate)
    (network.path / "client.key").write_bytes(key)
    path = network.path / "client.toml"
    path.write_text(
        profile.render(
            organisation="alpha",
            genesis="genesis.json",
            chain_id=network.genesis.chain_id,
            certificate="client.pem",
            key="client.key",
            keys={},
            nodes=[Node(RUNNING[1], network.public_address(RUNNING[1]))],
        )
    )
    return path


def test_a_double_vote_that_one_node_sees_is_recorded_by_all_once_and_checked_offline(
    network: Network, replica: ReplicaProcess
) -> None:
    view = network.status(RUNNING[0]).view
    with said_to(network, RUNNING[:1], *double_vote(network, view)):
        network.wait_until("it is recorded", lambda: all(records(network, name) for name in RUNNING))
        (record,) = records(network, RUNNING[0])
        assert (record.organisation, record.epoch, record.view) == (LIAR, 0, view)
        seen = replica.wait_until(lambda status: status.evidence == {LIAR: 1})
    assert all(records(network, name) == [record] for name in RUNNING)

    # Roots are equal at a height above it, on the nodes and on the replica.
    def roots(name: str) -> dict[int, str]:
        return {each.height: each.state_root.hex() for each in network.status(name).roots}

    network.wait_until("all are as far", lambda: all(max(roots(name)) > record.height for name in RUNNING))
    theirs = dict(replica.wait_until(lambda status: status.height > record.height).roots)
    for name in RUNNING:
        shared = {height for height in roots(name).keys() & theirs.keys() if height >= record.height}
        assert shared
        assert all(roots(name)[height] == theirs[height] for height in shared)
    assert network.detail(RUNNING[2])["evidence_recorded"] == {LIAR: 1}
    assert f'lossbook_evidence_records{{organisation="{LIAR}"}} 1.0' in network.metrics(RUNNING[1])
    assert seen.evidence == {LIAR: 1}

    # The command shows it with proofs, and what it exports stands by itself.
    genesis, out, proof = network.path / "genesis.json", network.path / "it.evidence", network.path / "it.proof"
    where = ("--profile", client_profile(network))
    (listed,) = document("evidence", "list", *where)["evidence"]
    assert listed["organisation"] == LIAR
    shown = document("evidence", "show", listed["evidence"], "--out", out, "--prove", proof, *where)
    assert (shown["against"], shown["breach"], shown["in_view"]) == (LIAR, "two-notarize", view)
    checked = document("evidence", "verify", out, "--genesis", genesis, "--proof", proof)
    assert (checked["against"], checked["height"]) == (LIAR, record.height)
    assert document("proof", "verify", proof, "--genesis", genesis)["fields"]["organisation"] == LIAR
    out.write_bytes(out.read_bytes()[:-1] + bytes([out.read_bytes()[-1] ^ 1]))
    lossbook("evidence", "verify", out, "--genesis", genesis, "--proof", proof, code=4)


def test_invalid_evidence_costs_its_sender_and_is_recorded_nowhere(network: Network) -> None:
    forged = peer_pb2.PeerMessage(statement=forged_statement(0).raw)

    def penalties() -> bool:
        return f'lossbook_peer_penalties_total{{peer="{LIAR}"}} 1.0' in network.metrics(RUNNING[1])

    with said_to(network, RUNNING[1:2], forged):
        network.wait_until("it is penalised", penalties)
    assert not any(records(network, name) for name in RUNNING)
