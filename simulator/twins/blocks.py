"""Headers, justifications and keys of the enumeration: consensus needs no more of a block than its header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from typing import Final

from consensus.types import Certificate, Header, Justification, Validator, ValidatorSet, Vote, VoteKind
from consensus.votes import vote_message
from simulator.twins.cases import VALIDATORS

CHAIN_ID: Final = sha256(b"lossbook twins").digest()
VALSET_HASH: Final = sha256(b"lossbook twins validators").digest()
GENESIS_MS: Final = 1_000_000_000_000
EMPTY_ROOT: Final = sha256(b"").digest()

KEYS: Final = tuple(sha256(b"lossbook twins key %d" % index).digest() for index in range(VALIDATORS))
"""Public keys; whoever calls ``FakeKey`` with one may sign by it, and only the model does."""


@lru_cache(maxsize=1 << 14)
def _signature(public_key: bytes, message: bytes) -> bytes:
    half = sha256(public_key + message).digest()
    return half + sha256(half).digest()


class FakeKey:
    """Signatures that cost a hash; unforgeable because nothing in the model makes one but its owner."""

    def __init__(self, public_key: bytes) -> None:
        self._public_key = public_key

    def sign(self, message: bytes) -> bytes:
        """64 bytes, deterministic."""
        return _signature(self._public_key, message)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the owner of the key signed the message."""
        return signature == _signature(public_key, message)


def validators(offset: int) -> ValidatorSet:
    """Four of them; the offset moves the round robin of leaders."""
    members = tuple(Validator(f"insurer-{index}", key) for index, key in enumerate(KEYS))
    return ValidatorSet(0, members, offset, VALSET_HASH)


def vote_message_of(vote: Vote) -> bytes:
    """What the signature of a vote covers."""
    return vote_message(CHAIN_ID, vote.kind, vote.epoch, vote.view, vote.parent_view, vote.digest)


def sign(kind: VoteKind, view: int, signer: int, header: Header | None = None) -> Vote:
    """A vote of a validator, for a block or a nullification."""
    parent_view, digest = (header.parent_view, header.digest) if header is not None else (0, b"")
    message = vote_message(CHAIN_ID, kind, 0, view, parent_view, digest)
    return Vote(kind, 0, view, parent_view, digest, signer, _signature(KEYS[signer], message))


def justify(parent: Certificate | None, nullifications: Sequence[Certificate] = ()) -> Justification:
    """What a header commits to; the bytes name every certificate, signatures left out as the set is fixed."""
    raw = repr([(c.kind, c.view, c.target, c.signers) if c else None for c in (parent, *nullifications)]).encode()
    return Justification(parent, tuple(nullifications), sha256(raw).digest(), raw)


def genesis() -> Header:
    """Height and view 0."""
    raw = b"lossbook twins genesis"
    zero = bytes(32)
    return Header(
        version=1,
        chain_id=zero,
        epoch=0,
        height=0,
        view=0,
        parent_view=0,
        parent_digest=zero,
        payload_root=EMPTY_ROOT,
        justification_digest=EMPTY_ROOT,
        timestamp_ms=GENESIS_MS,
        state_height=0,
        state_root=EMPTY_ROOT,
        receipts_root=EMPTY_ROOT,
        valset_hash=VALSET_HASH,
        next_valset_hash=b"",
        state_scheme=0,
        digest=sha256(raw).digest(),
        raw=raw,
    )


def child(parent: Header, view: int, justification: Justification, payload: bytes) -> Header:
    """A block on ``parent``; different payloads make different blocks."""
    payload_root = sha256(payload).digest()
    raw = b"%s %d %s %s" % (parent.digest, view, justification.digest, payload_root)
    return replace(
        parent,
        chain_id=CHAIN_ID,
        height=parent.height + 1,
        view=view,
        parent_view=parent.view,
        parent_digest=parent.digest,
        payload_root=payload_root,
        justification_digest=justification.digest,
        timestamp_ms=parent.timestamp_ms + 1,
        digest=sha256(raw).digest(),
        raw=raw,
    )
