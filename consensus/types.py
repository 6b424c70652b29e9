"""What consensus speaks about, as values: validators, headers, votes, certificates, proposals.

Whatever is hashed or signed keeps the exact bytes it came from (``raw``); digests are set by the maker of the
value (``ledger.wire``), never computed here. Digests and hashes have 32 bytes, signatures 64, views and heights
count from 0 (the genesis of the epoch: the block before its first one, which for all epochs but the first is the
boundary block of the epoch before).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class VoteKind(enum.IntEnum):
    """The three votes of Simplex; numbers as in ``block.proto`` and in the signed bytes."""

    NOTARIZE = 1
    """N: this block is valid and this validator's only one in the view."""
    NULLIFY = 2
    """X: this validator will never finalize anything in the view."""
    FINALIZE = 3
    """F: this validator will never nullify the view."""


@dataclass(frozen=True, slots=True)
class Validator:
    """One seat of a validator set; all seats weigh the same."""

    id: str
    """Organisation id."""
    public_key: bytes
    """Ed25519 consensus key of this epoch, 32 bytes; empty where the member registered none: its seat counts, and no
    signature is ever its."""


@dataclass(frozen=True, slots=True)
class ValidatorSet:
    """Who votes in one epoch, in the order that gives every validator its signer index."""

    epoch: int
    members: tuple[Validator, ...]
    """Ascending by organisation id; position = signer index."""
    seed: int
    """Moves the round robin of leaders, so that not every epoch starts with the same one."""
    hash: bytes
    """Digest of the set as headers carry it (``valset_hash``); computed by the caller."""

    def __post_init__(self) -> None:
        ids = [member.id for member in self.members]
        keys = [member.public_key for member in self.members if member.public_key]
        if not ids or ids != sorted(set(ids)) or len(keys) != len(set(keys)):
            raise ValueError("a validator set has at least one member, ascending ids, and no key twice")

    @property
    def n(self) -> int:
        """Number of validators."""
        return len(self.members)

    @property
    def f(self) -> int:
        """How many may be faulty: the largest f with 3f < n."""
        return (self.n - 1) // 3

    @property
    def quorum(self) -> int:
        """Q = n - f: two quorums share at least one honest validator."""
        return self.n - self.f

    def leader(self, view: int) -> int:
        """Signer index of the leader of a view: round robin."""
        return (view + self.seed) % self.n


@dataclass(frozen=True, slots=True)
class Header:
    """What is voted on; fields as in ``block.proto``."""

    version: int
    """Protocol version that made it."""
    chain_id: bytes
    """Digest of the genesis file; zero in the genesis header itself."""
    epoch: int
    height: int
    """One more than the parent's."""
    view: int
    """The only view in which this header can be proposed."""
    parent_view: int
    """View of the parent, 0 for the genesis of the epoch; all views between were nullified."""
    parent_digest: bytes
    payload_root: bytes
    """Commits to the ordered batch digests."""
    justification_digest: bytes
    """Commits to the certificates that allow this parent."""
    timestamp_ms: int
    """Block time, ms since 1970-01-01 UTC; set by the leader, above the parent's."""
    state_height: int
    """Height of a finalized block of this branch, not below the parent's state height."""
    state_root: bytes
    """Root of the state after executing the block at ``state_height``."""
    receipts_root: bytes
    """Root over all receipts up to ``state_height``."""
    valset_hash: bytes
    """The validator set that votes on this header."""
    next_valset_hash: bytes
    """Set only in the last block of an epoch, the boundary; otherwise empty."""
    state_scheme: int
    """Which state commitment ``state_root`` belongs to."""
    digest: bytes
    """SHA-256(tag | raw); not a field of the message."""
    raw: bytes = field(repr=False)
    """The exact bytes the digest covers."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One signed statement of one validator; the signed bytes are ``consensus.votes.vote_message``."""

    kind: VoteKind
    epoch: int
    view: int
    parent_view: int
    """0 in a nullify vote: a nullification must not point to a parent."""
    digest: bytes
    """Header digest; empty in a nullify vote."""
    signer: int
    """Index in the validator set of the epoch."""
    signature: bytes = field(repr=False)

    @property
    def target(self) -> Target:
        """What is voted on, within kind and view."""
        return (self.parent_view, self.digest)


Target = tuple[int, bytes]
"""(parent view, header digest); (0, b"") for a nullification."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A quorum of votes for one tuple: Notarization, Nullification or Finalization by its kind."""

    kind: VoteKind
    epoch: int
    view: int
    parent_view: int
    digest: bytes
    signers: tuple[int, ...]
    """Ascending signer indexes, at least a quorum."""
    signatures: tuple[bytes, ...] = field(repr=False)
    """One for each signer, in the same order."""

    @property
    def target(self) -> Target:
        """What was voted on, within kind and view."""
        return (self.parent_view, self.digest)

    def votes(self) -> tuple[Vote, ...]:
        """The votes it is made of."""
        return tuple(
            Vote(self.kind, self.epoch, self.view, self.parent_view, self.digest, signer, signature)
            for signer, signature in zip(self.signers, self.signatures, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Justification:
    """Why a header may build on its parent; the header commits to its digest."""

    parent: Certificate | None
    """Notarization or Finalization of the parent; None only where the parent is the genesis of the epoch."""
    nullifications: tuple[Certificate, ...]
    """One for every view between parent and header, ascending."""
    digest: bytes
    """SHA-256(tag | raw); equals the header's ``justification_digest``."""
    raw: bytes = field(repr=False)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """All of them, in ascending views where they belong to the header."""
        return self.nullifications if self.parent is None else (self.parent, *self.nullifications)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A leader's block as it travels; batches travel apart."""

    header: Header
    justification: Justification
    payload: bytes = field(repr=False)
    """Opaque here. Whoever makes a Proposal from bytes has compared it with ``header.payload_root``."""
    vote: Vote
    """The leader's notarize vote for the header."""
