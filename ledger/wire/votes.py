"""Votes and certificates."""

from __future__ import annotations

from typing import Final

from consensus.types import Certificate, Vote, VoteKind
from ledger.wire.checks import DIGEST, SIGNATURE, VALIDATORS_MAX, WireError, exact, parse
from lossbook.v1 import block_pb2


def encode_vote(vote: Vote) -> block_pb2.Vote:
    """The message of a vote."""
    return block_pb2.Vote(
        kind=vote.kind.value,  # type: ignore[arg-type]
        epoch=vote.epoch,
        view=vote.view,
        parent_view=vote.parent_view,
        digest=vote.digest,
        signer=vote.signer,
        signature=vote.signature,
    )


_VOTE_KINDS: Final = {kind.value: kind for kind in VoteKind}
"""A lookup costs a tenth of ``VoteKind(number)``."""


def _vote_kind(what: str, number: int) -> VoteKind:
    kind = _VOTE_KINDS.get(number)
    if kind is None:
        raise WireError(what, f"vote kind {number} does not exist")
    return kind


def _check_target(what: str, kind: VoteKind, parent_view: int, digest: bytes) -> bytes:
    if kind is VoteKind.NULLIFY:
        if parent_view or digest:
            raise WireError(what, "a nullification names its view only")
        return b""
    return exact(what, "digest", digest, DIGEST)


def decode_vote(m: block_pb2.Vote) -> Vote:
    """Read a vote; its signature is not checked yet.

    Raises:
        WireError: unknown kind, or a field of impossible length.
    """
    kind = _vote_kind("Vote", m.kind)
    return Vote(
        kind=kind,
        epoch=m.epoch,
        view=m.view,
        parent_view=m.parent_view,
        digest=_check_target("Vote", kind, m.parent_view, m.digest),
        signer=m.signer,
        signature=exact("Vote", "signature", m.signature, SIGNATURE),
    )


def encode_certificate(certificate: Certificate) -> block_pb2.Certificate:
    """The message of a certificate; the bitmap has as many bytes as its highest signer needs."""
    bitmap = 0
    for signer in certificate.signers:
        bitmap |= 1 << signer
    return block_pb2.Certificate(
        kind=certificate.kind.value,  # type: ignore[arg-type]
        epoch=certificate.epoch,
        view=certificate.view,
        parent_view=certificate.parent_view,
        digest=certificate.digest,
        signer_bitmap=bitmap.to_bytes((bitmap.bit_length() + 7) // 8, "little"),
        signatures=certificate.signatures,
    )


def decode_certificate(m: block_pb2.Certificate) -> Certificate:
    """Read a certificate; neither quorum nor signatures are checked yet.

    Raises:
        WireError: unknown kind, a bitmap that ends with a zero byte or disagrees with the signatures, or a field of
            impossible length.
    """
    kind = _vote_kind("Certificate", m.kind)
    if len(m.signer_bitmap) > VALIDATORS_MAX // 8:
        raise WireError("Certificate", f"bitmap of {len(m.signer_bitmap)} bytes")
    if m.signer_bitmap.endswith(b"\0"):
        raise WireError("Certificate", "its bitmap goes on after the highest signer")
    bitmap = int.from_bytes(m.signer_bitmap, "little")
    signers = tuple(i for i in range(bitmap.bit_length()) if bitmap >> i & 1)
    if len(signers) != len(m.signatures):
        raise WireError("Certificate", f"{len(signers)} signers but {len(m.signatures)} signatures")
    return Certificate(
        kind=kind,
        epoch=m.epoch,
        view=m.view,
        parent_view=m.parent_view,
        digest=_check_target("Certificate", kind, m.parent_view, m.digest),
        signers=signers,
        signatures=tuple([exact("Certificate", "signature", s, SIGNATURE) for s in m.signatures]),
    )


def certificate_bytes(certificate: Certificate) -> bytes:
    """Serialized certificate, as it is stored."""
    return encode_certificate(certificate).SerializeToString(deterministic=True)


def read_certificate(raw: bytes) -> Certificate:
    """Read a stored or transferred certificate.

    Raises:
        WireError: does not parse, or a part of impossible length.
    """
    return decode_certificate(parse(block_pb2.Certificate, raw))
