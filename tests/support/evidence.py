"""Evidence against validators of the test market, genuine and forged."""

from __future__ import annotations

from hashlib import sha256

from consensus.evidence import ConflictingVotes
from consensus.types import Vote, VoteKind
from consensus.votes import vote_message
from ledger import wire
from ledger.genesis import Genesis
from ledger.types import Statement
from tests.support.insurers import INSURERS, market_genesis

N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


def market_vote(
    kind: VoteKind,
    view: int,
    signer: int,
    block: str = "a",
    *,
    parent_view: int = 0,
    signed_by: int | None = None,
    genesis: Genesis | None = None,
    epoch: int = 0,
) -> Vote:
    """A vote of an insurer for the block that is named so; with ``signed_by``, another one's signature."""
    chain_id = (genesis or market_genesis()).chain_id
    parent_view, digest = (0, b"") if kind is X else (parent_view, sha256(block.encode()).digest())
    key = INSURERS[signer if signed_by is None else signed_by].consensus_key
    assert key is not None
    signature = key.sign(vote_message(chain_id, kind, epoch, view, parent_view, digest))
    return Vote(kind, epoch, view, parent_view, digest, signer, signature)


def two_notarize(signer: int, view: int = 1, blocks: str = "ab") -> ConflictingVotes:
    """Genuine evidence: N for two blocks."""
    return ConflictingVotes(market_vote(N, view, signer, blocks[0]), market_vote(N, view, signer, blocks[1]))


def statement(signer: int, view: int = 1, blocks: str = "ab") -> Statement:
    """``two_notarize`` as it is listed."""
    return wire.encode_statement(two_notarize(signer, view, blocks))


def forged_statement(signer: int, view: int = 1) -> Statement:
    """Two votes that ``signer`` never cast, signed with another key."""
    by = (signer + 1) % 4
    one, two = (market_vote(N, view, signer, block, signed_by=by) for block in "ab")
    return wire.encode_statement(ConflictingVotes(one, two))
