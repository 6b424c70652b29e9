"""Signatures for the simulator: as unforgeable as real ones, a hundred times cheaper.

A signature is a MAC under a secret that only the signer object holds; whoever checks asks the notary, which knows every
secret and shows none. Deterministic, as consensus requires. A Byzantine node signs what it likes with its own key and
nothing with another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha256
from typing import Final, Protocol

SIGNATURE_BYTES: Final = 64


class SecretKey(Protocol):
    """Signs; ``crypto.keys.SigningKey`` is one."""

    public: bytes

    def sign(self, message: bytes, /) -> bytes:
        """64 bytes."""


class FakeKey:
    """A signing key; nothing but ``sign`` gets at its secret."""

    __slots__ = ("__secret", "public")

    def __init__(self, public: bytes, secret: bytes) -> None:
        self.public = public
        self.__secret = secret

    def sign(self, message: bytes) -> bytes:
        """64 bytes; the same for the same message."""
        return blake2b(message, key=self.__secret, digest_size=SIGNATURE_BYTES).digest()


class Notary:
    """Hands out one key for each public key, and checks signatures."""

    def __init__(self) -> None:
        self.__keys: dict[bytes, FakeKey] = {}

    def key(self, public: bytes) -> FakeKey:
        """The signing key of a public key."""
        if public not in self.__keys:
            self.__keys[public] = FakeKey(public, sha256(b"simulator/" + public).digest())
        return self.__keys[public]

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """As ``crypto.keys.verify``: unknown keys and wrong lengths are simply bad."""
        key = self.__keys.get(public)
        return key is not None and key.sign(message) == signature

    def verify_many(self, checks: Sequence[tuple[bytes, bytes, bytes]]) -> list[bool]:
        """As ``crypto.keys.verify_many``."""
        return [self.verify(public, message, signature) for public, message, signature in checks]
