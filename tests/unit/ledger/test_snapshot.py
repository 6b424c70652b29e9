"""A snapshot is the whole state, proved part by part; what was altered, moved, cut or is another's is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from consensus.types import VoteKind
from contracts.dispatch import CONTRACTS
from contracts.records import POLICIES
from ledger.codes import Code
from ledger.commitment import BITMAP_BYTES, TWIG_LEAVES
from ledger.execution import HEADS, REPLAYS, Execution
from ledger.genesis import write_genesis_state
from ledger.known_epochs import KnownEpochs
from ledger.organisations import KEYS, ORGANISATIONS
from ledger.parameters import PARAMETERS
from ledger.ports import CorruptStore, HeightRecord, ImportRows
from ledger.receipts_range import GROUP
from ledger.snapshot import (
    Chunk,
    LeafChunk,
    Manifest,
    ReceiptChunk,
    Snapshot,
    SnapshotError,
    verify_leaves,
    verify_manifest,
    verify_receipts,
)
from ledger.snapshot_import import Importer, install
from ledger.snapshot_making import pin
from ledger.state import State, Table
from ledger.state_log import ProofUnavailable
from ledger.wire import WireError, decode_envelope, encode_payload, parse
from ledger.wire.snapshots import decode_chunk, decode_manifest, encode_chunk
from lossbook.v1 import peer_pb2
from store.memory import MemoryStateStore
from tests.support.chains import Chain
from tests.support.insurers import INSURERS, Ledger, make_genesis
from tests.support.snapshots import fetch, follow, genesis_record, long_chain, pinned, policies

TABLES: tuple[Table[Any], ...] = (ORGANISATIONS, KEYS, PARAMETERS, REPLAYS, HEADS, POLICIES)


class Served:
    """A chain with a snapshot of it, and its chunks."""

    def __init__(self) -> None:
        self.chain = long_chain()
        self.source, self.snapshot = pinned(self.chain)


@pytest.fixture(scope="module")
def served() -> Served:
    return Served()


def refused(chunk: Chunk, snapshot: Snapshot) -> bool:
    try:
        verify_leaves(chunk, snapshot) if isinstance(chunk, LeafChunk) else verify_receipts(chunk, snapshot)
    except SnapshotError:
        return True
    return False


def imported(served: Served, store: MemoryStateStore | None = None) -> State:
    store = store or MemoryStateStore()
    assert fetch(store, served.source, served.snapshot)
    return install(store, served.snapshot, genesis_record(served.chain))


# -- what comes out ---------------------------------------------------------------------------


def test_whoever_fetches_all_chunks_has_the_state_of_a_node_that_executed_every_block(served: Served) -> None:
    state, original = imported(served), Ledger()
    follow(served.chain, original, served.snapshot.height)
    assert served.snapshot.record.leaf_count > 2 * TWIG_LEAVES
    assert served.snapshot.record.receipt_count > GROUP
    assert state.head == original.state.head
    for table in TABLES:
        assert list(state.iterate(table)) == list(original.state.iterate(table))
    for position in (0, 1, GROUP - 1, GROUP, served.snapshot.record.receipt_count - 1):
        assert state.receipt_blob(position) == original.state.receipt_blob(position)


def test_the_newcomer_executes_the_next_blocks_to_the_same_roots_and_refuses_a_replay_as_the_others_do(
    served: Served,
) -> None:
    store = MemoryStateStore()
    state = imported(served, store)
    execution = Execution(state, CONTRACTS)
    newcomer = Ledger()
    newcomer.store, newcomer.state, newcomer.execution = store, state, execution
    newcomer.time_ms = served.snapshot.record.timestamp_ms
    chain = long_chain()
    old = decode_envelope(chain.batches[1][1].envelopes[7])
    chain.add(old, *policies(chain.ledger, 3, 70_000))
    follow(chain, newcomer, chain.finalized_height())
    assert newcomer.state.head == chain.ledger.state.head
    replayed = chain.ledger.block([old]).receipts[0]
    answered = newcomer.block([old]).receipts[0]
    assert answered.raw == replayed.raw
    assert answered.code == Code.REPLAYED
    first = newcomer.state.receipt_blob(answered.original_position_plus_1 - 1)
    assert old.id in first


def test_records_and_receipts_of_the_newcomer_are_proved_from_its_height_on(served: Served) -> None:
    state = imported(served)
    key, _ = next(state.iterate(POLICIES))
    height = served.snapshot.height
    assert state.prove(POLICIES, key, height) == served.chain.ledger.state.prove(POLICIES, key, height)
    assert state.prove_receipt(3, height) == served.chain.ledger.state.prove_receipt(3, height)
    with pytest.raises(ProofUnavailable):
        state.prove(POLICIES, key, height - 1)


def test_a_node_that_was_away_fetches_only_what_it_lacks(served: Served) -> None:
    ledger = Ledger()
    follow(served.chain, ledger, 2)
    importer = Importer(ledger.store, served.snapshot)
    head = ledger.state.head
    assert head is not None
    assert list(importer.held.values()) == [head.leaf_count, head.receipt_count]
    state = imported(served, ledger.store)
    assert state.head == served.snapshot.record
    assert State.open(ledger.store).head == served.snapshot.record


def test_a_pinned_snapshot_stays_provable_while_the_state_moves_on() -> None:
    chain = Chain(Ledger())
    chain.add(*policies(chain.ledger, 100))
    chain.add()
    source, snapshot = pinned(chain)
    before = [source.leaves(0, 10), source.leaves(90, 110), source.receipts(95, 100)]
    for at in range(80):
        chain.add(*policies(chain.ledger, 30, first=at * 7))  # writes and rewrites, beyond the heights kept for proofs
    assert [source.leaves(0, 10), source.leaves(90, 110), source.receipts(95, 100)] == before
    assert fetch(MemoryStateStore(), source, snapshot)


@pytest.mark.parametrize("behind", [1, 2, 7, 40])
def test_the_log_is_pinned_at_any_recent_height(behind: int) -> None:
    chain = Chain(Ledger())
    for at in range(60):
        chain.add(*policies(chain.ledger, 50 * (at % 3), first=at * 20))
    height = chain.ledger.state.height - behind
    record = chain.ledger.state.height_record(height)
    assert record is not None
    chain.add(lag=behind + 1)
    source, snapshot = pinned(chain)
    assert (source.height, snapshot.record) == (height, record)
    assert len(source.manifest.ancestors) == behind + 1
    assert fetch(MemoryStateStore(), source, snapshot)


def test_chunks_of_different_heights_go_together(served: Served) -> None:
    chain = long_chain()
    old_source, old = pinned(chain)
    store = MemoryStateStore()
    assert not fetch(store, old_source, old, rows_max=2)
    for at in range(3):
        chain.add(*policies(chain.ledger, 20, first=90_000 + at * 20))
    source, snapshot = pinned(chain)
    assert snapshot.height > old.height
    assert fetch(store, source, snapshot)
    assert install(store, snapshot, genesis_record(chain)).head == snapshot.record


# -- what is refused --------------------------------------------------------------------------


def small_chunks(served: Served) -> list[Chunk]:
    count, receipts = served.snapshot.record.leaf_count, served.snapshot.record.receipt_count
    return [
        served.source.leaves(5, 8),
        served.source.leaves(count - 3, count),
        served.source.receipts(9, 12),
        served.source.receipts(receipts - 2, receipts),
    ]


@pytest.mark.parametrize("which", range(4))
def test_every_flipped_bit_of_a_chunk_is_refused(served: Served, which: int) -> None:
    chunk = small_chunks(served)[which]
    assert not refused(chunk, served.snapshot)
    raw = encode_chunk(chunk).SerializeToString()
    for at in range(8 * len(raw)):
        altered = bytearray(raw)
        altered[at >> 3] ^= 1 << (at & 7)
        try:
            read = decode_chunk(parse(peer_pb2.GetSnapshotChunksResponse, bytes(altered)))
        except WireError:
            continue
        assert refused(read, served.snapshot), f"bit {at} of {len(raw)} bytes"


def test_every_flipped_byte_of_a_manifest_is_refused(served: Served) -> None:
    raw = served.source.manifest.raw
    draw = random.Random(7)
    for at in range(len(raw)):
        altered = bytearray(raw)
        altered[at] ^= 1 << draw.randrange(8)
        with pytest.raises((WireError, SnapshotError)):
            verify_manifest(decode_manifest(bytes(altered)), KnownEpochs.of_genesis(served.chain.genesis))


Alteration = Callable[[LeafChunk], LeafChunk]
ALTERATIONS: dict[str, Alteration] = {
    "cut short": lambda c: msgspec.structs.replace(c, leaves=c.leaves[:-1]),
    "cut at the front": lambda c: msgspec.structs.replace(c, first=c.first + 1, leaves=c.leaves[1:]),
    "reordered": lambda c: msgspec.structs.replace(c, leaves=c.leaves[::-1]),
    "moved": lambda c: msgspec.structs.replace(c, first=c.first + 1),
    "moved to another twig": lambda c: msgspec.structs.replace(c, first=c.first + TWIG_LEAVES),
    "a leaf twice": lambda c: msgspec.structs.replace(c, leaves=(*c.leaves, c.leaves[-1])),
    "without leaves": lambda c: msgspec.structs.replace(c, leaves=()),
    "path cut": lambda c: msgspec.structs.replace(c, inside=c.inside[1:]),
    "path longer": lambda c: msgspec.structs.replace(c, inside=(*c.inside, bytes(32))),
    "twig path cut": lambda c: msgspec.structs.replace(c, twig_path=c.twig_path[1:]),
    "short digest": lambda c: msgspec.structs.replace(c, inside=(b"x", *c.inside[1:])),
    "other bits": lambda c: msgspec.structs.replace(c, bits=bytes(BITMAP_BYTES)),
    "no bits": lambda c: msgspec.structs.replace(c, bits=b""),
    "below the log": lambda c: msgspec.structs.replace(c, first=-1),
    "above the log": lambda c: msgspec.structs.replace(c, first=1 << 60),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_invalid_leaf_chunks_are_refused(served: Served, name: str) -> None:
    chunk = served.source.leaves(100, 120)
    assert refused(ALTERATIONS[name](chunk), served.snapshot)


RECEIPT_ALTERATIONS: dict[str, Callable[[ReceiptChunk], ReceiptChunk]] = {
    "cut short": lambda c: msgspec.structs.replace(c, receipts=c.receipts[:-1]),
    "reordered": lambda c: msgspec.structs.replace(c, receipts=c.receipts[::-1]),
    "moved": lambda c: msgspec.structs.replace(c, first=c.first + 1),
    "without receipts": lambda c: msgspec.structs.replace(c, receipts=()),
    "path cut": lambda c: msgspec.structs.replace(c, path=c.path[1:]),
    "path longer": lambda c: msgspec.structs.replace(c, path=(*c.path, bytes(32))),
    "short digest": lambda c: msgspec.structs.replace(c, path=(b"x", *c.path[1:])),
    "below the range": lambda c: msgspec.structs.replace(c, first=-1),
    "above the range": lambda c: msgspec.structs.replace(c, first=1 << 60),
    "over the end of a group": lambda c: msgspec.structs.replace(c, first=GROUP - 3),
}


@pytest.mark.parametrize("name", RECEIPT_ALTERATIONS)
def test_invalid_receipt_chunks_are_refused(served: Served, name: str) -> None:
    chunk = served.source.receipts(100, 120)
    assert refused(RECEIPT_ALTERATIONS[name](chunk), served.snapshot)


def other_chain() -> Chain:
    chain = Chain(Ledger())
    chain.add(*policies(chain.ledger, 300, first=5))
    chain.add()
    return chain


def test_chunks_of_another_chain_or_another_height_are_refused(served: Served) -> None:
    chain = other_chain()
    source, snapshot = pinned(chain)
    foreign: list[Chunk] = [source.leaves(0, 50), source.receipts(0, 50), source.leaves(0, TWIG_LEAVES)]
    assert all(refused(chunk, served.snapshot) for chunk in foreign)
    chain.add(*policies(chain.ledger, 5, first=10))
    chain.add()
    later, later_snapshot = pinned(chain)
    assert refused(later.leaves(0, 50), snapshot)
    assert refused(source.leaves(0, 50), later_snapshot)
    assert refused(later.receipts(0, 50), snapshot)


def invalid_manifests(manifest: Manifest) -> dict[str, Manifest]:
    replace = msgspec.structs.replace
    return {
        "another log root": replace(manifest, log_root=bytes(32)),
        "another number of leaves": replace(manifest, leaf_count=manifest.leaf_count + 1),
        "no leaves": replace(manifest, leaf_count=0),
        "absurdly many leaves": replace(manifest, leaf_count=1 << 62),
        "another root of the receipts": replace(manifest, receipts_tree_root=bytes(32)),
        "another number of receipts": replace(manifest, receipt_count=manifest.receipt_count - 1),
        "another payload": replace(manifest, payload=encode_payload([bytes(32)])),
        "another justification": replace(
            manifest, justification=manifest.header.headers[0].justification, ancestors=manifest.ancestors
        ),
        "no headers below": replace(manifest, ancestors=()),
        "a header too many": replace(manifest, ancestors=(manifest.ancestors[0], *manifest.ancestors)),
        "other headers below": replace(manifest, ancestors=(manifest.header.subject,) * len(manifest.ancestors)),
    }


def test_invalid_manifests_are_refused(served: Served) -> None:
    chain = other_chain()
    manifest = pin(chain.ledger.state, chain).manifest
    for name, altered in invalid_manifests(manifest).items():
        with pytest.raises(SnapshotError):
            pytest.fail(f"{name}: {verify_manifest(altered, KnownEpochs.of_genesis(chain.genesis))}")


def test_a_manifest_of_another_network_is_refused(served: Served) -> None:
    with pytest.raises(SnapshotError, match="another network"):
        verify_manifest(served.source.manifest, KnownEpochs.of_genesis(make_genesis(INSURERS)))


def test_a_manifest_under_a_certificate_of_too_few_is_refused() -> None:
    chain = other_chain()
    last = chain.headers[-1]
    header = last.justified.header
    weak = chain.certificate(VoteKind.FINALIZE, header.view, header.parent_view, header.digest, signers=(0, 1))
    chain.headers[-1] = msgspec.structs.replace(last, finalization=weak)
    with pytest.raises(SnapshotError, match="a quorum is 3"):
        verify_manifest(pin(chain.ledger.state, chain).manifest, KnownEpochs.of_genesis(chain.genesis))


def test_nothing_is_offered_before_a_state_above_the_genesis_is_certified() -> None:
    chain = Chain(Ledger())
    chain.add()
    with pytest.raises(ProofUnavailable):
        pin(chain.ledger.state, chain)


@pytest.mark.parametrize("span", [(0, 0), (5, 5), (7, 3), (-1, 4), (1 << 40, 1 << 41)])
def test_invalid_requests_find_nothing(served: Served, span: tuple[int, int]) -> None:
    with pytest.raises(IndexError):
        served.source.leaves(*span)
    with pytest.raises(IndexError):
        served.source.receipts(*span)


# -- crashes and damage -----------------------------------------------------------------------


def steps(served: Served) -> int:
    counted = CountingStore()
    imported(served, counted)
    return counted.writes


class Crash(Exception):
    """The process ends."""


class CountingStore(MemoryStateStore):
    """Ends the process before or after its n-th write of an import."""

    def __init__(self, crash_at: int | None = None, *, before: bool = True) -> None:
        super().__init__()
        self.writes = 0
        self.crash_at = crash_at
        self.before = before

    def import_rows(self, rows: ImportRows) -> None:
        self._counted(lambda: super(CountingStore, self).import_rows(rows))

    def install(self, genesis: HeightRecord, record: HeightRecord) -> None:
        self._counted(lambda: super(CountingStore, self).install(genesis, record))

    def _counted(self, write: Callable[[], None]) -> None:
        self.writes += 1
        now = self.crash_at == self.writes
        if now and self.before:
            raise Crash
        write()
        if now:
            raise Crash


@pytest.mark.parametrize("before", [True, False])
def test_a_crash_at_any_step_leaves_the_old_state_or_the_new_one_and_the_fetch_goes_on(
    served: Served, before: bool
) -> None:
    last = steps(served)
    assert last > 5
    for at in range(1, last + 1):
        store = CountingStore(at, before=before)
        begin(store, served.chain)
        with pytest.raises(Crash):
            imported(served, store)
        store.crash_at = None
        done = at == last and not before
        assert State.open(store).height == (served.snapshot.height if done else 0)
        written = store.writes
        if not done:
            imported(served, store)
            assert store.writes - written <= last - at + 2, "what had come in is not fetched again"
        assert State.open(store).head == served.snapshot.record
        assert store.import_progress() is None


def begin(store: MemoryStateStore, chain: Chain) -> None:
    """As a node that has executed nothing but the genesis."""
    state = State.open(store)
    write_genesis_state(chain.genesis, state)
    store.commit(state.commit(0, chain.genesis.time_ms, ()))


class Spoiled(MemoryStateStore):
    """Gives back another leaf, receipt or root than was stored."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def spoil(self) -> None:
        rows = {"leaf": self._leaves, "receipt": self._receipts, "twig": self._twigs, "group": self._groups}[self.what]
        rows[0] = rows[0][:-1] + bytes((rows[0][-1] ^ 1,))


@pytest.mark.parametrize("what", ["leaf", "receipt", "twig", "group"])
def test_rows_that_do_not_lead_to_the_certified_roots_are_not_installed(served: Served, what: str) -> None:
    store = Spoiled(what)
    assert fetch(store, served.source, served.snapshot)
    store.spoil()
    with pytest.raises(CorruptStore):
        install(store, served.snapshot, genesis_record(served.chain))
    assert store.executed_height() is None
    store.drop_import()
    assert State.open(store).head is None
    assert imported(served, store).head == served.snapshot.record


def test_a_given_up_snapshot_leaves_what_was_executed(served: Served) -> None:
    ledger = Ledger()
    follow(served.chain, ledger, 2)
    head = ledger.state.head
    fetch(ledger.store, served.source, served.snapshot, rows_max=3)
    ledger.store.drop_import()
    assert State.open(ledger.store).head == head
    follow(served.chain, ledger, 5)
    assert State.open(ledger.store).head == ledger.state.head


def test_blocks_may_be_executed_while_a_snapshot_comes_in(served: Served) -> None:
    ledger = Ledger()
    follow(served.chain, ledger, 1)
    fetch(ledger.store, served.source, served.snapshot, rows_max=2)
    follow(served.chain, ledger, 4)
    assert State.open(ledger.store).head == ledger.state.head
    state = imported(served, ledger.store)
    assert state.head == served.snapshot.record
