"""What a gateway says of an envelope, read and, as far as it can be, checked."""

from __future__ import annotations

import enum

import msgspec

from crypto.keys import verify
from ledger.acks import accepted_message
from ledger.codes import Code
from ledger.genesis import Genesis
from ledger.proof_errors import ProofError
from ledger.proof_types import Proof, ReceiptProof
from ledger.proofs import verify_proof
from ledger.types import Receipt
from ledger.wire import WireError, decode_receipt
from ledger.wire.proofs import decode_receipt_proof
from lossbook.v1 import gateway_pb2
from lossbook_sdk.errors import Expired, Failed, Rejected, VerificationFailed


class Stage(enum.IntEnum):
    """How far an envelope has come; the numbers of gateway.proto."""

    PENDING = 1
    ACCEPTED = 2
    FINAL = 3
    PROVEN = 4
    EXPIRED = 5
    REJECTED = 6

    @property
    def over(self) -> bool:
        """Whether nothing further can happen to it."""
        return self in (Stage.EXPIRED, Stage.REJECTED)


class Status(msgspec.Struct, frozen=True):
    """A gateway's answer about one envelope."""

    envelope_id: bytes
    stage: Stage
    node: str
    """Organisation whose node said so."""
    receipt: Receipt | None = None
    proof: ReceiptProof | None = None
    """From PROVEN on; verified."""
    rejection_code: int = 0
    rejection_text: str = ""
    retry_after_ms: int = 0

    def reached(self, wait: Stage) -> bool:
        """Whether the wanted stage is reached, or can never be."""
        return self.stage.over or self.stage >= wait

    def raise_for_failure(self) -> Status:
        """Itself, where all operations took effect or are still to be executed.

        Raises:
            Rejected, Expired, Failed: see there.
        """
        if self.stage is Stage.REJECTED:
            raise Rejected(self.rejection_code, self.rejection_text, self.node)
        if self.stage is Stage.EXPIRED:
            raise Expired(self.envelope_id)
        if self.receipt is not None and self.receipt.code not in (Code.OK, Code.REPLAYED):
            raise Failed(self.receipt)
        return self


def read_status(message: gateway_pb2.EnvelopeStatus, node: str, genesis: Genesis) -> Status:
    """Read an answer. ACCEPTED must be signed by the origin it names; PROVEN must verify.

    Raises:
        VerificationFailed: it is not what an honest node says.
    """
    try:
        stage = Stage(message.stage)
        receipt = decode_receipt(message.receipt) if message.receipt else None
        proof = decode_receipt_proof(message.proof) if message.HasField("proof") else None
    except (ValueError, WireError) as error:
        raise _lie(node, f"its answer cannot be read ({error})") from error
    envelope_id = message.envelope_id
    if receipt is not None and receipt.envelope_id != envelope_id:
        raise _lie(node, "it gave the receipt of another envelope")
    if stage in (Stage.FINAL, Stage.PROVEN) and receipt is None:
        raise _lie(node, f"it says {stage.name} and gives no receipt")
    if stage is Stage.ACCEPTED:
        _check_accepted(message.accepted, envelope_id, node, genesis)
    if stage is Stage.PROVEN:
        _check_proven(receipt, proof, node, genesis)
    return Status(
        envelope_id=envelope_id,
        stage=stage,
        node=node,
        receipt=receipt,
        proof=proof,
        rejection_code=message.rejection.code,
        rejection_text=message.rejection.text,
        retry_after_ms=message.rejection.retry_after_ms,
    )


def _check_accepted(accepted: gateway_pb2.Accepted, envelope_id: bytes, node: str, genesis: Genesis) -> None:
    card = genesis.organisation(accepted.origin)
    if card is None or not card.is_validator or accepted.envelope_id != envelope_id:
        raise _lie(node, "its ACCEPTED names no validator, or another envelope")
    message = accepted_message(
        genesis.chain_id, accepted.epoch, accepted.origin, accepted.batch_digest, accepted.envelope_id
    )
    if not verify(card.consensus_key, message, accepted.signature):
        raise _lie(node, f"its ACCEPTED is not signed by {accepted.origin}")


def _check_proven(receipt: Receipt | None, proof: ReceiptProof | None, node: str, genesis: Genesis) -> None:
    if proof is None or receipt is None or proof.receipt.raw != receipt.raw:
        raise _lie(node, "it says PROVEN and gives no proof of the receipt")
    try:
        verify_proof(Proof(genesis.chain_id, proof), genesis)
    except ProofError as error:
        raise _lie(node, str(error)) from error


def _lie(node: str, problem: str) -> VerificationFailed:
    return VerificationFailed(
        f"the node of {node} gave an answer that does not verify: {problem}",
        unchanged="The envelope itself cannot be altered; it may have been executed",
        advice="Ask another node (`lossbook tx show ID`), and tell the organisation that runs this one",
    )
