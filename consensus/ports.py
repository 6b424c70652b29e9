"""What the core needs from outside, as small Protocols it owns.

Left out on purpose: clocks (``now`` is an argument), randomness (the nonce comes in with ``Started``), disk (records
go out as effects), hashing of headers (values carry their digests).
"""

from typing import Protocol

from consensus.types import Header, Proposal


class Verifier(Protocol):
    """Checks Ed25519 signatures."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the signature is good; wrong lengths are simply bad."""


class Signatures(Verifier, Protocol):
    """Ed25519, deterministic: one message has one signature."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes by this validator's consensus key. Never called by an observer."""


class Headers(Protocol):
    """Stored blocks: asked at restore, and when a parent is not in memory."""

    def header(self, digest: bytes) -> Header | None:
        """Header of a stored block, finalized or not; None if it is not stored."""

    def proposal(self, digest: bytes) -> Proposal | None:
        """A stored block as it was proposed; None if it is not stored (or pruned)."""
