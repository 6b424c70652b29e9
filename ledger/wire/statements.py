"""Statements: what validators state and everybody can check."""

from __future__ import annotations

from consensus.evidence import ConflictingVotes, FalseJustification, conflict
from crypto.hashing import TAG_STATEMENT, tagged
from ledger.types import STATEMENT_BYTES_MAX, KeyRegistration, Readiness, Statement, StatementContent
from ledger.wire.checks import DIGEST, SIGNATURE, WireError, exact, parse_canonical
from ledger.wire.headers import decode_header, decode_justification
from ledger.wire.votes import decode_vote, encode_vote
from lossbook.v1 import block_pb2

_WHAT = "Statement"
PUBLIC_KEY = DIGEST
PROPOSAL_ID = 16


def encode_statement(content: StatementContent) -> Statement:
    """The statement of this content; votes that stand beside each other are put in the order of their bytes.

    Raises:
        WireError: longer than a statement may be.
    """
    message = block_pb2.Statement()
    match content:
        case ConflictingVotes():
            votes = sorted((encode_vote(content.first), encode_vote(content.second)), key=_vote_bytes)
            message.conflicting_votes.CopyFrom(block_pb2.ConflictingVotes(first=votes[0], second=votes[1]))
        case FalseJustification():
            message.false_justification.CopyFrom(
                block_pb2.FalseJustification(
                    vote=encode_vote(content.vote), header=content.header.raw, justification=content.justification.raw
                )
            )
        case KeyRegistration():
            message.key_registration.CopyFrom(
                block_pb2.KeyRegistration(
                    epoch=content.epoch,
                    signer=content.signer,
                    consensus_key=content.consensus_key,
                    signature=content.signature,
                    possession=content.possession,
                )
            )
        case Readiness():
            message.readiness.CopyFrom(
                block_pb2.Readiness(
                    epoch=content.epoch,
                    proposal_id=content.proposal_id,
                    consensus_key=content.consensus_key,
                    signature=content.signature,
                )
            )
    return decode_statement(message.SerializeToString(deterministic=True))


def decode_statement(raw: bytes) -> Statement:
    """Read a statement; whether it is true is not checked yet.

    Raises:
        WireError: too long, does not parse, is not in canonical form, of no kind this version knows, or two votes that
            are not in the order of their bytes, not of one validator in one view, or not in conflict.
    """
    if len(raw) > STATEMENT_BYTES_MAX:
        raise WireError(_WHAT, f"{len(raw)} bytes, at most {STATEMENT_BYTES_MAX} are allowed")
    m = parse_canonical(block_pb2.Statement, raw)
    match m.WhichOneof("kind"):
        case "conflicting_votes":
            content: StatementContent = _conflicting_votes(m.conflicting_votes)
        case "false_justification":
            content = _false_justification(m.false_justification)
        case "key_registration":
            content = _key_registration(m.key_registration)
        case "readiness":
            content = _readiness(m.readiness)
        case _:
            raise WireError(_WHAT, "of a kind this version does not know")
    return Statement(content, tagged(TAG_STATEMENT, raw), raw)


def _conflicting_votes(m: block_pb2.ConflictingVotes) -> ConflictingVotes:
    if _vote_bytes(m.first) >= _vote_bytes(m.second):
        raise WireError("ConflictingVotes", "its votes are not two in the order of their bytes")
    first, second = decode_vote(m.first), decode_vote(m.second)
    if (first.signer, first.epoch, first.view) != (second.signer, second.epoch, second.view):
        raise WireError("ConflictingVotes", "its votes are not of one validator in one view")
    if not conflict(first, second):
        raise WireError("ConflictingVotes", "an honest validator may sign both its votes")
    return ConflictingVotes(first, second)


def _false_justification(m: block_pb2.FalseJustification) -> FalseJustification:
    return FalseJustification(decode_vote(m.vote), decode_header(m.header), decode_justification(m.justification))


def _key_registration(m: block_pb2.KeyRegistration) -> KeyRegistration:
    what = "KeyRegistration"
    return KeyRegistration(
        _before_the_last(what, m.epoch),
        m.signer,
        exact(what, "consensus_key", m.consensus_key, PUBLIC_KEY),
        exact(what, "signature", m.signature, SIGNATURE),
        exact(what, "possession", m.possession, SIGNATURE),
    )


def _readiness(m: block_pb2.Readiness) -> Readiness:
    what = "Readiness"
    return Readiness(
        _before_the_last(what, m.epoch),
        exact(what, "proposal_id", m.proposal_id, PROPOSAL_ID),
        exact(what, "consensus_key", m.consensus_key, PUBLIC_KEY),
        exact(what, "signature", m.signature, SIGNATURE),
    )


def _before_the_last(what: str, epoch: int) -> int:
    """An epoch that another can follow."""
    if epoch == (1 << 64) - 1:
        raise WireError(what, f"epoch {epoch} has no next one")
    return epoch


def _vote_bytes(vote: block_pb2.Vote) -> bytes:
    return vote.SerializeToString(deterministic=True)
