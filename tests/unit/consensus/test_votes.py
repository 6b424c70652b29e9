"""Signed bytes of votes, and what makes a vote or certificate genuine."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from consensus.types import Certificate, Vote, VoteKind
from consensus.votes import VoteChecker, shape_problem, vote_message
from tests.unit.consensus.support import CHAIN_ID, F, FakeSignatures, N, X, certificate, genesis, validators, vote

CHAIN = bytes(range(32))
DIGEST = bytes(range(32, 64))


@pytest.mark.parametrize(
    ("kind", "view", "parent_view", "digest", "expected"),
    [
        (N, 5, 3, DIGEST, "025c3ae803eff3082ca1bee8063cd1421793bf52ddead723a082d8914da3573c"),
        (X, 5, 0, b"", "0fae609afd9f604990ce5541f5c0c224655d3bbe031ae574dd33c7cfebbb2bef"),
        (F, 5, 3, DIGEST, "19995e6cad09a13197e32d5c5b0d81fc4e283f23ee3f0347e804e82fe5d2cf86"),
    ],
)
def test_signed_bytes_of_votes_are_pinned(
    kind: VoteKind, view: int, parent_view: int, digest: bytes, expected: str
) -> None:
    assert vote_message(CHAIN, kind, 7, view, parent_view, digest).hex() == expected


def test_signed_bytes_are_laid_out_as_documented() -> None:
    head = b"lossbook/v1/vote\x00" + CHAIN
    seven, five, three = (number.to_bytes(8, "big") for number in (7, 5, 3))
    assert vote_message(CHAIN, N, 7, 5, 3, DIGEST) == sha256(head + b"\x01" + seven + five + three + DIGEST).digest()
    assert vote_message(CHAIN, X, 7, 5) == sha256(head + b"\x02" + seven + five).digest()


def test_a_nullify_vote_cannot_point_to_a_parent() -> None:
    assert vote_message(CHAIN, X, 7, 5, 3, DIGEST) == vote_message(CHAIN, X, 7, 5)
    assert shape_problem(replace(vote(X, 5, 0), parent_view=3))
    assert shape_problem(replace(vote(X, 5, 0), digest=DIGEST))
    assert shape_problem(vote(X, 5, 0)) is None


def test_every_field_changes_the_signed_bytes() -> None:
    base = vote_message(CHAIN, N, 7, 5, 3, DIGEST)
    others = {
        vote_message(bytes(32), N, 7, 5, 3, DIGEST),
        vote_message(CHAIN, F, 7, 5, 3, DIGEST),
        vote_message(CHAIN, N, 8, 5, 3, DIGEST),
        vote_message(CHAIN, N, 7, 6, 3, DIGEST),
        vote_message(CHAIN, N, 7, 5, 4, DIGEST),
        vote_message(CHAIN, N, 7, 5, 3, CHAIN),
        vote_message(CHAIN, X, 7, 5),
    }
    assert len(others) == 7
    assert base not in others


CHECKER = VoteChecker(CHAIN_ID, validators(4), FakeSignatures())


def never(_: Vote) -> bool:
    return False


def certificate_problem(candidate: Certificate) -> str | None:
    return CHECKER.certificate_problem(candidate, never)


def test_a_genuine_vote_passes() -> None:
    assert CHECKER.vote_problem(vote(N, 1, 3, genesis())) is None
    assert CHECKER.vote_problem(vote(X, 1, 0)) is None


@pytest.mark.parametrize("signer", [4, 255, -1])
def test_invalid_vote_of_an_unknown_signer(signer: int) -> None:
    assert CHECKER.vote_problem(replace(vote(X, 1, 0), signer=signer))


@pytest.mark.parametrize(
    "change",
    [{"view": 2}, {"signer": 2}, {"signature": bytes(64)}, {"kind": F}, {"digest": DIGEST}, {"epoch": 1}, {"view": 0}],
)
def test_invalid_vote_with_one_field_changed(change: dict[str, object]) -> None:
    genuine = replace(vote(N, 1, 1, genesis()))
    assert CHECKER.vote_problem(genuine) is None
    assert CHECKER.vote_problem(replace(genuine, **change)) is not None  # type: ignore[arg-type]


def test_a_genuine_certificate_passes_with_a_quorum_or_more() -> None:
    assert certificate_problem(certificate(X, 1, None, (0, 1, 3))) is None
    assert certificate_problem(certificate(X, 1, None, (0, 1, 2, 3))) is None


def test_invalid_certificate_without_a_quorum() -> None:
    assert "no quorum" in (certificate_problem(certificate(X, 1, None, (0, 1))) or "")


def test_invalid_certificate_with_a_signer_twice() -> None:
    genuine = certificate(X, 1, None, (0, 1, 2))
    twice = replace(
        genuine, signers=(0, 1, 1), signatures=(genuine.signatures[0], genuine.signatures[1], genuine.signatures[1])
    )
    assert "ascend" in (certificate_problem(twice) or "")


def test_invalid_certificate_with_a_signer_outside_the_set() -> None:
    genuine = certificate(X, 1, None, (0, 1, 2))
    assert "validator set" in (certificate_problem(replace(genuine, signers=(0, 1, 4))) or "")
    assert "validator set" in (certificate_problem(replace(genuine, signers=(-1, 1, 2))) or "")


def test_invalid_certificate_with_one_bad_signature() -> None:
    genuine = certificate(X, 1, None, (0, 1, 2))
    assert "bad signature" in (
        certificate_problem(replace(genuine, signatures=(*genuine.signatures[:2], bytes(64)))) or ""
    )


def test_invalid_certificate_with_fewer_signatures_than_signers() -> None:
    genuine = certificate(X, 1, None, (0, 1, 2))
    assert certificate_problem(replace(genuine, signatures=genuine.signatures[:2]))


def test_invalid_certificate_of_another_epoch() -> None:
    assert certificate_problem(replace(certificate(X, 1, None, (0, 1, 2)), epoch=1))


def test_votes_verified_before_are_not_verified_again() -> None:
    signatures = FakeSignatures()
    checker = VoteChecker(CHAIN_ID, validators(4), signatures)
    held = certificate(X, 1, None, (0, 1, 2))
    assert checker.certificate_problem(held, lambda vote: vote.signer != 2) is None
    assert signatures.verified == 1
