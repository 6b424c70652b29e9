"""Proofs under state roots: what is shown, and each way in which one can be wrong."""

from collections.abc import Callable

import msgspec
import pytest

from ledger.commitment import (
    DELETE,
    PUT,
    TWIG_LEAVES,
    Leaf,
    ProofError,
    StateProof,
    decode_leaf,
    encode_leaf,
    state_root,
    verify,
)
from ledger.ports import CorruptStore
from ledger.state_log import RECENT_HEIGHTS, ProofUnavailable, StateLog

Writes = list[tuple[bytes, bytes | None]]


class Log:
    """A StateLog with its leaves and the roots of all heights."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.roots: list[bytes] = []
        self.log = StateLog(self.leaves.__getitem__, lambda start, stop: iter(self.leaves[start:stop]))

    def block(self, *writes: tuple[bytes, bytes | None]) -> None:
        self.leaves += self.log.append(len(self.roots), writes)[0]
        self.roots.append(self.log.root())

    def prove(self, key: bytes, at_height: int | None = None, value_at: int | None = None) -> StateProof:
        head = len(self.roots) - 1
        return self.log.prove(key, head if at_height is None else at_height, head, value_at)


@pytest.fixture
def log() -> Log:
    """Two twigs: policies p0000 to p2999 at height 0, then p0001 changed twice, p0002 removed."""
    log = Log()
    log.block(*((b"p%04d" % number, b"issued") for number in range(3000)))
    log.block((b"p0001", b"claimed"), (b"p0003", b"lapsed"))
    log.block((b"p0001", b"paid"), (b"p0002", None))
    log.block((b"zzzz", b"later"))
    return log


def test_the_current_value(log: Log) -> None:
    proven = verify(log.prove(b"p0001"), log.roots[3])
    assert (proven.key, proven.value, proven.written_at, proven.superseded_at) == (b"p0001", b"paid", 2, None)
    assert [proven.held_at(height) for height in range(4)] == [False, False, True, True]


def test_the_value_of_an_older_height_under_a_later_root(log: Log) -> None:
    proven = verify(log.prove(b"p0001", value_at=1), log.roots[3])
    assert (proven.value, proven.written_at, proven.superseded_at) == (b"claimed", 1, 2)
    assert [proven.held_at(height) for height in range(4)] == [False, True, False, False]


def test_a_removed_value_under_a_later_root(log: Log) -> None:
    proven = verify(log.prove(b"p0002", value_at=1), log.roots[3])
    assert (proven.value, proven.superseded_at) == (b"issued", 2)


def test_proofs_under_the_roots_behind_the_head(log: Log) -> None:
    for height, value in enumerate([b"issued", b"claimed", b"paid", b"paid"]):
        proven = verify(log.prove(b"p0001", at_height=height), log.roots[height])
        assert proven.value == value
        assert proven.superseded_at is None
    assert verify(log.prove(b"p0002", at_height=1), log.roots[1]).value == b"issued"


def test_what_a_node_cannot_prove(log: Log) -> None:
    for key, at_height, value_at in [
        (b"p0002", 3, None),  # removed
        (b"never", 3, None),
        (b"zzzz", 2, None),  # not yet there
        (b"p0001", 4, None),  # above the head
        (b"p0001", 2, 3),  # the value's height above the root's
        (b"p0001", 2, -1),
    ]:
        with pytest.raises(ProofUnavailable):
            log.prove(key, at_height, value_at)


def test_heights_far_behind_are_no_longer_provable(log: Log) -> None:
    for _ in range(RECENT_HEIGHTS):
        log.block((b"tick", b""))
    head = len(log.roots) - 1
    verify(log.prove(b"p0001", head - RECENT_HEIGHTS), log.roots[head - RECENT_HEIGHTS])
    with pytest.raises(ProofUnavailable, match="not among the last"):
        log.prove(b"p0001", head - RECENT_HEIGHTS - 1)


def test_a_key_put_again_after_removal_starts_anew(log: Log) -> None:
    log.block((b"p0002", b"new life"))
    assert decode_leaf(log.leaves[-1]).previous == 0
    assert verify(log.prove(b"p0002"), log.roots[-1]).written_at == 4


def test_a_leaf_that_changed_on_disk_is_noticed_before_it_is_proved(log: Log) -> None:
    in_filled_twig, in_open_twig = log.log.index[b"p0000"], log.log.index[b"zzzz"]
    for index, key in ((in_filled_twig, b"p0000"), (in_open_twig, b"zzzz")):
        log.leaves[index] = log.leaves[index][:-1] + b"!"
        with pytest.raises(CorruptStore, match=f"leaf {index} "):
            log.prove(key)
    log.log._twig_trees.clear()
    with pytest.raises(CorruptStore, match="twig 0 "):
        log.prove(b"p0004")


def test_an_empty_block_changes_no_root(log: Log) -> None:
    log.block()
    assert log.roots[4] == log.roots[3]
    assert verify(log.prove(b"p0001"), log.roots[4]).value == b"paid"


def test_a_block_that_fills_a_twig_exactly() -> None:
    log = Log()
    log.block(*((b"%05d" % number, b"") for number in range(TWIG_LEAVES)))
    log.block((b"00000", b"x"))
    for height in (0, 1):
        assert verify(log.prove(b"00000", height), log.roots[height]).written_at == height
        assert verify(log.prove(b"02047", height), log.roots[height]).written_at == 0


Alter = Callable[[StateProof], StateProof]


def _with(proof: StateProof, **changes: object) -> StateProof:
    return msgspec.structs.replace(proof, **changes)


def _subject(proof: StateProof, **changes: object) -> StateProof:
    return _with(proof, subject=msgspec.structs.replace(proof.subject, **changes))


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (lambda p: _with(p, scheme=2), "another commitment scheme"),
        (lambda p: _with(p, boundary=2048), "another commitment scheme"),
        (lambda p: _with(p, count=0), "outside the limits"),
        (lambda p: _with(p, count=1 << 60), "outside the limits"),
        (lambda p: _with(p, count=p.count + 1), "root|length"),
        (lambda p: _subject(p, index=p.count), "outside the log"),
        (lambda p: _subject(p, index=-1), "outside the log"),
        (lambda p: _subject(p, index=p.subject.index ^ 1), "another root"),
        (lambda p: _subject(p, bits=p.subject.bits[:-1]), "wrong length"),
        (lambda p: _subject(p, bits=bytes(256)), "another root"),
        (lambda p: _subject(p, path=p.subject.path[:-1]), "inside the twig has a wrong length"),
        (lambda p: _subject(p, path=(*p.subject.path, bytes(32))), "inside the twig has a wrong length"),
        (lambda p: _subject(p, path=(b"", *p.subject.path[1:])), "wrong length"),
        (lambda p: _subject(p, twig_path=()), "above the twig has a wrong length"),
        (lambda p: _subject(p, twig_path=p.subject.twig_path * 40), "wrong length"),
        (lambda p: _subject(p, leaf=p.subject.leaf + b"!"), "another root"),
        (lambda p: _with(p, successor=p.subject), "active leaf has no successor"),
    ],
)
def test_invalid_proofs_of_a_current_value(log: Log, alter: Alter, reason: str) -> None:
    with pytest.raises(ProofError, match=reason):
        verify(alter(log.prove(b"p0001")), log.roots[3])


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (lambda p, q: _with(p, successor=None), "no successor is shown"),
        (lambda p, q: _with(p, successor=q.successor), "supersedes another leaf"),
        (lambda p, q: _with(p, successor=p.subject), "supersedes another leaf"),
    ],
)
def test_invalid_proofs_of_an_older_value(
    log: Log, alter: Callable[[StateProof, StateProof], StateProof], reason: str
) -> None:
    mine, other = log.prove(b"p0001", value_at=0), log.prove(b"p0003", value_at=0)
    verify(mine, log.roots[3])
    with pytest.raises(ProofError, match=reason):
        verify(alter(mine, other), log.roots[3])


def test_invalid_removal_presented_as_a_value(log: Log) -> None:
    removed = log.prove(b"p0002", value_at=1)
    assert removed.successor is not None
    with pytest.raises(ProofError, match="removal"):
        verify(_with(removed, subject=removed.successor, successor=None), log.roots[3])


def test_invalid_root_of_another_height(log: Log) -> None:
    with pytest.raises(ProofError, match="another root"):
        verify(log.prove(b"p0001"), log.roots[2])


def test_leaf_bytes_round_trip() -> None:
    leaf = Leaf(PUT, 7, 3, b"\x01key", b"value")
    assert decode_leaf(encode_leaf(PUT, 7, 3, b"\x01key", b"value")) == leaf


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_leaf(PUT, 0, 0, b"k", b"v")[:-1],
        encode_leaf(PUT, 0, 0, b"k", b"v") + b"!",
        encode_leaf(PUT, 0, 0, b"", b"v"),
        encode_leaf(PUT, 0, 0, b"k" * 513, b"v"),
        encode_leaf(0, 0, 0, b"k", b"v"),
        encode_leaf(3, 0, 0, b"k", b"v"),
        encode_leaf(DELETE, 0, 1, b"k", b"v"),
        encode_leaf(DELETE, 0, 0, b"k", b""),
    ],
)
def test_invalid_leaf_bytes(data: bytes) -> None:
    with pytest.raises(ProofError):
        decode_leaf(data)


def test_the_root_names_scheme_count_and_boundary() -> None:
    roots = {state_root(bytes(32), 1), state_root(bytes(32), 2), state_root(bytes(32), 1, 2048)}
    assert len(roots) == 3
