"""Checking proofs offline: from the genesis file alone, without trust in whoever made or carried them.

    verify(proof, genesis)
      1  the proof names this genesis' chain id
      2  header chain: each header is of this chain, epoch and validator set and names the one before as its
         parent, the one of height 1 the genesis header, which follows from the genesis file; each carries the
         preimage of its justification digest: the parent's certificate (absent only where the parent is the
         genesis) and one nullification for every skipped view
      3  every certificate, the Finalization of the last header included: Q distinct members of the validator
         set, every signature good (consensus.md §1, §10)
      4  the subject: record under state_root, receipt under receipts_root, or envelope under payload_root

What is proved is what Q validators put their names to; that fewer than a third of them lie is the assumption
of the whole ledger. Sources: consensus.md §10; ledger.md, "Batch, block, proofs"; RFC 6962 §2.1.1 for the paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from consensus.types import Certificate, Header, ValidatorSet, VoteKind
from consensus.votes import vote_message
from crypto import merkle
from crypto.keys import verify_many
from ledger import commitment, receipts_range
from ledger.genesis import Genesis
from ledger.genesis_header import genesis_header_of
from ledger.proof_types import EnvelopeProof, HeaderProof, MerklePath, Proof, ReceiptProof, RecordProof
from ledger.types import Envelope, Receipt
from ledger.wellformed import SignatureJob, VerifyMany, signature_jobs, structure
from ledger.wire import WireError
from ledger.wire.proofs import decode_proof

PROTOCOL_VERSION: Final = 1

_ELSEWHERE: Final = "Ask another node for the proof; keep this file as evidence against whoever gave it."


class ProofError(Exception):
    """A proof that does not show what it claims.

    Attributes:
        what: the part that failed.
        problem: what is wrong with it.
        advice: what to do next.
    """

    advice = _ELSEWHERE

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"proof refused: {what}: {problem}")
        self.what = what
        self.problem = problem


class UnreadableProof(ProofError):
    """The bytes are no proof, or were damaged on the way."""

    advice = "Export it again with `lossbook record show --prove`; a copy over e-mail or chat may have altered it."


class ProofOfOtherNetwork(ProofError):
    """It was made on another network than the genesis given."""

    advice = "Give the genesis file of the network it was made on: `lossbook genesis check` shows its chain id."


class BadHeaderChain(ProofError):
    """The headers do not follow one another, or are not of this network."""


class BadJustification(ProofError):
    """A header does not show why it may build on its parent."""


class BadCertificate(ProofError):
    """A certificate is not a quorum of distinct members for what it claims."""


class BadSignature(BadCertificate):
    """A signature in a certificate is not its signer's."""


class BadStateProof(ProofError):
    """The record is not in the state that the header commits to."""


class BadReceiptProof(ProofError):
    """The receipt is not in the range that the header commits to."""


class BadEnvelopeProof(ProofError):
    """The envelope is not in a batch that the header lists, or is ill-formed."""


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


def verify_bytes(raw: bytes, genesis: Genesis, verify: VerifyMany = verify_many) -> Proven:
    """``verify`` for the bytes of a proof file.

    Raises:
        UnreadableProof: it does not parse.
        ProofError: as ``verify``.
    """
    try:
        proof = decode_proof(raw)
    except WireError as error:
        raise UnreadableProof("file", str(error)) from error
    return verify_proof(proof, genesis, verify)


def verify_proof(proof: Proof, genesis: Genesis, verify: VerifyMany = verify_many) -> Proven:
    """What the proof shows on this network.

    Raises:
        ProofError: a subclass that names the part that failed and what to do.
    """
    if proof.chain_id != genesis.chain_id:
        raise ProofOfOtherNetwork(
            "chain id", f"made on network {proof.chain_id.hex()[:16]}, the genesis is {genesis.chain_id.hex()[:16]}"
        )
    signatures = verify_header_proof(proof.subject.header, genesis, verify)
    proven = _check_subject(proof.subject, genesis, verify)
    return msgspec.structs.replace(proven, signatures=signatures + proven.signatures)


def verify_header_proof(proof: HeaderProof, genesis: Genesis, verify: VerifyMany = verify_many) -> int:
    """That the subject of a header proof is final on this network; how many signatures were checked.

    Raises:
        ProofError: a subclass that names the part that failed and what to do.
    """
    jobs = _check_headers(proof, genesis)
    for (name, job), good in zip(jobs, verify([job for _, job in jobs]), strict=True):
        if not good:
            raise BadSignature(name, f"the signature of key {job[0].hex()[:16]} is bad")
    return len(jobs)


def _check_subject(subject: RecordProof | ReceiptProof | EnvelopeProof, genesis: Genesis, verify: VerifyMany) -> Proven:
    if isinstance(subject, RecordProof):
        return _check_record(subject)
    if isinstance(subject, ReceiptProof):
        return _check_receipt(subject)
    return _check_envelope(subject, genesis, verify)


# -- headers -----------------------------------------------------------------------------------

_NamedJob = tuple[str, SignatureJob]


def _check_headers(proof: HeaderProof, genesis: Genesis) -> list[_NamedJob]:
    """Everything about the header chain but the signatures, which are returned to be checked."""
    validators = genesis.validator_set()
    jobs: list[_NamedJob] = []
    parent: Header | None = None
    for justified in proof.headers:
        header = justified.header
        name = f"header of height {header.height}"
        _check_own_fields(name, header, genesis, validators)
        if parent is not None:
            _check_child(name, header, parent, "the header before it")
        if header.parent_view == 0:
            _check_child(name, header, genesis_header_of(genesis), "the genesis")
        if justified.justification.digest != header.justification_digest:
            raise BadJustification(name, "the justification is not the one the header commits to")
        certificate = justified.justification.parent
        if (certificate is None) != (header.parent_view == 0):
            raise BadJustification(name, "a parent's certificate is missing, or given for the genesis")
        if certificate is not None:
            if certificate.kind is VoteKind.NULLIFY:
                raise BadJustification(name, "a nullification stands where the parent's certificate belongs")
            parent_view = certificate.parent_view if parent is None else parent.parent_view
            target = (header.parent_view, parent_view, header.parent_digest)
            jobs += _check_certificate(certificate, target, genesis.chain_id, validators)
        jobs += _check_skipped(name, header, justified.justification.nullifications, genesis.chain_id, validators)
        parent = header
    last, finalization = proof.headers[-1].header, proof.finalization
    if finalization.kind is not VoteKind.FINALIZE:
        raise BadCertificate("finalization", f"it is a {finalization.kind.name.lower()} certificate")
    target = (last.view, last.parent_view, last.digest)
    return jobs + _check_certificate(finalization, target, genesis.chain_id, validators)


def _check_own_fields(name: str, header: Header, genesis: Genesis, validators: ValidatorSet) -> None:
    if header.version != PROTOCOL_VERSION:
        raise BadHeaderChain(name, f"version {header.version} is not known to this software")
    if header.chain_id != genesis.chain_id:
        raise BadHeaderChain(name, "it is of another network")
    if header.epoch != validators.epoch or header.valset_hash != validators.hash or header.next_valset_hash:
        raise BadHeaderChain(name, "it is of another epoch or validator set than the genesis names")
    if header.height < 1 or header.view <= header.parent_view or header.state_height >= header.height:
        raise BadHeaderChain(name, "its height, view or state height cannot be")
    if (header.height == 1) != (header.parent_view == 0):
        raise BadHeaderChain(name, "height 1, and no other, is built on the genesis")


def _check_child(name: str, header: Header, parent: Header, whose: str) -> None:
    if (
        header.parent_digest != parent.digest
        or header.parent_view != parent.view
        or header.height != parent.height + 1
        or header.timestamp_ms <= parent.timestamp_ms
    ):
        raise BadHeaderChain(name, f"it is not the child of {whose}")


def _check_skipped(
    name: str,
    header: Header,
    nullifications: Sequence[Certificate],
    chain_id: bytes,
    validators: ValidatorSet,
) -> list[_NamedJob]:
    count = header.view - header.parent_view - 1  # compared before anything counts up to it: views are up to 2^64
    if len(nullifications) != count:
        raise BadJustification(name, f"{len(nullifications)} nullifications for {count} skipped views")
    skipped = range(header.parent_view + 1, header.view)
    jobs: list[_NamedJob] = []
    for view, nullification in zip(skipped, nullifications, strict=True):
        if nullification.kind is not VoteKind.NULLIFY:
            raise BadJustification(name, f"view {view} was skipped without a nullification")
        jobs += _check_certificate(nullification, (view, 0, b""), chain_id, validators)
    return jobs


def _check_certificate(
    certificate: Certificate, target: tuple[int, int, bytes], chain_id: bytes, validators: ValidatorSet
) -> list[_NamedJob]:
    name = f"{certificate.kind.name.lower()} certificate of view {certificate.view}"
    if certificate.epoch != validators.epoch:
        raise BadCertificate(name, f"it is of epoch {certificate.epoch}")
    if (certificate.view, certificate.parent_view, certificate.digest) != target:
        raise BadCertificate(name, "it is for another block or view")
    signers = certificate.signers
    if len(set(signers)) != len(signers) or len(signers) != len(certificate.signatures):
        raise BadCertificate(name, "a signer counts twice")
    if any(not 0 <= signer < validators.n for signer in signers):
        raise BadCertificate(name, f"a signer is outside the set of {validators.n}")
    if len(signers) < validators.quorum:
        raise BadCertificate(name, f"{len(signers)} signers; a quorum is {validators.quorum}")
    message = vote_message(
        chain_id,
        certificate.kind,
        certificate.epoch,
        certificate.view,
        certificate.parent_view,
        certificate.digest,
    )
    return [
        (name, (validators.members[signer].public_key, message, signature))
        for signer, signature in zip(signers, certificate.signatures, strict=True)
    ]


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
