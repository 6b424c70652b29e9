"""Sealed blobs are found by their commitment, compared with it, and never another network's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.genesis import WrongNetwork
from ledger.invariant import InvariantViolated
from ledger.sealed import BLOB_BYTES_MAX, commitment_of
from store.errors import SealedDamaged, StoreInUse, WrongSchema
from store.level import Level
from store.sealed import SealedStore
from tests.unit.store.test_check import flip, largest

CHAIN = b"c" * 32
BLOB = b"nonce, key commitment, ciphertext" * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sealed"


@pytest.fixture
def store(path: Path) -> Iterator[SealedStore]:
    made = SealedStore(path, CHAIN)
    yield made
    made.close()


def test_a_blob_is_found_by_its_commitment_also_after_a_restart(path: Path) -> None:
    store = SealedStore(path, CHAIN)
    commitment = store.put(BLOB)
    assert commitment == commitment_of(BLOB)
    assert store.get(commitment) == BLOB
    store.close()
    again = SealedStore(path, CHAIN)
    assert again.get(commitment) == BLOB
    assert again.get(commitment_of(b"another")) is None
    again.close()


def test_all_commitments_are_listed(store: SealedStore) -> None:
    put = {store.put(bytes([at]) * 100) for at in range(20)}
    assert list(store.commitments()) == sorted(put)


def test_a_blob_may_be_as_large_as_a_batch_and_no_larger(store: SealedStore) -> None:
    largest_blob = bytes(BLOB_BYTES_MAX)
    assert store.get(store.put(largest_blob)) == largest_blob
    for wrong in (b"", bytes(BLOB_BYTES_MAX + 1)):
        with pytest.raises(InvariantViolated):
            store.put(wrong)


def test_invalid_blob_under_anothers_commitment_is_never_handed_out(path: Path) -> None:
    store = SealedStore(path, CHAIN)
    commitment = store.put(BLOB)
    store._level.write({b"s" + commitment: BLOB + b"!"}, sync=True)
    with pytest.raises(SealedDamaged, match=commitment.hex()):
        store.get(commitment)
    store.close()


def test_invalid_bit_flip_on_disk_is_noticed(path: Path) -> None:
    store = SealedStore(path, CHAIN)
    commitment = store.put(BLOB)
    store.close()
    flip(largest(path))
    with pytest.raises(SealedDamaged, match="put the directory back from a backup"):
        SealedStore(path, CHAIN).get(commitment)


def test_invalid_store_of_another_network_or_version(path: Path) -> None:
    SealedStore(path, CHAIN).close()
    with pytest.raises(WrongNetwork):
        SealedStore(path, b"d" * 32)
    level = Level(path, 1 << 20, 1 << 20)
    level.write({b"mschema": b"9"}, sync=True)
    level.close()
    with pytest.raises(WrongSchema):
        SealedStore(path, CHAIN)


def test_invalid_second_opening(path: Path, store: SealedStore) -> None:
    with pytest.raises(StoreInUse):
        SealedStore(path, CHAIN)
