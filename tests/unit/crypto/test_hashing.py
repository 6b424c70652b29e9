from hashlib import sha256

from crypto import hashing
from crypto.hashing import TAG_ACK, tagged

NAMES = [
    "genesis",
    "card",
    "envelope-id",
    "envelope-signature",
    "batch",
    "batch-signature",
    "statement",
    "ack",
    "accepted",
    "header",
    "justification",
    "vote",
    "valset",
    "state-leaf",
    "state-twig",
    "state-root",
    "receipt-leaf",
    "receipt-root",
    "sealed-blob",
    "key-possession",
    "key-registration",
    "readiness",
    "checkpoint",
]


def test_a_digest_covers_the_tag_and_the_parts_without_separators() -> None:
    assert tagged(TAG_ACK, b"ab", b"c") == sha256(b"lossbook/v1/ack\x00abc").digest()


def test_every_tag_is_spelled_after_its_name() -> None:
    tags = {name: value for name, value in vars(hashing).items() if name.startswith("TAG_")}
    assert tags == {f"TAG_{name.upper().replace('-', '_')}": f"lossbook/v1/{name}\0".encode() for name in NAMES}


def test_no_tag_is_a_prefix_of_another_or_starts_like_a_merkle_node() -> None:
    tags = [value for name, value in vars(hashing).items() if name.startswith("TAG_")]
    assert not [(a, b) for a in tags for b in tags if a is not b and a.startswith(b)]
    assert not [tag for tag in tags if tag[0] < 2]
