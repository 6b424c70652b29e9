"""Bytes to values and back, and what hostile bytes may do: raise WireError, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consensus.records import BuiltBlock, Certification, HeldCertificate, MutedUntil, OwnVote
from consensus.types import Certificate, Proposal, Vote, VoteKind
from crypto.hashing import TAG_BATCH, TAG_ENVELOPE_ID, TAG_HEADER, tagged
from ledger import operations as ops
from ledger import wire
from ledger.genesis_header import genesis_header
from ledger.types import Ack, Block
from lossbook.v1 import block_pb2, envelope_pb2, receipt_pb2

ID = bytes(range(16))
OTHER = bytes(range(16, 32))
DIGEST = bytes(range(32))
SIGNATURE = bytes(64)

OPERATIONS = (
    ops.PolicyIssue(ID, OTHER, 1, "USD", 50_000_00, 500_00, 14_000, 14_364, 13_990, 120_00),
    ops.PolicyIssue(ID, OTHER, 2, "EUR", 1, 0, -1, 0, -2),
    ops.ClaimNotify(ID, OTHER, 14_010, 14_011),
    ops.ClaimRegister(ID, 14_011),
    ops.ClaimAssess(ID, 14_012, 10_00),
    ops.ClaimApprove(ID, 14_012, 9_00),
    ops.ClaimDecline(ID, 14_012, 1),
    ops.ClaimPay(ID, 14_013, 9_00, "USD"),
    ops.ClaimClose(ID, 14_020),
)


def body(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "chain_id": DIGEST,
        "organisation": "insurer-1",
        "signer_keys": [DIGEST],
        "not_after_ms": 1_000,
        "salt": ID,
        "operations": OPERATIONS,
    }
    return wire.encode_envelope_body(**(fields | changes))  # type: ignore[arg-type]


def test_an_envelope_comes_back_as_it_was_sent() -> None:
    signed = body()
    envelope = wire.decode_envelope(wire.encode_envelope(signed, [SIGNATURE]))
    assert envelope.operations == OPERATIONS
    assert envelope.body == signed
    assert envelope.id == tagged(TAG_ENVELOPE_ID, signed)
    assert envelope.signatures == (SIGNATURE,)
    assert (envelope.organisation, envelope.not_after_ms, envelope.atomic) == ("insurer-1", 1_000, False)


def test_the_id_of_an_envelope_does_not_depend_on_its_signatures() -> None:
    signed = body()
    one = wire.decode_envelope(wire.encode_envelope(signed, [SIGNATURE]))
    none = wire.decode_envelope(wire.encode_envelope(signed, []))
    assert one.id == none.id
    assert one.raw != none.raw


def test_an_operation_of_a_later_version_is_carried_as_unknown() -> None:
    message = envelope_pb2.EnvelopeBody.FromString(body(operations=OPERATIONS[:1]))
    message.operations.add()
    envelope = wire.decode_envelope(wire.encode_envelope(message.SerializeToString(), [SIGNATURE]))
    assert envelope.operations[1] == ops.UnknownOperation()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"operations": OPERATIONS[3:4] * 1001}, "1001 operations"),
        ({"operations": ()}, "no operations"),
        ({"salt": b"short"}, "salt has 5 bytes"),
        ({"chain_id": b""}, "chain_id has 0 bytes"),
        ({"signer_keys": []}, "signer keys"),
        ({"signer_keys": [DIGEST, DIGEST]}, "all different"),
        ({"signer_keys": [bytes([i]) * 32 for i in range(17)]}, "1 to 16"),
        ({"signer_keys": [b"x" * 31]}, "signer key has 31 bytes"),
    ],
)
def test_invalid_envelope_is_a_wire_error_that_names_the_problem(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(wire.WireError, match=problem):
        wire.decode_envelope(wire.encode_envelope(body(**changes), [SIGNATURE]))


def test_invalid_envelope_oversize() -> None:
    with pytest.raises(wire.WireError, match="at most 1048576"):
        wire.decode_envelope(bytes((1 << 20) + 1))


def test_an_amount_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(wire.WireError, match="claim_assess"):
        wire.encode_operation(ops.ClaimAssess(ID, 1, 1 << 63))


def batch_bytes(**changes: object) -> bytes:
    envelopes = (b"first", b"second")
    header = wire.encode_batch_header(
        chain_id=DIGEST,
        epoch=0,
        origin="insurer-1",
        incarnation=1,
        sequence=1,
        previous=bytes(32),
        envelopes=envelopes,
        attachment_root=DIGEST,
    )
    message = block_pb2.Batch(header=header, signature=SIGNATURE, envelopes=envelopes)
    for name, value in changes.items():
        if name == "envelopes":
            del message.envelopes[:]
            message.envelopes.extend(value)  # type: ignore[arg-type]
        else:
            setattr(message, name, value)
    return message.SerializeToString()


def test_a_batch_comes_back_and_its_digest_is_that_of_the_header_bytes() -> None:
    raw = batch_bytes()
    batch = wire.decode_batch(raw)
    assert batch.raw == raw
    assert batch.envelopes == (b"first", b"second")
    assert batch.header.digest == tagged(TAG_BATCH, batch.header.raw)
    assert batch.header.position == ("insurer-1", 1, 1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"envelopes": [b"first"]}, "its header says 2"),
        ({"envelopes": []}, "0 envelopes"),
        ({"envelopes": [b"first", b"seconds"]}, "bytes of envelopes"),
        ({"signature": b"short"}, "signature has 5 bytes"),
        ({"header": b"\xff"}, "does not parse"),
    ],
)
def test_invalid_batch(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(wire.WireError, match=problem):
        wire.decode_batch(batch_bytes(**changes))


def test_a_payload_lists_no_batch_twice() -> None:
    payload = wire.encode_payload([DIGEST, bytes(32)])
    assert wire.decode_payload(payload.raw) == payload
    with pytest.raises(wire.WireError, match="all different"):
        wire.decode_payload(wire.encode_payload([DIGEST, DIGEST]).raw)


N_VOTE = Vote(VoteKind.NOTARIZE, 0, 7, 6, DIGEST, 3, SIGNATURE)
X_VOTE = Vote(VoteKind.NULLIFY, 0, 7, 0, b"", 3, SIGNATURE)


@pytest.mark.parametrize("vote", [N_VOTE, X_VOTE])
def test_a_vote_comes_back(vote: Vote) -> None:
    assert wire.decode_vote(wire.encode_vote(vote)) == vote


def test_invalid_nullification_that_points_to_a_parent() -> None:
    message = wire.encode_vote(X_VOTE)
    message.parent_view = 6
    with pytest.raises(wire.WireError, match="its view only"):
        wire.decode_vote(message)


def test_invalid_vote_of_no_kind() -> None:
    message = wire.encode_vote(N_VOTE)
    message.kind = 9  # type: ignore[assignment]
    with pytest.raises(wire.WireError, match="kind 9"):
        wire.decode_vote(message)


CERTIFICATE = Certificate(VoteKind.FINALIZE, 0, 7, 6, DIGEST, (0, 2, 9), (SIGNATURE,) * 3)


def test_a_certificate_comes_back_from_its_bitmap() -> None:
    message = wire.encode_certificate(CERTIFICATE)
    assert message.signer_bitmap == bytes([0b101, 0b10])
    assert wire.decode_certificate(message) == CERTIFICATE
    assert wire.read_certificate(wire.certificate_bytes(CERTIFICATE)) == CERTIFICATE


def test_invalid_certificate_with_more_signers_than_signatures() -> None:
    message = wire.encode_certificate(CERTIFICATE)
    message.signer_bitmap = bytes([0b111, 0b10])
    with pytest.raises(wire.WireError, match="4 signers but 3 signatures"):
        wire.decode_certificate(message)


def test_invalid_certificate_with_an_endless_bitmap() -> None:
    message = wire.encode_certificate(CERTIFICATE)
    message.signer_bitmap = bytes(1000)
    with pytest.raises(wire.WireError, match="bitmap of 1000 bytes"):
        wire.decode_certificate(message)


@pytest.mark.parametrize("zeros", [1, 22])
def test_invalid_certificate_whose_bitmap_goes_on_after_the_highest_signer(zeros: int) -> None:
    message = wire.encode_certificate(CERTIFICATE)
    message.signer_bitmap += bytes(zeros)
    with pytest.raises(wire.WireError, match="after the highest signer"):
        wire.decode_certificate(message)
    with pytest.raises(wire.WireError, match="after the highest signer"):
        wire.read_certificate(message.SerializeToString())


HASHED: dict[str, tuple[Any, Callable[[bytes], Any], bytes]] = {
    "header": (
        block_pb2.Header,
        wire.decode_header,
        genesis_header(time_ms=5, state_root=DIGEST, receipts_root=DIGEST, valset_hash=DIGEST, scheme=1).raw,
    ),
    "batch header": (block_pb2.BatchHeader, wire.decode_batch_header, wire.decode_batch(batch_bytes()).header.raw),
    "payload": (block_pb2.Payload, wire.decode_payload, wire.encode_payload([DIGEST, bytes(32)]).raw),
    "justification": (
        block_pb2.Justification,
        wire.decode_justification,
        wire.make_justification(
            CERTIFICATE, [Certificate(VoteKind.NULLIFY, 0, 6, 0, b"", (0, 1, 2), (SIGNATURE,) * 3)]
        ).raw,
    ),
    "receipt": (
        receipt_pb2.Receipt,
        wire.decode_receipt,
        wire.encode_receipt(
            envelope_id=DIGEST, height=4, index=0, position=9, block_time_ms=77, code=8, operation_codes=(0, 5)
        ).raw,
    ),
}


def first_field(raw: bytes) -> int:
    """Bytes of the first field of a message: a small number, or up to 16 KiB after a length."""
    if raw[0] & 7 == 0:
        return 2
    return 2 + raw[1] if raw[1] < 128 else 3 + (raw[1] & 127 | raw[2] << 7)


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "an unknown field": lambda raw: raw + b"\xf8\x07\x01",
    "a key longer than it must be": lambda raw: bytes((raw[0] | 0x80, 0)) + raw[1:],
    "the first field last": lambda raw: raw[first_field(raw) :] + raw[: first_field(raw)],
    "the first field twice": lambda raw: raw[: first_field(raw)] + raw,
}


OTHER_CONTENT = {  # repeated fields come in the order they have; a message field twice is one with the parts of both
    ("payload", "the first field last"),
    ("payload", "the first field twice"),
    ("justification", "the first field twice"),
}


@pytest.mark.parametrize(
    ("what", "form"), [(what, form) for what in HASHED for form in FORMS if (what, form) not in OTHER_CONTENT]
)
def test_invalid_other_forms_of_what_validators_hash(what: str, form: str) -> None:
    kind, decode, raw = HASHED[what]
    assert decode(raw).raw == raw
    changed = FORMS[form](raw)
    message = kind.FromString(changed)
    message.DiscardUnknownFields()
    assert message == kind.FromString(raw)
    with pytest.raises(wire.WireError, match="not in canonical form"):
        decode(changed)


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("header", b"\x72\x20", b"\x58\x00\x72\x20"),  # state height 0
        ("batch header", b"\x1a\x09insurer-1", b"\x10\x00\x1a\x09insurer-1"),  # epoch 0
        ("receipt", b"\x20\x09", b"\x18\x00\x20\x09"),  # index 0
        ("receipt", b"\x3a\x02\x00\x05", b"\x38\x00\x38\x05"),  # codes one by one
        ("receipt", b"\x20\x09", b"\x18\x80\x80\x80\x80\x10\x20\x09"),  # index 2^32
        ("justification", b"\x08\x03\x18\x07", b"\x08\x83\x00\x18\x07"),  # kind in two bytes, lengths kept
    ],
)
def test_invalid_defaults_and_numbers_in_another_form(what: str, old: bytes, new: bytes) -> None:
    kind, decode, raw = HASHED[what]
    assert raw.count(old) == 1
    changed = raw.replace(old, new)
    if what == "justification":
        parent = block_pb2.Justification.FromString(raw).parent.SerializeToString(deterministic=True)
        rewritten = parent.replace(old, new)
        changed = b"\x0a" + bytes((len(rewritten) & 127 | 128, len(rewritten) >> 7)) + rewritten
        changed += raw[3 + len(parent) :]
    assert kind.FromString(changed) == kind.FromString(raw)
    with pytest.raises(wire.WireError, match="not in canonical form"):
        decode(changed)


def test_invalid_unknown_field_inside_a_justification() -> None:
    message = block_pb2.Justification.FromString(HASHED["justification"][2])
    message.nullifications[0].MergeFromString(b"\xf8\x07\x01")
    with pytest.raises(wire.WireError, match="not in canonical form"):
        wire.decode_justification(message.SerializeToString(deterministic=True))


@pytest.mark.parametrize("form", ["an unknown field", "a key longer than it must be", "the first field last"])
def test_envelopes_are_read_in_any_form(form: str) -> None:
    """Clients write them in any language; the bytes they signed are the body's."""
    raw = wire.encode_envelope(body(), [SIGNATURE])
    changed = wire.decode_envelope(FORMS[form](raw))
    assert (changed.id, changed.raw) == (wire.decode_envelope(raw).id, FORMS[form](raw))
    other = wire.decode_envelope(wire.encode_envelope(FORMS[form](body()), [SIGNATURE]))
    assert (other.operations, other.body) == (OPERATIONS, FORMS[form](body()))


def test_a_block_comes_back_with_everything_its_header_commits_to() -> None:
    header = genesis_header(time_ms=5, state_root=DIGEST, receipts_root=DIGEST, valset_hash=DIGEST, scheme=1)
    nullification = Certificate(VoteKind.NULLIFY, 0, 6, 0, b"", (0, 1, 2), (SIGNATURE,) * 3)
    justification = wire.make_justification(CERTIFICATE, [nullification])
    batch = wire.decode_batch(batch_bytes())
    block = Block(header, justification, wire.encode_payload([batch.header.digest]), (batch,), CERTIFICATE)
    assert wire.decode_block(wire.encode_block(block)) == block
    assert header.digest == tagged(TAG_HEADER, header.raw)
    assert wire.decode_header(header.raw) == header


def test_a_receipt_comes_back() -> None:
    receipt = wire.encode_receipt(
        envelope_id=DIGEST, height=4, index=1, position=9, block_time_ms=77, code=0, operation_codes=(0, 301, 0)
    )
    assert wire.decode_receipt(receipt.raw) == receipt
    assert receipt.operation_codes == (0, 301, 0)


def test_an_acknowledgement_comes_back() -> None:
    ack = Ack(1, 0, 2, "insurer-1", 3, 4, DIGEST, SIGNATURE)
    assert wire.decode_ack(wire.encode_ack(ack)) == ack


@pytest.mark.parametrize(
    "record",
    [
        OwnVote(N_VOTE),
        HeldCertificate(CERTIFICATE),
        BuiltBlock(0, 7, DIGEST),
        Certification(0, 7, DIGEST, True),
        Certification(0, 7, DIGEST, False),
        MutedUntil(0, 0),
        MutedUntil(0, 12),
        wire.IncarnationRecord(4),
        wire.AckedRecord("insurer-1", 3, 4, DIGEST),
    ],
)
def test_a_record_of_the_vote_log_comes_back(record: wire.VoteLogRecord) -> None:
    assert wire.decode_record(wire.encode_record(record)) == record


def test_invalid_record_of_a_later_version_is_not_skipped_silently() -> None:
    with pytest.raises(wire.WireError, match="does not know"):
        wire.decode_record(b"")


def test_invalid_proposal_with_another_payload_is_its_sender_s_fault_not_its_leader_s() -> None:
    header = genesis_header(time_ms=5, state_root=DIGEST, receipts_root=DIGEST, valset_hash=DIGEST, scheme=1)
    justification = wire.make_justification(None, [])
    honest = Proposal(header, justification, wire.encode_payload([]).raw, N_VOTE)
    assert wire.decode_stored_proposal(wire.encode_stored_proposal(honest)).header == header
    relayed = Proposal(header, justification, wire.encode_payload([DIGEST]).raw, N_VOTE)
    with pytest.raises(wire.WireError, match="not the one its header commits to"):
        wire.decode_stored_proposal(wire.encode_stored_proposal(relayed))
