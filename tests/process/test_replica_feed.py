"""A real replica process and servers that lie, break off, or are down; over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from ledger.codes import Code
from ledger.types import Block
from ledger.wire import decode_batch, decode_envelope, encode_batch, encode_envelope
from lossbook.v1 import gateway_pb2, gateway_pb2_grpc
from lossbook_sdk.errors import NodeRefused
from replica.resync import resync
from tests.process.network import free_ports
from tests.support.chain import Chain, altered, altered_certificate
from tests.support.chain_server import ChainServer, identity_of
from tests.support.insurers import INSURERS, SUPERVISOR, Organisation, claim_notify, claim_path, policy_issue
from tests.support.replica_process import ReplicaProcess

LYING, HONEST = INSURERS[0], INSURERS[1]


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Thirty blocks: a paid claim in the first, then one policy a block, every third without its own certificate."""
    made = Chain()
    made.block([made.ledger.envelope([policy_issue(), claim_notify(), *claim_path(70_000)])])
    for at in range(2, 30):
        policy = policy_issue(policy_id=b"policy-%09d" % at)
        made.block([made.ledger.envelope([policy])], finalized=at % 3 != 0)
    made.block()
    return made


class Replicas:
    """A directory with replicas that are killed at the end of the test."""

    def __init__(self, path: Path, chain: Chain, stack: contextlib.ExitStack) -> None:
        self.path = path
        self.chain = chain
        self._stack = stack

    def server(self, organisation: Organisation, blocks: Sequence[Block]) -> ChainServer:
        return self._stack.enter_context(ChainServer(organisation, self.chain.genesis, blocks))

    def replica(self, *sources: str, organisation: Organisation = SUPERVISOR) -> ReplicaProcess:
        public, http = free_ports(2)
        made = ReplicaProcess.create(
            self.path,
            self.chain.genesis,
            organisation,
            public=public,
            http=http,
            settings={"follow.sources": ",".join(sources), "follow.trusting_period_days": "3650"},
        )
        self._stack.callback(made.kill)
        return made


@pytest.fixture
def replicas(tmp_path: Path, chain: Chain) -> Iterator[Replicas]:
    with contextlib.ExitStack() as stack:
        yield Replicas(tmp_path, chain, stack)


def forged_operation(block: Block) -> Block:
    """The block with the policy's id altered in transit."""
    batch = block.batches[0]
    envelope = decode_envelope(batch.envelopes[0])
    body = envelope.body.replace(b"policy-0", b"policy-9")
    assert body != envelope.body
    raw = encode_envelope(body, envelope.signatures)
    return altered(block, batches=(decode_batch(encode_batch(batch.header.raw, batch.signature, (raw,))),))


def changed(chain: Chain, height: int, block: Block) -> list[Block]:
    return [block if each.header.height == height else each for each in chain.blocks]


def test_follows_reports_and_answers(replicas: Replicas, chain: Chain) -> None:
    server = replicas.server(HONEST, chain.blocks)
    replica = replicas.replica(server.source)
    replica.start()
    status = replica.wait_until(lambda status: status.height == 30)
    record = chain.ledger.state.height_record(30)
    assert record is not None
    assert status.state_root == record.state_root.hex()
    assert status.receipts_root == record.receipts_root.hex()
    assert status.lag_blocks == 0
    assert status.signatures_verified > 29 * 6

    latest, first = replica.report(), replica.report(1)
    assert (latest.height, first.height) == (30, 1)
    (row,) = latest.rows
    assert (row.line, row.insurer, row.currency) == ("Home", "insurer-1", "USD")
    assert (row.policies, row.claims, row.paid_claims, row.paid_minor) == (29, 1, 1, 70_000)
    assert first.rows[0].policies == 1
    assert replica.report(17).rows[0].policies == 17
    with pytest.raises(NodeRefused):
        replica.report(31)

    assert replica.page("/livez") == (200, "ok\n")
    assert replica.page("/readyz?verbose")[0] == 200
    assert "lossbook_executed_height 30.0" in replica.page("/metrics")[1]
    assert replica.stop() == 0


def test_a_submission_is_refused_with_an_explanation(replicas: Replicas, chain: Chain) -> None:
    server = replicas.server(HONEST, chain.blocks)
    replica = replicas.replica(server.source)
    replica.start()
    replica.wait_until(lambda status: status.height == 30)

    async def submit() -> gateway_pb2.SubmitResponse:
        identity = identity_of(INSURERS[2], chain.genesis, "client")
        address = json.loads(replica.said().splitlines()[0])["public"]
        async with identity.channel(SUPERVISOR.id, address) as channel:
            envelope = chain.ledger.envelope([policy_issue()]).raw
            stub = gateway_pb2_grpc.GatewayServiceStub(channel)
            return await stub.Submit(gateway_pb2.SubmitRequest(envelope=envelope), metadata=identity.metadata)

    answer = asyncio.run(submit())
    assert answer.status.stage == gateway_pb2.STAGE_REJECTED
    assert answer.status.rejection.code == Code.READ_ONLY
    assert len(answer.status.rejection.text) > 20


def test_a_forged_operation_names_height_and_culprit_and_another_node_is_followed(
    replicas: Replicas, chain: Chain
) -> None:
    liar = replicas.server(LYING, changed(chain, 11, forged_operation(chain.blocks[10])))
    honest = replicas.server(HONEST, chain.blocks)
    replica = replicas.replica(liar.source, honest.source)
    replica.start()
    status = replica.wait_until(lambda status: status.height == 30)
    assert status.last_fault is not None
    assert (status.last_fault["height"], status.last_fault["source"]) == (11, LYING.id)
    assert status.last_fault["kind"] == "forged block"
    first, second = status.sources
    assert (first.organisation, first.state) == (LYING.id, "distrusted")
    assert (second.organisation, second.state) == (HONEST.id, "following")
    assert status.state_root == chain.ledger.state.height_record(30).state_root.hex()  # type: ignore[union-attr]
    assert "lossbook_replica_sources_lost_total" in replica.page("/metrics")[1]
    assert LYING.id in replica.said()


def test_a_forged_certificate_is_refused(replicas: Replicas, chain: Chain) -> None:
    block, other = chain.blocks[6], chain.finalization(chain.blocks[3].header)
    assert block.finalization is not None
    forged = altered(block, finalization=altered_certificate(block.finalization, signatures=other.signatures))
    liar = replicas.server(LYING, changed(chain, 7, forged))
    replica = replicas.replica(liar.source)
    replica.start()
    status = replica.wait_until(lambda status: status.last_fault is not None and status.height == 5)
    assert status.last_fault is not None
    assert (status.last_fault["kind"], status.last_fault["height"]) == ("forged certificate", 7)
    assert status.sources[0].state == "distrusted"
    code, page = replica.page("/readyz")
    assert code == 503
    assert "no source can be followed" in page


def test_resumes_at_its_height_after_sigkill(replicas: Replicas, chain: Chain) -> None:
    server = replicas.server(HONEST, chain.blocks[:20])
    replica = replicas.replica(server.source)
    replica.start()
    replica.wait_until(lambda status: status.height == 20)
    replica.kill()
    server.add(chain.blocks[20:])
    replica.start()
    replica.wait_until(lambda status: status.height == 30)
    follows = [json.loads(line) for line in replica.said().splitlines() if '"following"' in line]
    assert [line["from_height"] for line in follows] == [1, 21]


def test_fails_over_while_following_when_its_source_is_shut_down(replicas: Replicas, chain: Chain) -> None:
    first = replicas.server(LYING, chain.blocks[:9])
    second = replicas.server(HONEST, chain.blocks)
    replica = replicas.replica(first.source, second.source)
    replica.start()
    replica.wait_until(lambda status: status.height == 8)  # block 9 has no certificate of its own
    first.stop()
    status = replica.wait_until(lambda status: status.height == 30)
    assert status.last_fault is None
    assert "truncated stream" in status.sources[0].last_error


def test_a_replica_follows_a_replica(replicas: Replicas, chain: Chain) -> None:
    server = replicas.server(HONEST, chain.blocks)
    first = replicas.replica(server.source)
    first.start()
    first.wait_until(lambda status: status.height == 30)
    address = json.loads(first.said().splitlines()[0])["public"]
    second = replicas.replica(f"{SUPERVISOR.id}={address}", organisation=INSURERS[3])
    second.start()
    status = second.wait_until(lambda status: status.height == 30)
    assert status.state_root == first.status().state_root


def test_a_home_in_use_and_a_port_taken_are_one_clear_line(replicas: Replicas, chain: Chain) -> None:
    server = replicas.server(HONEST, chain.blocks)
    replica = replicas.replica(server.source)
    replica.start()
    replica.wait_until(lambda status: status.height == 30)
    twin = ReplicaProcess(replica.home)
    twin.log = replicas.path / "twin.log"
    twin.start()
    assert twin.wait() == 1
    assert "is in use by process" in twin.said()
    assert "Traceback" not in twin.said()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other = replicas.replica(server.source)
        other.start(environment={"LOSSBOOK_LISTEN_PUBLIC": f"127.0.0.1:{taken.getsockname()[1]}"})
        assert other.wait() == 1
    assert "the port is taken" in other.said()
    assert "Traceback" not in other.said()
    assert replica.stop() == 0


def test_an_unregistered_caller_is_refused(replicas: Replicas, chain: Chain) -> None:
    server = replicas.server(HONEST, chain.blocks)
    replica = replicas.replica(server.source)
    replica.start()
    replica.wait_until(lambda status: status.height == 30)
    address = json.loads(replica.said().splitlines()[0])["public"]

    async def call() -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = gateway_pb2_grpc.GatewayServiceStub(channel)
            try:
                await stub.Submit(gateway_pb2.SubmitRequest(), timeout=2)
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    assert asyncio.run(call()) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_stops_quickly_in_the_middle_of_following(replicas: Replicas, chain: Chain) -> None:
    server = replicas.server(HONEST, chain.blocks)
    replica = replicas.replica(server.source)
    for start in range(1, 5):
        replica.start()
        until = time.monotonic() + 20
        while replica.said().count('"following"') < start and time.monotonic() < until:
            time.sleep(0.01)
        assert replica.stop() == 0
    replica.start()
    assert replica.wait_until(lambda status: status.height == 30).height == 30


def test_damaged_stores_are_one_clear_line_and_resync_rebuilds_them(replicas: Replicas, chain: Chain) -> None:
    server = replicas.server(HONEST, chain.blocks)
    replica = replicas.replica(server.source)
    replica.start()
    replica.wait_until(lambda status: status.height == 30)
    assert replica.stop() == 0
    for file in [*(replica.home / "state").glob("*.log"), *(replica.home / "state").glob("*.ldb")]:
        raw = bytearray(file.read_bytes())
        for at in range(100, len(raw), 500):
            raw[at] ^= 1
        file.write_bytes(raw)

    replica.start()
    assert replica.wait() == 1
    assert "lossbook replica resync" in replica.said()
    assert "Traceback" not in replica.said()

    kept = resync(replica.home, "bits flipped")
    assert (kept / "state").exists()
    replica.start()
    status = replica.wait_until(lambda status: status.height == 30)
    record = chain.ledger.state.height_record(30)
    assert record is not None
    assert status.state_root == record.state_root.hex()
