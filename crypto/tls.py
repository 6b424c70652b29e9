"""TLS identity: every organisation's ledger key is its own certificate authority.

The Ed25519 ledger key signs a CA certificate of its own, and short-lived leaves for its daemons and clients. Leaves
have P-256 keys, because gRPC's TLS refuses Ed25519 in a leaf. A leaf names the organisation as the host
``<org>.lossbook`` and its role as the URI ``lossbook:<role>``. The chain registers ledger keys, so no outside authority
can expire, be bribed, or be asked: ``check_leaf`` needs the registered public key only.
"""

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from crypto.keys import SigningKey, verify

DOMAIN: Final = ".lossbook"
ROLE_SCHEME: Final = "lossbook:"
ROLES: Final = ("node", "replica", "client")

NO_EXPIRY: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280 §4.1.2.5: a certificate without a well-defined end. The chain, not a date, retires a ledger key."""

CLOCK_SKEW: Final = timedelta(hours=1)
"""Leaves are valid from this much before their making, for peers whose clocks are behind."""

CERTIFICATE_BYTES_MAX: Final = 8 << 10
"""A leaf has below 1 KiB in PEM; more is not parsed."""

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,31}")


class TlsIdentityError(Exception):
    """A certificate does not show what it should. ``reason`` is one of a fixed set of phrases."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"certificate refused: {reason}")
        self.reason = reason


class UnreadableCertificate(TlsIdentityError):
    """It is no certificate of the form used here."""


class NotIssuedByLedgerKey(TlsIdentityError):
    """The registered ledger key did not sign it: an impostor, or a key that was rotated."""


class ExpiredCertificate(TlsIdentityError):
    """Its time is over or has not come: issue a new leaf, or set the clock right."""


class LeafIdentity(msgspec.Struct, frozen=True):
    """Who a leaf speaks for."""

    org: str
    """Organisation id."""
    role: str
    """One of ROLES."""
    not_after: datetime
    """End of validity, UTC."""


def make_authority(key: SigningKey, org: str, not_before: datetime, not_after: datetime = NO_EXPIRY) -> bytes:
    """The organisation's self-signed CA certificate, PEM. The same arguments always give the same bytes."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed())
    public = private.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_authority_name(org))
        .issuer_name(_authority_name(org))
        .public_key(public)
        .serial_number(1)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def issue_leaf(key: SigningKey, org: str, role: str, now: datetime, validity: timedelta) -> tuple[bytes, bytes]:
    """(leaf certificate PEM, its new P-256 private key PEM), valid for ``validity`` from ``now``.

    Also named 127.0.0.1, ::1 and localhost, for daemons that talk on one machine; identity rests on the
    organisation's name alone. ValueError for an unknown role or a malformed organisation id.
    """
    if role not in ROLES:
        raise ValueError(f"a certificate's role is one of {', '.join(ROLES)}, not {role!r}")
    authority = Ed25519PrivateKey.from_private_bytes(key.seed())
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.DNSName(org + DOMAIN),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.UniformResourceIdentifier(ROLE_SCHEME + role),
    ]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, org + DOMAIN)]))
        .issuer_name(_authority_name(org))
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority, None)
    )
    private_pem = leaf_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private_pem


def check_authority(authority_pem: bytes, ledger_public: bytes) -> None:
    """TlsIdentityError unless this is a CA certificate of exactly this key, signed by itself."""
    certificate = _parse(authority_pem)
    _check_signature(certificate, ledger_public)
    try:
        own = certificate.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnreadableCertificate("its key is no Ed25519 key") from error
    if own != ledger_public:
        raise NotIssuedByLedgerKey("it certifies another key than the registered ledger key")


def check_leaf(leaf_pem: bytes, ledger_public: bytes, now: datetime | None = None) -> LeafIdentity:
    """Whom the leaf speaks for, if the organisation's ledger key signed it; a TlsIdentityError otherwise.

    The caller compares ``org`` with the organisation it took ``ledger_public`` from. The TLS library has checked
    validity times against its own clock; give ``now`` to check them here too.
    """
    certificate = _parse(leaf_pem)
    _check_signature(certificate, ledger_public)
    identity = _identity(certificate)
    if now is not None and not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ExpiredCertificate(f"it is valid until {identity.not_after:%Y-%m-%d %H:%M} UTC: issue a new one")
    return identity


def claimed_org(leaf_pem: bytes) -> str:
    """The organisation a leaf names, unchecked: to look up the key for ``check_leaf``. UnreadableCertificate."""
    return _identity(_parse(leaf_pem)).org


# ---------------------------------------------------------------- inside


def _parse(pem: bytes) -> x509.Certificate:
    if len(pem) > CERTIFICATE_BYTES_MAX:
        raise UnreadableCertificate("it is too large")
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise UnreadableCertificate("it is no X.509 certificate in PEM") from error


def _check_signature(certificate: x509.Certificate, ledger_public: bytes) -> None:
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ED25519:
        raise NotIssuedByLedgerKey("it is not signed with Ed25519")
    if not verify(ledger_public, certificate.tbs_certificate_bytes, certificate.signature):
        raise NotIssuedByLedgerKey("the organisation's registered ledger key did not sign it")


def _identity(certificate: x509.Certificate) -> LeafIdentity:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise UnreadableCertificate("it lacks the names of a leaf") from error
    hosts = [name for name in names.get_values_for_type(x509.DNSName) if name.endswith(DOMAIN)]
    roles = names.get_values_for_type(x509.UniformResourceIdentifier)
    if constraints.ca or len(hosts) != 1 or len(roles) != 1:
        raise UnreadableCertificate("it does not name exactly one organisation and one role")
    org, role = hosts[0].removesuffix(DOMAIN), roles[0].removeprefix(ROLE_SCHEME)
    if not _SLUG.fullmatch(org) or not roles[0].startswith(ROLE_SCHEME) or role not in ROLES:
        raise UnreadableCertificate("its organisation or role is malformed")
    return LeafIdentity(org, role, certificate.not_valid_after_utc)


def _authority_name(org: str) -> x509.Name:
    if not _SLUG.fullmatch(org):
        raise ValueError(f"an organisation id is 2 to 32 of a-z, 0-9 and '-', not {org!r}")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{org}{DOMAIN} ledger key")])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
