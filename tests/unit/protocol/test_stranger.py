"""Somebody else's verifier, written from the page alone, accepts the proofs and refuses every changed byte."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from consensus.types import Header, Justification, VoteKind
from contracts.records import CLAIMS, POLICIES
from ledger import proof_building as building
from ledger import proofs, wire
from ledger.proof_building import FinalHeader
from ledger.proof_types import EnvelopeProof, HeaderProof, JustifiedHeader, Proof, ReceiptProof, RecordProof
from ledger.types import Envelope
from ledger.wire.proofs import encode_header_proof, encode_proof
from lossbook.v1 import proof_pb2
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
    assert network().genesis_digest.hex() == pinned["header"]["digest"]
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


# ---------------------------------------------------------------- liars, some of whom hold keys

Subject = RecordProof | ReceiptProof | EnvelopeProof


def file_of(subject: Subject) -> bytes:
    return encode_proof(Proof(made().genesis.chain_id, subject))


def record_proof() -> RecordProof:
    return building.record_proof(made(), made().state, CLAIMS, CLAIM_1)


def receipt_proof(position: int = 2) -> ReceiptProof:
    return building.receipt_proof(made(), made().state, position)


def envelope_proof(index: int = 1) -> EnvelopeProof:
    block = made().blocks[1]
    return building.envelope_proof(made(), 2, block.payload, block.batches, index)


def finalized_by(signers: tuple[int, ...], kind: VoteKind = VoteKind.FINALIZE, height: int = 5) -> RecordProof:
    """The record's proof with another certificate of its header."""
    certificate = made().of_block(kind, made().blocks[height - 1].header, signers)
    return replace(record_proof(), header=HeaderProof(record_proof().header.headers, certificate))


def justified_by(justification: Justification) -> EnvelopeProof:
    """A quorum signed block 2, but with another justification."""
    header = made().blocks[1].header
    names = [name for name in Header.__dataclass_fields__ if name not in ("raw", "digest")]
    fields = {name: getattr(header, name) for name in names} | {"justification_digest": justification.digest}
    forged = wire.encode_header(**fields)
    finalization = made().of_block(VoteKind.FINALIZE, forged, (0, 1, 2))
    return replace(envelope_proof(), header=HeaderProof((JustifiedHeader(forged, justification),), finalization))


def block_2_justification() -> Justification:
    return made().blocks[1].justification


LIES: dict[str, Callable[[], Subject]] = {
    "two of four are no quorum": lambda: finalized_by((0, 1)),
    "one signer twice": lambda: finalized_by((0, 1, 1)),
    "a notarization is no finalization": lambda: finalized_by((0, 1, 2), VoteKind.NOTARIZE),
    "finalization of another block": lambda: finalized_by((0, 1, 2), height=4),
    "record under an older state": lambda: replace(record_proof(), header=building.header_proof(made(), 3)),
    "receipt under an older range": lambda: replace(receipt_proof(), header=building.header_proof(made(), 1)),
    "receipt of another position": lambda: replace(receipt_proof(), receipt=receipt_proof(3).receipt),
    "envelope of another block": lambda: replace(envelope_proof(), header=building.header_proof(made(), 1)),
    "envelope of another batch": lambda: replace(envelope_proof(), envelope=envelope_proof(3).envelope),
    "a block is left out": lambda: replace(
        envelope_proof(),
        header=HeaderProof(
            (envelope_proof().header.headers[0], *record_proof().header.headers), record_proof().header.finalization
        ),
    ),
    "a state that was overwritten": lambda: replace(
        record_proof(), state=made().state.prove(CLAIMS, CLAIM_1, at_height=4, value_at=2)
    ),
    "a skipped view without nullification": lambda: justified_by(
        wire.make_justification(block_2_justification().parent, block_2_justification().nullifications[:1])
    ),
    "the same nullification twice": lambda: justified_by(
        wire.make_justification(block_2_justification().parent, block_2_justification().nullifications[:1] * 2)
    ),
    "no certificate of the parent": lambda: justified_by(
        wire.make_justification(None, block_2_justification().nullifications)
    ),
    "a nullification as certificate of the parent": lambda: justified_by(
        wire.make_justification(block_2_justification().nullifications[0], block_2_justification().nullifications)
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_invalid_in_the_products_eyes_too(lie: str) -> None:
    raw = file_of(LIES[lie]())
    with pytest.raises(proofs.ProofError):
        proofs.verify_bytes(raw, made().genesis)
    with pytest.raises(stranger.Refused):
        stranger.verify(raw, network())


def test_the_lies_are_made_of_parts_that_are_good() -> None:
    """Otherwise the test above could pass for another reason than the one it names."""
    for subject in (
        record_proof(),
        receipt_proof(3),
        envelope_proof(3),
        finalized_by((1, 2, 3)),
        justified_by(block_2_justification()),
    ):
        assert proofs.verify_bytes(file_of(subject), made().genesis).signatures
        assert stranger.verify(file_of(subject), network())


def rewritten(change: Callable[[proof_pb2.Proof], None]) -> bytes:
    message = proof_pb2.Proof.FromString(proof("receipt"))
    change(message)
    return message.SerializeToString(deterministic=True)


FORMS: dict[str, Callable[[], bytes]] = {
    "peaks": lambda: rewritten(lambda message: message.receipt.peaks.append(bytes(32))),
    "an unknown field": lambda: proof("receipt") + b"\x78\x01",
    "a default that is written": lambda: proof("receipt") + b"\x28\x00",
    "a number longer than it must be": lambda: proof("receipt").replace(b"\x0a\x20", b"\x0a\xa0\x00", 1),
    "a second subject": lambda: rewritten(lambda message: message.envelope.SetInParent()) + proof("receipt"),
    "the chain id twice": lambda: proof("receipt")[:34] + proof("receipt"),
    "fields out of order": lambda: proof("receipt")[34:] + proof("receipt")[:34],
}


@pytest.mark.parametrize("form", FORMS)
def test_invalid_forms(form: str) -> None:
    raw = FORMS[form]()
    with pytest.raises(proofs.ProofError):
        proofs.verify_bytes(raw, made().genesis)
    with pytest.raises(stranger.Refused):
        stranger.verify(raw, network())


def test_nothing_is_said_about_the_place_in_the_payload() -> None:
    """The last of three batches has the same path as the second of two, and no header says how many there are."""
    last = envelope_proof(4)
    assert (last.in_payload.index, last.in_payload.size) == (2, 3)
    other = replace(last, in_payload=replace(last.in_payload, index=1, size=2))
    assert stranger.verify(file_of(last), network()) == stranger.verify(file_of(other), network())


@pytest.mark.parametrize("height", range(1, 6))
def test_a_header_without_finalization_is_proved_by_its_child(height: int) -> None:
    header = building.header_proof(made(), height)
    assert len(header.headers) == (2 if height in (2, 4) else 1)
    assert stranger.check_headers(encode_header_proof(header).SerializeToString(), network())["height"] == height


# ---------------------------------------------------------------- what validators make, not a fixture


class Served:
    """A node's final blocks as a source of headers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def finalized_height(self) -> int:
        return self._node.validator.finalized_height

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


def _shown(known: stranger.Network, subject: Subject) -> dict[str, Any]:
    return stranger.verify(encode_proof(Proof(known.chain_id, subject)), known)[1]
