"""SHA-256 under domain tags.

Every digest and every signed message of lossbook starts with a tag that names its purpose, so that
bytes hashed for one purpose can never be presented for another. A tag is ``lossbook/v1/<name>``
followed by one zero byte; no tag is a prefix of another, because names hold no zero byte.

The nodes of Merkle trees are the exception: they follow RFC 6962 and start with the byte 0x00 (leaf)
or 0x01 (inner node), which no tag starts with (see ``crypto/merkle.py``).
"""

from hashlib import sha256
from typing import Final

DIGEST_BYTES: Final = 32

ZERO_DIGEST: Final = bytes(DIGEST_BYTES)
"""Stands where there is no predecessor: the chain id field of the genesis header, the first batch's previous digest."""

TAG_GENESIS: Final = b"lossbook/v1/genesis\x00"
TAG_CARD: Final = b"lossbook/v1/card\x00"
TAG_ENVELOPE_ID: Final = b"lossbook/v1/envelope-id\x00"
TAG_ENVELOPE_SIGNATURE: Final = b"lossbook/v1/envelope-signature\x00"
TAG_BATCH: Final = b"lossbook/v1/batch\x00"
TAG_BATCH_SIGNATURE: Final = b"lossbook/v1/batch-signature\x00"
TAG_STATEMENT: Final = b"lossbook/v1/statement\x00"
TAG_ACK: Final = b"lossbook/v1/ack\x00"
TAG_ACCEPTED: Final = b"lossbook/v1/accepted\x00"
TAG_HEADER: Final = b"lossbook/v1/header\x00"
TAG_JUSTIFICATION: Final = b"lossbook/v1/justification\x00"
TAG_VOTE: Final = b"lossbook/v1/vote\x00"
TAG_VALSET: Final = b"lossbook/v1/valset\x00"
TAG_KEY_REGISTRATION: Final = b"lossbook/v1/key-registration\x00"
TAG_KEY_POSSESSION: Final = b"lossbook/v1/key-possession\x00"
TAG_READINESS: Final = b"lossbook/v1/readiness\x00"
TAG_STATE_LEAF: Final = b"lossbook/v1/state-leaf\x00"
TAG_STATE_TWIG: Final = b"lossbook/v1/state-twig\x00"
TAG_STATE_ROOT: Final = b"lossbook/v1/state-root\x00"
TAG_RECEIPT_LEAF: Final = b"lossbook/v1/receipt-leaf\x00"
TAG_RECEIPT_ROOT: Final = b"lossbook/v1/receipt-root\x00"
TAG_CHECKPOINT: Final = b"lossbook/v1/checkpoint\x00"
TAG_SEALED_BLOB: Final = b"lossbook/v1/sealed-blob\x00"


def tagged(tag: bytes, *parts: bytes) -> bytes:
    """32 bytes: SHA-256 of the tag and the parts, concatenated.

    Nothing separates the parts: a caller whose parts vary in length puts their lengths in.
    """
    return sha256(tag + b"".join(parts)).digest()
