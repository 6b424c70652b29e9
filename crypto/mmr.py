"""Merkle mountain range: an append-only tree that keeps its complete nodes.

Appending n leaves costs n leaf slots and n inner hashes, whatever the size. The peaks folded from the right
give exactly RFC 6962's root (``crypto/merkle.py``), so paths and their check are that module's, and the tree at
any earlier size can still be proved, because complete nodes never change.
"""

from collections.abc import Sequence
from hashlib import sha256

from crypto import merkle


class Mmr:
    """Leaf hashes (32 bytes each) and all complete nodes above them: 64 bytes of memory a leaf."""

    __slots__ = ("_levels", "_size")

    def __init__(self, hashes: Sequence[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        self._size = 0
        if hashes:
            self.extend(hashes)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def append(self, hashed: bytes) -> None:
        """Add one leaf hash."""
        self.extend((hashed,))

    def extend(self, hashes: Sequence[bytes]) -> None:
        """Add leaf hashes, in order; batch-shaped, about one inner hash each."""
        joined = b"".join(hashes)
        if len(joined) != 32 * len(hashes):
            raise ValueError("leaf hashes have 32 bytes")
        self._levels[0] += joined
        self._size += len(hashes)
        levels, level, count = self._levels, 0, self._size
        while count > 1:
            if level + 1 == len(levels):
                levels.append(bytearray())
            below, above = levels[level], levels[level + 1]
            for at in range(2 * len(above), 64 * (count >> 1), 64):
                above += sha256(b"\x01" + below[at : at + 64]).digest()
            level += 1
            count >>= 1

    def node(self, level: int, index: int) -> bytes:
        """Hash of a complete node; IndexError if it does not exist."""
        if level >= len(self._levels) or not 0 <= index < len(self._levels[level]) // 32:
            raise IndexError(f"no complete node {index} on level {level} of {self._size} leaves")
        return bytes(self._levels[level][32 * index : 32 * index + 32])

    def peaks(self, size: int | None = None) -> tuple[bytes, ...]:
        """Hashes of the complete nodes that tile the first ``size`` leaves (default: all), left to right."""
        return tuple(self.node(level, index) for level, index in merkle.peaks(self._at(size)))

    def root(self, size: int | None = None) -> bytes:
        """Root over the first ``size`` leaves (default: all)."""
        return merkle.root_from_nodes(self._at(size), self.node)

    def proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Audit path of a leaf in the tree of the first ``size`` leaves (default: all); IndexError outside."""
        return merkle.path_from_nodes(index, self._at(size), self.node)

    def _at(self, size: int | None) -> int:
        if size is None:
            return self._size
        if not 0 <= size <= self._size:
            raise IndexError(f"size {size} is above the {self._size} leaves held")
        return size
