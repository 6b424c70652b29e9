"""Whether an envelope is well-formed: judged from its bytes, the chain id and nothing else.

Well-formed = decodes, within the fixed limits of the protocol version, of this chain, and exactly
one valid signature per listed key, in order. Stateless, so every node judges alike, and a batch
with one ill-formed envelope is invalid as a whole. An ill-formed envelope never uses up an id:
else a relay could strip the second signature, have that copy ordered first and burn the genuine one.
Registration, roles, expiry and replay are decided at execution.

Verification is given as jobs, so that a caller runs them inline or hands many envelopes' jobs to a
worker process in one message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError

from crypto.hashing import TAG_ENVELOPE_SIGNATURE
from crypto.keys import PUBLIC_KEY_BYTES, verify_many
from ledger.codes import Code
from ledger.types import ENVELOPE_BYTES_MAX, OPERATIONS_MAX, SIGNERS_MAX, Envelope
from ledger.wire import WireError, decode_envelope
from lossbook.v1 import envelope_pb2

SignatureJob = tuple[bytes, bytes, bytes]
"""(public key, message, signature), as ``crypto.keys.verify_many`` takes them."""

VerifyMany = Callable[[Sequence[SignatureJob]], Sequence[bool]]


def structure(envelope: Envelope, chain_id: bytes) -> Code:
    """Everything but the signatures themselves: OK, or the first rule that is broken."""
    if envelope.chain_id != chain_id:
        return Code.WRONG_CHAIN
    if len(envelope.raw) > ENVELOPE_BYTES_MAX:
        return Code.TOO_LARGE
    if not envelope.operations:
        return Code.NO_OPERATIONS
    if len(envelope.operations) > OPERATIONS_MAX:
        return Code.TOO_MANY_OPERATIONS
    if not _signers_fit(envelope.signer_keys):
        return Code.BAD_SIGNERS
    if len(envelope.signatures) != len(envelope.signer_keys):
        return Code.MISSING_SIGNATURE
    return Code.OK


def signature_jobs(envelope: Envelope) -> list[SignatureJob]:
    """One check per listed key, in order; call only where ``structure`` said OK."""
    message = TAG_ENVELOPE_SIGNATURE + envelope.body
    return [
        (public, message, signature)
        for public, signature in zip(envelope.signer_keys, envelope.signatures, strict=True)
    ]


def well_formed(envelope: Envelope, chain_id: bytes, verify: VerifyMany = verify_many) -> Code:
    """OK, or why the envelope is ill-formed."""
    code = structure(envelope, chain_id)
    if code is not Code.OK:
        return code
    return Code.OK if all(verify(signature_jobs(envelope))) else Code.BAD_SIGNATURE


def read_envelope(raw: bytes, chain_id: bytes) -> Envelope | Code:
    """Decode and check all but the signatures; the code where it is refused. Takes hostile bytes."""
    try:
        envelope = decode_envelope(raw)
    except WireError:
        return diagnose(raw)
    code = structure(envelope, chain_id)
    return envelope if code is Code.OK else code


def diagnose(raw: bytes) -> Code:
    """Why bytes that ``decode_envelope`` refused were refused, for the answer to the client."""
    if len(raw) > ENVELOPE_BYTES_MAX:
        return Code.TOO_LARGE
    try:
        outer = envelope_pb2.Envelope.FromString(raw)
        body = envelope_pb2.EnvelopeBody.FromString(outer.body)
    except DecodeError:
        return Code.MALFORMED
    if not body.operations:
        return Code.NO_OPERATIONS if body.signer_keys else Code.MALFORMED
    if len(body.operations) > OPERATIONS_MAX:
        return Code.TOO_MANY_OPERATIONS
    return Code.MALFORMED if _signers_fit(body.signer_keys) else Code.BAD_SIGNERS


def _signers_fit(keys: Sequence[bytes]) -> bool:
    return (
        1 <= len(keys) <= SIGNERS_MAX
        and len(set(keys)) == len(keys)
        and all(len(key) == PUBLIC_KEY_BYTES for key in keys)
    )
