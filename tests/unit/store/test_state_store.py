"""The LevelDB state store: one block or none, one process, and no byte believed that was not written."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import plyvel
import pytest

from ledger.invariant import InvariantViolated
from ledger.ports import BlockWrites, CorruptStore, HeightRecord, StateStore, StoreError, StoreInUse, WrongSchema
from ledger.state import State, Table
from store.memory import MemoryStateStore
from store.state import LevelStateStore


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    text: str


TABLE = Table(1, Record)


def fill(store: StateStore, blocks: int, writes: int = 5) -> State:
    state = State.open(store)
    for height in range(state.height + 1, state.height + 1 + blocks):
        for number in range(writes):
            state.put(TABLE, b"%d" % (number * (1 + height % 3)), Record(f"{height} {number}"))
        store.commit(state.commit(height, height, [b"receipt %d" % height]))
    return state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_what_is_committed_is_there_after_reopening(path: Path) -> None:
    store = LevelStateStore(path)
    assert store.executed_height() is None
    state = fill(store, 5, writes=1000)
    store.close()
    again = LevelStateStore(path)
    reopened = State.open(again)
    assert reopened.head == state.head
    assert list(reopened.iterate(TABLE)) == list(state.iterate(TABLE))
    assert again.receipt_blob(3) == b"receipt 3"
    again.close()


def test_it_keeps_the_same_rows_as_the_store_in_memory(path: Path) -> None:
    stores: list[StateStore] = [LevelStateStore(path), MemoryStateStore()]
    for store in stores:
        fill(store, 6, writes=500)
    rows = [
        (
            store.executed_height(),
            [store.height_record(height) for height in range(-1, 7)],
            list(store.leaves(0, 3000)),
            [store.leaf(index) for index in (0, 2999)],
            list(store.twig_roots()),
            list(store.receipt_blobs(0, 6)),
            list(store.receipt_groups()),
        )
        for store in stores
    ]
    assert rows[0] == rows[1]
    stores[0].close()


def test_a_copy_taken_as_a_crash_would_leave_it_opens_at_the_last_block(path: Path, tmp_path: Path) -> None:
    store = LevelStateStore(path)
    state = fill(store, 3)
    shutil.copytree(path, tmp_path / "copy")
    store.close()
    copy = LevelStateStore(tmp_path / "copy")
    assert State.open(copy).head == state.head
    copy.close()


def test_a_torn_log_opens_at_a_block_boundary(path: Path, tmp_path: Path) -> None:
    store = LevelStateStore(path)
    state = fill(store, 8)
    records = [store.height_record(height) for height in range(8)]
    store.close()
    log = next(iter(path.glob("*.log")))
    heights = set()
    for cut in range(1, log.stat().st_size - 200, 397):
        torn = tmp_path / f"torn{cut}"
        shutil.copytree(path, torn)
        with open(torn / log.name, "r+b") as file:
            file.truncate(log.stat().st_size - cut)
        copy = LevelStateStore(torn)
        head = State.open(copy).head
        copy.close()
        assert head is None or head == records[head.height]
        heights.add(-1 if head is None else head.height)
    assert len(heights) > 4
    assert state.height not in heights


@pytest.mark.parametrize("kind", ["*.log", "*.ldb"])
def test_flipped_bits_are_never_believed(path: Path, tmp_path: Path, kind: str) -> None:
    store = LevelStateStore(path)
    fill(store, 8)
    records = [store.height_record(height) for height in range(8)]
    store.close()
    if kind == "*.ldb":
        LevelStateStore(path).close()  # opening turns the log into a table
    target = next(iter(path.glob(kind)))
    refused = 0
    for place in range(0, target.stat().st_size, 211):
        copy = tmp_path / f"flip{place}"
        shutil.copytree(path, copy)
        raw = bytearray(target.read_bytes())
        raw[place] ^= 0x10
        (copy / target.name).write_bytes(raw)
        try:
            opened = LevelStateStore(copy)
        except StoreError:
            refused += 1
            continue
        try:
            head = State.open(opened).head
            assert head is None or head == records[head.height]
        except CorruptStore:
            refused += 1
        finally:
            opened.close()
        shutil.rmtree(copy)
    assert refused


def test_a_missing_row_is_corruption(path: Path) -> None:
    store = LevelStateStore(path)
    fill(store, 3)
    store.close()
    raw = plyvel.DB(str(path))
    raw.delete(b"L" + (2).to_bytes(8, "big"))
    raw.delete(b"R" + (2).to_bytes(8, "big"))
    raw.close()
    store = LevelStateStore(path)
    for read in (lambda: store.leaf(2), lambda: list(store.leaves(0, 5)), lambda: list(store.receipt_blobs(0, 3))):
        with pytest.raises(CorruptStore, match="2 is missing"):
            read()
    with pytest.raises(CorruptStore, match="node resync"):
        store.leaf(-1)
    with pytest.raises(CorruptStore):
        State.open(store)
    store.close()


def test_an_unreadable_height_record_is_corruption(path: Path) -> None:
    store = LevelStateStore(path)
    fill(store, 3)
    record = store.height_record(1)
    store.close()
    raw = plyvel.DB(str(path))
    raw.put(b"H" + (0).to_bytes(8, "big"), b"\xc1")
    raw.put(b"H" + (2).to_bytes(8, "big"), msgspec.msgpack.encode(record))
    raw.close()
    store = LevelStateStore(path)
    for height in (0, 2):
        with pytest.raises(CorruptStore, match=f"height {height}"):
            store.height_record(height)
    store.close()


def test_a_second_process_is_told_so(path: Path) -> None:
    store = LevelStateStore(path)
    program = (
        "import sys; from store.state import LevelStateStore; from ledger.ports import StoreInUse\n"
        "try:\n    LevelStateStore(sys.argv[1])\nexcept StoreInUse as error:\n    print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "in use by another process" in answer.stdout
    with pytest.raises(StoreInUse):
        LevelStateStore(path)
    store.close()
    LevelStateStore(path).close()


def test_another_schema_is_refused(path: Path) -> None:
    LevelStateStore(path).close()
    raw = plyvel.DB(str(path))
    raw.put(b"Mschema", b"99")
    raw.close()
    with pytest.raises(WrongSchema, match="schema 99"):
        LevelStateStore(path)


def test_a_directory_of_something_else_is_refused(path: Path) -> None:
    raw = plyvel.DB(str(path), create_if_missing=True)
    raw.put(b"hello", b"world")
    raw.close()
    with pytest.raises(WrongSchema):
        LevelStateStore(path)


def test_a_place_that_cannot_be_written_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"Check the file.s owner"):
        LevelStateStore(tmp_path / "file" / "state")


def test_invalid_order_of_blocks(path: Path) -> None:
    record = HeightRecord(1, bytes(32), bytes(32), 0, 0, 0, bytes(32))
    writes = BlockWrites(record, 0, [], [], 0, [], [])
    for store in (LevelStateStore(path), MemoryStateStore()):
        with pytest.raises(InvariantViolated, match="in order"):
            store.commit(writes)
        store.close()
