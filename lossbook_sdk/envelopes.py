"""Making, signing and co-signing envelopes.

    build(...)            body: operations, signer keys in order, not-after time; salt from the system's randomness
    sign(body, keys)      complete when every listed key has signed
    Draft                 the file in which an envelope travels between its signers (`lossbook tx build|sign|submit`)

A draft file is JSON; the body stands in it as the exact bytes that are signed, in hex:

    {"format": "lossbook-envelope-1", "body": hex, "signatures": {public key hex: signature hex}}
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from crypto.hashing import TAG_ENVELOPE_SIGNATURE
from crypto.keys import SigningKey, verify
from ledger.operations import Operation
from ledger.types import ENVELOPE_BYTES_MAX, OPERATIONS_MAX, SIGNERS_MAX, Envelope
from ledger.wire import WireError, decode_envelope, encode_envelope, encode_envelope_body, envelope_id
from lossbook_sdk.errors import BadInput

DRAFT_FORMAT: Final = "lossbook-envelope-1"
DRAFT_BYTES_MAX: Final = 2 * ENVELOPE_BYTES_MAX + (1 << 16)
"""The body in hex, and room for the signatures."""

SALT_BYTES: Final = 16

NOT_AFTER_DEFAULT_MS: Final = 10 * 60_000
"""A person who waits for an answer knows within ten minutes what became of it."""


class Signed(msgspec.Struct, frozen=True, gc=False):
    """An envelope ready to be submitted."""

    raw: bytes
    id: bytes
    """32 bytes; the same wherever it is submitted."""
    not_after_ms: int


def build(
    *,
    chain_id: bytes,
    organisation: str,
    signer_keys: Sequence[bytes],
    operations: Sequence[Operation],
    not_after_ms: int | None = None,
    atomic: bool = False,
    salt: bytes | None = None,
) -> bytes:
    """The body of an envelope: what the signers sign.

    Args:
        not_after_ms: last block time at which it may execute; default ten minutes from now.
        salt: 16 random bytes; for tests.

    Raises:
        BadInput: no or too many operations or signers, or a number that does not fit its field.
    """
    if not 1 <= len(operations) <= OPERATIONS_MAX:
        raise BadInput(
            f"an envelope has 1 to {OPERATIONS_MAX} operations, not {len(operations)}",
            unchanged="Nothing was sent",
            advice="Spread them over several envelopes",
        )
    if not 1 <= len(signer_keys) <= SIGNERS_MAX or len(set(signer_keys)) != len(signer_keys):
        raise BadInput(
            f"an envelope has 1 to {SIGNERS_MAX} different signer keys, not {len(signer_keys)}",
            advice="Name each key once with --key",
        )
    try:
        return encode_envelope_body(
            chain_id=chain_id,
            organisation=organisation,
            signer_keys=signer_keys,
            not_after_ms=not_after_ms if not_after_ms is not None else now_ms() + NOT_AFTER_DEFAULT_MS,
            salt=salt or secrets.token_bytes(SALT_BYTES),
            operations=operations,
            atomic=atomic,
        )
    except WireError as error:
        raise BadInput(f"an operation cannot be written: {error}", unchanged="Nothing was sent") from error


def sign(body: bytes, keys: Sequence[SigningKey], not_after_ms: int) -> Signed:
    """The envelope with one signature for each key, in the body's order of keys (the caller's business)."""
    message = TAG_ENVELOPE_SIGNATURE + body
    raw = encode_envelope(body, [key.sign(message) for key in keys])
    if len(raw) > ENVELOPE_BYTES_MAX:
        raise BadInput(
            f"the envelope has {len(raw):,} bytes, at most {ENVELOPE_BYTES_MAX:,} are taken",
            unchanged="Nothing was sent",
            advice="Spread the operations over several envelopes",
        )
    return Signed(raw, envelope_id(body), not_after_ms)


def build_and_sign(
    *,
    chain_id: bytes,
    organisation: str,
    keys: Sequence[SigningKey],
    operations: Sequence[Operation],
    not_after_ms: int | None = None,
    atomic: bool = False,
) -> Signed:
    """``build`` and ``sign`` where all signers are at hand."""
    deadline_ms = not_after_ms if not_after_ms is not None else now_ms() + NOT_AFTER_DEFAULT_MS
    body = build(
        chain_id=chain_id,
        organisation=organisation,
        signer_keys=[key.public for key in keys],
        operations=operations,
        not_after_ms=deadline_ms,
        atomic=atomic,
    )
    return sign(body, keys, deadline_ms)


def now_ms() -> int:
    """This machine's clock, milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


# ---------------------------------------------------------------- drafts


class _DraftFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    body: str
    signatures: dict[str, str] = {}


class Draft:
    """An envelope on its way between signers: body, and the signatures it has so far (each checked)."""

    def __init__(self, body: bytes, signatures: Mapping[bytes, bytes] | None = None) -> None:
        self.body = body
        self.envelope = _decode(body)
        self._signatures: dict[bytes, bytes] = {}
        for public, signature in (signatures or {}).items():
            self._add(public, signature)

    @classmethod
    def decode(cls, raw: bytes) -> Draft:
        """Read a draft file.

        Raises:
            BadInput: no draft, or a signature in it is not over this body.
        """
        if len(raw) > DRAFT_BYTES_MAX:
            raise BadInput(f"the file has {len(raw):,} bytes: it is no envelope", advice="Name the right file")
        try:
            file = msgspec.json.decode(raw, type=_DraftFile)
            body = bytes.fromhex(file.body)
            signatures = {bytes.fromhex(public): bytes.fromhex(sig) for public, sig in file.signatures.items()}
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise BadInput(
                f"this is not an envelope file ({error})", advice="Name the file that `lossbook tx build` wrote"
            ) from error
        if file.format != DRAFT_FORMAT:
            raise BadInput(f"the file's format is {file.format[:40]!r}, not {DRAFT_FORMAT}")
        return cls(body, signatures)

    def encode(self) -> bytes:
        """The bytes of the draft file."""
        file = _DraftFile(
            DRAFT_FORMAT,
            self.body.hex(),
            {public.hex(): signature.hex() for public, signature in self._signatures.items()},
        )
        return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"

    @property
    def id(self) -> bytes:
        """Envelope id: it does not change with the signatures."""
        return self.envelope.id

    @property
    def missing(self) -> tuple[bytes, ...]:
        """Public keys that have not signed yet, in order."""
        return tuple(key for key in self.envelope.signer_keys if key not in self._signatures)

    def sign(self, key: SigningKey) -> None:
        """Add a signature; BadInput if the body does not list the key."""
        self._add(key.public, key.sign(TAG_ENVELOPE_SIGNATURE + self.body))

    def signed(self) -> Signed:
        """The complete envelope.

        Raises:
            BadInput: signatures are missing; names whose.
        """
        missing = self.missing
        if missing:
            raise BadInput(
                f"{len(missing)} of {len(self.envelope.signer_keys)} signatures are missing: "
                + ", ".join(key.hex()[:16] for key in missing),
                unchanged="Nothing was sent",
                advice="Have each of them sign: `lossbook tx sign FILE --key KEY`",
            )
        raw = encode_envelope(self.body, [self._signatures[key] for key in self.envelope.signer_keys])
        return Signed(raw, self.id, self.envelope.not_after_ms)

    def _add(self, public: bytes, signature: bytes) -> None:
        if public not in self.envelope.signer_keys:
            raise BadInput(
                f"key {public.hex()[:16]} is not among the signer keys of this envelope",
                unchanged="It was not signed",
                advice="The signer keys are fixed when it is built: `lossbook tx build --key ... --signer ...`",
            )
        if not verify(public, TAG_ENVELOPE_SIGNATURE + self.body, signature):
            raise BadInput(
                f"the signature of key {public.hex()[:16]} is not over this body",
                advice="The file was altered or damaged after signing: ask for it again",
            )
        self._signatures[public] = signature


def _decode(body: bytes) -> Envelope:
    try:
        return decode_envelope(encode_envelope(body, []))
    except WireError as error:
        raise BadInput(f"the body is not that of an envelope: {error}", advice="Ask for the file again") from error
