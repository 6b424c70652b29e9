"""Whom a node asks for which part of a snapshot, without a network: inputs by hand, what it wants in return."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec
import pytest

from consensus.events import Now
from consensus.types import Header
from ledger import snapshot_making
from ledger.header_chain import EpochStart
from ledger.known_epochs import KnownEpochs
from ledger.proof_building import FinalHeader
from ledger.snapshot import Manifest, Snapshot, verify_manifest
from ledger.snapshot_import import Log
from ledger.snapshot_making import PinnedSnapshot, pin
from ledger.state import State
from node import snapshot_sync
from node.snapshot_offers import STRIKES_MAX
from node.snapshot_sync import Far, SnapshotSync
from node.turn import ChunkFetched, FetchChunks, FetchFailed, FetchSnapshot, SnapshotOffered, Turn
from store.memory import MemoryStateStore
from tests.support.chains import Chain
from tests.support.insurers import Ledger
from tests.support.snapshots import chunks, policies

PEERS = ("alpha", "beta", "gamma")
D = 100


class Server(Chain):
    """A chain, as it was when it had so many blocks."""

    until: int | None = None

    def finalized_height(self) -> int:
        return super().finalized_height() if self.until is None else self.until

    def final_header(self, height: int) -> FinalHeader | None:
        return super().final_header(height) if height <= self.finalized_height() else None


@pytest.fixture(scope="module")
def pins() -> list[PinnedSnapshot]:
    """Snapshots of rising heights of one chain."""
    chain = Server(Ledger())
    made = []
    for at in range(5):
        chain.add(*policies(chain.ledger, 40, at * 100))
    chain.add()
    for until in (3, 4, 5, 6):
        chain.until = until
        made.append(pin(chain.ledger.state, chain))
    return made


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_sync, "SPAN", 64)
    monkeypatch.setattr(snapshot_making, "CHUNK_BYTES", 3_000)


class Newcomer:
    """A node that holds the genesis, and the peers it asks."""

    def __init__(self, far: int = 1, peers: Sequence[str] = PEERS) -> None:
        self.ledger = Ledger()
        self.genesis = KnownEpochs.of_genesis(self.ledger.genesis)
        self.time_ms = 0
        self.asked: list[FetchSnapshot | FetchChunks] = []
        self.penalised: list[str] = []
        self.installs = False
        self.ends: dict[bytes, Header] = {}  #: what a manifest is taken to show as the end of epoch 0
        self.sync = SnapshotSync(
            peers=peers,
            store=self.ledger.store,
            seen=self.genesis,
            verify=self.verified,
            delay_ms=D,
            far=Far(far, 1 << 40),
        )
        self.turn = Turn()
        self.wait(0)

    def verified(self, manifest: Manifest, known: KnownEpochs, seen: KnownEpochs) -> Snapshot:
        snapshot = verify_manifest(manifest, self.genesis, seen=seen)
        end = self.ends.get(manifest.raw)
        if end is None:
            return snapshot
        starts = {0: self.genesis.starts[0], 1: EpochStart(self.genesis.starts[0].validators, end)}
        return msgspec.structs.replace(
            snapshot,
            certified=dataclasses.replace(snapshot.certified, epoch=1),
            known=msgspec.structs.replace(self.genesis, starts=starts),
        )

    @property
    def now(self) -> Now:
        return Now(self.time_ms, self.time_ms)

    def wait(self, duration_ms: int) -> None:
        """Time passes; blocks are missing all the while."""
        self.time_ms += duration_ms
        self.sync.behind(0, gone=False, now=self.now, turn=self.turn)
        self.sync.settle(self.now, self.turn)
        self.end_turn()

    def end_turn(self) -> None:
        turn, self.turn = self.turn, Turn()
        self.asked = [fetch for fetch in turn.fetches if isinstance(fetch, FetchSnapshot | FetchChunks)] + self.asked
        self.penalised += [penalty.peer for penalty in turn.penalties]
        for rows in turn.import_rows:
            assert isinstance(self.ledger.store, MemoryStateStore)
            self.ledger.store.import_rows(rows)
        self.installs = self.installs or turn.install

    def offered(self, peer: str, pinned: PinnedSnapshot) -> None:
        self.sync.on_offered(SnapshotOffered(peer, pinned.manifest), self.now, self.turn)
        self.end_turn()

    def wanted_of(self, peer: str) -> list[FetchChunks]:
        """Spans asked of a peer so far, the newest first."""
        return [fetch for fetch in self.asked if isinstance(fetch, FetchChunks) and fetch.sources == (peer,)]

    def served(self, fetch: FetchChunks, pins: Sequence[PinnedSnapshot], parts: int | None = None) -> None:
        """The peer answers, with so many parts, and breaks off if that was not all."""
        pinned = next(each for each in pins if each.height == fetch.height)
        all_of = list(chunks(pinned, fetch.log, fetch.first, fetch.stop))
        for chunk in all_of[:parts]:
            self.sync.on_chunk(ChunkFetched(fetch.sources[0], fetch, chunk), self.now, self.turn)
        if parts is not None and parts < len(all_of):
            self.sync.on_failed(FetchFailed(fetch, fetch.sources[0]), self.now, self.turn)
        self.end_turn()

    def serve_all(self, peers: Sequence[str], pins: Sequence[PinnedSnapshot]) -> None:
        """These peers answer whatever they are asked until nothing more is asked of them."""
        answered: set[FetchChunks] = set()
        while waiting := [each for peer in peers for each in self.wanted_of(peer) if each not in answered]:
            answered.add(waiting[-1])
            if not self.installs:
                self.served(waiting[-1], pins)


def test_nothing_begins_before_f_plus_1_peers_have_offered_or_a_moment_has_passed(pins: list[PinnedSnapshot]) -> None:
    node = Newcomer()
    assert {fetch.sources for fetch in node.asked} == {(peer,) for peer in PEERS}
    node.offered("alpha", pins[0])
    assert node.sync.deciding(node.now)
    assert not node.sync.fetching
    node.offered("beta", pins[0])
    assert node.sync.fetching
    alone = Newcomer()
    alone.offered("alpha", pins[0])
    alone.wait(snapshot_sync.DECIDE * D)
    assert not alone.sync.deciding(alone.now), "blocks wait no longer"


def test_a_snapshot_that_one_peer_shows_waits_for_others_that_are_slow_but_not_for_ever(
    pins: list[PinnedSnapshot],
) -> None:
    alone = Newcomer()
    alone.offered("alpha", pins[0])
    alone.wait(snapshot_sync.DECIDE * D)
    assert not alone.sync.fetching
    assert alone.sync.deadline_ms(alone.now) == snapshot_sync.PATIENCE * D
    alone.wait((snapshot_sync.PATIENCE - snapshot_sync.DECIDE) * D)
    assert alone.sync.fetching


def test_a_snapshot_that_one_peer_shows_is_begun_once_all_others_have_failed(pins: list[PinnedSnapshot]) -> None:
    alone = Newcomer()
    alone.offered("alpha", pins[0])
    for peer in ("beta", "gamma"):
        assert not alone.sync.fetching
        alone.sync.on_failed(FetchFailed(FetchSnapshot((peer,)), peer), alone.now, alone.turn)
        alone.wait(0)
    assert alone.sync.fetching


@pytest.mark.parametrize("order", [("alpha", "beta", "gamma"), ("gamma", "beta", "alpha"), ("beta", "alpha", "gamma")])
def test_the_height_to_reach_is_one_that_f_plus_1_can_serve(order: Sequence[str], pins: list[PinnedSnapshot]) -> None:
    node = Newcomer()
    for peer in order:
        node.offered(peer, pins[3] if peer == "alpha" else pins[0])
    assert node.sync.progress is not None
    assert node.sync.progress["height"] == pins[0].height
    node.serve_all(("beta", "gamma"), pins)
    if not node.installs:  # the boaster holds a span, and says nothing
        node.wait(snapshot_sync.STALL * D)
        node.serve_all(("beta", "gamma"), pins)
    assert node.installs
    assert node.penalised == []


def test_a_newer_offer_meanwhile_does_not_make_an_honest_peer_a_liar(pins: list[PinnedSnapshot]) -> None:
    node = Newcomer()
    node.offered("alpha", pins[0])
    node.offered("beta", pins[0])
    [span] = node.wanted_of("alpha")
    node.offered("alpha", pins[2])
    node.served(span, pins)
    assert node.penalised == []
    assert node.sync.progress is not None
    assert node.sync.progress["leaves"] >= span.stop


def test_who_brings_next_to_nothing_is_left_out_and_who_brings_much_is_not(
    pins: list[PinnedSnapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Newcomer()
    node.offered("alpha", pins[0])
    node.offered("beta", pins[0])
    for _ in range(STRIKES_MAX):
        [span, *_] = node.wanted_of("alpha")
        with monkeypatch.context() as patched:
            patched.setattr(snapshot_making, "CHUNK_BYTES", 1)
            node.served(span, pins, parts=1)  # one leaf, then it breaks off
    count = len(node.wanted_of("alpha"))
    for _ in range(20):
        [span, *_] = node.wanted_of("beta")
        node.served(span, pins, parts=1)
    assert len(node.wanted_of("alpha")) == count
    assert len(node.wanted_of("beta")) > STRIKES_MAX


def test_what_waits_for_the_part_before_it_is_bounded(
    pins: list[PinnedSnapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One peer holds the first part and says nothing: the others do not fill the memory meanwhile."""
    most = 10_000
    monkeypatch.setattr(snapshot_sync, "AHEAD_BYTES_MAX", most)
    node = Newcomer()
    node.offered("alpha", pins[3])
    node.offered("beta", pins[3])
    [first] = node.wanted_of("alpha")
    node.offered("gamma", pins[3])
    node.serve_all(("beta", "gamma"), pins)
    wanted = pins[3].manifest.leaf_count
    come = [each for peer in ("beta", "gamma") for each in node.wanted_of(peer) if each.log is Log.LEAVES]
    assert max(each.stop for each in come) < wanted, "not everything was fetched ahead"
    assert node.sync._ready_bytes <= most + 2 * 64 * 200
    node.wait(snapshot_sync.STALL * D)
    node.serve_all(("beta", "gamma"), pins)
    assert node.installs
    assert first not in node.wanted_of("beta")


def test_who_is_found_lying_is_not_asked_again_in_this_run(pins: list[PinnedSnapshot]) -> None:
    node = Newcomer()
    forged = msgspec.structs.replace(pins[0].manifest, log_root=bytes(32))
    node.sync.on_offered(SnapshotOffered("gamma", forged), node.now, node.turn)
    node.end_turn()
    assert node.penalised == ["gamma"]
    before = len(node.asked)
    node.wait(snapshot_sync.ASK_AGAIN * D)
    assert {fetch.sources for fetch in node.asked[: len(node.asked) - before]} == {("alpha",), ("beta",)}


def test_without_anybody_left_blocks_go_on_and_it_is_tried_again_later(pins: list[PinnedSnapshot]) -> None:
    node = Newcomer()
    node.offered("alpha", pins[0])
    node.offered("beta", pins[0])
    for _ in range(STRIKES_MAX):
        for peer in ("alpha", "beta", "gamma"):
            requests: list[FetchSnapshot | FetchChunks] = [*node.wanted_of(peer)[:1], FetchSnapshot((peer,))]
            for fetch in requests:
                node.sync.on_failed(FetchFailed(fetch, peer), node.now, node.turn)
                node.end_turn()
            if peer != "gamma":
                node.offered(peer, pins[0])
    assert not node.sync.fetching
    asked = len(node.asked)
    node.wait(snapshot_sync.REST * D - 1)
    assert len(node.asked) == asked
    node.wait(1)
    assert len(node.asked) > asked


@pytest.mark.parametrize("order", [("alpha", "beta", "gamma"), ("gamma", "alpha", "beta"), ("alpha", "gamma", "beta")])
def test_of_two_histories_the_one_that_f_plus_1_show_is_taken_and_they_never_mix(
    order: Sequence[str], pins: list[PinnedSnapshot]
) -> None:
    """Whoever has the keys of an old epoch can certify anything after it, to a stranger."""
    node = Newcomer()
    genuine, forged = pins[0], pins[1]
    node.ends = {genuine.manifest.raw: genuine.manifest.ancestors[0], forged.manifest.raw: forged.manifest.ancestors[0]}
    shown: list[str] = []
    for peer in order:
        node.offered(peer, forged if peer == "gamma" else genuine)
        shown.append(peer)
        if shown in (["alpha", "gamma"], ["gamma", "alpha"]):
            assert not node.sync.fetching, "one against one: nobody is believed"
    assert node.penalised == ["gamma"]
    assert node.wanted_of("gamma") == []
    node.serve_all(("alpha", "beta"), pins)
    assert node.installs


@pytest.fixture(scope="module")
def second() -> list[PinnedSnapshot]:
    """Of another chain: as high, with other policies."""
    chain = Server(Ledger())
    for at in range(5):
        chain.add(*policies(chain.ledger, 40, 5_000 + at * 100))
    chain.add()
    made = []
    for until in (3, 6):
        chain.until = until
        made.append(pin(chain.ledger.state, chain))
    return made


@pytest.mark.parametrize(("height", "served"), [(0, True), (1, False), (1, True)])
def test_a_history_that_f_plus_1_contradict_is_dropped_with_all_that_came_of_it(
    height: int, served: bool, pins: list[PinnedSnapshot], second: list[PinnedSnapshot]
) -> None:
    """One peer answers first, alone, for long enough; it forged, and is lower than the others or higher."""
    node, genuine, forged = Newcomer(), pins[2], second[height]
    for each in (genuine, forged):
        node.ends[each.manifest.raw] = each.manifest.ancestors[0]
    node.offered("gamma", forged)
    node.wait(snapshot_sync.PATIENCE * D)
    assert node.sync.fetching
    if served:
        node.served(node.wanted_of("gamma")[0], [forged])
        progress = node.ledger.store.import_progress()
        assert progress is not None
        assert progress.leaves > 0
    node.offered("alpha", genuine)
    node.offered("beta", genuine)
    assert node.penalised == ["gamma"]
    node.serve_all(("alpha", "beta"), [genuine])
    assert node.installs
    progress = node.ledger.store.import_progress()
    assert progress is not None
    assert progress.manifest == genuine.manifest.raw
    snapshot = verify_manifest(genuine.manifest, node.genesis)
    State.open_at(node.ledger.store, snapshot.record)  # every row leads to the certified roots


def test_a_refuted_history_is_dropped_also_where_the_next_goal_is_too_low_to_contradict_it(
    pins: list[PinnedSnapshot], second: list[PinnedSnapshot]
) -> None:
    """Of seven validators; the newest that f + 1 can serve is of an epoch before the two histories part."""
    node = Newcomer(peers=(*PEERS, "delta", "epsilon", "zeta"))
    low, genuine, forged = pins[0], pins[3], second[1]
    for each in (genuine, forged):
        node.ends[each.manifest.raw] = each.manifest.ancestors[0]
    node.offered("gamma", forged)
    node.wait(snapshot_sync.PATIENCE * D)
    node.served(node.wanted_of("gamma")[0], [forged])
    node.offered("delta", low)
    node.offered("alpha", genuine)
    assert node.penalised == []
    node.offered("beta", genuine)
    assert node.penalised == ["gamma"]
    assert node.sync.progress is not None
    assert node.sync.progress["height"] == low.height
    node.serve_all(("alpha", "beta"), [low, genuine])
    node.wait(snapshot_sync.STALL * D)  # the third holds a span, and says nothing
    node.serve_all(("alpha", "beta"), [low, genuine])
    assert node.installs
    State.open_at(node.ledger.store, verify_manifest(low.manifest, node.genesis).record)


def test_who_is_late_again_and_again_but_never_fails_is_asked_last(
    pins: list[PinnedSnapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eighth of every span comes, and then nothing: it costs others one wait, not one for each span."""
    monkeypatch.setattr(snapshot_making, "CHUNK_BYTES", 1)
    node = Newcomer()
    for peer in PEERS:
        node.offered(peer, pins[3])
    waits = 0
    while not node.installs:
        node.serve_all(("beta", "gamma"), pins)
        if node.installs:
            break
        span = node.wanted_of("alpha")[0]
        part = -(-(span.stop - span.first) // 8)
        for chunk in list(chunks(pins[3], span.log, span.first, span.stop))[:part]:
            node.sync.on_chunk(ChunkFetched("alpha", span, chunk), node.now, node.turn)
        node.end_turn()
        node.wait(snapshot_sync.STALL * D)
        waits += 1
        assert waits == 1
    assert node.sync._offers.strikes["alpha"] == 0


def test_who_was_late_once_and_then_brings_a_whole_span_is_as_good_as_the_others(pins: list[PinnedSnapshot]) -> None:
    node = Newcomer()
    node.offered("alpha", pins[3])
    node.offered("beta", pins[3])
    [late] = node.wanted_of("alpha")
    node.wait(snapshot_sync.STALL * D)
    span = node.wanted_of("alpha")[0]
    assert span is not late
    assert node.sync._late == {"alpha": 1, "beta": 1}
    node.served(span, pins)
    assert node.sync._late == {"beta": 1}
