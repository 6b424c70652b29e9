"""Merkle trees of RFC 6962 (Certificate Transparency), section 2.1.

    empty tree      SHA-256("")
    leaf            SHA-256(0x00 | data)
    inner node      SHA-256(0x01 | left | right)
    tree over n>1   split at the largest power of two below n

One shape serves everywhere. Trees over data (envelopes of a batch, batches of a block) hash their leaves as
above; trees over digests that already carry a domain tag (receipts, twigs of the state) use those as leaf
hashes directly. Either way an audit path is what RFC 6962 §2.1.1 calls one, siblings from the leaf upwards.

A *complete* node covers 2^level leaves starting at a multiple of 2^level. Complete nodes never change as a
tree grows, so whoever can look them up can compute the root and the paths of the tree at any earlier size.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

EMPTY_ROOT: Final = sha256(b"").digest()

PATH_LENGTH_MAX: Final = 64
"""Longer paths are refused unread: no tree has more than 2^64 leaves."""

NodeLookup = Callable[[int, int], bytes]
"""(level, index) -> hash of the complete node; level 0 holds the leaf hashes."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 | data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 | left | right)."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Root of the tree over the data of the leaves, in order."""
    return root_of_hashes([leaf_hash(data) for data in leaves])


def root_of_hashes(hashes: Sequence[bytes]) -> bytes:
    """Root of the tree over ready leaf hashes, in order."""
    return root_from_nodes(len(hashes), lookup_in(levels_of(hashes)))


def proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Audit path of the leaf at ``index``, from the leaf upwards; IndexError outside the tree."""
    return path_from_nodes(index, len(leaves), lookup_in(levels_of([leaf_hash(data) for data in leaves])))


def verify(tree_root: bytes, data: bytes, index: int, size: int, path: Sequence[bytes]) -> bool:
    """Whether ``data`` is leaf ``index`` of the tree of ``size`` leaves under ``tree_root``."""
    return verify_hash(tree_root, leaf_hash(data), index, size, path)


def verify_hash(tree_root: bytes, hashed: bytes, index: int, size: int, path: Sequence[bytes]) -> bool:
    """``verify`` for a leaf whose hash is given."""
    return root_of_path(hashed, index, size, path) == tree_root


def root_of_path(hashed: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root a path leads to; None if it has not exactly the length and form that index and size ask for.

    RFC 9162 §2.1.3.2, which gives the check for RFC 6962's trees as an algorithm.
    """
    if not 0 <= index < size or len(path) > PATH_LENGTH_MAX:
        return None
    position, last, digest = index, size - 1, hashed
    for sibling in path:
        if last == 0 or len(sibling) != 32:
            return None
        if position & 1 or position == last:
            digest = node_hash(sibling, digest)
            while position and not position & 1:  # a right edge: levels without a sibling
                position >>= 1
                last >>= 1
        else:
            digest = node_hash(digest, sibling)
        position >>= 1
        last >>= 1
    return digest if last == 0 else None


# ---------------------------------------------------------------- from complete nodes


def peaks(size: int) -> list[tuple[int, int]]:
    """(level, index) of the complete nodes that tile a tree of ``size`` leaves, left to right."""
    return [(level, (size >> level) - 1) for level in range(size.bit_length() - 1, -1, -1) if size >> level & 1]


def root_from_nodes(size: int, node: NodeLookup) -> bytes:
    """Root of the first ``size`` leaves. Folding the peaks from the right is RFC 6962's tree."""
    if size == 0:
        return EMPTY_ROOT
    return _fold([node(level, index) for level, index in peaks(size)])


def path_from_nodes(index: int, size: int, node: NodeLookup) -> tuple[bytes, ...]:
    """Audit path of leaf ``index`` among the first ``size`` leaves; IndexError outside the tree."""
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} is outside a tree of {size}")
    tiles = peaks(size)
    own = next(at for at, (level, tile) in enumerate(tiles) if index >> level == tile)
    path = [node(level, index >> level ^ 1) for level in range(tiles[own][0])]
    if own + 1 < len(tiles):
        path.append(_fold([node(level, tile) for level, tile in tiles[own + 1 :]]))
    path.extend(node(level, tile) for level, tile in reversed(tiles[:own]))
    return tuple(path)


def range_path_from_nodes(start: int, stop: int, size: int, node: NodeLookup) -> tuple[bytes, ...]:
    """What shows leaves start <= i < stop together: the hashes of the largest subtrees beside them, left to right.

    At most two a level; none for the whole tree. IndexError outside the tree or where the range is empty.
    """
    if not 0 <= start < stop <= size:
        raise IndexError(f"leaves {start} to {stop} are outside a tree of {size}, or none")
    return tuple(_subtree(first, end, node) for first, end in _beside(start, stop, 0, size))


def root_of_range(hashes: Sequence[bytes], start: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that leaf hashes from ``start`` on and their range path lead to; None if the path has a wrong length.

    Costs one hash for every leaf given and two a level, whatever the path says.
    """
    stop = start + len(hashes)
    if not 0 <= start < stop <= size or len(path) > 2 * PATH_LENGTH_MAX or any(len(digest) != 32 for digest in path):
        return None
    beside = sum(1 for _ in _beside(start, stop, 0, size))
    if len(path) != beside:
        return None
    siblings = iter(path)

    def fold(first: int, end: int) -> bytes:
        if end <= start or stop <= first:
            return next(siblings)
        if start <= first and end <= stop:
            return root_of_hashes(hashes[first - start : end - start])
        middle = first + _left_leaves(end - first)
        left = fold(first, middle)
        return node_hash(left, fold(middle, end))

    return fold(0, size)


def levels_of(hashes: Sequence[bytes]) -> list[list[bytes]]:
    """All complete nodes over the leaf hashes, by level."""
    levels = [list(hashes)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
    return levels


def lookup_in(levels: Sequence[Sequence[bytes]]) -> NodeLookup:
    """A lookup into nodes held by level."""
    return lambda level, index: levels[level][index]


def _left_leaves(size: int) -> int:
    """Leaves left of the split of a tree of at least two: the largest power of two below its size."""
    return 1 << (size - 1).bit_length() - 1


def _beside(start: int, stop: int, first: int, end: int) -> Iterator[tuple[int, int]]:
    """The largest subtrees of first..end that share no leaf with start..stop, left to right."""
    if end <= start or stop <= first:
        yield first, end
    elif first < start or stop < end:
        middle = first + _left_leaves(end - first)
        yield from _beside(start, stop, first, middle)
        yield from _beside(start, stop, middle, end)


def _subtree(first: int, end: int, node: NodeLookup) -> bytes:
    """Root of a subtree of the RFC's split, which starts at a multiple of the power of two that holds it."""
    return _fold([node(level, (first >> level) + index) for level, index in peaks(end - first)])


def _fold(digests: list[bytes]) -> bytes:
    digest = digests[-1]
    for left in reversed(digests[:-1]):
        digest = node_hash(left, digest)
    return digest
