"""State commitment, scheme 1: bytes, proofs and their check. All integers are unsigned and big-endian.

The state is an append-only log of operations. A block appends one leaf for every key it wrote, in ascending byte
order of the keys; nothing is ever changed but one *activity bit* a leaf: set while the leaf is the latest PUT of its
key, cleared by the next write of that key. (The idea of QMDB, arXiv 2501.05262; ADR 0008 says what was taken.)

    leaf       kind u8 (1 PUT, 2 DELETE; 3 MOVE is reserved) | write height u64 | previous u64
               | key length u16 | value length u32 | key | value
    previous   1 + index of the leaf that held this key until now; 0 if the key did not exist.
               A DELETE leaf has no value, is never active, and nobody's previous: a key put again starts anew
    leaf hash  SHA-256("lossbook/v1/state-leaf\\0" | leaf)
    twig       2,048 consecutive leaves; twig t holds leaves 2048 t to 2048 t + 2047, the last twig may hold fewer
    leaf root  RFC 6962 root over the leaf hashes of a twig (crypto/merkle.py)
    bits       256 bytes: leaf i of the twig is bit i % 8 (value 2^(i % 8)) of byte i / 8; absent leaves are 0
    twig hash  SHA-256("lossbook/v1/state-twig\\0" | leaf root | bits)
    log root   RFC 6962 root over the twig hashes
    root       SHA-256("lossbook/v1/state-root\\0" | scheme u32 = 1 | log root | count u64 | boundary u64)

``count`` is the number of leaves; ``boundary`` the first leaf that is still part of the state: always 0 in this
scheme, which keeps every leaf.

A proof shows that a key held a value: its PUT leaf, and either that leaf's set bit (the value holds at the height of
the root), or the *successor*: the leaf of the same key, whose ``previous`` names the first (the value held from the
first's height until just before the successor's). That a key is absent, or a list complete, is not claimed.
"""

import struct
from bisect import bisect_left
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from crypto import merkle
from crypto.hashing import DIGEST_BYTES, TAG_STATE_LEAF, TAG_STATE_ROOT, TAG_STATE_TWIG, tagged

SCHEME: Final = 1
BOUNDARY: Final = 0

PUT: Final = 1
DELETE: Final = 2

TWIG_LEAVES: Final = 2048
"""Leaves a twig: 256 bytes of bits are hashed again when one changes, which costs as much as four inner nodes."""
TWIG_BITS: Final = TWIG_LEAVES.bit_length() - 1
BITMAP_BYTES: Final = TWIG_LEAVES // 8

KEY_BYTES_MAX: Final = 512
"""Table byte included; the longest key of a contract is a few ids of 32 bytes."""
VALUE_BYTES_MAX: Final = 1 << 20
"""As an envelope, the largest thing a client can make the ledger keep."""
COUNT_MAX: Final = 1 << 48
"""Leaves a log may claim; 8,900 years of 1,000 writes a second."""

_LEAF_HEAD: Final = struct.Struct(">BQQHI")
_ROOT_TAIL: Final = struct.Struct(">QQ")
_SCHEME_BYTES: Final = struct.pack(">I", SCHEME)


class ProofError(Exception):
    """A proof does not show what it claims. ``reason`` is one of a fixed set of phrases."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"proof refused: {reason}. Ask another node for it; if it repeats, keep the file as evidence")
        self.reason = reason


# ---------------------------------------------------------------- leaf


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """One operation of the log, decoded."""

    kind: int
    """PUT or DELETE."""
    height: int
    """Height of the block that wrote it."""
    previous: int
    """1 + index of the leaf it supersedes; 0 for none."""
    key: bytes
    """Table byte and key; 1 to KEY_BYTES_MAX bytes."""
    value: bytes
    """Record bytes; empty for a DELETE."""


def encode_leaf(kind: int, height: int, previous: int, key: bytes, value: bytes) -> bytes:
    """Leaf bytes as in the module's text."""
    return _LEAF_HEAD.pack(kind, height, previous, len(key), len(value)) + key + value


def decode_leaf(data: bytes) -> Leaf:
    """The one leaf with these bytes; ProofError if there is none."""
    if len(data) < _LEAF_HEAD.size:
        raise ProofError("a leaf is too short")
    kind, height, previous, key_bytes, value_bytes = _LEAF_HEAD.unpack_from(data)
    if kind not in (PUT, DELETE):
        raise ProofError("a leaf is of a kind this scheme does not have")
    if not 1 <= key_bytes <= KEY_BYTES_MAX or value_bytes > VALUE_BYTES_MAX:
        raise ProofError("a leaf's key or value is outside the limits")
    if kind == DELETE and (value_bytes or not previous):
        raise ProofError("a DELETE leaf carries a value or supersedes nothing")
    value_at = _LEAF_HEAD.size + key_bytes
    if len(data) != value_at + value_bytes:
        raise ProofError("a leaf's length is not what it says")
    return Leaf(kind, height, previous, data[_LEAF_HEAD.size : value_at], data[value_at:])


def writes_to(leaves: Sequence[bytes], table: bytes) -> bool:
    """Whether a block wrote to a table.

    Args:
        leaves: of the block, ascending by key, as they were made.
        table: its byte.
    """
    at = bisect_left(leaves, table, key=_key_of)
    return at < len(leaves) and _key_of(leaves[at]).startswith(table)


def _key_of(leaf: bytes) -> bytes:
    return decode_leaf(leaf).key


def leaf_hash(data: bytes) -> bytes:
    """Hash of leaf bytes."""
    return sha256(TAG_STATE_LEAF + data).digest()


def twig_hash(leaf_root: bytes, bits: bytes | bytearray) -> bytes:
    """Hash of a twig from the root of its leaves and its 256 bytes of bits."""
    return sha256(TAG_STATE_TWIG + leaf_root + bits).digest()


def state_root(log_root: bytes, count: int, boundary: int = BOUNDARY) -> bytes:
    """The root that headers carry."""
    return tagged(TAG_STATE_ROOT, _SCHEME_BYTES, log_root, _ROOT_TAIL.pack(count, boundary))


def twigs_of(count: int) -> int:
    """Number of twigs, the last one perhaps partly filled, of ``count`` leaves."""
    return (count + TWIG_LEAVES - 1) >> TWIG_BITS


# ---------------------------------------------------------------- proof


class LeafProof(msgspec.Struct, frozen=True, gc=False):
    """That a leaf, with this activity, is in a log."""

    index: int
    """Place in the log, from 0."""
    leaf: bytes
    """Leaf bytes."""
    path: tuple[bytes, ...]
    """Audit path from the leaf hash to the twig's leaf root."""
    bits: bytes
    """The twig's 256 bytes of activity bits."""
    twig_path: tuple[bytes, ...]
    """Audit path from the twig hash to the log root."""


class StateProof(msgspec.Struct, frozen=True, gc=False):
    """That a key held a value, under one state root."""

    scheme: int
    """1."""
    count: int
    """Leaves of the log under the root."""
    boundary: int
    """0 in this scheme."""
    subject: LeafProof
    """The PUT leaf with the value."""
    successor: LeafProof | None
    """The leaf that superseded it; absent exactly if the subject's bit is set."""


class ProvenValue(msgspec.Struct, frozen=True, gc=False):
    """What a verified proof says."""

    key: bytes
    """Table byte and key."""
    value: bytes
    """Record bytes."""
    written_at: int
    """Height of the block that wrote the value."""
    superseded_at: int | None
    """Height of the block that replaced or removed it; None if it is the current one at the root's height."""

    def held_at(self, height: int) -> bool:
        """Whether this was the key's value after the block at ``height``, which must not be above the root's."""
        return self.written_at <= height and (self.superseded_at is None or height < self.superseded_at)


def verify(proof: StateProof, root: bytes) -> ProvenValue:
    """What the proof shows under a state root; ProofError otherwise. Costs some 30 hashes.

    The root must come from a header that was itself verified, and a header's ``state_height`` is the root's height.
    """
    if proof.scheme != SCHEME or proof.boundary != BOUNDARY:
        raise ProofError("another commitment scheme: a newer version of this software may know it")
    if not 1 <= proof.count <= COUNT_MAX:
        raise ProofError("the number of leaves is outside the limits")
    subject = _verify_leaf(proof.subject, proof.count, root)
    if subject.kind != PUT:
        raise ProofError("the leaf is a removal, which shows no value")
    if is_active(proof.subject):
        if proof.successor is not None:
            raise ProofError("an active leaf has no successor")
        return ProvenValue(subject.key, subject.value, subject.height, None)
    if proof.successor is None:
        raise ProofError("the leaf is not active and no successor is shown")
    successor = _verify_leaf(proof.successor, proof.count, root)
    if successor.key != subject.key or successor.previous != proof.subject.index + 1:
        raise ProofError("the successor supersedes another leaf")
    if successor.height <= subject.height or proof.successor.index <= proof.subject.index:
        raise ProofError("the successor is not later than the leaf")
    return ProvenValue(subject.key, subject.value, subject.height, successor.height)


def is_active(proof: LeafProof) -> bool:
    """The activity bit of the leaf; ``bits`` must have its full length."""
    position = proof.index % TWIG_LEAVES
    return bool(proof.bits[position >> 3] >> (position & 7) & 1)


def _verify_leaf(proof: LeafProof, count: int, root: bytes) -> Leaf:
    if not 0 <= proof.index < count:
        raise ProofError("a leaf lies outside the log")
    if len(proof.bits) != BITMAP_BYTES or not _digests(proof.path) or not _digests(proof.twig_path):
        raise ProofError("a part of the proof has a wrong length")
    twig = proof.index >> TWIG_BITS
    leaves_in_twig = min(TWIG_LEAVES, count - (twig << TWIG_BITS))
    leaf_root = merkle.root_of_path(leaf_hash(proof.leaf), proof.index % TWIG_LEAVES, leaves_in_twig, proof.path)
    if leaf_root is None:
        raise ProofError("the path inside the twig has a wrong length")
    log_root = merkle.root_of_path(twig_hash(leaf_root, proof.bits), twig, twigs_of(count), proof.twig_path)
    if log_root is None:
        raise ProofError("the path above the twig has a wrong length")
    if state_root(log_root, count) != root:
        raise ProofError("it leads to another root")
    return decode_leaf(proof.leaf)


def _digests(path: Sequence[bytes]) -> bool:
    return len(path) <= merkle.PATH_LENGTH_MAX and all(len(digest) == DIGEST_BYTES for digest in path)
