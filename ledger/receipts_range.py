"""The receipts range: one Merkle tree over all receipts since genesis, one leaf an envelope.

    leaf hash  SHA-256("lossbook/v1/receipt-leaf\\0" | receipt bytes)
    tree       RFC 6962 over the leaf hashes (crypto/merkle.py), grown as a Merkle mountain range (crypto/mmr.py)
    root       SHA-256("lossbook/v1/receipt-root\\0" | count u64 big-endian | tree root)

A tree that only grows can be proved at any earlier size, so a receipt is proved under whichever header is certified.
Memory holds the nodes above full groups of 2,048 receipts and the open group; a group a proof needs is read back.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from crypto import merkle
from crypto.hashing import DIGEST_BYTES, TAG_RECEIPT_LEAF, TAG_RECEIPT_ROOT, tagged
from crypto.mmr import Mmr
from ledger.commitment import COUNT_MAX, ProofError
from ledger.ports import CorruptStore

GROUP_BITS: Final = 11
GROUP: Final = 1 << GROUP_BITS
"""Receipts of a group: what is read and hashed again, in some 3 ms, to prove an old receipt."""

GROUPS_CACHED: Final = 8
"""Trees of full groups kept for proofs, 128 KB each."""


class ReceiptProof(msgspec.Struct, frozen=True, gc=False):
    """That a receipt is in the range under one receipts root."""

    position: int
    """Place in the range, from 0."""
    count: int
    """Receipts under the root."""
    path: tuple[bytes, ...]
    """Audit path, RFC 6962, from the leaf upwards."""


def leaf_hash(receipt: bytes) -> bytes:
    """Leaf hash of receipt bytes."""
    return sha256(TAG_RECEIPT_LEAF + receipt).digest()


def receipts_root(tree_root: bytes, count: int) -> bytes:
    """The root that headers carry."""
    return tagged(TAG_RECEIPT_ROOT, count.to_bytes(8, "big"), tree_root)


def verify(receipt: bytes, proof: ReceiptProof, root: bytes) -> None:
    """ProofError unless these receipt bytes are at the proof's position under the receipts root."""
    if not 0 <= proof.position < proof.count <= COUNT_MAX:
        raise ProofError("the receipt lies outside the range")
    if len(proof.path) > merkle.PATH_LENGTH_MAX or any(len(digest) != DIGEST_BYTES for digest in proof.path):
        raise ProofError("a part of the proof has a wrong length")
    tree_root = merkle.root_of_path(leaf_hash(receipt), proof.position, proof.count, proof.path)
    if tree_root is None:
        raise ProofError("the path has a wrong length")
    if receipts_root(tree_root, proof.count) != root:
        raise ProofError("it leads to another root")


class ReceiptsRange:
    """The prover's side; receipts are read back through the function given, as (start, stop)."""

    def __init__(self, read_receipts: Callable[[int, int], Iterator[bytes]]) -> None:
        self._read = read_receipts
        self._groups = Mmr()  # roots of full groups
        self._open = Mmr()  # leaf hashes of the group being filled
        self._trees: OrderedDict[int, Mmr] = OrderedDict()

    @property
    def count(self) -> int:
        """Number of receipts."""
        return (self._groups.size << GROUP_BITS) + self._open.size

    def extend(self, receipts: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Add one block's receipts, in order; returns (group, root) of the groups that were filled."""
        hashes = [sha256(TAG_RECEIPT_LEAF + receipt).digest() for receipt in receipts]
        filled, done = [], 0
        while done < len(hashes):
            room = GROUP - self._open.size
            self._open.extend(hashes[done : done + room])
            done += room
            if self._open.size == GROUP:
                filled.append((self._groups.size, self._open.root()))
                self._groups.append(filled[-1][1])
                self._open = Mmr()
        return filled

    def load(self, groups: Sequence[bytes], receipts: Sequence[bytes]) -> None:
        """Start from the roots of the full groups and the receipts after them."""
        self._groups = Mmr(groups)
        self._open = Mmr([leaf_hash(receipt) for receipt in receipts])

    def root(self, count: int | None = None) -> bytes:
        """The receipts root over the first ``count`` receipts (default: all)."""
        size = self.count if count is None else count
        return receipts_root(self.tree_root(size), size)

    def tree_root(self, count: int) -> bytes:
        """Root of the tree over the first ``count`` receipts."""
        return merkle.root_from_nodes(count, self._node)

    def prove(self, position: int, count: int) -> ReceiptProof:
        """Proof of the receipt at ``position`` under the root over the first ``count``; IndexError outside."""
        if not 0 <= position < count <= self.count:
            raise IndexError(f"receipt {position} of {count} is outside the range of {self.count}")
        return ReceiptProof(position, count, merkle.path_from_nodes(position, count, self._node))

    def prove_range(self, start: int, stop: int, count: int) -> tuple[bytes, ...]:
        """Range path of receipts start <= position < stop among the first ``count``; IndexError outside."""
        if not 0 <= start < stop <= count <= self.count:
            raise IndexError(f"receipts {start} to {stop} of {count} are outside the range of {self.count}")
        return merkle.range_path_from_nodes(start, stop, count, self._node)

    def _node(self, level: int, index: int) -> bytes:
        if level >= GROUP_BITS:
            return self._groups.node(level - GROUP_BITS, index)
        below = GROUP_BITS - level  # nodes of this level in a group: 2^below
        return self._tree(index >> below).node(level, index & (1 << below) - 1)

    def _tree(self, group: int) -> Mmr:
        if group == self._groups.size:
            return self._open
        tree = self._trees.get(group)
        if tree is None:
            first = group << GROUP_BITS
            tree = Mmr([leaf_hash(receipt) for receipt in self._read(first, first + GROUP)])
            if tree.size != GROUP or tree.root() != self._groups.node(0, group):
                raise CorruptStore(f"the receipts of group {group} do not hash to its stored root")
            self._trees[group] = tree
            if len(self._trees) > GROUPS_CACHED:
                self._trees.popitem(last=False)
        self._trees.move_to_end(group)
        return tree
