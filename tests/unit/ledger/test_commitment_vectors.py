"""The golden vectors, checked twice: the product makes them, and a stranger's verifier, written below from the
protocol's text with the standard library alone, accepts them."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.make_commitment import vectors

VECTORS = Path(__file__).parents[2] / "vectors"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


@pytest.mark.parametrize("name", ["merkle.json", "commitment.json"])
def test_the_pinned_bytes_are_still_the_ones_made(name: str) -> None:
    assert load(name) == json.loads(json.dumps(vectors()[name]))


# ---------------------------------------------------------------- a stranger's verifier


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def climb(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 6962 §2.1.1, read backwards: which root does this path lead to?"""
    if size == 1:
        assert not path
        return leaf
    split = 1
    while split * 2 < size:
        split *= 2
    *below, top = path
    if index < split:
        return digest(b"\x01", climb(leaf, index, split, below), top)
    return digest(b"\x01", top, climb(leaf, index - split, size - split, below))


def tree(leaves: list[bytes]) -> bytes:
    if not leaves:
        return digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return digest(b"\x01", tree(leaves[:split]), tree(leaves[split:]))


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def root_of(proof: dict[str, Any], count: int) -> str:
    leaf, index = bytes.fromhex(proof["leaf"]), proof["index"]
    twig = index // 2048
    leaf_root = climb(
        digest(b"lossbook/v1/state-leaf\0", leaf),
        index % 2048,
        min(2048, count - 2048 * twig),
        [bytes.fromhex(text) for text in proof["path"]],
    )
    log_root = climb(
        digest(b"lossbook/v1/state-twig\0", leaf_root, bytes.fromhex(proof["bits"])),
        twig,
        (count + 2047) // 2048,
        [bytes.fromhex(text) for text in proof["twig_path"]],
    )
    return digest(b"lossbook/v1/state-root\0", number(1, 4), log_root, number(count, 8), number(0, 8)).hex()


def fields(leaf: bytes) -> tuple[int, int, int, bytes, bytes]:
    """(kind, height, previous, key, value)."""
    key_bytes, value_bytes = int.from_bytes(leaf[17:19], "big"), int.from_bytes(leaf[19:23], "big")
    assert len(leaf) == 23 + key_bytes + value_bytes
    rest = leaf[23:]
    return (
        leaf[0],
        int.from_bytes(leaf[1:9], "big"),
        int.from_bytes(leaf[9:17], "big"),
        rest[:key_bytes],
        rest[key_bytes:],
    )


def active(proof: dict[str, Any]) -> bool:
    bit = proof["index"] % 2048
    return bool(bytes.fromhex(proof["bits"])[bit // 8] & 2 ** (bit % 8))


def writes() -> list[list[tuple[bytes, bytes | None]]]:
    """The blocks as the vectors describe them."""
    first: list[tuple[bytes, bytes | None]] = [(b"\x01" + number(n, 2), f"value {n}".encode()) for n in range(2046)]
    later = [
        [(bytes.fromhex(key), None if value is None else bytes.fromhex(value)) for key, value in block["writes"]]
        for block in load("commitment.json")["later_blocks"]
    ]
    return [first, *later]


def test_a_stranger_builds_the_same_roots_from_the_writes() -> None:
    leaves: list[bytes] = []
    bits: list[bool] = []
    last: dict[bytes, int] = {}
    for height, block in enumerate(writes()):
        for key, value in block:
            before = last.pop(key, None)
            previous = 0 if before is None else before + 1
            head = number(1 if value is not None else 2, 1) + number(height, 8) + number(previous, 8)
            leaves.append(head + number(len(key), 2) + number(len(value or b""), 4) + key + (value or b""))
            bits.append(value is not None)
            if before is not None:
                bits[before] = False
            if value is not None:
                last[key] = len(leaves) - 1
        twigs = []
        for at in range(0, len(leaves), 2048):
            hashes = [digest(b"lossbook/v1/state-leaf\0", leaf) for leaf in leaves[at : at + 2048]]
            bitmap = sum(1 << place for place, bit in enumerate(bits[at : at + 2048]) if bit).to_bytes(256, "little")
            twigs.append(digest(b"lossbook/v1/state-twig\0", tree(hashes), bitmap))
        root = digest(b"lossbook/v1/state-root\0", number(1, 4), tree(twigs), number(len(leaves), 8), number(0, 8))
        assert load("commitment.json")["roots"][height] == {
            "height": height,
            "count": len(leaves),
            "root": root.hex(),
        }
    for pinned in load("commitment.json")["leaves"]:
        leaf = leaves[pinned["index"]]
        assert (leaf.hex(), digest(b"lossbook/v1/state-leaf\0", leaf).hex()) == (pinned["leaf"], pinned["hash"])


@pytest.mark.parametrize("proof", load("commitment.json")["proofs"], ids=lambda proof: proof["what"])
def test_a_stranger_accepts_every_proof(proof: dict[str, Any]) -> None:
    root = load("commitment.json")["roots"][proof["height"]]["root"]
    subject, successor = proof["subject"], proof["successor"]
    assert root_of(subject, proof["count"]) == root
    kind, height, _, key, value = fields(bytes.fromhex(subject["leaf"]))
    assert kind == 1
    held = next(block for block in reversed(writes()[: proof["value_at"] + 1]) if key in dict(block))
    assert dict(held)[key] == value
    assert height <= proof["value_at"]
    if successor is None:
        assert active(subject)
    else:
        assert not active(subject)
        assert root_of(successor, proof["count"]) == root
        _, later, previous, same, _ = fields(bytes.fromhex(successor["leaf"]))
        assert (previous, same) == (subject["index"] + 1, key)
        assert later > proof["value_at"]


def test_a_stranger_accepts_the_receipts() -> None:
    pinned = load("commitment.json")["receipts"]
    hashes = [digest(b"lossbook/v1/receipt-leaf\0", bytes.fromhex(receipt)) for receipt in pinned["receipts"]]
    assert [each.hex() for each in hashes] == pinned["leaf_hashes"]
    for count, root in enumerate(pinned["roots"]):
        assert digest(b"lossbook/v1/receipt-root\0", number(count, 8), tree(hashes[:count])).hex() == root
    for count, path in pinned["paths_of_position_2"].items():
        assert climb(hashes[2], 2, int(count), [bytes.fromhex(text) for text in path]) == tree(hashes[: int(count)])


def test_a_stranger_accepts_the_trees() -> None:
    pinned = load("merkle.json")
    hashes = [digest(b"\x00", bytes.fromhex(leaf)) for leaf in pinned["leaves"]]
    for each in pinned["trees"]:
        size = each["size"]
        assert tree(hashes[:size]).hex() == each["root"]
        for index, path in enumerate(each["paths"]):
            assert climb(hashes[index], index, size, [bytes.fromhex(text) for text in path]).hex() == each["root"]
