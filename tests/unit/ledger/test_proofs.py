"""Proofs verify from the genesis alone, and refuse whatever was altered, naming the part that fails."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.types import VoteKind
from contracts.records import CLAIMS, POLICIES
from ledger import operations as ops
from ledger import proof_building as building
from ledger import proof_errors, proofs
from ledger.commitment import LeafProof, decode_leaf
from ledger.genesis_header import genesis_header_of
from ledger.proof_types import EnvelopeProof, HeaderProof, Proof, ReceiptProof, RecordProof
from ledger.state_log import ProofUnavailable
from ledger.wire.checks import WireError
from ledger.wire.proofs import decode_proof, decode_state_proof, encode_proof, encode_state_proof
from tests.support.chains import Chain
from tests.support.insurers import CLAIM, POLICY, Ledger, claim_notify, make_genesis, policy_issue


@cache
def chain() -> Chain:
    """Five blocks; the second one lists the policy and comes after skipped views, the third has no certificate."""
    made = Chain(Ledger())
    ledger = made.ledger
    made.add()
    made.add(*(ledger.envelope([policy_issue(policy_id=bytes([at]) * 16)]) for at in range(5)), skip=2)
    made.add(ledger.envelope([policy_issue()]), finalized=False)
    made.add(ledger.envelope([claim_notify()]), skip=1)
    made.add()
    return made


def record_proof(table: object = POLICIES, key: bytes = POLICY) -> Proof:
    made = chain()
    return Proof(
        made.genesis.chain_id,
        building.record_proof(made, made.ledger.state, table, key),  # type: ignore[arg-type]
    )


def receipt_proof() -> Proof:
    made = chain()
    return Proof(made.genesis.chain_id, building.receipt_proof(made, made.ledger.state, 3))


def envelope_proof(height: int = 2, index: int = 4) -> Proof:
    made = chain()
    subject = building.envelope_proof(made, height, made.payloads[height - 1], made.batches[height - 1], index)
    return Proof(made.genesis.chain_id, subject)


def uncertified_proof() -> Proof:
    """Its header is final only by the certificate of the next one."""
    return envelope_proof(3, 0)


ALL = (record_proof, receipt_proof, envelope_proof, uncertified_proof)


@cache
def raw_of(at: int) -> bytes:
    return encode_proof(ALL[at]())


def test_record_proof_shows_the_record() -> None:
    proven = proofs.verify_bytes(encode_proof(record_proof()), chain().genesis)
    assert POLICIES.decode(proven.value).policy_id == POLICY
    assert (proven.key, proven.written_at, proven.header.height) == (POLICIES.prefix + POLICY, 3, 5)
    assert proven.signatures == 6


def test_receipt_proof_shows_the_receipt() -> None:
    proven = proofs.verify_bytes(encode_proof(receipt_proof()), chain().genesis)
    assert proven.receipt is not None
    assert (proven.receipt.position, proven.receipt.height, proven.receipt.code) == (3, 2, 0)


def test_envelope_proof_shows_the_envelope() -> None:
    proven = proofs.verify_bytes(encode_proof(envelope_proof()), chain().genesis)
    assert proven.envelope is not None
    assert proven.envelope.operations[0].policy_id == bytes([4]) * 16  # type: ignore[union-attr]
    assert proven.header.view == 4


def test_header_without_certificate_is_proved_by_its_child() -> None:
    proof = uncertified_proof()
    assert len(proof.subject.header.headers) == 2
    assert proofs.verify_proof(proof, chain().genesis).header.height == 3


@pytest.mark.parametrize("at", range(len(ALL)))
def test_file_round_trip(at: int) -> None:
    assert encode_proof(decode_proof(raw_of(at))) == raw_of(at)


@given(at=st.sampled_from(range(len(ALL))), data=st.data())
def test_every_changed_byte_is_refused(at: int, data: st.DataObject) -> None:
    raw = bytearray(raw_of(at))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(proof_errors.ProofError) as caught:
        proofs.verify_bytes(bytes(raw), chain().genesis)
    assert caught.value.advice


@pytest.mark.parametrize("at", range(len(ALL)))
def test_a_flipped_bit_in_any_byte_is_refused(at: int) -> None:
    raw = raw_of(at)
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :]
        with pytest.raises(proof_errors.ProofError):
            proofs.verify_bytes(changed, chain().genesis)


@given(at=st.sampled_from(range(len(ALL))), cut=st.integers(0, 4000), tail=st.binary(max_size=8))
def test_cut_or_lengthened_files_are_refused(at: int, cut: int, tail: bytes) -> None:
    raw = raw_of(at)
    changed = raw[: cut % len(raw)] + tail
    with pytest.raises(proof_errors.ProofError):
        proofs.verify_bytes(changed, chain().genesis)
    if tail:
        with pytest.raises(proof_errors.ProofError):
            proofs.verify_bytes(raw + tail, chain().genesis)


@given(raw=st.binary(max_size=300))
def test_arbitrary_bytes_are_unreadable(raw: bytes) -> None:
    with pytest.raises(proof_errors.ProofError):
        proofs.verify_bytes(raw, chain().genesis)


def test_another_networks_genesis_is_refused() -> None:
    other = make_genesis(parameters=msgspec.structs.replace(chain().genesis.parameters, k_max=7))
    with pytest.raises(proof_errors.ProofOfOtherNetwork) as caught:
        proofs.verify_proof(record_proof(), other)
    assert "genesis" in caught.value.advice


def _with_finalization(signers: tuple[int, ...], kind: VoteKind = VoteKind.FINALIZE) -> Proof:
    proof = record_proof()
    last = proof.subject.header.headers[-1].header
    certificate = chain().certificate(kind, last.view, last.parent_view, last.digest, signers)
    return _with_header(proof, HeaderProof(proof.subject.header.headers, certificate))


def _with_header(proof: Proof, header: HeaderProof) -> Proof:
    return msgspec.structs.replace(proof, subject=msgspec.structs.replace(proof.subject, header=header))


def test_certificate_of_fewer_than_a_quorum_is_refused() -> None:
    with pytest.raises(proof_errors.BadCertificate, match="quorum is 3"):
        proofs.verify_proof(_with_finalization((0, 1)), chain().genesis)


def test_certificate_that_counts_a_signer_twice_is_refused() -> None:
    with pytest.raises(proof_errors.BadCertificate, match="twice"):
        proofs.verify_proof(_with_finalization((0, 1, 1)), chain().genesis)


def test_notarization_is_no_finalization() -> None:
    with pytest.raises(proof_errors.BadCertificate, match="notarize"):
        proofs.verify_proof(_with_finalization((0, 1, 2), VoteKind.NOTARIZE), chain().genesis)


def test_any_quorum_will_do() -> None:
    assert proofs.verify_proof(_with_finalization((1, 2, 3)), chain().genesis).key


def test_certificate_for_another_block_is_refused() -> None:
    proof = record_proof()
    other = chain().headers[1]
    assert other.finalization is not None
    with pytest.raises(proof_errors.BadCertificate, match="another block"):
        proofs.verify_proof(
            _with_header(proof, HeaderProof(proof.subject.header.headers, other.finalization)), chain().genesis
        )


def test_headers_that_do_not_follow_are_refused() -> None:
    proof = uncertified_proof()
    headers = proof.subject.header.headers
    changed = HeaderProof((chain().headers[0].justified, headers[1]), proof.subject.header.finalization)
    with pytest.raises(proof_errors.BadHeaderChain, match="not the child"):
        proofs.verify_proof(_with_header(proof, changed), chain().genesis)


def test_anothers_justification_is_refused() -> None:
    proof = record_proof()
    justified = msgspec.structs.replace(
        proof.subject.header.headers[0], justification=chain().headers[1].justified.justification
    )
    changed = HeaderProof((justified,), proof.subject.header.finalization)
    with pytest.raises(proof_errors.BadJustification, match="commits to"):
        proofs.verify_proof(_with_header(proof, changed), chain().genesis)


def test_value_of_another_record_is_refused() -> None:
    proof = record_proof()
    assert isinstance(proof.subject, RecordProof)
    changed = msgspec.structs.replace(proof.subject, value=b"\x90")
    with pytest.raises(proof_errors.BadStateProof, match="not the one"):
        proofs.verify_proof(Proof(proof.chain_id, changed), chain().genesis)


def test_replaced_record_is_not_passed_off_as_current() -> None:
    made = Chain(Ledger())
    made.add(made.ledger.envelope([policy_issue(), claim_notify()]))
    made.add(made.ledger.envelope([ops.ClaimRegister(CLAIM, claim_notify().asserted_date_days)]))
    made.add()
    header = building.newest_header_proof(made)
    state = made.ledger.state.prove(CLAIMS, CLAIM, 2, value_at=1)
    old = RecordProof(header, CLAIMS.prefix + CLAIM, decode_leaf(state.subject.leaf).value, state)
    with pytest.raises(proof_errors.BadStateProof, match="replaced at height 2"):
        proofs.verify_proof(Proof(made.genesis.chain_id, old), made.genesis)


def test_receipt_at_another_position_is_refused() -> None:
    proof = receipt_proof()
    assert isinstance(proof.subject, ReceiptProof)
    moved = msgspec.structs.replace(proof.subject.path, position=2)
    with pytest.raises(proof_errors.BadReceiptProof, match="position"):
        proofs.verify_proof(Proof(proof.chain_id, msgspec.structs.replace(proof.subject, path=moved)), chain().genesis)


def test_another_payload_than_the_header_commits_to_is_refused() -> None:
    proof, other = envelope_proof(2, 0), uncertified_proof()
    assert isinstance(other.subject, EnvelopeProof)
    changed = msgspec.structs.replace(proof.subject, payload=other.subject.payload)
    with pytest.raises(proof_errors.BadEnvelopeProof, match="not the one the header commits to"):
        proofs.verify_proof(Proof(proof.chain_id, changed), chain().genesis)


def test_envelope_of_a_batch_that_the_payload_does_not_list_is_refused() -> None:
    proof, other = envelope_proof(2, 0), uncertified_proof()
    assert isinstance(proof.subject, EnvelopeProof)
    changed = msgspec.structs.replace(other.subject, header=proof.subject.header, payload=proof.subject.payload)
    with pytest.raises(proof_errors.BadEnvelopeProof, match="does not list the batch once"):
        proofs.verify_proof(Proof(proof.chain_id, changed), chain().genesis)


def test_header_of_height_1_is_the_child_of_the_genesis() -> None:
    made = Chain(Ledger())
    made.add(made.ledger.envelope([policy_issue()]))
    subject = building.envelope_proof(made, 1, made.payloads[0], made.batches[0], 0)
    proof = Proof(made.genesis.chain_id, subject)
    assert proofs.verify_proof(proof, made.genesis).header.parent_digest == genesis_header_of(made.genesis).digest
    other = msgspec.structs.replace(made.genesis, time_ms=made.genesis.time_ms - 1)
    with pytest.raises(proof_errors.BadHeaderChain, match="not the child of the genesis"):
        proofs.verify_proof(proof, other)


def test_unproved_and_absent_things_are_unavailable() -> None:
    made = chain()
    with pytest.raises(ProofUnavailable):
        building.record_proof(made, made.ledger.state, POLICIES, b"?" * 16)
    with pytest.raises(ProofUnavailable):
        building.receipt_proof(made, made.ledger.state, 99)
    with pytest.raises(ProofUnavailable):
        building.envelope_proof(made, 2, made.payloads[1], made.batches[1], 99)
    with pytest.raises(ProofUnavailable):
        building.header_proof(made, 6)


def test_state_proof_layout() -> None:
    subject = record_proof().subject
    assert isinstance(subject, RecordProof)
    leaf = subject.state.subject
    raw = encode_state_proof(subject.state)
    assert raw.startswith(
        subject.state.count.to_bytes(8, "big")
        + bytes(8)
        + leaf.index.to_bytes(8, "big")
        + len(leaf.leaf).to_bytes(4, "big")
        + leaf.leaf
        + bytes([len(leaf.path)])
    )
    assert raw.endswith(b"\x00")
    assert decode_state_proof(1, raw) == subject.state


@pytest.mark.parametrize(
    ("scheme", "change"),
    [
        (2, lambda raw: raw),
        (1, lambda raw: raw[:-1]),
        (1, lambda raw: raw + b"\x00"),
        (1, lambda raw: raw[:-1] + b"\x02"),
    ],
)
def test_state_proof_of_another_form_is_refused(scheme: int, change: object) -> None:
    subject = record_proof().subject
    assert isinstance(subject, RecordProof)
    with pytest.raises(WireError):
        decode_state_proof(scheme, change(encode_state_proof(subject.state)))  # type: ignore[operator]


def test_state_proof_with_a_successor_round_trips() -> None:
    subject = record_proof().subject
    assert isinstance(subject, RecordProof)
    other = LeafProof(7, b"leaf", (bytes(32),), bytes(256), ())
    with_successor = msgspec.structs.replace(subject.state, successor=other)
    assert decode_state_proof(1, encode_state_proof(with_successor)) == with_successor
