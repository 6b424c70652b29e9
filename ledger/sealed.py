"""Sealed blobs: what the ledger commits to and never contains.

A blob is opaque here: nonce, key commitment and ciphertext of one field of one person, padded. It carries a random
nonce, so equal values have different commitments. Layout of the commitment: docs/protocol.md, "Sealed blobs".
"""

from __future__ import annotations

from typing import Final

from crypto.hashing import TAG_SEALED_BLOB, tagged
from ledger.types import BATCH_BYTES_MAX

BLOB_BYTES_MAX: Final = BATCH_BYTES_MAX
"""A blob travels beside a batch and counts among its bytes."""


def commitment_of(blob: bytes) -> bytes:
    """What stands on the chain for a sealed blob: 32 bytes."""
    return tagged(TAG_SEALED_BLOB, blob)
