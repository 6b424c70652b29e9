"""A new or long-gone node catches up by a snapshot while load continues, whatever one of its peers serves."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

import simulator.cluster
from contracts.tables import TABLES
from ledger import snapshot_making
from ledger.block_port import BlockWrite, FirstHeightWrite
from ledger.codes import Code
from ledger.ports import HeightRecord, ImportRows
from ledger.types import Envelope
from node import snapshot_sync
from node.turn import ExecutedNotice, Fetch, FetchBlocks, FetchChunks, FetchSnapshot
from simulator import serving
from simulator.serving import Answer
from store.faulty_files import SimulatedCrash
from store.memory import MemoryStateStore
from store.memory_blocks import MemoryBlockStore
from tests.support.cluster import SETTINGS, Cluster, Node
from tests.support.insurers import INSURERS, Ledger, policy_issue
from tests.support.notices import assert_agreement, executed
from tests.unit.node.byzantine_snapshots import FAILING, LIARS

pytestmark = pytest.mark.slow  # whole validators under load: a second a test

MAKER = Ledger()
FAR = msgspec.structs.replace(SETTINGS, snapshot_blocks=20, snapshot_writes=100_000)
NEVER = msgspec.structs.replace(SETTINGS, snapshot_blocks=1_000_000, snapshot_writes=1_000_000)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans, chunks and answers so small that a short chain has many."""
    monkeypatch.setattr(serving, "BLOCKS_MAX", 4)
    monkeypatch.setattr(snapshot_sync, "SPAN", 64)
    monkeypatch.setattr(snapshot_making, "CHUNK_BYTES", 6_000)


class Load:
    """One envelope of some policies every few hundred milliseconds, at the nodes that are up."""

    def __init__(self, cluster: Cluster, *, every_ms: int = 150, policies: int = 12) -> None:
        self.cluster = cluster
        self.every_ms = every_ms
        self.policies = policies
        self.sent: list[Envelope] = []
        self.on = True
        cluster.timeline.after(1, self.send)

    def send(self) -> None:
        if not self.on:
            return
        cluster, number = self.cluster, len(self.sent)
        ids = [(number * 100 + at).to_bytes(16, "big") for at in range(self.policies)]
        by = number % 3 if cluster.nodes[number % 3].up else 0
        envelope = MAKER.envelope(
            [policy_issue(policy_id=each) for each in ids],
            by=INSURERS[by],
            desks=("underwriter",),
            not_after_ms=cluster.now.wall_ms + 3_600_000,
        )
        self.sent.append(envelope)
        cluster.nodes[by].submit(envelope)
        cluster.timeline.after(self.every_ms, self.send)


def long_running(newcomer: type[Node] = Node, liars: dict[int, type[Node]] | None = None, blocks: int = 50) -> Cluster:
    """A network that has run under load without its fourth validator."""
    cluster = Cluster(seed=3, liars={3: newcomer} | (liars or {}))
    for node in cluster.nodes:
        node.settings = FAR
    for node in cluster.nodes[:3]:
        node.start()
    cluster.load = Load(cluster)  # type: ignore[attr-defined]
    assert cluster.run(120_000, lambda: cluster.nodes[0].validator.executed_height >= blocks)
    return cluster


def load_of(cluster: Cluster) -> Load:
    load = cluster.load  # type: ignore[attr-defined]
    assert isinstance(load, Load)
    return load


def level(cluster: Cluster, index: int = 3) -> bool:
    node = cluster.nodes[index]
    return (
        node.validator.caught_up
        and node.validator.executed_height >= cluster.nodes[0].validator.executed_height - 2
        and node.validator.status()["signing"] == "signing"
    )


def rejoin(cluster: Cluster, duration_ms: int = 60_000) -> Node:
    node = cluster.nodes[3]
    node.start()
    assert cluster.run(duration_ms, lambda: level(cluster)), node.validator.status()
    return node


def assert_equal_states(cluster: Cluster, nodes: Sequence[Node]) -> None:
    load_of(cluster).on = False
    assert cluster.run(30_000, lambda: all(executed(cluster.nodes[0], each) for each in load_of(cluster).sent))
    height = cluster.nodes[0].validator.executed_height
    assert cluster.run(30_000, lambda: all(node.validator.executed_height >= height for node in nodes))
    records = {node.state.height_record(height) for node in nodes}
    assert len(records) == 1


def test_a_new_node_fetches_the_state_then_blocks_and_then_votes_while_load_continues() -> None:
    cluster = long_running()
    node = rejoin(cluster)
    base = node.disk.states.base_height()
    assert base > 20
    assert node.disk.blocks.first_height() == base + 1
    assert node.life == 3, "started, stopped, and started again on the snapshot"
    cluster.nodes[1].crash()  # now nothing goes on without the newcomer's votes
    final = cluster.nodes[0].validator.finalized_height
    assert cluster.run(20_000, lambda: cluster.nodes[0].validator.finalized_height > final + 10)
    assert_equal_states(cluster, [cluster.nodes[0], cluster.nodes[2], node])
    assert_agreement(cluster)
    assert node.penalties == []


def test_every_receipt_and_replay_id_is_the_newcomers_too() -> None:
    cluster = long_running()
    node = rejoin(cluster)
    old = load_of(cluster).sent[2]
    load_of(cluster).on = False
    cluster.run(3_000)
    node.submit(old)
    assert cluster.run(10_000, lambda: all(replay(each, old) is not None for each in cluster.nodes))
    answers = {replay(each, old) for each in cluster.nodes}
    assert len(answers) == 1
    position = answers.pop()
    assert position is not None
    assert old.id in node.state.receipt_blob(position - 1)


def test_every_record_that_execution_and_voting_read_is_the_newcomers_too() -> None:
    """Replay ids, batch heads, parameters, members, keys, registrations, evidence, marks: all tables there are."""
    cluster = long_running()
    node = rejoin(cluster)
    assert_equal_states(cluster, [cluster.nodes[0], node])
    own, others = (
        {table.name: list(each.state.iterate(table)) for table in TABLES} for each in (node, cluster.nodes[0])
    )
    assert own == others
    assert {"replays", "heads", "parameters", "organisations", "keys", "epochs", "cards", "node-keys"} <= {
        name for name, rows in own.items() if rows
    }


def replay(node: Node, envelope: Envelope) -> int | None:
    """What the receipt of a replayed envelope names, plus one."""
    for notice in node.notices:
        if isinstance(notice, ExecutedNotice):
            for receipt in notice.receipts:
                if receipt.envelope_id == envelope.id and receipt.code == Code.REPLAYED:
                    return receipt.original_position_plus_1
    return None


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.__name__)
def test_what_one_liar_serves_is_refused_and_fetched_from_others(liar: type[Node]) -> None:
    cluster = long_running(liars={1: liar})
    node = rejoin(cluster)
    assert node.disk.states.base_height() > 20
    assert {penalty.peer for penalty in node.penalties} == {INSURERS[1].id}
    assert all("snapshot" in penalty.reason for penalty in node.penalties)
    assert_equal_states(cluster, [cluster.nodes[0], cluster.nodes[2], node])


@pytest.mark.parametrize("failing", FAILING, ids=lambda failing: failing.__name__)
def test_a_peer_that_breaks_off_or_never_answers_only_costs_time(failing: type[Node]) -> None:
    cluster = long_running(liars={1: failing})
    node = rejoin(cluster)
    assert node.disk.states.base_height() > 20
    assert node.penalties == []
    assert_equal_states(cluster, [cluster.nodes[0], cluster.nodes[2], node])


def test_without_any_honest_offer_it_goes_on_by_blocks() -> None:
    liar = LIARS[0]
    cluster = long_running(liars={0: liar, 1: liar, 2: liar})
    node = rejoin(cluster)
    assert node.disk.states.base_height() == 0
    assert {penalty.peer for penalty in node.penalties} == {each.id for each in INSURERS[:3]}


def watched(node: Node) -> list[object]:
    """Every fetch of the node from now on."""
    asked: list[object] = []
    original = node.fetcher.fetch

    def fetch(fetch: Fetch) -> None:
        asked.append(fetch)
        original(fetch)

    node.fetcher.fetch = fetch  # type: ignore[method-assign]
    return asked


def test_several_peers_are_asked_at_a_time_and_nothing_twice() -> None:
    cluster = long_running()
    asked = watched(cluster.nodes[3])
    rejoin(cluster)
    spans = [fetch for fetch in asked if isinstance(fetch, FetchChunks)]
    assert {fetch.sources[0] for fetch in spans} == {each.id for each in INSURERS[:3]}
    places = [(fetch.log, at) for fetch in spans for at in range(fetch.first, fetch.stop)]
    assert len(places) == len(set(places))


def test_a_node_that_was_away_fetches_the_rest_only() -> None:
    cluster = Cluster(seed=5)
    for node in cluster.nodes:
        node.settings = FAR
    cluster.start()
    cluster.load = Load(cluster)  # type: ignore[attr-defined]
    assert cluster.run(60_000, lambda: cluster.nodes[3].validator.executed_height >= 15)
    gone = cluster.nodes[3]
    gone.crash()
    height = gone.disk.states.executed_height()
    assert height is not None
    record = gone.disk.states.height_record(height)
    assert record is not None
    assert cluster.run(120_000, lambda: cluster.nodes[0].validator.executed_height >= height + 60)
    asked = watched(cluster.nodes[3])
    node = rejoin(cluster)
    spans = [fetch for fetch in asked if isinstance(fetch, FetchChunks)]
    assert min(fetch.first for fetch in spans if fetch.log.name == "LEAVES") >= record.leaf_count
    assert min(fetch.first for fetch in spans if fetch.log.name == "RECEIPTS") >= record.receipt_count
    assert_equal_states(cluster, [cluster.nodes[0], cluster.nodes[2], node])


def test_a_node_only_a_little_behind_uses_blocks() -> None:
    cluster = long_running()
    node = cluster.nodes[3]
    node.settings = NEVER
    asked = watched(cluster.nodes[3])
    rejoin(cluster)
    assert node.disk.states.base_height() == 0
    assert not any(isinstance(fetch, FetchChunks) for fetch in asked)


def test_a_node_whose_blocks_nobody_holds_any_more_takes_a_snapshot_however_near() -> None:
    cluster = long_running()
    node = cluster.nodes[3]
    node.settings = NEVER
    for other in cluster.nodes[:3]:
        other.disk.blocks.commit([FirstHeightWrite(30, bytes(32))])
    rejoin(cluster)
    assert node.disk.states.base_height() >= 30
    assert_equal_states(cluster, [cluster.nodes[0], cluster.nodes[2], node])


class CrashingStore(MemoryStateStore):
    """The power fails at the n-th write of a snapshot's rows, or before or after the switch to it."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0
        self.crash_at: int | str | None = None

    def install(self, genesis: HeightRecord, record: HeightRecord) -> None:
        if self.crash_at == "before the switch":
            raise SimulatedCrash
        super().install(genesis, record)
        if self.crash_at == "after the switch":
            raise SimulatedCrash

    def import_rows(self, rows: ImportRows) -> None:
        self.rows += 1
        if self.rows == self.crash_at:
            raise SimulatedCrash
        super().import_rows(rows)


class Crashing(Node):
    """Its state store is a ``CrashingStore``, and the power can fail before the blocks of a snapshot are written."""

    def __init__(self, cluster: simulator.cluster.Cluster, index: int) -> None:
        super().__init__(cluster, index)
        self.store = self.disk.states = CrashingStore()
        self.disk.blocks = CrashingBlocks(self.store)


class CrashingBlocks(MemoryBlockStore):
    """Its power is that of the state store."""

    def __init__(self, states: CrashingStore) -> None:
        super().__init__()
        self.states = states

    def commit(self, writes: Sequence[BlockWrite], *, sync: bool = True) -> None:
        if self.states.crash_at == "before the blocks" and any(isinstance(each, FirstHeightWrite) for each in writes):
            raise SimulatedCrash
        super().commit(writes, sync=sync)


@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_a_fetch_that_crashed_goes_on_where_it_was(at: int) -> None:
    cluster = long_running(newcomer=Crashing)
    node = cluster.nodes[3]
    assert isinstance(node, Crashing)
    node.store.crash_at = at
    node.start()
    assert cluster.run(60_000, lambda: not node.up)
    node.store.crash_at = None
    progress = node.store.import_progress()
    leaves = progress.leaves if progress is not None else 0
    assert node.store.executed_height() == 0, "what has come in only in part is never executed on"
    asked = watched(node)
    rejoin(cluster)
    spans = [fetch for fetch in asked if isinstance(fetch, FetchChunks) and fetch.log.name == "LEAVES"]
    assert min(fetch.first for fetch in spans) >= leaves
    assert node.disk.states.base_height() > 20
    assert_equal_states(cluster, [cluster.nodes[0], cluster.nodes[2], node])


@pytest.mark.parametrize("at", ["before the blocks", "before the switch", "after the switch"])
def test_a_switch_that_was_cut_off_is_made_at_the_next_start_and_nothing_is_fetched_again(at: str) -> None:
    cluster = long_running(newcomer=Crashing)
    node = cluster.nodes[3]
    assert isinstance(node, Crashing)
    node.store.crash_at = at
    node.start()
    assert cluster.run(60_000, lambda: not node.up)
    node.store.crash_at = None
    switched = at == "after the switch"
    assert (node.store.base_height() > 20) == switched
    assert (node.store.executed_height() == 0) == (not switched)
    asked = watched(node)
    rejoin(cluster)
    assert not any(isinstance(fetch, FetchChunks) for fetch in asked)
    assert node.disk.states.base_height() > 20
    assert node.disk.blocks.first_height() == node.disk.states.base_height() + 1
    assert_equal_states(cluster, [cluster.nodes[0], cluster.nodes[2], node])


def test_a_newcomer_serves_the_next_newcomer() -> None:
    cluster = long_running()
    rejoin(cluster)
    second = cluster.nodes[2]
    second.crash()
    cluster.nodes[2] = fresh(cluster, 2)
    for other in (cluster.nodes[0], cluster.nodes[1]):
        withhold(other)
    cluster.run(5_000)
    cluster.nodes[2].start()
    assert cluster.run(90_000, lambda: level(cluster, 2)), cluster.nodes[2].validator.status()
    assert cluster.nodes[2].disk.states.base_height() > cluster.nodes[3].disk.states.base_height()


def withhold(node: Node) -> None:
    """It serves neither snapshots nor blocks any more."""
    original = node.serve

    def serve(fetch: Fetch) -> Answer:
        return Answer() if isinstance(fetch, FetchSnapshot | FetchBlocks) else original(fetch)

    node.serve = serve  # type: ignore[method-assign]


def fresh(cluster: Cluster, index: int) -> Node:
    """A node whose disk is gone: its peers hold votes of it that its log lacks."""
    node = Node(cluster, index)
    node.settings = FAR
    return node


def test_a_node_that_lost_its_disk_signs_nothing_it_may_have_signed_before() -> None:
    cluster = long_running()
    rejoin(cluster)
    view = cluster.nodes[2].validator.status()["view"]
    cluster.nodes[2].crash()
    lost = cluster.nodes[2] = fresh(cluster, 2)
    lost.start()
    assert cluster.run(90_000, lambda: level(cluster, 2)), lost.validator.status()
    muted = lost.validator.status()["muted_until_view"]
    assert isinstance(muted, int)
    assert isinstance(view, int)
    assert muted >= view
    assert_equal_states(cluster, [cluster.nodes[0], cluster.nodes[1], lost])
