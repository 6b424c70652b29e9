"""Votes and certificates as signed bytes: making, shape, verification.

Signed message of a vote (docs/protocol.md, "Vote")::

    SHA-256( "lossbook/v1/vote" 00 | chain_id 32 | kind u8 | epoch u64 | view u64 | [ parent_view u64 | digest 32 ] )

Integers are big-endian; the part in brackets is absent from a nullify vote, which must not point to a parent.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise
from typing import Final

from consensus.ports import Verifier
from consensus.types import Certificate, ValidatorSet, Vote, VoteKind

TAG_VOTE: Final = b"lossbook/v1/vote\x00"
DIGEST_BYTES: Final = 32
U64_MAX: Final = (1 << 64) - 1

_HEAD: Final = struct.Struct(">BQQ")
_PARENT: Final = struct.Struct(">Q")


def vote_message(
    chain_id: bytes, kind: VoteKind, epoch: int, view: int, parent_view: int = 0, digest: bytes = b""
) -> bytes:
    """The 32 bytes a vote signs. struct.error outside unsigned 64 bits; see ``shape_problem``."""
    message = TAG_VOTE + chain_id + _HEAD.pack(kind, epoch, view)
    if kind is not VoteKind.NULLIFY:
        message += _PARENT.pack(parent_view) + digest
    return sha256(message).digest()


def shape_problem(voted: Vote | Certificate) -> str | None:
    """What no honest node would write into the tuple that is voted on; None if it is fine."""
    if not 1 <= voted.view < U64_MAX or not 0 <= voted.epoch <= U64_MAX:
        return "view or epoch out of range"
    if voted.kind is VoteKind.NULLIFY:
        return "a nullification names its view only" if voted.parent_view or voted.digest else None
    if len(voted.digest) != DIGEST_BYTES or not 0 <= voted.parent_view < voted.view:
        return "digest or parent view out of range"
    return None


class VoteChecker:
    """Verifies votes and certificates of one epoch."""

    def __init__(self, chain_id: bytes, validators: ValidatorSet, signatures: Verifier) -> None:
        self._chain_id = chain_id
        self._validators = validators
        self._signatures = signatures

    def vote_problem(self, vote: Vote) -> str | None:
        """None if the vote is genuine. An unknown signer is refused before its key is looked up (ASA-2024-011)."""
        problem = shape_problem(vote)
        if problem:
            return problem
        if not 0 <= vote.signer < self._validators.n:
            return f"signer {vote.signer} is not in the validator set"
        key = self._validators.members[vote.signer].public_key
        if not key:
            return f"signer {vote.signer} registered no key for this epoch"
        message = vote_message(self._chain_id, vote.kind, vote.epoch, vote.view, vote.parent_view, vote.digest)
        if not self._signatures.verify(key, message, vote.signature):
            return "bad signature"
        return None

    def certificate_problem(self, certificate: Certificate, known: Callable[[Vote], bool]) -> str | None:
        """None if the certificate is genuine: a quorum of distinct validators of this epoch, every signature good.

        Args:
            known: whether exactly this vote, signature included, was verified before; saves its verification.
        """
        problem = shape_problem(certificate)
        if problem:
            return problem
        if certificate.epoch != self._validators.epoch:
            return "another epoch"
        signers = certificate.signers
        if len(signers) != len(certificate.signatures):
            return "signers and signatures differ in number"
        if any(a >= b for a, b in pairwise(signers)):
            return "signers do not ascend"
        if not signers or signers[0] < 0 or signers[-1] >= self._validators.n:
            return "a signer is not in the validator set"
        if len(signers) < self._validators.quorum:
            return f"{len(signers)} signatures are no quorum of {self._validators.quorum}"
        message = vote_message(
            self._chain_id,
            certificate.kind,
            certificate.epoch,
            certificate.view,
            certificate.parent_view,
            certificate.digest,
        )
        for vote in certificate.votes():
            if not known(vote):
                key = self._validators.members[vote.signer].public_key
                if not key or not self._signatures.verify(key, message, vote.signature):
                    return f"bad signature of {vote.signer}"
        return None
