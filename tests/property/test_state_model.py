"""The state against a dictionary, through commits, roll-backs and reopenings; every proof true and no other."""

import os
import random
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from ledger.commitment import LeafProof, ProofError, StateProof, verify
from ledger.state import State, Table
from ledger.state_log import ProofUnavailable
from store.memory import MemoryStateStore


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    number: int


TABLE = Table(7, Record)
OTHER = Table(8, Record)

keys = st.sampled_from([b"", b"a", b"aa", b"ab", b"b", b"ba", b"\xff", b"\xff\xff"])
writes = st.tuples(keys, st.one_of(st.none(), st.integers(0, 1000)))
operations = st.tuples(st.lists(writes, max_size=6), st.booleans())  # (writes, whether it fails)
blocks = st.tuples(st.lists(operations, max_size=4), st.booleans())  # (operations, whether to reopen after it)


def write(state: State, model: dict[bytes, Record], changes: list[tuple[bytes, int | None]]) -> None:
    for key, number in changes:
        if number is None:
            state.delete(TABLE, key)
            model.pop(key, None)
        else:
            state.put(TABLE, key, Record(number))
            model[key] = Record(number)


@settings(max_examples=60)
@given(st.lists(blocks, min_size=1, max_size=90))
def test_a_dictionary_says_the_same(
    history: list[tuple[list[tuple[list[tuple[bytes, int | None]], bool]], bool]],
) -> None:
    store = MemoryStateStore()
    state = State.open(store)
    state.put(OTHER, b"a", Record(1))
    model: dict[bytes, Record] = {}
    models = []
    for height, (ops, reopen) in enumerate(history):
        for changes, fails in ops:
            mark, attempt = state.mark(), dict(model)
            write(state, attempt, changes)
            if fails:
                state.rollback(mark)
            else:
                model = attempt
            assert list(state.iterate(TABLE)) == sorted(model.items())
        store.commit(state.commit(height, height, [b"%d" % height]))
        models.append(dict(model))
        if reopen:
            head = state.head
            state = State.open(store)
            assert state.head == head
        assert {key: state.get(TABLE, key) for key in model} == model
    assert list(state.iterate(OTHER)) == [(b"a", Record(1))]
    check_proofs(state, store, models)


def check_proofs(state: State, store: MemoryStateStore, models: list[dict[bytes, Record]]) -> None:
    """Every value of the last heights proves under the root of its height."""
    for height in range(max(0, state.height - 8), state.height + 1):
        record = store.height_record(height)
        assert record is not None
        for key, expected in models[height].items():
            proven = verify(state.prove(TABLE, key, height), record.state_root)
            assert (proven.key, TABLE.decode(proven.value)) == (TABLE.prefix + key, expected)
            later = verify(state.prove(TABLE, key, state.height, value_at=height), state.head.state_root)  # type: ignore[union-attr]
            assert TABLE.decode(later.value) == expected
            assert later.held_at(height)


def _grown() -> tuple[State, MemoryStateStore]:
    store = MemoryStateStore()
    state = State.open(store)
    chosen = random.Random(3)
    for height in range(6):
        for _ in range(700):
            state.put(TABLE, b"%d" % chosen.randrange(900), Record(chosen.randrange(1 << 30)))
        store.commit(state.commit(height, height, []))
    return state, store


STATE, STORE = _grown()


@given(st.data())
def test_any_flipped_bit_of_a_proof_is_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, 5))
    record = STORE.height_record(at)
    assert record is not None
    key = data.draw(st.sampled_from([key for key, _ in STATE.iterate(TABLE)]))
    try:
        proof = STATE.prove(TABLE, key, at, data.draw(st.integers(0, at)))
    except ProofUnavailable:
        reject()  # the key came later
    verify(proof, record.state_root)
    flat = _flatten(proof)
    part = data.draw(st.integers(0, len(flat) - 1))
    value = flat[part]
    if isinstance(value, int):
        flat[part] = value ^ 1 << data.draw(st.integers(0, 62))
    else:
        bit = data.draw(st.integers(0, 8 * len(value) - 1))
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        flat[part] = bytes(flipped)
    with pytest.raises(ProofError):
        verify(_unflatten(flat, proof), record.state_root)


def _flatten(proof: StateProof) -> list[int | bytes]:
    flat: list[int | bytes] = [proof.scheme, proof.count, proof.boundary]
    for leaf in (proof.subject, proof.successor):
        if leaf is not None:
            flat += [leaf.index, leaf.leaf, leaf.bits, *leaf.path, *leaf.twig_path]
    return flat


def _unflatten(flat: list[int | bytes], shape: StateProof) -> StateProof:
    rest = iter(flat)

    def number() -> int:
        found = next(rest)
        assert isinstance(found, int)
        return found

    def octets() -> bytes:
        found = next(rest)
        assert isinstance(found, bytes)
        return found

    def leaf(like: LeafProof | None) -> LeafProof | None:
        if like is None:
            return None
        index, raw, bits = number(), octets(), octets()
        path = tuple(octets() for _ in like.path)
        return LeafProof(index, raw, path, bits, tuple(octets() for _ in like.twig_path))

    scheme, count, boundary = number(), number(), number()
    subject = leaf(shape.subject)
    assert subject is not None
    return StateProof(scheme, count, boundary, subject, leaf(shape.successor))


PROGRAM = """
from tests.property.test_state_model import STATE, TABLE
print(STATE.head.state_root.hex(), sum(record.number for _, record in STATE.iterate(TABLE)))
"""


def test_the_order_of_hash_tables_reaches_no_root() -> None:
    """The same writes under different hash seeds."""
    seen = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert seen == {f"{STATE.head.state_root.hex()} {sum(r.number for _, r in STATE.iterate(TABLE))}\n"}  # type: ignore[union-attr]
