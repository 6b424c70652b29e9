"""Disk full and failing syncs on real daemons and real file systems: voting stops, reading does not.

Four nodes; one of them has a store, or its home, on a file system of some megabytes. What single operations may fail,
and what may lie on disk then, is shown with planted errors in ``unit/node/test_effect_boundaries.py``.
"""

from __future__ import annotations

import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from consensus.records import OwnVote
from contracts.records import POLICIES
from ledger.codes import Code
from ledger.wire import decode_record
from lossbook.v1 import blocks_pb2, blocks_pb2_grpc, gateway_pb2, query_pb2, query_pb2_grpc
from store.votelog import VoteLog
from tests.process.network import INSURERS, SUPERVISOR, Network
from tests.process.small_disk import SmallDisk, wait_failed, why_not
from tests.support.insurers import policy_issue

FULL = "delta"
OTHERS = [name for name in INSURERS if name != FULL]
ELSEWHERE = "shown with planted errors in unit/node/test_effect_boundaries.py and unit/node/test_loop.py"

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no mounts here ({why_not()}); {ELSEWHERE}")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network.create(tmp_path_factory.mktemp("network")) as made:
        made.start_all()
        yield made
        for name in INSURERS:
            assert "Traceback" not in made.daemons[name].said()


def issue(network: Network, by: str, to: str | None = None) -> gateway_pb2.EnvelopeStatus:
    return network.submit(to or by, network.envelope(by, policy_issue(policy_id=secrets.token_bytes(16))))


def page(network: Network, name: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{network._http_address(name)}/{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def health(network: Network, name: str, service: str) -> int:
    with network.channel(name) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return int(health_pb2_grpc.HealthStub(channel).Check(request, metadata=network.metadata(), timeout=10).status)


def proved(network: Network, name: str, policy: bytes) -> bool:
    """Whether the node proves the record: one that it executed last it can prove with the next block only."""
    with network.channel(name, caller=SUPERVISOR, role="replica") as channel:
        query = query_pb2_grpc.QueryServiceStub(channel)
        record = query_pb2.GetRecordRequest(key=POLICIES.prefix + policy, prove=True)
        return query.GetRecord(record, metadata=network.metadata(), timeout=10).proof.ByteSize() > 0


def reads(network: Network, name: str, policy: bytes, height: int) -> None:
    """A record with its proof, its receipt's block, and the stream of blocks."""
    assert proved(network, name, policy)
    with network.channel(name, caller=SUPERVISOR, role="replica") as channel:
        query = query_pb2_grpc.QueryServiceStub(channel)
        block = query_pb2.GetBlockRequest(height=height)
        assert query.GetBlock(block, metadata=network.metadata(), timeout=10).found
        requests = iter([blocks_pb2.SubscribeRequest(from_height=1, credit_bytes=1 << 30)])
        call = blocks_pb2_grpc.BlocksServiceStub(channel).Subscribe(requests, metadata=network.metadata(), timeout=20)
        assert next(iter(call)).HasField("block")
        call.cancel()


def votes(network: Network, disk: SmallDisk) -> list[tuple[int, int, bytes]]:
    """(kind, view, digest) of every own vote in the log of the stopped node."""
    directory = disk.inside if disk.path.name == "votes" else network.home(FULL) / "votes"
    if disk.path == network.home(FULL):
        directory = disk.inside / "votes"
    log = VoteLog.open(directory, network.genesis.chain_id, FULL)
    try:
        records = [decode_record(raw) for raw in log.records()]
    finally:
        log.close()
    return [(r.vote.kind, r.vote.view, r.vote.digest) for r in records if isinstance(r, OwnVote)]


@pytest.mark.parametrize(
    ("part", "kind"),
    [("votes", "tmpfs"), ("blocks", "tmpfs"), ("state", "tmpfs"), ("index", "tmpfs"), (".", "tmpfs"), (".", "thin")],
)
def test_a_full_disk_stops_voting_and_not_reading_until_a_restart_with_space(
    network: Network, part: str, kind: str
) -> None:
    if why := why_not(kind):
        pytest.skip(f"no such file system here ({why}); {ELSEWHERE}")
    policy = secrets.token_bytes(16)
    assert network.submit("alpha", network.envelope("alpha", policy_issue(policy_id=policy))).stage
    network.daemons[FULL].stop()
    with SmallDisk(network, FULL, part, kind) as disk:
        daemon = disk.start()
        network.wait_ready(FULL)
        network.wait_until("the policy is proved", lambda: proved(network, FULL, policy))
        disk.fill()
        until = time.monotonic() + 60
        while not network.detail(FULL)["failure"]:  # rows gather in a buffer and in the last page of a file
            assert issue(network, "alpha").stage == gateway_pb2.STAGE_FINAL
            assert time.monotonic() < until
        detail = wait_failed(network, FULL)
        found = detail["reasons"]
        assert isinstance(found, list)
        (reason,) = found
        assert reason["kind"] == "disk-full", reason
        assert "No space left" in reason["text"]
        assert str(network.home(FULL)) in reason["text"]
        assert "Free space on this file system, then restart" in reason["next_step"]
        assert detail["voting"] is False

        # The others go on, and this one is still read, also in what it executed before.
        height = network.status(FULL).executed_height
        assert issue(network, "alpha").stage == gateway_pb2.STAGE_FINAL
        reads(network, FULL, policy, height)
        assert network.status(FULL).executed_height == height

        # It says so to whoever asks.
        assert page(network, FULL, "livez")[0] == 200
        status, text = page(network, FULL, "readyz?verbose")
        assert status == 503
        assert "[-] store: The disk is full." in text
        assert "lossbook_voting 0.0" in page(network, FULL, "metrics")[1]
        serving = health_pb2.HealthCheckResponse
        network.wait_until("not serving", lambda: health(network, FULL, "") == serving.NOT_SERVING)
        assert health(network, FULL, "lossbook.v1.GatewayService") == serving.NOT_SERVING
        assert health(network, FULL, "lossbook.v1.QueryService") == serving.SERVING
        assert health(network, FULL, "lossbook.v1.BlocksService") == serving.SERVING
        refused = issue(network, FULL).rejection
        assert refused.code == Code.NOT_VOTING
        assert "another insurer's node" in refused.text
        assert refused.retry_after_ms > 0
        assert daemon.running

        # With space again, and a restart, it comes back as if nothing had been, and contradicts nothing it signed.
        daemon.stop()
        disk.free()
        before = votes(network, disk)
        disk.start()
        network.wait_ready(FULL)
        network.wait_until("it votes", lambda: network.detail(FULL)["signing"] == "signing")
        assert issue(network, FULL).stage == gateway_pb2.STAGE_FINAL
        network.daemons[FULL].stop()
        after = votes(network, disk)
        assert after[: len(before)] == before
        assert len({vote[:2] for vote in after}) == len(after), "one vote of a kind and view"
        assert network.detail("alpha")["evidence"] == 0
    network.start(FULL)
    network.wait_ready(FULL)


def test_a_node_that_finds_its_disk_full_at_the_start_names_it_and_starts_once_there_is_space(network: Network) -> None:
    network.daemons[FULL].stop()
    with SmallDisk(network, FULL) as disk:
        disk.fill()
        daemon = disk.start()
        assert daemon.process.wait(30) == 1
        last = daemon.said().strip().splitlines()[-1]
        assert "disk full" in last or "No space left" in last, last
        assert str(network.home(FULL)) in last
        assert "Free space" in last or "put it right and start again" in last
        disk.free()
        disk.start()
        network.wait_ready(FULL)
    network.start(FULL)
    network.wait_ready(FULL)


def unanswered(network: Network, raw: bytes) -> grpc.RpcError | None:
    """How a submission to the full node ended without an answer; None if the envelope is final."""
    try:
        assert network.submit(FULL, raw, timeout_s=60).stage == gateway_pb2.STAGE_FINAL
    except grpc.RpcError as error:
        return error
    return None


def test_who_waits_at_the_node_whose_disk_fills_up_is_sent_elsewhere_at_once(network: Network) -> None:
    """With the same envelope, which then is final once."""
    network.daemons[FULL].stop()
    with SmallDisk(network, FULL, "blocks") as disk:
        disk.start()
        network.wait_ready(FULL)
        disk.fill()
        until = time.monotonic() + 60
        error, raw, asked = None, b"", 0.0
        while error is None:
            assert time.monotonic() < until
            raw, asked = network.envelope(FULL, policy_issue(policy_id=secrets.token_bytes(16))), time.monotonic()
            error = unanswered(network, raw)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "another insurer's node" in str(error.details())
        assert time.monotonic() - asked < 10
        assert network.submit("alpha", raw).stage == gateway_pb2.STAGE_FINAL
    network.start(FULL)
    network.wait_ready(FULL)
