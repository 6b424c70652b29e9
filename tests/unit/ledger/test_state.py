"""The typed view contracts use, and its commitment block by block."""

import msgspec
import pytest

from ledger.commitment import decode_leaf, verify
from ledger.invariant import InvariantViolated
from ledger.ports import CorruptStore, HeightRecord
from ledger.receipts_range import verify as verify_receipt
from ledger.state import BLOCKS_UNSAVED_MAX, State, Table
from ledger.state_log import RECENT_HEIGHTS, ProofUnavailable
from store.memory import MemoryStateStore


class Policy(msgspec.Struct, frozen=True, gc=False, array_like=True):
    insurer: str
    limit_minor: int


class Note(msgspec.Struct, frozen=True, gc=False, array_like=True):
    text: str


POLICIES = Table(0x10, Policy)
NOTES = Table(0x11, Note)
ACME, BOREAS = Policy("acme", 100), Policy("boreas", 200)


@pytest.fixture
def store() -> MemoryStateStore:
    return MemoryStateStore()


@pytest.fixture
def state(store: MemoryStateStore) -> State:
    return State.open(store)


def close(state: State, store: MemoryStateStore, receipts: tuple[bytes, ...] = ()) -> HeightRecord:
    height = state.height + 1
    writes = state.commit(height, 1000 * height, receipts)
    store.commit(writes)
    return writes.record


def test_reads_see_the_open_blocks_writes(state: State) -> None:
    assert state.get(POLICIES, b"p") is None
    state.put(POLICIES, b"p", ACME)
    assert state.get(POLICIES, b"p") == ACME
    assert state.get(NOTES, b"p") is None
    state.delete(POLICIES, b"p")
    assert state.get(POLICIES, b"p") is None


def test_rollback_undoes_exactly_what_came_after_the_mark(state: State) -> None:
    state.put(POLICIES, b"p", ACME)
    mark = state.mark()
    state.put(POLICIES, b"p", BOREAS)
    state.delete(POLICIES, b"p")
    state.put(POLICIES, b"q", BOREAS)
    state.rollback(mark)
    assert list(state.iterate(POLICIES)) == [(b"p", ACME)]
    state.discard()
    assert list(state.iterate(POLICIES)) == []


def test_a_rolled_back_block_commits_to_nothing(state: State, store: MemoryStateStore) -> None:
    empty = close(state, store).state_root
    mark = state.mark()
    state.put(POLICIES, b"p", ACME)
    state.rollback(mark)
    assert close(state, store).state_root == empty


def test_one_leaf_a_key_in_key_order_and_no_trace_of_what_came_and_went(state: State, store: MemoryStateStore) -> None:
    state.put(NOTES, b"a", Note("n"))
    state.put(POLICIES, b"z", ACME)
    state.put(POLICIES, b"b", ACME)
    state.put(POLICIES, b"b", BOREAS)
    state.put(POLICIES, b"gone", ACME)
    state.delete(POLICIES, b"gone")
    state.delete(POLICIES, b"never")
    writes = state.commit(0, 0, [])
    leaves = [decode_leaf(leaf) for leaf in writes.leaves]
    assert [leaf.key for leaf in leaves] == [b"\x10b", b"\x10z", b"\x11a"]
    assert POLICIES.decode(leaves[0].value) == BOREAS


def test_iteration_is_in_byte_order_under_a_prefix_with_the_open_blocks_writes(
    state: State, store: MemoryStateStore
) -> None:
    for key in (b"ab", b"b", b"aa", b"a\xff", b"a"):
        state.put(POLICIES, key, ACME)
    close(state, store)
    state.put(POLICIES, b"a0", BOREAS)
    state.delete(POLICIES, b"aa")
    assert [key for key, _ in state.iterate(POLICIES, b"a")] == [b"a", b"a0", b"ab", b"a\xff"]
    assert [key for key, _ in state.iterate(POLICIES)] == [b"a", b"a0", b"ab", b"a\xff", b"b"]
    close(state, store)
    assert [key for key, _ in state.iterate(POLICIES)] == [b"a", b"a0", b"ab", b"a\xff", b"b"]


def test_writing_while_iterating_is_a_live_cursor(state: State) -> None:
    for key in (b"a", b"c", b"d"):
        state.put(POLICIES, key, ACME)
    seen = []
    for key, _ in state.iterate(POLICIES):
        seen.append(key)
        if key == b"a":
            state.put(POLICIES, b"b", BOREAS)
            state.delete(POLICIES, b"c")
    assert seen == [b"a", b"b", b"d"]


def test_keys_added_and_rolled_back_are_forgotten(state: State, store: MemoryStateStore) -> None:
    assert list(state.iterate(POLICIES)) == []
    mark = state.mark()
    state.put(POLICIES, b"p", ACME)
    state.rollback(mark)
    close(state, store)
    assert list(state._sorted[POLICIES.prefix]) == []


def test_reopening_gives_the_same_state(state: State, store: MemoryStateStore) -> None:
    for height in range(RECENT_HEIGHTS + 10):
        state.put(POLICIES, b"p%d" % (height % 7), Policy("acme", height))
        if height % 3 == 0:
            state.delete(POLICIES, b"p%d" % ((height + 4) % 7))
        close(state, store, (b"receipt %d" % height,))
    again = State.open(store)
    assert again.head == state.head
    assert list(again.iterate(POLICIES)) == list(state.iterate(POLICIES))
    for height in range(state.height - 5, state.height + 1):
        record = store.height_record(height)
        assert record is not None
        key, policy = next(state.iterate(POLICIES))
        proofs = [each.prove(POLICIES, key, state.height) for each in (state, again)]
        assert proofs[0] == proofs[1]
        assert POLICIES.decode(verify(proofs[1], state.head.state_root if state.head else b"").value) == policy
        receipt = again.prove_receipt(3, height)
        verify_receipt(again.receipt_blob(3), receipt, record.receipts_root)


def test_blocks_may_be_stored_after_later_ones_are_executed(state: State, store: MemoryStateStore) -> None:
    unsaved = []
    for height in range(4):
        state.put(POLICIES, b"p", Policy("acme", height))
        state.put(POLICIES, b"only %d" % height, ACME)
        unsaved.append(state.commit(height, 0, [b"r%d" % height]))
    assert store.executed_height() is None
    assert verify(state.prove(POLICIES, b"p", 2), unsaved[2].record.state_root).written_at == 2
    assert state.receipt_blob(1) == b"r1"
    assert state.height_record(1) == unsaved[1].record
    for writes in unsaved[:2]:
        store.commit(writes)
    assert state.committed_bytes(POLICIES, b"only 3") == POLICIES.encode(ACME)
    state.commit(4, 0, [])
    assert verify(state.prove(POLICIES, b"only 0", 4), unsaved[3].record.state_root).written_at == 0
    for writes in unsaved[2:]:
        store.commit(writes)
    assert State.open(store).head == unsaved[3].record


def test_invalid_hoarding_of_unsaved_blocks(state: State) -> None:
    for height in range(BLOCKS_UNSAVED_MAX):
        state.commit(height, 0, [])
    with pytest.raises(InvariantViolated, match="not stored yet"):
        state.commit(BLOCKS_UNSAVED_MAX, 0, [])


def test_invalid_heights(state: State, store: MemoryStateStore) -> None:
    with pytest.raises(InvariantViolated, match="executed after"):
        state.commit(1, 0, [])
    close(state, store)
    with pytest.raises(InvariantViolated, match="executed after"):
        state.commit(0, 0, [])


def test_a_receipt_is_not_provable_before_it_was_given(state: State, store: MemoryStateStore) -> None:
    close(state, store, (b"first",))
    close(state, store, (b"second",))
    with pytest.raises(ProofUnavailable):
        state.prove_receipt(1, 0)
    with pytest.raises(ProofUnavailable):
        state.prove_receipt(0, 2)


def test_altered_leaves_are_noticed_on_opening(state: State, store: MemoryStateStore) -> None:
    state.put(POLICIES, b"p", ACME)
    state.put(POLICIES, b"q", ACME)
    close(state, store)
    store._leaves[0] = store._leaves[0].replace(b"acme", b"evil")
    with pytest.raises(CorruptStore, match="node resync"):
        State.open(store)


@pytest.mark.parametrize("rows", ["_leaves", "_receipts"])
def test_missing_rows_are_noticed_on_opening(state: State, store: MemoryStateStore, rows: str) -> None:
    state.put(POLICIES, b"p", ACME)
    close(state, store, (b"receipt",))
    getattr(store, rows).pop()
    with pytest.raises(CorruptStore, match="missing"):
        State.open(store)


def test_a_record_of_another_shape_is_corruption(state: State, store: MemoryStateStore) -> None:
    state.put(NOTES, b"p", Note("not a policy"))
    close(state, store)
    again = State.open(store)
    with pytest.raises(CorruptStore, match="no record of Policy"):
        again.get(Table(0x11, Policy), b"p")


def test_invalid_table_prefix() -> None:
    with pytest.raises(ValueError, match="one byte"):
        Table(256, Policy)
