"""docs/protocol.md against the code: its tables are compared, its values are in the vectors, its links lead on."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from consensus.evidence import EvidenceKind
from contracts.records import Step
from contracts.tables import TABLES
from crypto import hashing, merkle
from ledger import commitment, genesis, organisations
from ledger.cards import CARD_BYTES_MAX
from ledger.codes import Code
from ledger.money import AMOUNT_MINOR_MAX
from ledger.organisations import Kind, Role
from ledger.snapshot import ANCESTORS_MAX
from ledger.state import Table
from ledger.types import (
    BATCH_BYTES_MAX,
    BATCH_ENVELOPES_MAX,
    ENVELOPE_BYTES_MAX,
    OPERATIONS_MAX,
    PAYLOAD_BATCHES_MAX,
    PAYLOAD_STATEMENT_BYTES_MAX,
    PAYLOAD_STATEMENTS_MAX,
    SIGNERS_MAX,
    STATEMENT_BYTES_MAX,
)
from ledger.wire.archives import HEAD_BYTES_MAX
from ledger.wire.checks import VALIDATORS_MAX
from ledger.wire.proofs import HEADERS_MAX, PROOF_BYTES_MAX
from ledger.wire.snapshots import MANIFEST_BYTES_MAX
from lossbook.v1 import (
    block_pb2,
    envelope_pb2,
    gateway_pb2,
    operation_pb2,
    proof_pb2,
    receipt_pb2,
    sealed_pb2,
    snapshot_pb2,
)
from services.archive_file import FRAME_BYTES_MAX

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "protocol.md"
VECTORS = Path(__file__).parents[2] / "vectors"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not installed with the package")

MESSAGES = (
    *(envelope_pb2.Envelope, envelope_pb2.EnvelopeBody, receipt_pb2.Receipt),
    *(operation_pb2.SetChange, operation_pb2.CardChange, operation_pb2.ParameterChange),
    *(operation_pb2.NumberParameter, operation_pb2.CurrencyParameter),
    *(block_pb2.BatchHeader, block_pb2.Batch, block_pb2.Ack, block_pb2.Payload, block_pb2.Header),
    gateway_pb2.Accepted,
    *(block_pb2.Statement, block_pb2.ConflictingVotes, block_pb2.FalseJustification),
    *(block_pb2.KeyRegistration, block_pb2.Readiness),
    *(block_pb2.Vote, block_pb2.Certificate, block_pb2.Justification, block_pb2.Block),
    *(proof_pb2.Proof, proof_pb2.HeaderProof, block_pb2.JustifiedHeader, proof_pb2.MerklePath),
    *(proof_pb2.HandOver, proof_pb2.EpochMember),
    *(proof_pb2.RecordProof, proof_pb2.StateProof, proof_pb2.ReceiptProof, proof_pb2.EnvelopeProof),
    *(snapshot_pb2.SnapshotManifest, snapshot_pb2.LeafChunk, snapshot_pb2.ReceiptChunk),
    *(sealed_pb2.GetBlobsRequest, sealed_pb2.GetBlobsResponse),
)
TYPES = {
    FieldDescriptor.TYPE_UINT64: "u64",
    FieldDescriptor.TYPE_UINT32: "u32",
    FieldDescriptor.TYPE_INT64: "i64",
    FieldDescriptor.TYPE_SINT32: "z32",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_ENUM: "enum",
}
LIMITS = {
    "envelope": ENVELOPE_BYTES_MAX,
    "operations of an envelope": OPERATIONS_MAX,
    "signers of an envelope": SIGNERS_MAX,
    "batch": BATCH_BYTES_MAX,
    "envelopes of a batch": BATCH_ENVELOPES_MAX,
    "batches of a block": PAYLOAD_BATCHES_MAX,
    "statement": STATEMENT_BYTES_MAX,
    "statements of a block": PAYLOAD_STATEMENTS_MAX,
    "statements of a block together": PAYLOAD_STATEMENT_BYTES_MAX,
    "validators": VALIDATORS_MAX,
    "organisations": organisations.ORGANISATIONS_MAX,
    "genesis file": genesis.GENESIS_BYTES_MAX,
    "card text": CARD_BYTES_MAX,
    "signing keys of a card": organisations.KEYS_PER_ORGANISATION_MAX,
    "key of a record": commitment.KEY_BYTES_MAX,
    "value of a record": commitment.VALUE_BYTES_MAX,
    "leaves of the log, receipts": commitment.COUNT_MAX,
    "siblings of a path": merkle.PATH_LENGTH_MAX,
    "proof file": PROOF_BYTES_MAX,
    "headers of a proof": HEADERS_MAX,
    "amount of money": AMOUNT_MINOR_MAX,
    "headers below a snapshot's certified one": ANCESTORS_MAX,
    "snapshot manifest": MANIFEST_BYTES_MAX,
    "head of an archive": HEAD_BYTES_MAX,
    "frame of an archive": FRAME_BYTES_MAX,
}


@cache
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page(), re.MULTILINE | re.DOTALL)
    assert found, f"no heading {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the first table, its head left out."""
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines, "no table"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[0].splitlines()[2:]]


def type_name(field: Any) -> str:
    name = TYPES[field.type] if field.message_type is None else field.message_type.name
    return name + ("…" if field.is_repeated else "")


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.DESCRIPTOR.name)
def test_messages(message: Any) -> None:
    described = [row[:3] for row in rows(section(f"Message `{message.DESCRIPTOR.name}`"))]
    assert described == [[str(field.number), field.name, type_name(field)] for field in message.DESCRIPTOR.fields]


def test_operations() -> None:
    wanted = []
    kinds: Any = operation_pb2.Operation.DESCRIPTOR.fields
    for kind in kinds:
        parts = kind.message_type.fields
        assert [part.number for part in parts] == list(range(1, len(parts) + 1))
        named = ", ".join(f"{part.name} {type_name(part)}" for part in parts)
        wanted.append([str(kind.number), f"`{kind.message_type.name}`", named])
    described = rows(section("Operations"))
    assert [[*row[:2], row[2].removesuffix(" (optional: absent is not 0)")] for row in described] == wanted


def test_tags() -> None:
    named = [row[0].strip("`") for row in rows(section("4 Domain tags"))]
    tags = [value for name, value in vars(hashing).items() if name.startswith("TAG_")]
    assert sorted(b"lossbook/v1/" + name.encode() + b"\0" for name in named) == sorted(tags)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_tables(table: Table[Any]) -> None:
    heading = re.search(rf"^#### (Table {table.prefix.hex()} {table.name}, key: .*)$", page(), re.MULTILINE)
    assert heading
    assert [row[1] for row in rows(section(heading[1]))] == list(table.record.__struct_fields__)


def test_evidence_kinds() -> None:
    text = section("Message `FalseJustification`")
    described = rows(text[text.index("five kinds") :])
    assert [row[:2] for row in described] == [[str(kind.value), kind.name] for kind in EvidenceKind]


def test_steps() -> None:
    described = rows(section("Step, an element of `history`"))
    assert [row[:2] for row in described] == [[str(at), name] for at, name in enumerate(Step.__struct_fields__)]


def test_kinds_and_roles() -> None:
    assert ", ".join(f"{kind.slug} {kind.value}" for kind in Kind) in page()
    assert ", ".join(f"{role.slug} {role.value}" for role in Role) in page()


def test_codes() -> None:
    described = rows(section("23 Result codes"))
    assert [row[:2] for row in described] == [[str(code.value), code.name] for code in Code]
    for number, _, where in described:
        assert ("door" in where) == (100 <= int(number) < 200)


def test_limits() -> None:
    described = {row[0]: int(row[1].split()[0].replace(",", "")) for row in rows(section("24 Limits"))}
    assert described == LIMITS


def test_every_hexadecimal_value_is_in_the_vectors() -> None:
    vectors = (VECTORS / "protocol.json").read_text()
    quoted = [text.rstrip("…") for text in re.findall(r"`([0-9a-f]{4,}…?)`", page())]
    assert len(quoted) > 60
    assert [text for text in quoted if text not in vectors] == []


def test_offsets_add_up() -> None:
    """Where a table gives offset and bytes only, each row starts where the one before ended."""
    examples = re.findall(r"^\| offset \| bytes \| .*\n\|[-|]+\n((?:\|.*\n)+)", page(), re.MULTILINE)
    assert len(examples) >= 3
    for example in examples:
        at = 0
        for row in example.splitlines():
            cells = row.split("|")
            values = re.findall(r"`([0-9a-f]+)(…?)`", row)
            assert int(cells[1]) == at
            at += sum(len(value) for value, _ in values) // 2


def test_links_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page(), re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", page()):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (PAGE.parent / target).exists(), target


def test_records_are_written_as_arrays() -> None:
    assert [table.name for table in TABLES if not table.record.__struct_config__.array_like] == []
