"""Four real daemons: a policy end to end, refusals at the door, crashes, and every way not to start."""

from __future__ import annotations

import asyncio
import resource
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from contracts.records import POLICIES, PolicyState
from ledger.codes import Code
from ledger.proof_types import Proof
from ledger.proofs import verify_proof
from ledger.wire import decode_certificate, decode_header, decode_receipt, encode_envelope, envelope_id, parse
from ledger.wire.proofs import decode_envelope_proof, decode_receipt_proof, decode_record_proof
from lossbook.v1 import (
    blocks_pb2,
    blocks_pb2_grpc,
    envelope_pb2,
    gateway_pb2,
    gateway_pb2_grpc,
    peer_pb2,
    peer_pb2_grpc,
    query_pb2,
    query_pb2_grpc,
    sealed_pb2,
    sealed_pb2_grpc,
)
from lossbook_sdk.channel import Connector
from lossbook_sdk.envelopes import Signed, build_and_sign
from lossbook_sdk.nodes import Nodes
from lossbook_sdk.profile import Node
from lossbook_sdk.stream import BulkSubmitter
from lossbook_sdk.trust import Trust
from store.sealed import SealedStore
from tests.process.network import INSURERS, SUPERVISOR, Network
from tests.support.insurers import ALL_DESKS, Organisation, policy_issue


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Four nodes that stay up; tests that end one make a network of their own."""
    with Network.create(tmp_path_factory.mktemp("network")) as made:
        made.start_all()
        yield made


@pytest.fixture
def own_network(tmp_path: Path) -> Iterator[Network]:
    with Network.create(tmp_path) as made:
        yield made


def new_id() -> bytes:
    return secrets.token_bytes(16)


def id_of(raw: bytes) -> bytes:
    return envelope_id(parse(envelope_pb2.Envelope, raw).body)


def wait_executed(network: Network, name: str, height: int) -> None:
    network.wait_until(f"{name} executes {height}", lambda: network.status(name).executed_height >= height)


# -- a policy, end to end -------------------------------------------------------------------


def test_a_policy_is_accepted_final_and_proven_and_every_node_shows_it(network: Network) -> None:
    policy = new_id()
    raw = network.envelope("alpha", policy_issue(policy_id=policy), desks=("underwriter",))
    status = network.submit("alpha", raw, gateway_pb2.STAGE_PROVEN)
    assert status.stage == gateway_pb2.STAGE_PROVEN
    receipt = decode_receipt(status.receipt)
    assert receipt.operation_codes == (Code.OK,)
    proven = verify_proof(Proof(network.genesis.chain_id, decode_receipt_proof(status.proof)), network.genesis)
    assert proven.receipt == receipt

    for name in INSURERS:
        with network.channel(name, caller=SUPERVISOR) as channel:
            wait = gateway_pb2.WaitReceiptRequest(envelope_id=id_of(raw), wait=gateway_pb2.STAGE_PROVEN)
            waited = gateway_pb2_grpc.GatewayServiceStub(channel).WaitReceipt(
                wait, metadata=network.metadata(), timeout=30
            )
            assert waited.status.stage == gateway_pb2.STAGE_PROVEN  # here, too, a header certifies what is asked for
            query = query_pb2_grpc.QueryServiceStub(channel)
            request = query_pb2.GetRecordRequest(key=POLICIES.prefix + policy, prove=True)
            answer = query.GetRecord(request, metadata=network.metadata(), timeout=10)
            shown = verify_proof(Proof(network.genesis.chain_id, decode_record_proof(answer.proof)), network.genesis)
            assert shown.value == answer.value
            assert POLICIES.decode(answer.value).state == PolicyState.ISSUED
            by_id = query.GetReceipt(
                query_pb2.GetReceiptRequest(envelope_id=id_of(raw)), metadata=network.metadata(), timeout=10
            )
            assert by_id.receipt == status.receipt
            listed = query.GetEnvelopeProof(
                query_pb2.GetEnvelopeProofRequest(envelope_id=id_of(raw)), metadata=network.metadata(), timeout=10
            )
            held = verify_proof(Proof(network.genesis.chain_id, decode_envelope_proof(listed.proof)), network.genesis)
            assert held.envelope is not None
            assert held.envelope.raw == raw


def test_all_nodes_have_equal_roots_at_equal_heights(network: Network) -> None:
    for at in range(8):
        name = INSURERS[at % 4]
        network.submit(name, network.envelope(name, policy_issue(policy_id=new_id())))
    roots: dict[int, set[bytes]] = {}
    heights: dict[int, int] = {}
    for name in INSURERS:
        for each in network.status(name).roots:
            roots.setdefault(each.height, set()).add(each.state_root + each.receipts_root)
            heights[each.height] = heights.get(each.height, 0) + 1
    common = [height for height, count in heights.items() if count == len(INSURERS)]
    assert len(common) > 3
    assert all(len(roots[height]) == 1 for height in common)


def test_records_are_listed_page_by_page(network: Network) -> None:
    policies = sorted(new_id() for _ in range(5))
    raw = network.envelope("beta", *[policy_issue(policy_id=each) for each in policies])
    network.submit("beta", raw)
    found: list[bytes] = []
    after, more = b"", True
    with network.channel("beta") as channel:
        query = query_pb2_grpc.QueryServiceStub(channel)
        while more:
            request = query_pb2.ListRecordsRequest(prefix=POLICIES.prefix, after=after, limit=2)
            page = query.ListRecords(request, metadata=network.metadata(), timeout=10)
            assert len(page.entries) <= 2
            found += [entry.key[1:] for entry in page.entries]
            after, more = page.entries[-1].key, page.more
    assert found == sorted(found)
    assert set(policies) <= set(found)


def test_blocks_are_followed_from_the_first_on_without_gap(network: Network) -> None:
    network.submit("gamma", network.envelope("gamma", policy_issue(policy_id=new_id())))
    height = network.status("gamma").finalized_height
    with network.channel("gamma", caller=SUPERVISOR, role="replica") as channel:
        requests = iter([blocks_pb2.SubscribeRequest(from_height=1, credit_bytes=1 << 30)])
        call = blocks_pb2_grpc.BlocksServiceStub(channel).Subscribe(requests, metadata=network.metadata(), timeout=20)
        headers = []
        for response in call:
            headers.append(decode_header(response.block.header))
            if headers[-1].height == height:
                break
        call.cancel()
    assert [header.height for header in headers] == list(range(1, height + 1))
    assert all(child.parent_digest == parent.digest for parent, child in pairwise(headers))


def test_a_replay_through_any_gateway_is_answered_with_the_first_receipt(network: Network) -> None:
    raw = network.envelope("alpha", policy_issue(policy_id=new_id()))
    first = network.submit("alpha", raw)
    wait_executed(network, "beta", decode_receipt(first.receipt).height)
    for name in ("alpha", "beta"):
        again = network.submit(name, raw)
        assert again.receipt == first.receipt


def test_what_was_executed_is_never_called_expired_however_late_it_is_asked(network: Network) -> None:
    not_after_ms = time.time_ns() // 1_000_000 + 3_000
    raw = network.envelope("alpha", policy_issue(policy_id=new_id()), not_after_ms=not_after_ms)
    first = network.submit("alpha", raw)
    assert first.stage == gateway_pb2.STAGE_FINAL

    def lapsed() -> bool:
        network.submit("gamma", network.envelope("gamma", policy_issue(policy_id=new_id())))
        return all(network.status(name).block_time_ms > not_after_ms for name in INSURERS)

    network.wait_until("block time passes not_after", lapsed)
    for name in INSURERS:
        assert network.submit(name, raw).receipt == first.receipt


# -- refused at the door --------------------------------------------------------------------


def rejected(network: Network, raw: bytes) -> gateway_pb2.Rejection:
    status = network.submit("alpha", raw)
    assert status.stage == gateway_pb2.STAGE_REJECTED
    assert status.rejection.text
    return status.rejection


def test_invalid_envelopes_are_refused_with_code_and_advice(network: Network) -> None:
    stranger = Organisation("stranger", "insurer").desks["underwriter"]
    issue = policy_issue(policy_id=new_id())
    good = parse(envelope_pb2.Envelope, network.envelope("alpha", issue))
    altered = bytearray(good.body)
    altered[-1] ^= 1
    cases = {
        Code.WRONG_CHAIN: network.envelope("alpha", issue, chain_id=bytes(32)),
        Code.KEY_NOT_REGISTERED: network.envelope("alpha", issue, keys=[stranger]),
        Code.BAD_SIGNATURE: encode_envelope(bytes(altered), good.signatures),
        Code.MISSING_SIGNATURE: encode_envelope(good.body, list(good.signatures)[:-1]),
        Code.TOO_MANY_OPERATIONS: network.envelope("alpha", *[issue] * 1001),
        Code.MALFORMED: b"\xff\xff",
    }
    for code, raw in cases.items():
        assert rejected(network, raw).code == code, code


def test_expired_is_answered_from_block_time_and_nothing_was_ordered(network: Network) -> None:
    block_time_ms = network.status("alpha").block_time_ms
    raw = network.envelope("alpha", policy_issue(policy_id=new_id()), not_after_ms=block_time_ms - 1)
    assert network.submit("alpha", raw).stage == gateway_pb2.STAGE_EXPIRED


def test_a_copy_stripped_of_a_signature_does_not_burn_the_genuine_envelope(network: Network) -> None:
    raw = network.envelope("alpha", policy_issue(policy_id=new_id()), desks=("underwriter", "handler"))
    genuine = parse(envelope_pb2.Envelope, raw)
    stripped = encode_envelope(genuine.body, list(genuine.signatures)[:1])
    for name in INSURERS:
        with network.channel(name) as channel:
            stub = gateway_pb2_grpc.GatewayServiceStub(channel)
            answer = stub.Submit(gateway_pb2.SubmitRequest(envelope=stripped), metadata=network.metadata(), timeout=10)
            assert answer.status.stage == gateway_pb2.STAGE_REJECTED
    final = network.submit("beta", raw)
    assert decode_receipt(final.receipt).operation_codes == (Code.OK,)


# -- refused as a peer ------------------------------------------------------------------------


def exchange_code(network: Network, caller: str, role: str, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    with network.channel("alpha", caller=caller, role=role) as channel:
        call = peer_pb2_grpc.PeerServiceStub(channel).Exchange(
            iter([peer_pb2.ExchangeRequest()]), metadata=metadata, timeout=10
        )
        with pytest.raises(grpc.RpcError) as error:
            list(call)
        code: grpc.StatusCode = error.value.code()
        return code


def test_invalid_peers_are_refused_and_logged(network: Network) -> None:
    good = network.metadata()
    chain = good[0]
    assert exchange_code(network, SUPERVISOR, "node", good) is grpc.StatusCode.PERMISSION_DENIED
    assert exchange_code(network, "beta", "client", good) is grpc.StatusCode.PERMISSION_DENIED
    assert (
        exchange_code(network, "beta", "node", (chain, ("lossbook-protocol", "2")))
        is grpc.StatusCode.FAILED_PRECONDITION
    )
    assert exchange_code(network, "beta", "node", (("lossbook-chain", "00" * 32), good[1])) is (
        grpc.StatusCode.FAILED_PRECONDITION
    )
    said = network.daemons["alpha"].said()
    assert "run the same major version" in said
    assert "same genesis.json" in said
    assert 'lossbook_calls_refused_total{reason="protocol"}' in network.metrics("alpha")


# -- crashes ----------------------------------------------------------------------------------


def signers_from(network: Network, name: str, from_height: int) -> set[int]:
    """Signer indices in the certificates that a node holds of blocks from a height on."""
    found: set[int] = set()
    with network.channel(name) as channel:
        query = query_pb2_grpc.QueryServiceStub(channel)
        for height in range(from_height, network.status(name).finalized_height + 1):
            answer = query.GetBlock(query_pb2.GetBlockRequest(height=height), metadata=network.metadata(), timeout=10)
            if answer.block.HasField("finalization"):
                found.update(decode_certificate(answer.block.finalization).signers)
    return found


def test_a_sealed_blob_in_a_home_is_served_to_validators_nodes_and_a_damaged_store_stops_no_node(
    own_network: Network,
) -> None:
    network = own_network
    store = SealedStore(network.home("beta") / "sealed", network.genesis.chain_id)
    blob = secrets.token_bytes(3 << 19)
    commitment = store.put(blob)
    store.close()
    damaged = network.home("gamma") / "sealed"
    (damaged / "000005.ldb").write_bytes(b"a file of a store that has lost its CURRENT")
    network.start_all(["alpha", "beta", "gamma"])

    def fetch(to: str, role: str) -> bytes:
        with network.channel(to, "alpha", role) as channel:
            stub = sealed_pb2_grpc.SealedServiceStub(channel)
            request = sealed_pb2.GetBlobsRequest(commitments=[commitment])
            parts = list(stub.GetBlobs(request, metadata=network.metadata(), timeout=10))
        return b"".join(part.chunk for part in parts)

    assert fetch("beta", "node") == blob
    for to, role, code in (
        ("alpha", "node", grpc.StatusCode.NOT_FOUND),
        ("beta", "client", grpc.StatusCode.PERMISSION_DENIED),
        ("gamma", "node", grpc.StatusCode.UNAVAILABLE),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            fetch(to, role)
        assert refused.value.code() is code
    assert f"the sealed store {damaged} is damaged" in network.daemons["gamma"].said()
    assert network.submit("gamma", network.envelope("gamma", policy_issue())).stage == gateway_pb2.STAGE_FINAL


def test_a_killed_node_catches_up_and_its_vote_is_in_a_certificate_again(own_network: Network) -> None:
    network = own_network
    network.start_all()
    network.submit("alpha", network.envelope("alpha", policy_issue(policy_id=new_id())))
    network.daemons["delta"].kill()
    # Its insurer goes on through another's gateway.
    for _ in range(5):
        status = network.submit("alpha", network.envelope("delta", policy_issue(policy_id=new_id())))
        assert status.stage == gateway_pb2.STAGE_FINAL
    network.start("delta")
    network.wait_ready("delta")
    back_at = network.status("alpha").finalized_height + 1
    index = sorted(INSURERS).index("delta")

    def votes_again() -> bool:
        network.submit("beta", network.envelope("beta", policy_issue(policy_id=new_id())))
        return index in signers_from(network, "alpha", back_at)

    network.wait_until("delta signs again", votes_again)
    own = network.submit("delta", network.envelope("delta", policy_issue(policy_id=new_id())))
    assert own.stage == gateway_pb2.STAGE_FINAL
    height = decode_receipt(own.receipt).height
    wait_executed(network, "alpha", height)
    roots = {name: {each.height: each.state_root for each in network.status(name).roots} for name in ("alpha", "delta")}
    assert roots["alpha"][height] == roots["delta"][height]


def test_a_bulk_client_goes_to_another_node_and_back_to_its_own_once_that_serves_again(own_network: Network) -> None:
    network = own_network
    network.start_all()
    leaf, key = network.leaf("alpha", "client")
    members = [Node(name, network.public_address(name)) for name in ("alpha", "beta")]
    moves: list[str] = []

    def one() -> Signed:
        desks = network.organisations["alpha"].desks
        return build_and_sign(
            chain_id=network.genesis.chain_id,
            organisation="alpha",
            keys=[desks[desk] for desk in ALL_DESKS],
            operations=[policy_issue(policy_id=new_id())],
        )

    async def story() -> None:
        nodes = Nodes(Connector(Trust(network.genesis), leaf, key), members)

        def moved(left: Node | None, taken: Node, reason: str) -> None:
            moves.append(taken.organisation)

        async with BulkSubmitter(nodes, return_s=0.2, on_move=moved) as bulk:
            assert (await (await bulk.submit(one()))).node == "alpha"
            network.daemons["alpha"].kill()
            assert (await (await bulk.submit(one()))).node == "beta"
            network.start("alpha")
            async with asyncio.timeout(60):
                while (status := await (await bulk.submit(one()))).node != "alpha":
                    assert status.receipt is not None
                    assert status.receipt.code == Code.OK
        await nodes.close()

    asyncio.run(story())
    assert moves == ["alpha", "beta", "alpha"]


def test_a_network_whose_nodes_were_all_killed_goes_on_where_it_was(own_network: Network) -> None:
    network = own_network
    network.start_all()
    raw = network.envelope("alpha", policy_issue(policy_id=new_id()))
    first = network.submit("alpha", raw)
    for name in INSURERS:
        network.daemons[name].kill()
    network.start_all()
    assert network.submit("beta", raw).receipt == first.receipt
    later = network.submit("alpha", network.envelope("alpha", policy_issue(policy_id=new_id())))
    assert decode_receipt(later.receipt).height > decode_receipt(first.receipt).height


def test_daemons_told_to_end_leave_cleanly_and_quickly(own_network: Network) -> None:
    network = own_network
    network.start_all()
    for name in INSURERS:
        assert network.daemons[name].stop(timeout_s=10) == 0, network.daemons[name].said()
        assert "Traceback" not in network.daemons[name].said()


# -- every way not to start ---------------------------------------------------------------------


def start_fails(network: Network, name: str, *arguments: str, code: int = 1) -> str:
    """What a node says that does not start; with this exit status and without a traceback."""
    command = [sys.executable, "-m", "cli", "node", "start", "--home", str(network.home(name)), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_invalid_start_with_a_port_that_is_taken(network: Network) -> None:
    taken = network.public_address("beta")
    with Network.create(network.path / "second", insurers=("alpha",)) as other:
        said = start_fails(other, "alpha", "--set", f"listen.public={taken}")
    assert taken in said
    assert "the port is taken" in said


def test_invalid_start_in_a_home_that_is_in_use(network: Network) -> None:
    said = start_fails(network, "alpha")
    assert "use" in said
    assert str(network.daemons["alpha"].process.pid) in said
    assert network.daemons["alpha"].running


def test_invalid_start_with_the_genesis_of_another_network(own_network: Network, tmp_path: Path) -> None:
    with Network.create(tmp_path / "other", insurers=("alpha", "beta")) as other:
        (own_network.home("alpha") / "genesis.json").write_bytes((other.path / "genesis.json").read_bytes())
    said = start_fails(own_network, "alpha")
    assert "genesis" in said
    assert own_network.genesis.chain_id.hex()[:16] in said


def test_invalid_start_with_another_members_consensus_key(own_network: Network) -> None:
    key = own_network.home("beta") / "keys" / "consensus.key"
    (own_network.home("alpha") / "keys" / "consensus.key").write_bytes(key.read_bytes())
    assert "not the key on the card" in start_fails(own_network, "alpha")


def test_invalid_start_with_a_setting_that_cannot_be(own_network: Network) -> None:
    said = start_fails(own_network, "alpha", "--set", "consensus.delay_ms=5", code=2)
    assert "consensus.delay_ms" in said


def test_a_node_with_a_damaged_vote_log_observes_and_says_how_to_recover(own_network: Network) -> None:
    network = own_network
    network.start_all()
    network.submit("alpha", network.envelope("alpha", policy_issue(policy_id=new_id())))
    network.daemons["delta"].kill()
    (log,) = sorted((network.home("delta") / "votes").glob("*.log"))
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    network.start("delta")
    network.wait_until("delta answers", lambda: answers(network, "delta"))
    status = network.submit("alpha", network.envelope("alpha", policy_issue(policy_id=new_id())))
    height = decode_receipt(status.receipt).height
    wait_executed(network, "delta", height)
    assert network.detail("delta")["voting"] is False
    refused = network.submit("delta", network.envelope("delta", policy_issue(policy_id=new_id())))
    assert refused.rejection.code == Code.NOT_VOTING
    assert "node resync" in network.daemons["delta"].said()


def test_a_node_whose_disk_is_full_votes_no_more_goes_on_answering_and_recovers(own_network: Network) -> None:
    network = own_network
    network.start_all()
    policy = new_id()
    first = network.submit("delta", network.envelope("delta", policy_issue(policy_id=policy)))
    assert first.stage == gateway_pb2.STAGE_FINAL, first
    wait_executed(network, "delta", decode_receipt(first.receipt).height)
    # No file may grow from now on: what a full disk does to a write (EFBIG instead of ENOSPC).
    resource.prlimit(network.daemons["delta"].process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    status = network.submit("alpha", network.envelope("alpha", policy_issue(policy_id=new_id())))
    assert status.stage == gateway_pb2.STAGE_FINAL  # the other three go on
    network.wait_until("delta notices", lambda: network.detail("delta")["voting"] is False)
    assert "disk full" in str(network.detail("delta")["failure"])
    refused = network.submit("delta", network.envelope("delta", policy_issue(policy_id=new_id())))
    assert refused.rejection.code == Code.NOT_VOTING
    with network.channel("delta") as channel:
        query = query_pb2_grpc.QueryServiceStub(channel)
        request = query_pb2.GetRecordRequest(key=POLICIES.prefix + policy)
        assert query.GetRecord(request, metadata=network.metadata(), timeout=10).found
    assert "lossbook_voting 0.0" in network.metrics("delta")
    network.daemons["delta"].stop()
    network.start("delta")
    network.wait_ready("delta")
    again = network.submit("delta", network.envelope("delta", policy_issue(policy_id=new_id())))
    assert again.stage == gateway_pb2.STAGE_FINAL


def answers(network: Network, name: str) -> bool:
    try:
        network.status(name)
    except grpc.RpcError:
        return False
    return True
