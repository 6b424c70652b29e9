"""Makes merkle.json and commitment.json: ``python -m tests.vectors.make_commitment``.

The vectors pin every byte of crypto/merkle.py, ledger/commitment.py and ledger/receipts_range.py. They are changed only
on purpose, together with a new scheme id or protocol version; tests/unit/ledger/test_commitment_vectors.py recomputes
them from the text of the protocol alone, without the product's code.
"""

import json
from pathlib import Path
from typing import Any

from crypto import merkle
from ledger.commitment import LeafProof, StateProof, leaf_hash
from ledger.receipts_range import ReceiptsRange
from ledger.receipts_range import leaf_hash as receipt_hash
from ledger.state_log import StateLog

HERE = Path(__file__).parent

Writes = list[tuple[bytes, bytes | None]]


def merkle_vectors() -> dict[str, Any]:
    """RFC 6962 roots and paths over the reference leaves of Certificate Transparency."""
    leaves = [
        bytes.fromhex(text)
        for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
    ]
    trees = []
    for size in range(len(leaves) + 1):
        paths = [[digest.hex() for digest in merkle.proof(leaves[:size], index)] for index in range(size)]
        trees.append({"size": size, "root": merkle.root(leaves[:size]).hex(), "paths": paths})
    return {"leaves": [leaf.hex() for leaf in leaves], "trees": trees}


Asked = tuple[str, bytes, int, int]
"""What a proof shows, the key, the height of the root, the height of the value."""

BLOCKS: list[Writes] = [
    [(b"\x01" + number.to_bytes(2, "big"), b"value %d" % number) for number in range(2046)],
    [(b"\x01\x00\x05", b"second"), (b"\x01\x00\x06", b"")],
    [(b"\x01\x00\x05", b"third"), (b"\x01\x00\x07", None)],
    [(b"\x02", b"new table")],
]
ASKED: list[Asked] = [
    ("current value", b"\x01\x00\x05", 3, 3),
    ("current value in the last, partly filled twig, under an older root", b"\x01\x00\x05", 2, 2),
    ("older value, superseded by a PUT", b"\x01\x00\x05", 3, 0),
    ("older value, superseded by a DELETE", b"\x01\x00\x07", 3, 1),
    ("empty value", b"\x01\x00\x06", 3, 3),
    ("last leaf", b"\x02", 3, 3),
]


def commitment_log() -> tuple[StateLog, list[bytes], list[tuple[int, bytes]]]:
    """A log of 2,051 leaves in two twigs; its leaves; (count, root) after each height."""
    leaves: list[bytes] = []
    log = StateLog(leaves.__getitem__, lambda start, stop: iter(leaves[start:stop]))
    roots = []
    for height, writes in enumerate(BLOCKS):
        leaves += log.append(height, writes)[0]
        roots.append((log.count, log.root()))
    return log, leaves, roots


def commitment_vectors() -> dict[str, Any]:
    """The log with proofs of each kind; and a range of receipts."""
    log, leaves, roots = commitment_log()
    return {
        "first_block": "height 0 puts, for n = 0 to 2045, the key 0x01 | n as u16 with the value 'value n' in decimal",
        "later_blocks": [
            {"height": height, "writes": [[key.hex(), None if value is None else value.hex()] for key, value in writes]}
            for height, writes in enumerate(BLOCKS)
            if height
        ],
        "leaves": [
            {"index": index, "leaf": leaves[index].hex(), "hash": leaf_hash(leaves[index]).hex()}
            for index in (0, 5, 2046, 2048, 2049, 2050)
        ],
        "roots": [{"height": height, "count": count, "root": root.hex()} for height, (count, root) in enumerate(roots)],
        "proofs": [
            {"what": what, "height": at, "value_at": value_at, **_proof(log.prove(key, at, 3, value_at))}
            for what, key, at, value_at in ASKED
        ],
        "receipts": receipts_vectors(),
    }


def receipts_vectors() -> dict[str, Any]:
    """Seven receipts, their range after each, and the proof of the third under every later root."""
    receipts = [b"receipt %d" % number for number in range(7)]
    grown = ReceiptsRange(lambda start, stop: iter(receipts[start:stop]))
    grown.extend(receipts)
    return {
        "receipts": [receipt.hex() for receipt in receipts],
        "leaf_hashes": [receipt_hash(receipt).hex() for receipt in receipts],
        "roots": [grown.root(count).hex() for count in range(8)],
        "paths_of_position_2": {
            str(count): [digest.hex() for digest in grown.prove(2, count).path] for count in range(3, 8)
        },
    }


def _proof(proof: StateProof) -> dict[str, Any]:
    return {
        "count": proof.count,
        "subject": _leaf(proof.subject),
        "successor": None if proof.successor is None else _leaf(proof.successor),
    }


def _leaf(proof: LeafProof) -> dict[str, Any]:
    return {
        "index": proof.index,
        "leaf": proof.leaf.hex(),
        "path": [digest.hex() for digest in proof.path],
        "bits": proof.bits.hex(),
        "twig_path": [digest.hex() for digest in proof.twig_path],
    }


def vectors() -> dict[str, dict[str, Any]]:
    """File name -> contents."""
    return {"merkle.json": merkle_vectors(), "commitment.json": commitment_vectors()}


if __name__ == "__main__":
    for name, contents in vectors().items():
        (HERE / name).write_text(json.dumps(contents, indent=1) + "\n")
