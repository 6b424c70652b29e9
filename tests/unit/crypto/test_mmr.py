import pytest

from crypto import merkle
from crypto.mmr import Mmr

HASHES = [merkle.leaf_hash(bytes([number])) for number in range(11)]


def test_peaks_tile_the_leaves_from_large_to_small() -> None:
    range_of_11 = Mmr(HASHES)
    assert range_of_11.peaks() == (
        merkle.root_of_hashes(HASHES[:8]),
        merkle.root_of_hashes(HASHES[8:10]),
        HASHES[10],
    )


def test_an_empty_range_has_the_empty_root() -> None:
    assert Mmr().root() == merkle.EMPTY_ROOT
    assert Mmr().peaks() == ()


def test_invalid_requests() -> None:
    mmr = Mmr(HASHES)
    with pytest.raises(IndexError):
        mmr.proof(11)
    with pytest.raises(IndexError):
        mmr.proof(5, 5)
    with pytest.raises(IndexError):
        mmr.root(12)
    with pytest.raises(IndexError):
        mmr.node(3, 1)  # leaves 8 to 15 are not all there
    with pytest.raises(ValueError, match="32 bytes"):
        mmr.append(b"short")
    assert mmr.root() == merkle.root_of_hashes(HASHES)
