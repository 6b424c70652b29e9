"""What a gateway takes: decode, limits, chain, known signers, signatures, room. Pure.

    judge(raw)      everything that needs no signature check     -> Envelope or Rejection
    signatures      the caller has them checked, many at a time   -> bad_signature()
    room            RoomKeeper: bytes waiting, bytes a second     -> Rejection with a time to retry

What is refused here was never ordered: nothing was changed, and the same bytes may come again. Whether an envelope's
signers may do what it says is judged at execution and receipted. Unknown organisations and keys are refused here as
well, although execution would refuse them too: strangers shall not fill blocks.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from ledger.codes import Code, advice, text
from ledger.organisations import KeyRecord, OrganisationRecord
from ledger.types import ENVELOPE_BYTES_MAX, Envelope
from ledger.wellformed import read_envelope

REFUSED_BYTES_MIN: Final = 1024
"""What an envelope that is refused at sight costs its caller at least: looking at a byte takes as long as at a KB."""

RETRY_MS_MIN: Final = 100
RETRY_MS_MAX: Final = 10_000
"""Bounds of what a refused client is told to wait."""


class Rejection(msgspec.Struct, frozen=True):
    """A refusal at the door."""

    code: Code
    text: str
    retry_after_ms: int = 0  #: 0: never as it stands


class Register(Protocol):
    """Who is registered, in executed state."""

    def organisation(self, organisation: str) -> OrganisationRecord | None:
        """The record of an organisation id."""

    def key(self, public: bytes) -> KeyRecord | None:
        """The record of a signing key."""


def rejection(code: Code, retry_after_ms: int = 0) -> Rejection:
    """A refusal in the words of ledger/codes.py."""
    words = text(code)
    if (what_to_do := advice(code)) != "":
        words = f"{words}. {what_to_do}"
    return Rejection(code, words, retry_after_ms)


def judge(raw: bytes, chain_id: bytes, register: Register) -> Envelope | Rejection:
    """Everything but the signatures themselves. Takes hostile bytes."""
    envelope = read_envelope(raw, chain_id)
    if isinstance(envelope, Code):
        return rejection(envelope)
    if register.organisation(envelope.organisation) is None:
        return rejection(Code.UNKNOWN_ORGANISATION)
    for public in envelope.signer_keys:
        key = register.key(public)
        if key is None:
            return rejection(Code.KEY_NOT_REGISTERED)
        if key.organisation != envelope.organisation:
            return rejection(Code.KEY_OF_ANOTHER_ORGANISATION)
    return envelope


class RoomKeeper:
    """How much may wait at this gateway, and how fast one organisation may fill it.

    The rate is a token bucket for each submitting organisation: ``rate_bytes_s`` a second, at most
    ``burst_bytes`` saved up. What is refused at sight is charged as well and may leave a debt of as much; until it
    is paid nothing of that organisation is looked at. Times are monotonic milliseconds, given by the caller.

    Args:
        waiting_bytes_max: bytes of envelopes taken here and not final yet.
        rate_bytes_s: bytes a second of one organisation.
        burst_bytes: saved up while it was quiet; at least one envelope of the largest size.
    """

    def __init__(self, waiting_bytes_max: int, rate_bytes_s: int, burst_bytes: int) -> None:
        self._waiting_bytes_max = waiting_bytes_max
        self._rate_bytes_s = rate_bytes_s
        self._burst_bytes = max(burst_bytes, ENVELOPE_BYTES_MAX)
        self._buckets: dict[str, tuple[float, int]] = {}

    def ask(self, organisation: str, size: int, waiting_bytes: int, now_ms: int) -> Rejection | None:
        """None: there is room, and ``size`` bytes are charged to the organisation."""
        if waiting_bytes + size > self._waiting_bytes_max and waiting_bytes > 0:
            excess = waiting_bytes + size - self._waiting_bytes_max
            return rejection(Code.OVERLOADED, self._retry_ms(excess))
        tokens = self._tokens(organisation, now_ms)
        if tokens < size:
            self._buckets[organisation] = (tokens, now_ms)
            return rejection(Code.OVERLOADED, self._retry_ms(size - tokens))
        self._buckets[organisation] = (tokens - size, now_ms)
        return None

    def charge_refused(self, organisation: str, size: int, now_ms: int) -> None:
        """Something of so many bytes was refused at sight."""
        tokens = self._tokens(organisation, now_ms) - max(size, REFUSED_BYTES_MIN)
        self._buckets[organisation] = (max(tokens, -float(self._burst_bytes)), now_ms)

    def debt(self, organisation: str, now_ms: int) -> Rejection | None:
        """None unless the organisation owes for what was refused."""
        tokens = self._tokens(organisation, now_ms)
        return rejection(Code.OVERLOADED, self._retry_ms(-tokens)) if tokens < 0 else None

    def _tokens(self, organisation: str, now_ms: int) -> float:
        tokens, since_ms = self._buckets.get(organisation, (float(self._burst_bytes), now_ms))
        return min(self._burst_bytes, tokens + (now_ms - since_ms) * self._rate_bytes_s / 1000)

    def _retry_ms(self, missing_bytes: float) -> int:
        return int(min(max(1000 * missing_bytes / self._rate_bytes_s, RETRY_MS_MIN), RETRY_MS_MAX))
