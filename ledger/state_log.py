"""The prover's side of the state commitment: the log's index, bits and tree in memory.

Layouts are in ``ledger/commitment.py``. A block of w writes costs w leaf hashes and w inner hashes in the open twig,
one twig hash for every twig in which a bit changed, and the tree nodes above those, all once a block.

Roots are certified a few heights behind the head, so the tree must be provable a little in the past: for the last
RECENT_HEIGHTS heights each block leaves behind what it overwrote (twig hashes, tree nodes, bits, removed keys). A node
as of height h is what the first later block overwrote, or else the present one.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from struct import Struct
from typing import Final

from crypto import merkle
from crypto.hashing import TAG_STATE_LEAF
from crypto.mmr import Mmr
from ledger.commitment import (
    BITMAP_BYTES,
    BOUNDARY,
    DELETE,
    PUT,
    SCHEME,
    TWIG_BITS,
    TWIG_LEAVES,
    Leaf,
    LeafProof,
    ProofError,
    StateProof,
    decode_leaf,
    leaf_hash,
    state_root,
    twig_hash,
    twigs_of,
)
from ledger.invariant import invariant
from ledger.ports import CorruptStore

RECENT_HEIGHTS: Final = 64
"""Heights that can be proved behind the head: headers carry a state a few heights old, finality adds a few more, and
a client may take some seconds; each kept height costs memory for what it overwrote (below 300 KB for 1,000 writes)."""

TWIGS_CACHED: Final = 32
"""Leaf trees of filled twigs kept for proofs, 128 KB each; any other is rebuilt from 2,048 leaves in some 5 ms."""

CHAIN_STEPS_MAX: Final = 4096
"""Leaves of one key a proof of an old value walks back; a record changed more often needs an archive."""

_HEAD: Final = Struct(">BQQHI")


class ProofUnavailable(Exception):
    """This node cannot make the proof asked for. ``reason`` is one of a fixed set of phrases."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"no proof: {reason}; {advice}")
        self.reason = reason


class _Undo:
    """What one block overwrote."""

    __slots__ = ("bits", "count", "deleted", "height", "nodes")

    def __init__(self, height: int, count: int) -> None:
        self.height = height
        self.count = count  # leaves before the block
        self.nodes: dict[int, bytes] = {}  # by _place
        self.bits: dict[int, bytes] = {}
        self.deleted: dict[bytes, tuple[int, int]] = {}  # key -> (the leaf that held it, its DELETE leaf)


class PinnedLog:
    """The log as of one height: a bit a leaf and 64 bytes a twig, whatever comes after. Made by ``StateLog.pin``."""

    def __init__(self, log: "StateLog", count: int, bits: bytes, twigs: Sequence[bytes]) -> None:
        self.count = count
        """Leaves of the log at that height."""
        self._log = log
        self._bits = bits
        self._tree = Mmr(twigs)
        self.root = self._tree.root()
        """Log root at that height."""

    def leaves(self, first: int, stop: int) -> Iterator[bytes]:
        """Leaves first <= index < stop, in order."""
        return self._log.read_leaves(first, stop)

    def prove_range(self, first: int, stop: int) -> tuple[tuple[bytes, ...], bytes, tuple[bytes, ...]]:
        """For leaves first <= index < stop of one twig: their range path inside it, its bits, its path to the root.

        IndexError if they are not all of one twig of this log.
        """
        twig = first >> TWIG_BITS
        start, size = twig << TWIG_BITS, min(TWIG_LEAVES, self.count - (twig << TWIG_BITS))
        if not start <= first < stop <= start + size:
            raise IndexError(f"leaves {first} to {stop} of {self.count} are not of one twig")
        inside: tuple[bytes, ...] = ()
        if stop - first < size:
            node = self._log.twig_tree(twig).node
            inside = merkle.range_path_from_nodes(first - start, stop - start, size, node)
        return inside, self._bits[twig * BITMAP_BYTES : (twig + 1) * BITMAP_BYTES], self._tree.proof(twig)


class StateLog:
    """Operations log with activity bits; leaves themselves are read back through the two functions given."""

    def __init__(self, read_leaf: Callable[[int], bytes], read_leaves: Callable[[int, int], Iterator[bytes]]) -> None:
        self.index: dict[bytes, int] = {}  # key -> its active leaf
        self.count = 0
        self._read_leaf = read_leaf
        self.read_leaves = read_leaves
        self._bits = bytearray()
        self._leaf_roots: list[bytes] = []  # of filled twigs
        self._open = Mmr()  # leaf hashes of the twig being filled
        self._tree: list[list[bytes]] = [[]]  # complete nodes over twig hashes; the last twig hash may be provisional
        self._undo: deque[_Undo] = deque(maxlen=RECENT_HEIGHTS)
        self._twig_trees: OrderedDict[int, Mmr] = OrderedDict()

    # ------------------------------------------------------------ growing

    def append(
        self, height: int, writes: Sequence[tuple[bytes, bytes | None]]
    ) -> tuple[list[bytes], list[tuple[int, bytes]]]:
        """Add one block's writes: (key, value or None for a removal), keys ascending, removals of present keys only.

        Returns the leaf bytes, and (twig, leaf root) of the twigs that were filled.
        """
        undo = _Undo(height, self.count)
        self._reserve_bits(self.count + len(writes), undo)
        leaves = self._number(height, writes, undo)
        filled = self._hash_leaves(leaves)
        touched = set(undo.bits)
        touched.update(range(undo.count >> TWIG_BITS, twigs_of(self.count)))
        self._hash_twigs(sorted(touched), undo.nodes)
        self._undo.append(undo)
        return leaves, filled

    def load(self, leaves: Iterable[bytes], leaf_roots: Sequence[bytes], count: int) -> None:
        """Start from ``count`` stored leaves and the leaf roots of their filled twigs, without what they overwrote.

        CorruptStore if the leaves do not form a log.
        """
        invariant(self.count == 0, "a log is loaded once, when empty")
        closed = count >> TWIG_BITS
        if len(leaf_roots) < closed:
            raise CorruptStore(f"{closed - len(leaf_roots)} twig roots are missing")
        unhashed = self._index_stored(leaves, closed << TWIG_BITS)
        if self.count != count:
            raise CorruptStore(f"{count - self.count} of {count} leaves are missing")
        self._leaf_roots = list(leaf_roots[:closed])
        self._open.extend([leaf_hash(leaf) for leaf in unhashed])
        bits = self._bits = bytearray(twigs_of(count) * BITMAP_BYTES)
        for index in self.index.values():
            bits[index >> 3] |= 1 << (index & 7)
        self._hash_twigs(range(twigs_of(count)), {})

    def root(self) -> bytes:
        """The state root now."""
        return state_root(merkle.root_from_nodes(len(self._tree[0]), merkle.lookup_in(self._tree)), self.count)

    # ------------------------------------------------------------ proving

    def prove(self, key: bytes, at_height: int, head_height: int, value_at: int | None = None) -> StateProof:
        """Proof, under the root of ``at_height``, of the value the key had at ``value_at`` (default: the same height).

        ``at_height`` lies at most RECENT_HEIGHTS below the head. ProofUnavailable if it does not, or the key had no
        value then, or this node no longer knows it.
        """
        later = self._later_than(at_height, head_height)
        value_height = at_height if value_at is None else value_at
        if not 0 <= value_height <= at_height:
            raise ProofUnavailable("the value's height is above the root's", "ask for a lower height")
        subject, successor = self._find(key, value_height)
        count = later[0].count if later else self.count
        if successor is not None and successor >= count:
            successor = None
        return StateProof(
            scheme=SCHEME,
            count=count,
            boundary=BOUNDARY,
            subject=self._prove_leaf(subject, count, later),
            successor=None if successor is None else self._prove_leaf(successor, count, later),
        )

    def pin(self, height: int, head_height: int) -> PinnedLog:
        """The log as of a height, at most RECENT_HEIGHTS below the head; ProofUnavailable further back.

        Costs a copy of the bits and two hashes a twig: half a millisecond at a million leaves.
        """
        later = self._later_than(height, head_height)
        count = later[0].count if later else self.count
        twigs = self._tree[0][: twigs_of(count)]
        bits = self._bits[: len(twigs) * BITMAP_BYTES]
        for undo in reversed(later):  # the first block after the height has the last word
            for twig, before in undo.bits.items():
                if twig < len(twigs):
                    bits[twig * BITMAP_BYTES : (twig + 1) * BITMAP_BYTES] = before
            for place, digest in undo.nodes.items():
                if place < len(twigs):  # level 0
                    twigs[place] = digest
        return PinnedLog(self, count, bytes(bits), twigs)

    def _find(self, key: bytes, height: int) -> tuple[int, int | None]:
        """(index, index of its successor) of the PUT leaf that held the key at the height."""
        at, successor = self.index.get(key), None
        for undo in self._undo:
            if undo.height > height and key in undo.deleted:
                at, successor = undo.deleted[key]
                break
        for _ in range(CHAIN_STEPS_MAX):
            if at is None:
                raise ProofUnavailable(
                    "no value of the key at that height is known here",
                    "check the id and the height; what was removed is known to archive nodes only",
                )
            leaf = decode_stored(self._read_leaf(at), at)
            if leaf.height <= height:
                return at, successor
            at, successor = leaf.previous - 1 if leaf.previous else None, at
        raise ProofUnavailable("the record has changed too often since that height", "ask an archive node")

    def _prove_leaf(self, index: int, count: int, later: Sequence[_Undo]) -> LeafProof:
        twig = index >> TWIG_BITS
        leaves_in_twig = min(TWIG_LEAVES, count - (twig << TWIG_BITS))

        def node(level: int, at: int) -> bytes:
            place = _place(level, at)
            return next((undo.nodes[place] for undo in later if place in undo.nodes), self._tree[level][at])

        leaf, tree = self._read_leaf(index), self.twig_tree(twig)
        if leaf_hash(leaf) != tree.node(0, index % TWIG_LEAVES):
            raise CorruptStore(f"leaf {index} is not what was hashed")
        return LeafProof(
            index=index,
            leaf=leaf,
            path=tree.proof(index % TWIG_LEAVES, leaves_in_twig),
            bits=next((undo.bits[twig] for undo in later if twig in undo.bits), bytes(self._bits_of(twig))),
            twig_path=merkle.path_from_nodes(twig, twigs_of(count), node),
        )

    def _later_than(self, height: int, head_height: int) -> list[_Undo]:
        behind = head_height - height
        if not 0 <= behind <= len(self._undo):
            raise ProofUnavailable(
                f"height {height} is not among the last {len(self._undo)} before {head_height}",
                "ask for the proof under a recent header",
            )
        return list(self._undo)[len(self._undo) - behind :]

    def twig_tree(self, twig: int) -> Mmr:
        """Leaf hashes of a twig and the complete nodes above them; CorruptStore if they are not its root's."""
        if twig == len(self._leaf_roots):
            return self._open
        tree = self._twig_trees.get(twig)
        if tree is None:
            first = twig << TWIG_BITS
            tree = Mmr([leaf_hash(leaf) for leaf in self.read_leaves(first, first + TWIG_LEAVES)])
            if tree.size != TWIG_LEAVES or tree.root() != self._leaf_roots[twig]:
                raise CorruptStore(f"the leaves of twig {twig} do not hash to its stored root")
            self._keep(twig, tree)
        self._twig_trees.move_to_end(twig)
        return tree

    def _keep(self, twig: int, tree: Mmr) -> None:
        self._twig_trees[twig] = tree
        if len(self._twig_trees) > TWIGS_CACHED:
            self._twig_trees.popitem(last=False)

    # ------------------------------------------------------------ parts of append and load

    def _reserve_bits(self, count: int, undo: _Undo) -> None:
        """Room for the new bits; the twig they start in keeps its old ones for the past."""
        if undo.count % TWIG_LEAVES:
            undo.bits[undo.count >> TWIG_BITS] = bytes(self._bits_of(undo.count >> TWIG_BITS))
        self._bits.extend(bytes(twigs_of(count) * BITMAP_BYTES - len(self._bits)))

    def _number(self, height: int, writes: Sequence[tuple[bytes, bytes | None]], undo: _Undo) -> list[bytes]:
        """Make the leaves, and move the index and the bits on."""
        index, bits, old_bits, pack = self.index, self._bits, undo.bits, _HEAD.pack
        leaves, at = [], self.count
        for key, value in writes:
            before = index.get(key, -1)
            if value is None:
                invariant(before >= 0, "a removal of a key that is not there reached the log")
                leaves.append(pack(DELETE, height, before + 1, len(key), 0) + key)
                del index[key]
                undo.deleted[key] = (before, at)
            else:
                leaves.append(pack(PUT, height, before + 1, len(key), len(value)) + key + value)
                index[key] = at
                bits[at >> 3] |= 1 << (at & 7)
            if before >= 0:
                twig = before >> TWIG_BITS
                if twig not in old_bits:
                    old_bits[twig] = bytes(bits[twig * BITMAP_BYTES : (twig + 1) * BITMAP_BYTES])
                bits[before >> 3] &= ~(1 << (before & 7))
            at += 1
        self.count = at
        return leaves

    def _hash_leaves(self, leaves: Sequence[bytes]) -> list[tuple[int, bytes]]:
        hashes = [sha256(TAG_STATE_LEAF + leaf).digest() for leaf in leaves]
        filled, done = [], 0
        while done < len(hashes):
            room = TWIG_LEAVES - self._open.size
            self._open.extend(hashes[done : done + room])
            done += room
            if self._open.size == TWIG_LEAVES:
                twig, leaf_root = len(self._leaf_roots), self._open.root()
                filled.append((twig, leaf_root))
                self._leaf_roots.append(leaf_root)
                self._keep(twig, self._open)
                self._open = Mmr()
        return filled

    def _hash_twigs(self, twigs: Sequence[int], overwritten: dict[int, bytes]) -> None:
        """Bring the hashes of these twigs (ascending) up to date, and the nodes above them."""
        level0 = self._tree[0]
        for twig in twigs:
            leaf_root = self._leaf_roots[twig] if twig < len(self._leaf_roots) else self._open.root()
            _set(level0, 0, twig, twig_hash(leaf_root, self._bits_of(twig)), overwritten)
        level, dirty = 0, twigs
        while len(self._tree[level]) > 1:
            below = self._tree[level]
            level += 1
            if level == len(self._tree):
                self._tree.append([])
            dirty = [at for at in dict.fromkeys(child >> 1 for child in dirty) if 2 * at + 1 < len(below)]
            for at in dirty:
                _set(self._tree[level], level, at, merkle.node_hash(below[2 * at], below[2 * at + 1]), overwritten)

    def _bits_of(self, twig: int) -> bytearray:
        return self._bits[twig * BITMAP_BYTES : (twig + 1) * BITMAP_BYTES]

    def _index_stored(self, leaves: Iterable[bytes], keep_from: int) -> list[bytes]:
        """Index stored leaves, in order; returns those from ``keep_from`` on, whose twig is not filled yet."""
        index, unpack, head_bytes = self.index, _HEAD.unpack_from, _HEAD.size
        kept, at = [], 0
        for leaf in leaves:
            kind, _, previous, key_bytes, _ = unpack(leaf)
            key = leaf[head_bytes : head_bytes + key_bytes]
            if index.get(key, -1) + 1 != previous:
                raise CorruptStore(f"leaf {at} does not follow the leaf of its key")
            if kind == PUT:
                index[key] = at
            else:
                del index[key]
            if at >= keep_from:
                kept.append(leaf)
            at += 1
        self.count = at
        return kept


def _place(level: int, at: int) -> int:
    """A tree node as one number: dictionaries of numbers and bytes cost the garbage collector nothing."""
    return level << 48 | at


def decode_stored(data: bytes, index: int) -> Leaf:
    """The leaf as it was stored; CorruptStore if these bytes are none."""
    try:
        return decode_leaf(data)
    except ProofError as error:
        raise CorruptStore(f"leaf {index}: {error.reason}") from error


def _set(nodes: list[bytes], level: int, at: int, digest: bytes, overwritten: dict[int, bytes]) -> None:
    if at < len(nodes):
        overwritten[_place(level, at)] = nodes[at]
        nodes[at] = digest
    else:
        nodes.append(digest)
