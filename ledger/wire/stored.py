"""What a node stores of itself: proposals, and records of the vote log."""

from __future__ import annotations

import msgspec

from consensus.records import BuiltBlock, Certification, HeldCertificate, MutedUntil, OwnVote, Record
from consensus.types import Header, Justification, Proposal
from ledger.types import Payload
from ledger.wire.blocks import decode_payload, decode_proposal, encode_proposal
from ledger.wire.checks import DIGEST, WireError, exact, parse
from ledger.wire.headers import decode_header, decode_justification
from ledger.wire.votes import decode_certificate, decode_vote, encode_certificate, encode_vote
from lossbook.v1 import block_pb2, storage_pb2


class IncarnationRecord(msgspec.Struct, frozen=True, gc=False):
    """This origin opened an incarnation of its batches; synced before the first push."""

    incarnation: int


class AckedRecord(msgspec.Struct, frozen=True, gc=False):
    """The head of an origin's chain that this node acknowledged; synced before the acknowledgement leaves."""

    origin: str
    incarnation: int
    sequence: int
    digest: bytes


class StoredParts(msgspec.Struct, frozen=True, gc=False):
    """What every follower stores of a block beside its batches and its certificate."""

    header: Header
    justification: Justification
    payload: Payload


VoteLogRecord = Record | IncarnationRecord | AckedRecord


def encode_stored_proposal(proposal: Proposal) -> bytes:
    """Bytes of a proposal in the block store."""
    return encode_proposal(proposal).SerializeToString(deterministic=True)


def decode_stored_proposal(raw: bytes) -> Proposal:
    """Read a proposal back.

    Raises:
        WireError: the stored bytes were damaged.
    """
    return decode_proposal(parse(block_pb2.Proposal, raw))


def decode_stored_parts(raw: bytes) -> StoredParts:
    """A stored proposal without its leader's vote, which only validators have; what its header commits to is not
    compared yet.

    Raises:
        WireError: the stored bytes were damaged.
    """
    m = parse(block_pb2.Proposal, raw)
    return StoredParts(decode_header(m.header), decode_justification(m.justification), decode_payload(m.payload))


def encode_record(record: VoteLogRecord) -> bytes:
    """Payload of one frame of the vote log."""
    message = storage_pb2.VoteLogRecord()
    match record:
        case OwnVote(vote):
            message.vote.CopyFrom(encode_vote(vote))
        case HeldCertificate(certificate):
            message.certificate.CopyFrom(encode_certificate(certificate))
        case BuiltBlock(epoch, view, digest):
            message.built.CopyFrom(storage_pb2.Built(epoch=epoch, view=view, digest=digest))
        case Certification(epoch, view, digest, valid):
            certified = storage_pb2.Certified(epoch=epoch, view=view, digest=digest, valid=valid)
            message.certified.CopyFrom(certified)
        case MutedUntil(epoch, view):
            message.muted_until.CopyFrom(storage_pb2.MutedUntil(epoch=epoch, view=view))
        case IncarnationRecord():
            message.incarnation = record.incarnation
        case AckedRecord():
            message.acked.CopyFrom(
                storage_pb2.AckedHead(
                    origin=record.origin,
                    incarnation=record.incarnation,
                    sequence=record.sequence,
                    digest=record.digest,
                )
            )
    return message.SerializeToString(deterministic=True)


def decode_record(raw: bytes) -> VoteLogRecord:
    """Read a record of the vote log back.

    Raises:
        WireError: not a record this version knows; the log is not this node's, or damaged.
    """
    m = parse(storage_pb2.VoteLogRecord, raw)
    match m.WhichOneof("kind"):
        case "vote":
            return OwnVote(decode_vote(m.vote))
        case "certificate":
            return HeldCertificate(decode_certificate(m.certificate))
        case "built":
            return BuiltBlock(m.built.epoch, m.built.view, exact("Built", "digest", m.built.digest, DIGEST))
        case "certified":
            c = m.certified
            return Certification(c.epoch, c.view, exact("Certified", "digest", c.digest, DIGEST), c.valid)
        case "muted_until":
            return MutedUntil(m.muted_until.epoch, m.muted_until.view)
        case "incarnation":
            return IncarnationRecord(m.incarnation)
        case "acked":
            a = m.acked
            return AckedRecord(a.origin, a.incarnation, a.sequence, exact("AckedHead", "digest", a.digest, DIGEST))
        case _:
            raise WireError("VoteLogRecord", "of a kind this version does not know")
