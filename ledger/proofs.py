"""Checking proofs offline: from the genesis file alone, without trust in whoever made or carried them.

    verify(proof, genesis)
      1  the proof names this genesis' chain id
      2  hand-overs: from the genesis' epoch to that of the subject, each block that ends an epoch is final under the
         set that is known, and names the next one (``ledger/known_epochs.py``)
      3  the subject's header and its descendants are final under that set (``ledger/header_chain.py``)
      4  every signature in all those certificates
      5  the subject: record under state_root, receipt under receipts_root, or envelope under payload_root

What is proved is what Q validators put their names to; that fewer than a third of them lie is the assumption
of the whole ledger. Sources: consensus.md §10; ledger.md, "Batch, block, proofs"; RFC 6962 §2.1.1 for the paths.
"""

from __future__ import annotations

import msgspec

from consensus.types import Header
from crypto import merkle
from crypto.keys import verify_many
from ledger import commitment, receipts_range
from ledger.genesis import Genesis
from ledger.header_chain import check_final
from ledger.known_epochs import KnownEpochs
from ledger.proof_errors import (
    BadEnvelopeProof,
    BadHeaderChain,
    BadReceiptProof,
    BadSignature,
    BadStateProof,
    ProofOfOtherNetwork,
    UnreadableProof,
)
from ledger.proof_types import EnvelopeProof, HeaderProof, MerklePath, Proof, ReceiptProof, RecordProof
from ledger.types import Envelope, Receipt
from ledger.wellformed import VerifyMany, signature_jobs, structure
from ledger.wire import WireError
from ledger.wire.proofs import decode_proof


class Proven(msgspec.Struct, frozen=True):
    """What a verified proof shows."""

    header: Header
    """Final; its own height is where the subject was certified."""
    key: bytes = b""
    """Record: table byte and key."""
    value: bytes = b""
    """Record: its bytes as they stood after ``header.state_height``."""
    written_at: int = 0
    """Record: height of the block that wrote it."""
    receipt: Receipt | None = None
    envelope: Envelope | None = None
    signatures: int = 0
    """Signatures that were checked on the way."""
    known: KnownEpochs | None = None
    """The network's epochs as far as this proof and those before it led."""


def verify_bytes(
    raw: bytes, genesis: Genesis, verify: VerifyMany = verify_many, known: KnownEpochs | None = None
) -> Proven:
    """``verify_proof`` for the bytes of a proof file.

    Raises:
        UnreadableProof: it does not parse.
        ProofError: as ``verify_proof``.
    """
    try:
        proof = decode_proof(raw)
    except WireError as error:
        raise UnreadableProof("file", str(error)) from error
    return verify_proof(proof, genesis, verify, known)


def verify_proof(
    proof: Proof, genesis: Genesis, verify: VerifyMany = verify_many, known: KnownEpochs | None = None
) -> Proven:
    """What the proof shows on this network.

    Args:
        known: what was verified before, ``Proven.known`` of an earlier proof, or comes from a checkpoint; without it,
            all is followed from the genesis.

    Raises:
        ProofError: a subclass that names the part that failed and what to do.
    """
    if proof.chain_id != genesis.chain_id:
        raise ProofOfOtherNetwork(
            "chain id", f"made on network {proof.chain_id.hex()[:16]}, the genesis is {genesis.chain_id.hex()[:16]}"
        )
    known, signatures = verify_header_proof(proof.subject.header, known or KnownEpochs.of_genesis(genesis), verify)
    proven = _check_subject(proof.subject, genesis, verify)
    return msgspec.structs.replace(proven, known=known, signatures=signatures + proven.signatures)


def verify_header_proof(
    proof: HeaderProof, known: KnownEpochs, verify: VerifyMany = verify_many
) -> tuple[KnownEpochs, int]:
    """That the subject of a header proof is final on this network.

    Returns:
        What is known of its epochs now, and how many signatures were checked.

    Raises:
        ProofError: a subclass that names the part that failed and what to do.
    """
    header = proof.subject
    if len(proof.hand_overs) != header.epoch - known.first_epoch:
        raise BadHeaderChain(
            f"header of height {header.height}",
            f"it is of epoch {header.epoch}, and {len(proof.hand_overs)} hand-overs come with it",
        )
    after, jobs = known.follow(proof.hand_overs)
    start = after.start_for(header)
    jobs += check_final(proof.headers, proof.finalization, known.chain_id, start)
    for (name, job), good in zip(jobs, verify([job for _, job in jobs]), strict=True):
        if not good:
            raise BadSignature(name, f"the signature of key {job[0].hex()[:16]} is bad")
    return after, len(jobs)


def _check_subject(subject: RecordProof | ReceiptProof | EnvelopeProof, genesis: Genesis, verify: VerifyMany) -> Proven:
    if isinstance(subject, RecordProof):
        return _check_record(subject)
    if isinstance(subject, ReceiptProof):
        return _check_receipt(subject)
    return _check_envelope(subject, genesis, verify)


# -- subjects ----------------------------------------------------------------------------------


def _check_record(proof: RecordProof) -> Proven:
    header = proof.header.subject
    if header.state_scheme != proof.state.scheme:
        raise BadStateProof("state proof", "it is of another commitment scheme than the header")
    try:
        found = commitment.verify(proof.state, header.state_root)
    except commitment.ProofError as error:
        raise BadStateProof("state proof", error.reason) from error
    if (found.key, found.value) != (proof.key, proof.value):
        raise BadStateProof("record", "key or value is not the one that was proved")
    if found.superseded_at is not None:
        raise BadStateProof("record", f"it was replaced at height {found.superseded_at}")
    if found.written_at > header.state_height:
        raise BadStateProof("record", "it was written after the state it is proved in")
    return Proven(header, key=found.key, value=found.value, written_at=found.written_at)


def _check_receipt(proof: ReceiptProof) -> Proven:
    header, receipt = proof.header.subject, proof.receipt
    if receipt.position != proof.path.position:
        raise BadReceiptProof("receipt", "it says another position than the proof")
    try:
        receipts_range.verify(receipt.raw, proof.path, header.receipts_root)
    except commitment.ProofError as error:
        raise BadReceiptProof("receipts range", error.reason) from error
    return Proven(header, receipt=receipt)


def _check_envelope(proof: EnvelopeProof, genesis: Genesis, verify: VerifyMany) -> Proven:
    header, batch, envelope = proof.header.subject, proof.batch_header, proof.envelope
    if batch.chain_id != genesis.chain_id:
        raise BadEnvelopeProof("batch header", "it is of another network")
    if proof.in_batch.size != batch.count or not _leads(proof.in_batch, envelope.raw, batch.envelope_root):
        raise BadEnvelopeProof("path in the batch", "it does not lead to the batch's root")
    if proof.payload.root != header.payload_root:
        raise BadEnvelopeProof("payload", "it is not the one the header commits to")
    if proof.payload.batch_digests.count(batch.digest) != 1:
        raise BadEnvelopeProof("payload", "it does not list the batch once")
    if structure(envelope, genesis.chain_id):
        raise BadEnvelopeProof("envelope", "it is ill-formed")
    jobs = signature_jobs(envelope)
    if not all(verify(jobs)):
        raise BadEnvelopeProof("envelope", "a signature of it is bad")
    return Proven(header, envelope=envelope, signatures=len(jobs))


def _leads(path: MerklePath, leaf: bytes, root: bytes) -> bool:
    return merkle.verify(root, leaf, path.index, path.size, path.siblings)
