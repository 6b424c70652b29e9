"""Somebody else's verifier, written from the page alone, accepts the proofs and refuses every changed byte."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from contracts.records import POLICIES
from ledger import proof_building as building
from ledger.proof_building import FinalHeader
from ledger.proof_types import EnvelopeProof, HandOver, Proof, ReceiptProof, RecordProof
from ledger.types import Envelope, JustifiedHeader
from ledger.wire.proofs import encode_proof
from tests.support.cluster import Cluster, Node
from tests.support.insurers import Ledger, policy_issue
from tests.unit.protocol import stranger
from tests.vectors.small_network import CLAIM_1, Network, build

VECTORS = Path(__file__).parents[2] / "vectors"
SOURCE = Path(stranger.__file__)
PROOFS = ("record", "receipt", "envelope", "first-block-envelope")
GENESIS = (VECTORS / "proofs" / "genesis.json").read_bytes()


def proof(name: str) -> bytes:
    return (VECTORS / "proofs" / f"{name}.proof").read_bytes()


@cache
def vectors() -> Any:
    return json.loads((VECTORS / "protocol.json").read_text())


@cache
def network() -> stranger.Network:
    return stranger.read_network(GENESIS)


@cache
def made() -> Network:
    return build()


def test_it_imports_nothing_of_lossbook() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"nacl"}
    assert "importlib" not in imported


def test_it_runs_by_itself(tmp_path: Path) -> None:
    files = [str(VECTORS / "proofs" / name) for name in ("genesis.json", *(f"{name}.proof" for name in PROOFS))]
    done = subprocess.run(
        [sys.executable, "-I", str(SOURCE), *files], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["record", "receipt", "envelope", "envelope"]


def test_it_reads_the_genesis() -> None:
    pinned = vectors()["genesis"]
    assert network().chain_id.hex() == pinned["chain_id"]
    assert network().valset_hash.hex() == pinned["validator_set"]["valset_hash"]
    assert network().genesis["digest"].hex() == pinned["header"]["digest"]
    assert network().quorum == pinned["validator_set"]["quorum"]


def test_record() -> None:
    subject, shown = stranger.verify(proof("record"), network())
    assert subject == "record"
    assert shown["key"] == "11" + CLAIM_1.hex()
    assert shown["value"] == vectors()["records"][-1]["value"]
    assert (shown["written_at"], shown["state_height"]) == (4, 4)


def test_receipt() -> None:
    subject, shown = stranger.verify(proof("receipt"), network())
    assert subject == "receipt"
    assert (shown["position"], shown["height"], shown["index"]) == (2, 2, 1)
    assert (shown["code"], shown["operation_codes"]) == (8, [207, 0])


def test_envelope() -> None:
    subject, shown = stranger.verify(proof("envelope"), network())
    assert subject == "envelope"
    assert shown["envelope_id"] == stranger.verify(proof("receipt"), network())[1]["envelope_id"]
    assert (shown["height"], shown["origin"], shown["operations"]) == (2, "alpha", 2)


def test_envelope_of_the_first_block() -> None:
    _, shown = stranger.verify(proof("first-block-envelope"), network())
    assert shown["envelope_id"] == vectors()["envelope"]["id"]


@pytest.mark.parametrize("name", ["payload", "payload_with_statements"])
def test_payloads(name: str) -> None:
    pinned = vectors()[name]
    digests, root = stranger.read_payload(bytes.fromhex(pinned["raw"]))
    assert ([digest.hex() for digest in digests], root.hex()) == (pinned["batch_digests"], pinned["payload_root"])


@pytest.mark.parametrize("name", PROOFS)
def test_invalid_any_changed_byte(name: str) -> None:
    raw = proof(name)
    for place in range(len(raw)):
        changed = raw[:place] + bytes((raw[place] ^ 1 << place % 8,)) + raw[place + 1 :]
        with pytest.raises(stranger.Refused):
            stranger.verify(changed, network())


@pytest.mark.parametrize("name", PROOFS)
def test_invalid_cut_or_lengthened(name: str) -> None:
    raw = proof(name)
    for changed in (*(raw[:length] for length in range(0, len(raw), 61)), raw + b"\x00", raw + b"\x28\x01", raw + raw):
        with pytest.raises(stranger.Refused):
            stranger.verify(changed, network())


def test_invalid_any_changed_byte_of_the_genesis() -> None:
    """Another file is another network, or no genesis at all."""
    for place in range(0, len(GENESIS), 97):
        changed = GENESIS[:place] + bytes((GENESIS[place] ^ 1,)) + GENESIS[place + 1 :]
        with pytest.raises((stranger.Refused, LookupError, TypeError, ValueError)):
            stranger.verify(proof("record"), stranger.read_network(changed))


def test_invalid_another_networks_proof() -> None:
    other = GENESIS.replace(b'"vectors"', b'"Vectors"')
    with pytest.raises(stranger.Refused, match="another network"):
        stranger.verify(proof("record"), stranger.read_network(other))


@pytest.mark.parametrize("case", vectors()["signatures"], ids=lambda case: case["what"])
def test_signature_rule(case: dict[str, Any]) -> None:
    public, message, signature = (bytes.fromhex(case[name]) for name in ("public", "message", "signature"))
    assert stranger.good_signature(public, message, signature) is case["accepted"]


@pytest.mark.parametrize("case", vectors()["state_proofs"], ids=lambda case: case["what"])
def test_state_proofs(case: dict[str, Any]) -> None:
    raw, root = bytes.fromhex(case["proof"]), bytes.fromhex(case["state_root"])
    held = stranger.check_state_proof(raw, root)
    assert (held.key.hex(), held.value.hex()) == (case["key"], case["value"])
    assert (held.written_at, held.superseded_at) == (case["written_at"], case["superseded_at"])
    for place in range(0, len(raw), 3):
        with pytest.raises(stranger.Refused):
            stranger.check_state_proof(raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :], root)


# ---------------------------------------------------------------- what validators make, not a fixture


class Served:
    """A node's final blocks as a source of headers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def finalized_height(self) -> int:
        return self._node.validator.finalized_height

    first_epoch = 0  #: of the genesis

    def hand_over(self, epoch: int) -> HandOver | None:
        """All of it happens in epoch 0."""
        return None

    def final_header(self, height: int) -> FinalHeader | None:
        if not 1 <= height <= self.finalized_height():
            return None
        block = self._node.block(height)
        return FinalHeader(JustifiedHeader(block.header, block.justification), block.finalization)


def test_it_verifies_what_four_validators_agreed_on() -> None:
    cluster, maker = Cluster(seed=7), Ledger()
    cluster.start()
    cluster.run(500)
    node = cluster.nodes[0]
    cluster.nodes[3].crash()  # so that views are skipped
    envelopes: list[Envelope] = []
    for number in range(6):
        envelopes.append(
            maker.envelope(
                [policy_issue(policy_id=number.to_bytes(16, "big"))], not_after_ms=cluster.now.wall_ms + 3_600_000
            )
        )
        node.submit(envelopes[-1])
        cluster.run(900)
    cluster.run(20_000)
    source, state = Served(node), node.state
    known = stranger.read_network(cluster.genesis.raw)
    shown = _shown(known, building.record_proof(source, state, POLICIES, (5).to_bytes(16, "big")))
    assert shown["key"] == "10" + (5).to_bytes(16, "big").hex()
    for position, envelope in enumerate(envelopes):
        receipt = _shown(known, building.receipt_proof(source, state, position))
        assert (receipt["envelope_id"], receipt["code"]) == (envelope.id.hex(), 0)
        block = node.block(receipt["height"])
        listed = _shown(
            known,
            building.envelope_proof(source, receipt["height"], block.payload, block.batches, receipt["index"]),
        )
        assert listed["envelope_id"] == envelope.id.hex()
    views = [source.final_header(height) for height in range(1, source.finalized_height() + 1)]
    assert any(found and found.justified.justification.nullifications for found in views)


def _shown(known: stranger.Network, subject: RecordProof | ReceiptProof | EnvelopeProof) -> dict[str, Any]:
    return stranger.verify(encode_proof(Proof(known.chain_id, subject)), known)[1]


# -- snapshots -------------------------------------------------------------------------------


def test_snapshot() -> None:
    pinned = vectors()["snapshot"]
    manifest = stranger.check_manifest(bytes.fromhex(pinned["manifest"]), network())
    assert (manifest["height"], manifest["leaf_count"]) == (pinned["height"], pinned["leaf_count"])
    for chunk in pinned["leaf_chunks"]:
        assert stranger.check_leaf_chunk(bytes.fromhex(chunk["raw"]), manifest) == chunk["count"]
    for chunk in pinned["receipt_chunks"]:
        assert stranger.check_receipt_chunk(bytes.fromhex(chunk["raw"]), manifest) == chunk["count"]


def test_every_changed_byte_of_a_snapshot_is_refused() -> None:
    pinned = vectors()["snapshot"]
    raw = bytes.fromhex(pinned["manifest"])
    manifest = stranger.check_manifest(raw, network())
    for at in range(len(raw)):
        with pytest.raises(stranger.Refused):
            stranger.check_manifest(changed(raw, at), network())
    leaves, receipts = (bytes.fromhex(pinned[name][1]["raw"]) for name in ("leaf_chunks", "receipt_chunks"))
    for at in range(len(leaves)):
        with pytest.raises(stranger.Refused):
            stranger.check_leaf_chunk(changed(leaves, at), manifest)
    for at in range(len(receipts)):
        with pytest.raises(stranger.Refused):
            stranger.check_receipt_chunk(changed(receipts, at), manifest)


def changed(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]
