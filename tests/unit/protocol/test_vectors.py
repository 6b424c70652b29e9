"""The golden vectors are what the code makes, and their parts hang together as the page says."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from consensus import votes
from consensus.justification import HeaderRules
from contracts.dispatch import CONTRACTS
from crypto.hashing import TAG_VOTE
from crypto.keys import verify
from ledger import statements
from ledger.checkpoints import decode_checkpoint
from ledger.genesis import load_genesis
from ledger.genesis_header import genesis_header_of
from ledger.proofs import verify_bytes
from ledger.statement_types import Ed25519, Judge
from ledger.wire import decode_payload, decode_statement
from replica.verify import ChainVerifier, StartPoint
from services.archive_file import ArchiveFile
from services.archive_reading import take_over
from tests.vectors import make_protocol, small_network
from tests.vectors.small_network import Network

VECTORS = Path(__file__).parents[2] / "vectors"
PROOFS = ("record", "receipt", "envelope", "first-block-envelope", "next-epoch-record")


@cache
def pinned() -> Any:
    return json.loads((VECTORS / "protocol.json").read_text())


@cache
def network() -> Network:
    return small_network.build()


def digest(tag: str, data: bytes) -> str:
    return sha256(b"lossbook/v1/" + tag.encode() + b"\0" + data).hexdigest()


def test_the_archive_leads_to_the_state_on_which_the_rebuilt_network_begins(tmp_path: Path) -> None:
    folder = VECTORS / "proofs"
    old, new = (load_genesis((folder / name).read_bytes()) for name in ("genesis.json", "genesis-rebuilt.json"))
    record = take_over(ArchiveFile(folder / "books.archive"), old, new, tmp_path, CONTRACTS)
    header = genesis_header_of(new)
    assert (record.height, record.state_root, record.receipts_root) == (6, header.state_root, header.receipts_root)


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def test_the_pinned_bytes_are_still_the_ones_made() -> None:
    made = make_protocol.files()
    on_disk = {
        str(path.relative_to(VECTORS)): path.read_bytes()
        for path in [VECTORS / "protocol.json", *(VECTORS / "proofs").iterdir()]
    }
    assert sorted(made) == sorted(on_disk)
    assert [name for name in made if made[name] != on_disk[name]] == []


def test_a_commitment_is_the_hash_of_the_blob_under_its_tag() -> None:
    sealed = pinned()["sealed"]
    assert digest("sealed-blob", raw(sealed["blob"])) == sealed["commitment"]


def test_every_private_key_is_a_test_seed() -> None:
    for key in pinned()["keys"]:
        assert key["test_seed_is_sha256_of"].startswith("lossbook test seed: ")
        assert sha256(key["test_seed_is_sha256_of"].encode()).hexdigest() == key["test_seed"]


@pytest.mark.parametrize("case", pinned()["signatures"], ids=lambda case: case["what"])
def test_signature_rule(case: dict[str, Any]) -> None:
    assert verify(raw(case["public"]), raw(case["message"]), raw(case["signature"])) is case["accepted"]


def test_consensus_votes_under_the_same_tag() -> None:
    assert votes.TAG_VOTE == TAG_VOTE


def test_digests_follow_from_the_raw_bytes() -> None:
    v = pinned()
    file = (VECTORS / v["genesis"]["file"]).read_bytes()
    assert digest("genesis", file) == v["genesis"]["chain_id"]
    assert (
        sha256(raw(v["genesis"]["validator_set"]["preimage"])).hexdigest()
        == (v["genesis"]["validator_set"]["valset_hash"])
    )
    assert digest("envelope-id", raw(v["envelope"]["body"])) == v["envelope"]["id"]
    for what in ("possession", "readiness"):
        signed = v["keys_to_come"][what]
        assert sha256(raw(signed["preimage"])).hexdigest() == signed["signed_message"]
    assert digest("batch", raw(v["batch"]["header_raw"])) == v["batch"]["digest"]
    for header in [v["genesis"]["header"], *v["headers"]]:
        assert digest("header", raw(header["raw"])) == header["digest"]
    for justification in v["justifications"]:
        assert digest("justification", raw(justification["raw"])) == justification["digest"]
    for receipt in v["receipts"]["receipts"]:
        assert digest("receipt-leaf", raw(receipt["raw"])) == receipt["leaf_hash"]
    for leaf in v["genesis"]["state"]["leaves"]:
        assert digest("state-leaf", raw(leaf["leaf"])) == leaf["hash"]


def test_pinned_statements_are_true_and_in_the_payload() -> None:
    v, made = pinned(), network()
    judge = Judge({0: HeaderRules(1, made.genesis.chain_id, made.validators, made.root)}.get, Ed25519())
    for pinned_statement in v["statements"]:
        statement = decode_statement(raw(pinned_statement["raw"]))
        assert statement.digest.hex() == pinned_statement["digest"] == digest("statement", statement.raw)
        assert statements.problem(statement, judge) is None
    payload = decode_payload(raw(v["payload_with_statements"]["raw"]))
    assert payload.root.hex() == v["payload_with_statements"]["payload_root"]
    assert [each.hex() for each in payload.statements] == [each["raw"] for each in v["statements"]]


def test_signed_digests_follow_from_their_preimages_and_are_signed() -> None:
    v = pinned()
    keys = {member["id"]: raw(member["public"]) for member in v["genesis"]["validator_set"]["members"]}
    signed = [(v["ack"], "charlie"), (v["accepted"], "alpha"), *((vote, "alpha") for vote in v["votes"])]
    for value, signer in signed:
        assert sha256(raw(value["preimage"])).hexdigest() == value["signed_message"]
        assert verify(keys[signer], raw(value["signed_message"]), raw(value["signature"]))


def test_signatures_of_card_envelope_and_batch_are_good() -> None:
    v = pinned()
    public = {key["test_seed_is_sha256_of"].split(": ")[1]: raw(key["public"]) for key in v["keys"]}
    card = v["genesis"]["card"]
    assert verify(public["alpha/ledger"], raw(card["signed_by_ledger_key"]), raw(card["signature"]))
    assert verify(public["alpha/consensus"], raw(card["signed_by_consensus_key"]), raw(card["possession"]))
    checkpoint = v["checkpoint"]
    assert verify(public["alpha/ledger"], raw(checkpoint["signed_by_ledger_key"]), raw(checkpoint["signature"]))
    assert decode_checkpoint(checkpoint["file"].encode()).text == checkpoint["text"]
    assert verify(public["alpha/consensus"], raw(v["batch"]["signed_message"]), raw(v["batch"]["signature"]))
    envelope = v["envelope"]
    for key, signature in zip(envelope["signer_keys"], envelope["signatures"], strict=True):
        assert verify(raw(key), raw(envelope["signed_message"]), raw(signature))


@pytest.mark.parametrize("name", PROOFS)
def test_the_products_own_verifier_accepts_the_proofs(name: str) -> None:
    shown = verify_bytes((VECTORS / "proofs" / f"{name}.proof").read_bytes(), network().genesis)
    assert shown.signatures > 0


def test_a_replica_accepts_the_chain() -> None:
    made = network()
    verifier = ChainVerifier(
        chain_id=made.genesis.chain_id,
        epochs={0: HeaderRules(1, made.genesis.chain_id, made.validators, made.root)},
        start=StartPoint(made.root, {}),
    )
    final = []
    for block in made.blocks:
        examined = verifier.examine(block, "alpha")
        verdicts = [verify(check.public, check.message, check.signature) for check in examined.checks]
        final += verifier.accept(examined, verdicts)
    assert [verified.header.height for verified in final] == [1, 2, 3, 4, 5]
