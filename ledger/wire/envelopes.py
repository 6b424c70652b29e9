"""Envelopes: what a client signs and what is submitted."""

from __future__ import annotations

from collections.abc import Sequence

from crypto.hashing import TAG_ENVELOPE_ID, tagged
from ledger import operations as ops
from ledger.types import ENVELOPE_BYTES_MAX, OPERATIONS_MAX, SIGNERS_MAX, Envelope
from ledger.wire.checks import DIGEST, SALT, SIGNATURE, WireError, exact, parse
from ledger.wire.operations import DECODE_OPERATION, encode_operation
from lossbook.v1 import envelope_pb2


def encode_envelope_body(
    *,
    chain_id: bytes,
    organisation: str,
    signer_keys: Sequence[bytes],
    not_after_ms: int,
    salt: bytes,
    operations: Sequence[ops.Operation],
    atomic: bool = False,
) -> bytes:
    """The bytes that the signers sign (under TAG_ENVELOPE_SIGNATURE) and the id hashes."""
    body = envelope_pb2.EnvelopeBody(
        chain_id=chain_id,
        organisation=organisation,
        signer_keys=signer_keys,
        not_after_ms=not_after_ms,
        salt=salt,
        atomic=atomic,
        operations=[encode_operation(operation) for operation in operations],
    )
    return body.SerializeToString(deterministic=True)


def encode_envelope(body: bytes, signatures: Sequence[bytes]) -> bytes:
    """The message that is submitted; its exact bytes are a Merkle leaf of the batch."""
    return envelope_pb2.Envelope(body=body, signatures=signatures).SerializeToString(deterministic=True)


def envelope_id(body: bytes) -> bytes:
    """SHA-256(TAG_ENVELOPE_ID | body)."""
    return tagged(TAG_ENVELOPE_ID, body)


def claimed_id(raw: bytes) -> bytes:
    """The id under which whoever sent these bytes knows them, however ill-formed the envelope in them is.

    Raises:
        WireError: not even that.
    """
    outer = parse(envelope_pb2.Envelope, raw)
    if not outer.body:
        raise WireError("Envelope", "no body")
    return envelope_id(outer.body)


def decode_envelope(raw: bytes) -> Envelope:
    """Read an envelope; signatures are counted, not checked.

    Raises:
        WireError: too large, does not parse, or a field of impossible length.
    """
    if len(raw) > ENVELOPE_BYTES_MAX:
        raise WireError("Envelope", f"{len(raw)} bytes, at most {ENVELOPE_BYTES_MAX} are allowed")
    outer = parse(envelope_pb2.Envelope, raw)
    body = parse(envelope_pb2.EnvelopeBody, outer.body)
    if len(body.operations) > OPERATIONS_MAX:
        raise WireError("EnvelopeBody", f"{len(body.operations)} operations, at most {OPERATIONS_MAX} are allowed")
    if not body.operations:
        raise WireError("EnvelopeBody", "no operations")
    keys = tuple(body.signer_keys)
    if not 1 <= len(keys) <= SIGNERS_MAX or len(set(keys)) != len(keys):
        raise WireError("EnvelopeBody", f"signer keys must be 1 to {SIGNERS_MAX}, all different")
    for key in keys:
        exact("EnvelopeBody", "signer key", key, DIGEST)
    for signature in outer.signatures:
        exact("Envelope", "signature", signature, SIGNATURE)
    exact("EnvelopeBody", "salt", body.salt, SALT)
    decode = DECODE_OPERATION
    return Envelope(
        raw=raw,
        id=tagged(TAG_ENVELOPE_ID, outer.body),
        body=outer.body,
        signatures=tuple(outer.signatures),
        chain_id=exact("EnvelopeBody", "chain_id", body.chain_id, DIGEST),
        organisation=body.organisation,
        signer_keys=keys,
        not_after_ms=body.not_after_ms,
        atomic=body.atomic,
        operations=tuple([decode[o.WhichOneof("kind")](o) for o in body.operations]),
    )
