"""Small makers for consensus tests: fake signatures, headers, votes, certificates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256

from consensus.config import Config
from consensus.types import (
    Certificate,
    Header,
    Justification,
    Proposal,
    Validator,
    ValidatorSet,
    Vote,
    VoteKind,
)
from consensus.votes import vote_message

N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE

CHAIN_ID = sha256(b"test chain").digest()
VALSET_HASH = sha256(b"test validators").digest()
GENESIS_MS = 1_000_000_000_000
EMPTY_ROOT = sha256(b"").digest()
CONFIG = Config(CHAIN_ID, delay_ms=100, retry_ms=200, skip_ms=1_500, timeout_ms_max=3_000, clock_delta_ms=1_000)


class FakeSignatures:
    """Unforgeable by convention: a test signs for another only where it means to."""

    def __init__(self, public_key: bytes = b"") -> None:
        self.public_key = public_key
        self.verified = 0
        self.made: set[bytes] = set()  #: signatures this node made, not those made in its name

    def sign(self, message: bytes) -> bytes:
        self.made.add(fake_signature(self.public_key, message))
        return fake_signature(self.public_key, message)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        self.verified += 1
        return signature == fake_signature(public_key, message)


def fake_signature(public_key: bytes, message: bytes) -> bytes:
    return sha256(b"1" + public_key + message).digest() + sha256(b"2" + public_key + message).digest()


def validators(n: int, seed: int = 0, epoch: int = 0) -> ValidatorSet:
    members = tuple(Validator(f"insurer-{i:02}", sha256(b"key %d" % i).digest()) for i in range(n))
    return ValidatorSet(
        epoch, members, seed, VALSET_HASH if epoch == 0 else sha256(b"test validators %d" % epoch).digest()
    )


def genesis() -> Header:
    raw = b"genesis of the test chain"
    return Header(
        version=1,
        chain_id=bytes(32),
        epoch=0,
        height=0,
        view=0,
        parent_view=0,
        parent_digest=bytes(32),
        payload_root=EMPTY_ROOT,
        justification_digest=EMPTY_ROOT,
        timestamp_ms=GENESIS_MS,
        state_height=0,
        state_root=state_root_after(b"genesis"),
        receipts_root=EMPTY_ROOT,
        valset_hash=VALSET_HASH,
        next_valset_hash=b"",
        state_scheme=0,
        digest=sha256(raw).digest(),
        raw=raw,
    )


def state_root_after(block_digest: bytes) -> bytes:
    return sha256(b"state after " + block_digest).digest()


def rehash(header: Header) -> Header:
    """The header with digest and bytes that fit its fields."""
    raw = repr(replace(header, raw=b"", digest=b"")).encode()
    return replace(header, raw=raw, digest=sha256(raw).digest())


def justify(parent: Certificate | None, nullifications: Sequence[Certificate] = ()) -> Justification:
    raw = repr(
        [(c.kind, c.view, c.target, c.signers, c.signatures) if c else None for c in (parent, *nullifications)]
    ).encode()
    return Justification(parent, tuple(nullifications), sha256(raw).digest(), raw)


def child(
    parent: Header,
    view: int,
    justification: Justification,
    *,
    payload: bytes = b"",
    timestamp_ms: int | None = None,
    state_height: int | None = None,
    state_root: bytes | None = None,
    next_valset_hash: bytes = b"",
    of: ValidatorSet | None = None,
) -> Header:
    """A header on ``parent`` that is right unless told otherwise; a parent of another epoch is view 0 of this one."""
    epoch = of.epoch if of is not None else 0
    return rehash(
        Header(
            version=1,
            chain_id=CHAIN_ID,
            epoch=epoch,
            height=parent.height + 1,
            view=view,
            parent_view=parent.view if parent.epoch == epoch else 0,
            parent_digest=parent.digest,
            payload_root=sha256(payload).digest(),
            justification_digest=justification.digest,
            timestamp_ms=parent.timestamp_ms + 1 if timestamp_ms is None else timestamp_ms,
            state_height=parent.state_height if state_height is None else state_height,
            state_root=parent.state_root if state_root is None else state_root,
            receipts_root=EMPTY_ROOT,
            valset_hash=of.hash if of is not None else VALSET_HASH,
            next_valset_hash=next_valset_hash,
            state_scheme=0,
            digest=b"",
            raw=b"",
        )
    )


def tail(parent: Header, view: int, justification: Justification, boundary: Header) -> Header:
    """The tail of a boundary: its fields, with view, parent and justification of its own."""
    return rehash(
        replace(
            boundary,
            view=view,
            parent_view=parent.view,
            parent_digest=parent.digest,
            payload_root=EMPTY_ROOT,
            justification_digest=justification.digest,
            next_valset_hash=b"",
        )
    )


def vote(
    kind: VoteKind, view: int, signer: int, header: Header | None = None, *, of: ValidatorSet | None = None
) -> Vote:
    """A genuine vote of ``signer``: for ``header``, or a nullification."""
    parent_view, digest = (header.parent_view, header.digest) if header is not None else (0, b"")
    return vote_for(kind, view, signer, parent_view, digest, of)


def vote_for(
    kind: VoteKind, view: int, signer: int, parent_view: int, digest: bytes, of: ValidatorSet | None = None
) -> Vote:
    of = of or validators(4)
    message = vote_message(CHAIN_ID, kind, of.epoch, view, parent_view, digest)
    signature = fake_signature(of.members[signer].public_key, message)
    return Vote(kind, of.epoch, view, parent_view, digest, signer, signature)


def certificate(
    kind: VoteKind,
    view: int,
    header: Header | None = None,
    signers: Iterable[int] = (0, 1, 2),
    of: ValidatorSet | None = None,
) -> Certificate:
    """A genuine certificate of these signers: for ``header``, or a nullification."""
    votes = [vote(kind, view, signer, header, of=of) for signer in sorted(signers)]
    first = votes[0]
    return Certificate(
        kind,
        first.epoch,
        view,
        first.parent_view,
        first.digest,
        tuple(v.signer for v in votes),
        tuple(v.signature for v in votes),
    )


def propose(header: Header, justification: Justification, of: ValidatorSet, payload: bytes = b"") -> Proposal:
    """The header as its leader proposes it."""
    return Proposal(header, justification, payload, vote(N, header.view, of.leader(header.view), header, of=of))
