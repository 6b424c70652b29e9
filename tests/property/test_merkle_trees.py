"""Merkle trees and ranges agree with each other, and refuse every altered proof."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import merkle
from crypto.mmr import Mmr

sizes = st.integers(1, 200)


def hashes(count: int) -> list[bytes]:
    return [merkle.leaf_hash(number.to_bytes(2, "big")) for number in range(count)]


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word by word."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return merkle.node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


@given(sizes)
def test_the_root_is_the_recursive_definition(size: int) -> None:
    assert merkle.root_of_hashes(hashes(size)) == by_definition(hashes(size))


@given(st.lists(st.integers(0, 40), max_size=12))
def test_appending_in_any_portions_gives_the_same_range(portions: list[int]) -> None:
    leaves, mmr, done = hashes(sum(portions)), Mmr(), 0
    for portion in portions:
        mmr.extend(leaves[done : done + portion])
        done += portion
        assert mmr.root() == merkle.root_of_hashes(leaves[:done])


@given(st.data())
def test_a_grown_range_proves_at_every_earlier_size(data: st.DataObject) -> None:
    total = data.draw(sizes)
    size = data.draw(st.integers(1, total))
    index = data.draw(st.integers(0, size - 1))
    mmr = Mmr(hashes(total))
    root = merkle.root_of_hashes(hashes(size))
    assert mmr.root(size) == root
    assert merkle.verify_hash(root, hashes(total)[index], index, size, mmr.proof(index, size))


@given(st.data())
def test_any_flipped_bit_of_a_proof_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 200))
    index = data.draw(st.integers(0, size - 1))
    leaves = hashes(size)
    root, path = merkle.root_of_hashes(leaves), Mmr(leaves).proof(index)
    material = bytearray(b"".join((root, leaves[index], *path)))
    bit = data.draw(st.integers(0, 8 * len(material) - 1))
    material[bit // 8] ^= 1 << bit % 8
    parts = [bytes(material[at : at + 32]) for at in range(0, len(material), 32)]
    assert not merkle.verify_hash(parts[0], parts[1], index, size, parts[2:])


@given(st.data())
def test_any_range_is_proved_at_every_earlier_size(data: st.DataObject) -> None:
    total = data.draw(sizes)
    size = data.draw(st.integers(1, total))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    leaves, mmr = hashes(total), Mmr(hashes(total))
    path = merkle.range_path_from_nodes(start, stop, size, mmr.node)
    assert len(path) <= 2 * size.bit_length()
    assert merkle.root_of_range(leaves[start:stop], start, size, path) == merkle.root_of_hashes(leaves[:size])


@given(st.data())
def test_a_range_of_one_leaf_has_the_siblings_of_its_audit_path(data: st.DataObject) -> None:
    size = data.draw(sizes)
    index = data.draw(st.integers(0, size - 1))
    mmr = Mmr(hashes(size))
    assert sorted(merkle.range_path_from_nodes(index, index + 1, size, mmr.node)) == sorted(mmr.proof(index))


@given(st.data())
def test_a_range_that_is_altered_moved_or_cut_leads_elsewhere(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 200))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    leaves = hashes(size)
    root, shown = merkle.root_of_hashes(leaves), leaves[start:stop]
    path = merkle.range_path_from_nodes(start, stop, size, Mmr(leaves).node)
    material = bytearray(b"".join((*shown, *path)))
    bit = data.draw(st.integers(0, 8 * len(material) - 1))
    material[bit // 8] ^= 1 << bit % 8
    parts = [bytes(material[at : at + 32]) for at in range(0, len(material), 32)]
    assert merkle.root_of_range(parts[: len(shown)], start, size, parts[len(shown) :]) != root
    assert merkle.root_of_range(shown, start + 1, size, path) != root
    assert merkle.root_of_range(shown[1:], start, size, path) != root
    assert merkle.root_of_range(shown, start, size, path[1:]) != root or not path
    assert merkle.root_of_range(shown, start, size, (*path, bytes(32))) is None
    if len(shown) > 1:
        assert merkle.root_of_range(shown[::-1], start, size, path) != root


@given(sizes)
def test_invalid_ranges_are_not_proved(size: int) -> None:
    mmr = Mmr(hashes(size))
    for start, stop in ((0, 0), (-1, 1), (size, size + 1), (0, size + 1), (1, 0)):
        with pytest.raises(IndexError):
            merkle.range_path_from_nodes(start, stop, size, mmr.node)
    assert merkle.root_of_range([], 0, size, ()) is None
    assert merkle.root_of_range(hashes(size), 1, size, ()) is None
    assert merkle.root_of_range(hashes(size)[:1], 0, size, [b"short"] * len(mmr.proof(0))) is None or size == 1
