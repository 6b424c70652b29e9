"""What a gateway says of an envelope, read and, as far as it can be, checked."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from crypto.keys import verify
from ledger.acks import accepted_message
from ledger.checkpoints import CheckpointError
from ledger.codes import Code
from ledger.printable import one_line
from ledger.proof_errors import ProofError
from ledger.proof_types import Proof, ReceiptProof
from ledger.types import Receipt
from ledger.wire import WireError, decode_receipt
from ledger.wire.proofs import decode_receipt_proof
from lossbook.v1 import gateway_pb2
from lossbook_sdk.errors import CheckpointNeeded, Expired, Failed, Rejected, VerificationFailed
from lossbook_sdk.nodes import Nodes
from lossbook_sdk.profile import Node
from lossbook_sdk.trust import Trust, UnknownEpoch

_UNALTERED: Final = "The envelope itself cannot be altered; it may have been executed"


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
        if self.receipt is not None and self.receipt.code != Code.OK:
            raise Failed(self.receipt)
        return self


async def checked_status(
    message: gateway_pb2.EnvelopeStatus, node: Node, nodes: Nodes, wanted: bytes | None = None
) -> Status:
    """``read_status``, after proofs of an epoch that is news to this client; PENDING where nobody can prove it.

    Raises:
        VerificationFailed, CheckpointNeeded: as ``read_status``.
    """
    trust = nodes.connector.trust
    try:
        return read_status(message, node.organisation, trust, wanted)
    except UnknownEpoch as unknown:
        if await nodes.learn_epoch(unknown.epoch):
            return read_status(message, node.organisation, trust, wanted)
        nodes.failed(node, f"it vouches in epoch {unknown.epoch}, to which no proof leads yet")
        return Status(message.envelope_id, Stage.PENDING, node.organisation)


def read_status(message: gateway_pb2.EnvelopeStatus, node: str, trust: Trust, wanted: bytes | None = None) -> Status:
    """Read an answer. ACCEPTED must be signed by the origin it names, with its key of that epoch; PROVEN must verify.

    Args:
        wanted: id of the envelope that was asked about; None: the caller matches ids, as on a stream of many.

    Raises:
        CheckpointNeeded: it is PROVEN, and what this client knows is too old to tell.
        UnknownEpoch: its ACCEPTED is of an epoch that was not proved to this client yet.
        VerificationFailed: it is not what an honest node says.
    """
    try:
        stage = Stage(message.stage)
        receipt = decode_receipt(message.receipt) if message.receipt else None
        proof = decode_receipt_proof(message.proof) if message.HasField("proof") else None
    except (ValueError, WireError) as error:
        raise _lie(node, f"its answer cannot be read ({error})") from error
    envelope_id = message.envelope_id
    if wanted is not None and stage is Stage.REJECTED and not envelope_id:
        envelope_id = wanted  # refused before it was read: nobody there knows its id
    if wanted is not None and envelope_id != wanted:
        raise _lie(node, "it answered about another envelope")
    if receipt is not None and receipt.envelope_id != envelope_id:
        raise _lie(node, "it gave the receipt of another envelope")
    if stage in (Stage.FINAL, Stage.PROVEN) and receipt is None:
        raise _lie(node, f"it says {stage.name} and gives no receipt")
    if stage is Stage.ACCEPTED:
        _check_accepted(message.accepted, envelope_id, node, trust)
    if stage is Stage.PROVEN:
        _check_proven(receipt, proof, node, trust)
    return Status(
        envelope_id=envelope_id,
        stage=stage,
        node=node,
        receipt=receipt,
        proof=proof,
        rejection_code=message.rejection.code,
        rejection_text=one_line(message.rejection.text),
        retry_after_ms=message.rejection.retry_after_ms,
    )


def _check_accepted(accepted: gateway_pb2.Accepted, envelope_id: bytes, node: str, trust: Trust) -> None:
    epoch, origin = accepted.epoch, accepted.origin
    key = trust.validator_key(epoch, origin)
    if not key or accepted.envelope_id != envelope_id:
        raise _lie(node, f"its ACCEPTED names no validator of epoch {epoch}, or another envelope")
    message = accepted_message(trust.genesis.chain_id, epoch, origin, accepted.batch_digest, accepted.envelope_id)
    if not verify(key, message, accepted.signature):
        raise _lie(node, f"its ACCEPTED is not signed by {origin}")


def _check_proven(receipt: Receipt | None, proof: ReceiptProof | None, node: str, trust: Trust) -> None:
    if proof is None or receipt is None or proof.receipt.raw != receipt.raw:
        raise _lie(node, "it says PROVEN and gives no proof of the receipt")
    try:
        trust.verify(Proof(trust.genesis.chain_id, proof))
    except ProofError as error:
        raise _lie(node, str(error)) from error
    except CheckpointError as error:
        raise CheckpointNeeded(error.problem, unchanged=_UNALTERED, advice=error.advice) from error


def _lie(node: str, problem: str) -> VerificationFailed:
    return VerificationFailed(
        f"the node of {node} gave an answer that does not verify: {problem}",
        unchanged=_UNALTERED,
        advice="Ask another node (`lossbook tx show ID`), and tell the organisation that runs this one",
    )
