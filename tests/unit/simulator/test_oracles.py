"""Oracles judge by arithmetic of their own, and object to what they are there for."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from simulator.oracles import all_oracles
from simulator.oracles.base import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    CertificateFact,
    HeaderFact,
    Timing,
    Violation,
    VoteFact,
    World,
    quorum_of,
)

FOLDER = Path(sys.modules["simulator.oracles"].__file__ or "").parent
A, B = b"a" * 32, b"b" * 32
GENESIS = HeaderFact(bytes(32), 0, 0, 0, 0, bytes(32), 0, 0, b"", b"", ())


class Judge:
    """All oracles over a world of four, the last of them dishonest."""

    def __init__(self) -> None:
        self.world = World(4, (0, 1, 2), GENESIS, Timing(100, 3_000, 2_000))
        self.oracles = all_oracles(self.world)

    def __call__(self, hook: str, *facts: object) -> None:
        for oracle in self.oracles:
            getattr(oracle, hook)(*facts)

    @staticmethod
    def fact(epoch: int, kind: int, view: int, digest: bytes, signer: int) -> VoteFact:
        return VoteFact(epoch, view, kind, 0, digest, signer)

    def votes(self, kind: int, view: int, digest: bytes, *signers: int, parent_view: int = 0) -> None:
        for signer in signers:
            self("vote", VoteFact(0, view, kind, parent_view, digest, signer))

    def header(self, digest: bytes, height: int, view: int, parent: HeaderFact) -> HeaderFact:
        fact = HeaderFact(digest, 0, height, view, parent.view, parent.digest, height, 0, b"", b"", ())
        self.world.headers[digest] = fact
        return fact


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_oracles_import_nothing_of_the_product(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] in sys.stdlib_module_names or name.startswith("simulator.oracles"), name


@pytest.mark.parametrize(("n", "quorum"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (10, 7), (13, 9)])
def test_quorums(n: int, quorum: int) -> None:
    assert quorum_of(n) == quorum


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((NOTARIZE, A), (NOTARIZE, B)),
        ((FINALIZE, A), (FINALIZE, B)),
        ((NULLIFY, b""), (FINALIZE, A)),
        ((FINALIZE, A), (NULLIFY, b"")),
        ((NOTARIZE, A), (FINALIZE, B)),
    ],
)
def test_i6_an_honest_node_never_signs_both(judge: Judge, first: tuple[int, bytes], second: tuple[int, bytes]) -> None:
    judge.votes(first[0], 7, first[1], 1)
    judge.votes(second[0], 7, second[1], 3)  # a liar may
    with pytest.raises(Violation, match="I6"):
        judge.votes(second[0], 7, second[1], 1)


def test_i6_n_then_x_and_n_then_f_are_legal(judge: Judge) -> None:
    judge.votes(NOTARIZE, 7, A, 1)
    judge.votes(NULLIFY, 7, b"", 1)
    judge.votes(NOTARIZE, 8, A, 1)
    judge.votes(FINALIZE, 8, A, 1)


def test_i3_no_nullification_beside_a_finalization() -> None:
    judge = Judge()
    judge.world.honest = frozenset()
    judge.votes(NOTARIZE, 1, A, 0, 1, 2)
    judge.votes(FINALIZE, 1, A, 0, 1, 2)
    with pytest.raises(Violation, match="I3"):
        judge.votes(NULLIFY, 1, b"", 1, 2, 3)


def test_i4_no_two_notarizations() -> None:
    judge = Judge()
    judge.world.honest = frozenset()
    judge.votes(NOTARIZE, 1, A, 0, 1, 2)
    with pytest.raises(Violation, match="I4"):
        judge.votes(NOTARIZE, 1, B, 1, 2, 3)


def test_i2_no_two_blocks_at_one_height(judge: Judge) -> None:
    judge("final", 0, 1, A)
    with pytest.raises(Violation, match="I2"):
        judge("final", 1, 1, B)


def test_i7_a_skipped_view_needs_a_quorum_of_x(judge: Judge) -> None:
    judge.header(A, 1, 3, GENESIS)
    judge("final", 0, 1, A)
    judge.votes(NULLIFY, 1, b"", 0, 1, 2)
    judge.votes(NULLIFY, 2, b"", 0, 1)
    with pytest.raises(Violation, match="I7"):
        judge("finish")
    judge.votes(NULLIFY, 2, b"", 3)
    judge("finish")


@pytest.mark.parametrize(("signers", "forged"), [((0, 1), ()), ((0, 1, 1), ()), ((0, 1, 4), ()), ((0, 1, 2), (2,))])
def test_i8_a_certificate_is_a_quorum_of_genuine_signers(
    judge: Judge, signers: tuple[int, ...], forged: tuple[int, ...]
) -> None:
    with pytest.raises(Violation, match="I8"):
        judge("certificate", 0, CertificateFact(0, 1, NOTARIZE, 0, A, signers, forged))


def test_i9_neither_view_nor_floor_goes_back(judge: Judge) -> None:
    judge("position", 0, 0, 5, 3)
    judge("position", 0, 0, 5, 4)
    with pytest.raises(Violation, match="I9"):
        judge("position", 0, 0, 6, 3)
    judge("started", 0, True, True)
    judge("position", 0, 0, 1, 0)


def test_i10_equal_roots_at_equal_heights(judge: Judge) -> None:
    judge("executed", 0, 1, (A, A), ())
    with pytest.raises(Violation, match="I10"):
        judge("executed", 1, 1, (A, B), ())


def test_i11_records_name_liars_only_and_each_breach_once(judge: Judge) -> None:
    act = (0, 7, 1)
    for node in (0, 1, 0):
        judge("recorded", node, 3, act, 5)
    judge("recorded", 0, 3, (0, 8, 1), 6)
    with pytest.raises(Violation, match="heights 5 and 6"):
        judge("recorded", 2, 3, act, 6)
    with pytest.raises(Violation, match="of the honest node 1"):
        judge("recorded", 0, 1, act, 5)


def test_i11_nobody_honest_is_accused(judge: Judge) -> None:
    judge("evidence", 0, 3, "of a liar")
    with pytest.raises(Violation, match="I11"):
        judge("evidence", 0, 1, "of an honest node")
