"""Ed25519 keys and the one rule by which every node accepts a signature.

The rule is libsodium's ``crypto_sign_open``: the cofactorless check of RFC 8032 §5.1.7, which also refuses an S
that is not reduced, public keys and R of small order, and public keys encoded non-canonically. Libraries differ
on such edge cases, and nodes that differ on one signature split the chain; so every check of this code base
comes through here, and tests/unit/crypto/test_keys.py pins the edges.
"""

from collections.abc import Sequence
from typing import Final, NoReturn

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair, randombytes
from nacl.exceptions import BadSignatureError

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
SEED_BYTES: Final = 32


class SigningKey:
    """A private Ed25519 key. It never shows itself in ``repr``, and cannot be pickled or copied out by accident."""

    __slots__ = ("_secret", "public")

    public: bytes
    """The 32-byte public key."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.public, self._secret = crypto_sign_seed_keypair(seed)

    @classmethod
    def from_seed(cls, seed: bytes) -> "SigningKey":
        """The key of a 32-byte seed; ValueError for any other length."""
        return cls(seed)

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new key from the operating system's randomness."""
        return cls(randombytes(SEED_BYTES))

    def seed(self) -> bytes:
        """The 32 secret bytes, for key files and the TLS authority only."""
        return self._secret[:SEED_BYTES]

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of the message; deterministic (RFC 8032)."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is never pickled: hand over its key file instead")


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is good; keys and signatures of a wrong length are simply bad. About 55 microseconds."""
    if len(public) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


def verify_many(checks: Sequence[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """``verify`` for a list of (public, message, signature); the shape in which verification workers are fed."""
    return [verify(public, message, signature) for public, message, signature in checks]
