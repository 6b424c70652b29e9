"""Homes of a rebuilt network: made with the books of the network before, filled again from them, never without."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from cli.resync import resync_node
from contracts.dispatch import CONTRACTS
from contracts.tables import TABLES
from crypto import keyfile
from ledger.cards import GenesisError
from ledger.genesis import Genesis, load_genesis
from ledger.parameters import Parameters
from ledger.state import State
from ledger.succession import assemble_on
from node.init import init_home as init_node
from replica.execute import ReplicaExecutor
from replica.index import Index
from replica.init import init_home as init_replica
from replica.projection import Report
from replica.resync import resync as resync_replica
from services.archive_file import ArchiveFile
from services.archive_making import make_archive
from services.archive_reading import restore
from services.books import Books, ensure_books
from store.blocks import LevelBlockStore
from store.check import check_home
from store.findings import Verdict
from store.home import Home
from store.memory import MemoryStateStore
from store.memory_blocks import MemoryBlockStore
from store.state import LevelStateStore
from tests.support.chain import Chain
from tests.support.insurers import FIRST, claim_notify, claim_path, policy_issue
from tests.support.rebuilt import RENEWED, cards
from tests.support.replicas import execute
from tests.support.snapshots import policies
from tests.unit.services.test_archive import make_home


class Rebuilt:
    """What the members of a new network have in hand."""

    def __init__(self, path: Path) -> None:
        self.chain = Chain()
        ledger = self.chain.ledger
        self.chain.block([ledger.envelope([policy_issue(), claim_notify(), *claim_path(50_000)])])
        self.chain.block(policies(ledger, 3))
        self.chain.block([ledger.envelope([policy_issue()])])
        self.chain.block()
        self.path = path
        self.archive, self.old_genesis = path / "books", path / "old.json"
        self.old_genesis.write_bytes(self.chain.genesis.raw)
        make_archive(make_home(path / "survivor", self.chain), self.archive, CONTRACTS, TABLES)
        restored = restore(ArchiveFile(self.archive), self.chain.genesis, MemoryStateStore(), CONTRACTS)
        self.genesis_file = path / "new.json"
        self.genesis_file.write_bytes(
            assemble_on(
                cards(),
                restored.state,
                restored.end,
                name="rebuilt",
                time_ms=self.chain.tip.timestamp_ms + 1000,
                parameters=Parameters(),
            )
        )
        self.books = Books(self.archive, self.old_genesis)
        self.keys = path / "keys"
        self.keys.mkdir()
        organisation = RENEWED[0]
        assert organisation.consensus_key is not None
        keyfile.save(self.keys / "ledger.key", organisation.ledger_key, "ledger", None, unsafe_plaintext=True)
        keyfile.save(self.keys / "consensus.key", organisation.consensus_key, "consensus", None, unsafe_plaintext=True)

    @property
    def genesis(self) -> Genesis:
        return load_genesis(self.genesis_file.read_bytes())

    def node(self, path: Path, books: Books | None = None) -> Home:
        return init_node(path, genesis=self.genesis_file, keys=self.keys, passphrase=None, books=books)

    def replica(self, path: Path) -> Home:
        return init_replica(path, genesis=self.genesis_file, keys=self.keys, passphrase=None, books=self.books)


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Rebuilt:
    return Rebuilt(tmp_path_factory.mktemp("rebuilt"))


def head_of(home: Home) -> object:
    with closing(LevelStateStore(home.state)) as store:
        return State.open(store).head


def test_a_home_is_whole_and_begins_one_above_the_last_block(rebuilt: Rebuilt, tmp_path: Path) -> None:
    home = rebuilt.node(tmp_path / "node", rebuilt.books)
    findings = check_home(home.path)
    assert [finding for finding in findings if finding.verdict is not Verdict.SUCCESS] == []
    with closing(LevelStateStore(home.state)) as store:
        assert store.executed_height() == 5
        assert store.height_record(4) == rebuilt.chain.ledger.state.head


def test_node_and_replica_begin_with_the_same_state(rebuilt: Rebuilt, tmp_path: Path) -> None:
    node, replica = rebuilt.node(tmp_path / "node", rebuilt.books), rebuilt.replica(tmp_path / "replica")
    assert head_of(node) == head_of(replica)


def test_resync_makes_the_state_anew_from_the_archive_in_the_home(rebuilt: Rebuilt, tmp_path: Path) -> None:
    home = rebuilt.node(tmp_path / "node", rebuilt.books)
    before = head_of(home)
    resync_node(home.path)
    assert list(home.state.iterdir()) == []
    ensure_books(home, rebuilt.genesis, CONTRACTS)
    assert head_of(home) == before
    with closing(LevelBlockStore(home.blocks, home.chain_id)) as blocks:
        assert blocks.first_height() == 6
    replica = rebuilt.replica(tmp_path / "replica")
    resync_replica(replica.path, "a test")
    ensure_books(replica, rebuilt.genesis, CONTRACTS)
    assert head_of(replica) == before


def test_a_state_that_is_there_is_left_alone(rebuilt: Rebuilt, tmp_path: Path) -> None:
    home = rebuilt.node(tmp_path / "node", rebuilt.books)
    shutil.rmtree(home.predecessor)
    before = head_of(home)
    ensure_books(home, rebuilt.genesis, CONTRACTS)
    assert head_of(home) == before


class Crash(BaseException):
    """The process goes down."""


@pytest.mark.parametrize("name", ["blocks", "state"])
def test_a_home_whose_filling_a_crash_cut_short_is_filled_at_the_next_start(
    rebuilt: Rebuilt, tmp_path: Path, name: str
) -> None:
    home = rebuilt.node(tmp_path / "node", rebuilt.books)
    before = head_of(home)
    resync_node(home.path)
    rename = Path.rename

    def cut_short(path: Path, target: Path) -> Path:
        if target == home.path / name:
            raise Crash
        return rename(path, target)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "rename", cut_short)
        with pytest.raises(Crash):
            ensure_books(home, rebuilt.genesis, CONTRACTS)
    ensure_books(home, rebuilt.genesis, CONTRACTS)
    assert head_of(home) == before
    with closing(LevelBlockStore(home.blocks, home.chain_id)) as blocks:
        assert blocks.first_height() == 6


def test_books_and_keys_are_on_the_disk_when_a_home_is_made(
    rebuilt: Rebuilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    home = rebuilt.node(tmp_path / "node", rebuilt.books)
    kept = Books.of_home(home)
    keys = [home.keys / name for name in ("ledger.key", "consensus.key")]
    for path in (kept.archive, kept.old_genesis, *keys, home.predecessor, home.keys):
        assert path.stat().st_ino in synced, path
        assert path.stat().st_mode & 0o077 == 0, path
    assert kept.archive.read_bytes() == rebuilt.archive.read_bytes()
    assert sorted(home.keys.iterdir()) == sorted(keys)


def test_invalid_archive_in_the_home(rebuilt: Rebuilt, tmp_path: Path) -> None:
    home = rebuilt.node(tmp_path / "node", rebuilt.books)
    resync_node(home.path)
    kept = Books.of_home(home).archive
    kept.write_bytes(kept.read_bytes()[:-40])
    with pytest.raises(GenesisError, match="cut off"):
        ensure_books(home, rebuilt.genesis, CONTRACTS)
    assert list(home.state.iterdir()) == []
    assert list(home.path.glob(".books*")) == []


def test_invalid_home_without_the_books(rebuilt: Rebuilt, tmp_path: Path) -> None:
    with pytest.raises(GenesisError, match="--state ARCHIVE --old-genesis FILE"):
        rebuilt.node(tmp_path / "node")
    assert list(tmp_path.iterdir()) == []


def test_invalid_home_with_a_wrong_old_genesis(rebuilt: Rebuilt, tmp_path: Path) -> None:
    with pytest.raises(GenesisError, match="of network"):
        rebuilt.node(tmp_path / "node", Books(rebuilt.archive, rebuilt.genesis_file))
    assert list(tmp_path.iterdir()) == []


def test_invalid_one_without_the_other(rebuilt: Rebuilt) -> None:
    with pytest.raises(GenesisError, match="Give both"):
        Books.given(rebuilt.archive, None)
    with pytest.raises(GenesisError, match="Give both"):
        Books.given(None, rebuilt.old_genesis)
    assert Books.given(None, None) is None


# -- a replica's totals


def followed(rebuilt: Rebuilt, path: Path) -> Report:
    """What a replica of the old network came to, block by block."""
    index = Index(path / "old-index", rebuilt.chain.genesis.chain_id)
    with closing(index):
        executor = ReplicaExecutor(
            rebuilt.chain.genesis,
            blocks=MemoryBlockStore(),
            store=MemoryStateStore(),
            index=index,
            contracts=CONTRACTS,
        )
        execute(executor, rebuilt.chain, rebuilt.chain.blocks)
        return executor.report


def test_a_replicas_totals_and_receipts_are_those_of_the_network_before(rebuilt: Rebuilt, tmp_path: Path) -> None:
    old = followed(rebuilt, tmp_path)
    home = rebuilt.replica(tmp_path / "replica")
    with (
        closing(LevelBlockStore(home.blocks, home.chain_id)) as blocks,
        closing(LevelStateStore(home.state)) as states,
        closing(Index(home.index, home.chain_id)) as index,
    ):
        executor = ReplicaExecutor(rebuilt.genesis, blocks=blocks, store=states, index=index, contracts=CONTRACTS)
        new = executor.report
        assert (new.rows, new.operations, new.envelopes) == (old.rows, old.operations, old.envelopes)
        assert new.rows[0].paid_minor > 0
        assert (new.height, new.signatures) == (5, 0)
        assert index.report(5) == new
        [first] = rebuilt.chain.blocks[0].batches[0].envelopes
        from ledger.wire import decode_envelope

        assert index.position(decode_envelope(first).id) == 0
        again = ReplicaExecutor(rebuilt.genesis, blocks=blocks, store=states, index=index, contracts=CONTRACTS)
        assert again.report == new
    assert FIRST.id == new.rows[0].insurer
