from datetime import UTC, datetime, timedelta

import pytest

from crypto import tls
from crypto.keys import SigningKey
from crypto.tls import (
    ExpiredCertificate,
    LeafIdentity,
    NotIssuedByLedgerKey,
    TlsIdentityError,
    UnreadableCertificate,
    check_authority,
    check_leaf,
    claimed_org,
    issue_leaf,
    make_authority,
)

ACME = SigningKey.from_seed(b"a" * 32)
BOREAS = SigningKey.from_seed(b"b" * 32)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MONTH = timedelta(days=30)


def test_a_leaf_names_its_organisation_and_role() -> None:
    leaf, _ = issue_leaf(ACME, "acme", "node", NOW, MONTH)
    assert check_leaf(leaf, ACME.public) == LeafIdentity("acme", "node", NOW + MONTH)
    assert claimed_org(leaf) == "acme"


def test_the_authority_is_reproducible_and_certifies_itself() -> None:
    authority = make_authority(ACME, "acme", NOW)
    assert authority == make_authority(ACME, "acme", NOW)
    check_authority(authority, ACME.public)
    with pytest.raises(NotIssuedByLedgerKey):
        check_authority(authority, BOREAS.public)


def test_invalid_leaf_signed_by_another_organisation() -> None:
    leaf, _ = issue_leaf(BOREAS, "acme", "node", NOW, MONTH)
    with pytest.raises(NotIssuedByLedgerKey, match="did not sign it"):
        check_leaf(leaf, ACME.public)


def test_invalid_authority_presented_as_a_leaf() -> None:
    with pytest.raises(UnreadableCertificate):
        check_leaf(make_authority(ACME, "acme", NOW), ACME.public)


def test_validity_is_checked_against_a_given_clock() -> None:
    leaf, _ = issue_leaf(ACME, "acme", "client", NOW, MONTH)
    check_leaf(leaf, ACME.public, NOW + MONTH)
    for when in (NOW + MONTH + timedelta(seconds=1), NOW - timedelta(hours=2)):
        with pytest.raises(ExpiredCertificate, match="issue a new one"):
            check_leaf(leaf, ACME.public, when)


@pytest.mark.parametrize("pem", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_invalid_bytes(pem: bytes) -> None:
    with pytest.raises(UnreadableCertificate):
        check_leaf(pem, ACME.public)


def test_invalid_oversize() -> None:
    leaf, _ = issue_leaf(ACME, "acme", "node", NOW, MONTH)
    with pytest.raises(UnreadableCertificate, match="too large"):
        check_leaf(leaf + b"\n" * tls.CERTIFICATE_BYTES_MAX, ACME.public)


def test_invalid_role_and_organisation_are_not_issued() -> None:
    with pytest.raises(ValueError, match="role"):
        issue_leaf(ACME, "acme", "root", NOW, MONTH)
    for org in ("Acme", "a", "acme.evil", "-acme", "x" * 33, "acme\n"):
        with pytest.raises(ValueError, match="organisation id"):
            issue_leaf(ACME, org, "node", NOW, MONTH)


def test_a_leaf_changed_anywhere_is_refused() -> None:
    leaf, _ = issue_leaf(ACME, "acme", "node", NOW, MONTH)
    lines = leaf.decode().splitlines()
    for number in range(1, len(lines) - 1):
        flipped = "A" if lines[number][20] != "A" else "B"
        bad = [*lines[:number], lines[number][:20] + flipped + lines[number][21:], *lines[number + 1 :]]
        with pytest.raises(TlsIdentityError):
            check_leaf("\n".join(bad).encode(), ACME.public)
