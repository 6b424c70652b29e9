"""Block stores, on disk and in memory, keep one set of promises; the one on disk also finds damage."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from ledger.block_port import (
    BatchDrop,
    BatchWrite,
    BlockStore,
    FinalizedWrite,
    ProposalWrite,
)
from ledger.genesis import WrongNetwork
from ledger.invariant import InvariantViolated
from store.blocks import LevelBlockStore
from store.errors import (
    ContradictoryWrite,
    CorruptStore,
    FailureKind,
    StoreFailed,
    StoreInUse,
    WrongSchema,
)
from store.level import Level
from store.memory_blocks import MemoryBlockStore

CHAIN = bytes(range(32))


def d(name: object) -> bytes:
    return sha256(str(name).encode()).digest()


@pytest.fixture(params=["disk", "memory"])
def blocks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlockStore]:
    store: BlockStore = LevelBlockStore(tmp_path, CHAIN) if request.param == "disk" else MemoryBlockStore()
    yield store
    store.close()


# -- the promises ----------------------------------------------------------------------------


def test_a_new_store_is_empty(blocks: BlockStore) -> None:
    assert blocks.batch(d(1)) is None
    assert not blocks.has_batch(d(1))
    assert blocks.proposal(d(1)) is None
    assert not blocks.has_proposal(d(1))
    assert blocks.finalized_height() is None
    assert blocks.digest_at(0) is None
    assert blocks.finalization(0) is None
    assert list(blocks.finalized(0, 100)) == []


def test_batches_and_proposals_are_found_by_digest_and_never_mixed_up(blocks: BlockStore) -> None:
    blocks.commit([BatchWrite(d(1), b"batch"), ProposalWrite(d(2), b"proposal"), BatchWrite(d(3), b"")])
    assert blocks.batch(d(1)) == b"batch"
    assert blocks.proposal(d(2)) == b"proposal"
    assert blocks.batch(d(3)) == b""
    assert blocks.has_batch(d(1))
    assert blocks.has_proposal(d(2))
    assert blocks.batch(d(2)) is None
    assert blocks.proposal(d(1)) is None


def test_a_batch_of_two_mebibytes_comes_back_whole(blocks: BlockStore) -> None:
    raw = Random(7).randbytes(2 << 20)
    blocks.commit([BatchWrite(d("large"), raw)])
    assert blocks.batch(d("large")) == raw


def test_the_first_write_of_a_digest_stays(blocks: BlockStore) -> None:
    blocks.commit([BatchWrite(d(1), b"first"), BatchWrite(d(1), b"second")])
    blocks.commit([BatchWrite(d(1), b"third")])
    assert blocks.batch(d(1)) == b"first"


def test_heights_come_in_order_with_the_certificates_that_are_held(blocks: BlockStore) -> None:
    blocks.commit([FinalizedWrite(height, d(height), b"") for height in range(300)])
    blocks.commit([FinalizedWrite(300, d(300), b"certificate")])
    assert blocks.finalized_height() == 300
    assert blocks.digest_at(17) == d(17)
    assert blocks.digest_at(301) is None
    assert blocks.finalization(17) is None
    assert blocks.finalization(300) == b"certificate"
    assert list(blocks.finalized(254, 257)) == [(height, d(height)) for height in (254, 255, 256, 257)]
    assert [height for height, _ in blocks.finalized(299, 1000)] == [299, 300]


def test_a_certificate_may_come_later_and_stays(blocks: BlockStore) -> None:
    blocks.commit([FinalizedWrite(5, d(5), b"")])
    blocks.commit([FinalizedWrite(5, d(5), b"certificate")])
    blocks.commit([FinalizedWrite(5, d(5), b"")])
    blocks.commit([FinalizedWrite(5, d(5), b"another")])
    assert blocks.finalization(5) == b"certificate"


def test_a_backfilled_lower_height_does_not_lower_the_highest(blocks: BlockStore) -> None:
    blocks.commit([FinalizedWrite(9, d(9), b"c")])
    blocks.commit([FinalizedWrite(3, d(3), b"")])
    assert blocks.finalized_height() == 9


def test_a_second_digest_for_a_height_is_refused_and_nothing_of_that_turn_is_written(blocks: BlockStore) -> None:
    blocks.commit([FinalizedWrite(1, d(1), b"")])
    with pytest.raises(ContradictoryWrite) as refused:
        blocks.commit([BatchWrite(d(7), b"x"), FinalizedWrite(1, d(2), b"c")])
    assert (refused.value.stored, refused.value.offered) == (d(1), d(2))
    assert not blocks.has_batch(d(7))
    with pytest.raises(ContradictoryWrite):
        blocks.commit([FinalizedWrite(2, d(2), b""), FinalizedWrite(2, d(3), b"")])
    assert blocks.digest_at(2) is None
    blocks.commit([BatchWrite(d(8), b"going on")])
    assert blocks.has_batch(d(8))


def test_a_dropped_batch_is_gone_and_may_come_again(blocks: BlockStore) -> None:
    blocks.commit([BatchWrite(d(1), b"one"), BatchWrite(d(2), b"two")])
    blocks.commit([BatchDrop(d(1)), BatchDrop(d("never there"))])
    assert blocks.batch(d(1)) is None
    assert blocks.batch(d(2)) == b"two"
    blocks.commit([BatchWrite(d(1), b"one")])
    assert blocks.batch(d(1)) == b"one"
    blocks.commit([BatchWrite(d(3), b"three"), BatchDrop(d(3))])
    assert not blocks.has_batch(d(3))


def test_batches_wait_until_a_final_block_lists_them_or_they_are_dropped(blocks: BlockStore) -> None:
    blocks.commit([BatchWrite(d(number), b"%d" % number) for number in range(4)])
    blocks.commit([BatchWrite(d(4), b"4"), FinalizedWrite(1, d("block"), b"", (d(0), d(4)))])
    blocks.commit([BatchDrop(d(1))])
    assert set(blocks.waiting()) == {d(2), d(3)}
    blocks.commit([BatchWrite(d(0), b"0"), FinalizedWrite(1, d("block"), b"certificate", (d(0), d(4)))])
    assert set(blocks.waiting()) == {d(2), d(3)}, "what was listed once does not wait again"
    assert blocks.batch(d(4)) == b"4"


def test_a_digest_of_another_length_is_a_defect(blocks: BlockStore) -> None:
    with pytest.raises(InvariantViolated, match="32 bytes"):
        blocks.commit([BatchWrite(b"short", b"x")])


# -- on disk ---------------------------------------------------------------------------------


def filled(path: Path) -> LevelBlockStore:
    store = LevelBlockStore(path, CHAIN)
    for number in range(50):
        batch, final = BatchWrite(d(number), b"%d" % number * 500), FinalizedWrite(number, d(number), b"c%d" % number)
        store.commit([batch, final])
    store.commit([BatchDrop(d(10)), ProposalWrite(d("p"), b"proposal")])
    return store


def check_filled(store: LevelBlockStore) -> None:
    for number in range(50):
        assert store.batch(d(number)) == (None if number == 10 else b"%d" % number * 500)
        assert store.finalization(number) == b"c%d" % number
    assert store.finalized_height() == 49
    assert store.proposal(d("p")) == b"proposal"


def test_everything_is_there_again_after_reopening(tmp_path: Path) -> None:
    filled(tmp_path).close()
    store = LevelBlockStore(tmp_path, CHAIN)
    check_filled(store)
    store.commit([BatchWrite(d("new"), b"new")])
    check_filled(store)
    store.close()


def test_a_row_that_lies_under_anothers_number_is_found(tmp_path: Path) -> None:
    filled(tmp_path).close()
    level = Level(tmp_path, 1 << 20, 1 << 20)
    arrival = level.get(b"b" + d(1))
    assert arrival is not None
    level.write({b"b" + d(2): arrival, b"b" + d(3): bytes(7) + b"\xff"}, sync=True)
    level.close()
    store = LevelBlockStore(tmp_path, CHAIN)
    for number in (2, 3):
        with pytest.raises(CorruptStore, match="another one"):
            store.batch(d(number))
    assert store.batch(d(1)) is not None
    store.close()


def test_numbers_are_not_given_twice_to_what_is_there(tmp_path: Path) -> None:
    filled(tmp_path).close()
    for name in ("one", "two", "three"):
        store = LevelBlockStore(tmp_path, CHAIN)
        store.commit([BatchWrite(d(name), name.encode())])
        if name == "two":
            store.commit([BatchDrop(d(name))])
        check_filled(store)
        store.close()
    store = LevelBlockStore(tmp_path, CHAIN)
    assert [store.batch(d(name)) for name in ("one", "two", "three")] == [b"one", None, b"three"]
    store.close()


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    """LevelDB alone, opened with its defaults, drops the record and everything beside it in silence."""
    filled(tmp_path / "good").close()
    found = 0
    for place in range(1, 10):
        damaged = tmp_path / f"damaged-{place}"
        shutil.copytree(tmp_path / "good", damaged)
        log = max(damaged.glob("*.l*"), key=lambda path: path.stat().st_size)
        data = bytearray(log.read_bytes())
        data[len(data) * place // 10] ^= 4
        log.write_bytes(data)
        with pytest.raises(CorruptStore, match="lossbook doctor"):
            check_filled(LevelBlockStore(damaged, CHAIN))
        found += 1
    assert found == 9


def test_another_network_another_schema_and_a_second_opener_are_refused(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with pytest.raises(StoreInUse, match="in use"):
        LevelBlockStore(tmp_path, CHAIN)
    store.close()
    with pytest.raises(WrongNetwork) as wrong:
        LevelBlockStore(tmp_path, bytes(32))
    assert wrong.value.found == CHAIN
    assert wrong.value.where == str(tmp_path)
    level = Level(tmp_path, 1 << 20, 1 << 20)
    level.write({b"mschema": b"9"}, sync=True)
    level.close()
    with pytest.raises(WrongSchema, match="9"):
        LevelBlockStore(tmp_path, CHAIN)


def test_a_store_that_lost_its_file_current_is_not_begun_anew_over_what_is_there(tmp_path: Path) -> None:
    """LevelDB would take the directory for a new one, and delete the rest."""
    filled(tmp_path).close()
    names = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / "CURRENT").rename(tmp_path / "kept")
    with pytest.raises(CorruptStore, match="CURRENT is missing"):
        LevelBlockStore(tmp_path, CHAIN)
    (tmp_path / "kept").rename(tmp_path / "CURRENT")
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    store = LevelBlockStore(tmp_path, CHAIN)
    check_filled(store)
    store.close()


def test_a_foreign_leveldb_is_not_taken_over(tmp_path: Path) -> None:
    foreign = Level(tmp_path, 1 << 20, 1 << 20)
    foreign.write({b"x": b"y"}, sync=True)
    foreign.close()
    with pytest.raises(WrongSchema, match="none"):
        LevelBlockStore(tmp_path, CHAIN)


def child(script: str, path: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_full_disk_is_reported_once_and_nothing_is_written_after(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk."""
    script = """
import resource, signal, sys
from pathlib import Path
from hashlib import sha256
from ledger.block_port import BatchWrite
from store.blocks import LevelBlockStore
from store.errors import StoreFailed
store = LevelBlockStore(Path(sys.argv[1]), bytes(32))
store.commit([BatchWrite(b"a" * 32, b"safe")])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for digest in (b"b", b"c"):
    try:
        store.commit([BatchWrite(digest * 32, bytes(200_000 if digest == b"b" else 1))])
    except StoreFailed as failed:
        print(failed.kind.name, store.has_batch(digest * 32), store.batch(b"a" * 32))
"""
    with child(script, tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert out.splitlines() == ["DISK_FULL False b'safe'", "POISONED False b'safe'"], err
    store = LevelBlockStore(tmp_path, bytes(32))
    assert store.batch(b"a" * 32) == b"safe"
    store.close()


def test_everything_committed_is_there_after_kill_9(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from hashlib import sha256
from ledger.block_port import BatchWrite, FinalizedWrite
from store.blocks import LevelBlockStore
store = LevelBlockStore(Path(sys.argv[1]), bytes(32))
number = 0
while True:
    digest = sha256(b"%d" % number).digest()
    store.commit([BatchWrite(digest, b"%d" % number * 9000), FinalizedWrite(number, digest, b"")])
    sys.stdout.write("%d\\n" % number)
    sys.stdout.flush()
    number += 1
"""
    for rounds in (0, 70):
        path = tmp_path / f"blocks-{rounds}"
        with child(script, path) as process:
            assert process.stdout is not None
            acknowledged = -1
            while acknowledged < rounds:
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split("\n")[:-1]
        acknowledged = int(rest[-1]) if rest else acknowledged
        store = LevelBlockStore(path, bytes(32))
        height = store.finalized_height()
        assert height is not None
        assert acknowledged <= height <= acknowledged + 1
        for number in range(height + 1):
            assert store.batch(d(number)) == b"%d" % number * 9000
        store.close()


# -- in memory -------------------------------------------------------------------------------


def test_a_crash_takes_unsynced_turns_from_the_end_only() -> None:
    kept = set()
    for seed in range(40):
        store = MemoryBlockStore()
        store.commit([BatchWrite(d("synced"), b"1")])
        for number in range(3):
            store.commit([BatchWrite(d(number), b"2")], sync=False)
        store.crash(Random(seed))
        there = [store.has_batch(d(number)) for number in range(3)]
        assert store.has_batch(d("synced"))
        assert there == sorted(there, reverse=True)
        kept.add(sum(there))
    assert kept == {0, 1, 2, 3}


def test_a_planted_fault_stays_until_the_crash() -> None:
    store = MemoryBlockStore()
    store.fail_next_commit(StoreFailed(FailureKind.DISK_FULL, "write", Path("blocks")))
    for _ in range(2):
        with pytest.raises(StoreFailed):
            store.commit([BatchWrite(d(1), b"x")])
    store.crash(Random(0))
    store.commit([BatchWrite(d(1), b"x")])
    assert store.has_batch(d(1))
