"""Whether a row of headers is final: within one epoch, and from one epoch to the next.

    check_final(headers, finalization, chain_id, start)
      1  each header is of this chain, this epoch and its validator set
      2  each is the child of the one before; the first of the epoch is the child of the epoch's genesis; after the
         block that ends the epoch come its tails, which repeat it (consensus.md §9)
      3  each carries the preimage of its justification digest: the parent's certificate (absent only where the parent
         is the epoch's genesis) and one nullification for every skipped view
      4  every certificate, the Finalization of the last header included: a quorum of distinct members of the set

    hand_over(...)    the same for the block that ends the epoch; the members of the next set hash to what it names

Signatures are not checked here: they are returned, so that many can be checked together. Sources: consensus.md §1, §9,
§10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from consensus.justification import tail_problem
from consensus.types import Certificate, Header, Validator, ValidatorSet, VoteKind
from consensus.votes import vote_message
from ledger.epochs import VALIDATORS_MAX, Seat, epoch_seed, validators, valset_hash
from ledger.genesis import Genesis
from ledger.genesis_header import genesis_header_of
from ledger.proof_errors import BadCertificate, BadHandOver, BadHeaderChain, BadJustification
from ledger.types import JustifiedHeader
from ledger.wellformed import SignatureJob

PROTOCOL_VERSION: Final = 1

NamedJob = tuple[str, SignatureJob]
"""What a signature is part of, and the signature to check."""


class EpochStart(msgspec.Struct, frozen=True):
    """What an epoch is verified from: who votes in it, and on what its first block builds."""

    validators: ValidatorSet
    genesis: Header
    """The header of view 0: of the chain's genesis, or of the block that ended the epoch before."""

    @property
    def identity(self) -> tuple[bytes, bytes]:
        """Who votes, and on which block the epoch begins; its seed is of no matter to a verifier."""
        return self.validators.hash, self.genesis.digest

    @classmethod
    def of_genesis(cls, genesis: Genesis) -> EpochStart:
        """Epoch 0."""
        return cls(genesis.validator_set(), genesis_header_of(genesis))

    @classmethod
    def after(cls, boundary: Header, members: Sequence[Seat]) -> EpochStart:
        """The epoch that this block handed over to these members.

        Raises:
            BadHandOver: they are not the set it names, or no set.
        """
        epoch, name = boundary.epoch + 1, f"end of epoch {boundary.epoch}"
        if not 1 <= len(members) <= VALIDATORS_MAX or any(len(one.consensus_key) not in (0, 32) for one in members):
            raise BadHandOver(name, "the next members are no validator set")
        next_members = validators(members)
        named = valset_hash(epoch, next_members)
        if named != boundary.next_valset_hash:
            raise BadHandOver(name, "the next members are not those it names")
        return cls(_validator_set(name, epoch, next_members, epoch_seed(boundary.digest), named), boundary)


def _validator_set(name: str, epoch: int, members: tuple[Validator, ...], seed: int, named: bytes) -> ValidatorSet:
    try:
        return ValidatorSet(epoch, members, seed, named)
    except ValueError as error:
        raise BadHandOver(name, str(error)) from error


def hand_over(
    headers: Sequence[JustifiedHeader],
    finalization: Certificate,
    members: Sequence[Seat],
    chain_id: bytes,
    start: EpochStart,
) -> tuple[EpochStart, list[NamedJob]]:
    """The epoch after ``start``, and the signatures that its beginning rests on.

    Args:
        headers: the block that ends the epoch, then its tails down to the one that is finalized.
        members: of the next set, in its order.

    Raises:
        BadHandOver: the first header ends no epoch, or the members are not those it names.
        ProofError: as ``check_final``.
    """
    boundary = headers[0].header
    if not boundary.next_valset_hash:
        raise BadHandOver(f"header of height {boundary.height}", "it does not end its epoch")
    jobs = check_final(headers, finalization, chain_id, start)
    return EpochStart.after(boundary, members), jobs


def check_final(
    headers: Sequence[JustifiedHeader], finalization: Certificate, chain_id: bytes, start: EpochStart
) -> list[NamedJob]:
    """That the first header is final in this epoch, but for the signatures, which are returned to be checked.

    Args:
        headers: at least one; each next one the child of the one before.
        finalization: of the last.

    Raises:
        BadHeaderChain, BadJustification, BadCertificate: the first thing that is wrong.
    """
    jobs: list[NamedJob] = []
    parent: Header | None = None
    boundary: Header | None = None
    for justified in headers:
        header = justified.header
        name = f"header of height {header.height}"
        _check_own_fields(name, header, chain_id, start)
        if parent is None:
            _check_first(name, header, start)
        else:
            _check_child(name, header, parent, boundary)
        jobs += _check_justification(name, justified, parent, chain_id, start.validators)
        if header.next_valset_hash:
            boundary = header
        parent = header
    last = headers[-1].header
    if finalization.kind is not VoteKind.FINALIZE:
        raise BadCertificate("finalization", f"it is a {finalization.kind.name.lower()} certificate")
    target = (last.view, last.parent_view, last.digest)
    return jobs + _check_certificate(finalization, target, chain_id, start.validators)


def _check_own_fields(name: str, header: Header, chain_id: bytes, start: EpochStart) -> None:
    validators = start.validators
    if header.version != PROTOCOL_VERSION:
        raise BadHeaderChain(name, f"version {header.version} is not known to this software")
    if header.chain_id != chain_id:
        raise BadHeaderChain(name, "it is of another network")
    if header.epoch != validators.epoch or header.valset_hash != validators.hash:
        raise BadHeaderChain(
            name, f"it is of another epoch or validator set than epoch {validators.epoch} as it is known"
        )
    if header.height <= start.genesis.height or header.view <= header.parent_view:
        raise BadHeaderChain(name, "its height or view cannot be")
    if header.state_height >= header.height:
        raise BadHeaderChain(name, "its state height cannot be")


def _check_first(name: str, header: Header, start: EpochStart) -> None:
    """The subject: of its parent only what the epoch's genesis says, where that is it."""
    if (header.height == start.genesis.height + 1) != (header.parent_view == 0):
        raise BadHeaderChain(name, "the epoch's first height, and no other, is built on its genesis")
    if header.parent_view == 0 and (
        header.parent_digest != start.genesis.digest or header.timestamp_ms <= start.genesis.timestamp_ms
    ):
        raise BadHeaderChain(name, "it is not the child of the genesis")


def _check_child(name: str, header: Header, parent: Header, boundary: Header | None) -> None:
    if header.parent_digest != parent.digest or header.parent_view != parent.view:
        raise BadHeaderChain(name, "it is not the child of the header before it")
    if boundary is not None:
        problem = tail_problem(header, boundary)
        if problem:
            raise BadHeaderChain(name, f"it is no tail of the block that ends the epoch: {problem}")
    elif header.height != parent.height + 1 or header.timestamp_ms <= parent.timestamp_ms:
        raise BadHeaderChain(name, "it is not the child of the header before it")


def _check_justification(
    name: str, justified: JustifiedHeader, parent: Header | None, chain_id: bytes, validators: ValidatorSet
) -> list[NamedJob]:
    header, justification = justified.header, justified.justification
    if justification.digest != header.justification_digest:
        raise BadJustification(name, "the justification is not the one the header commits to")
    certificate = justification.parent
    if (certificate is None) != (header.parent_view == 0):
        raise BadJustification(name, "a parent's certificate is missing, or given for the genesis")
    jobs: list[NamedJob] = []
    if certificate is not None:
        if certificate.kind is VoteKind.NULLIFY:
            raise BadJustification(name, "a nullification stands where the parent's certificate belongs")
        parent_view = certificate.parent_view if parent is None else parent.parent_view
        target = (header.parent_view, parent_view, header.parent_digest)
        jobs += _check_certificate(certificate, target, chain_id, validators)
    return jobs + _check_skipped(name, header, justification.nullifications, chain_id, validators)


def _check_skipped(
    name: str,
    header: Header,
    nullifications: Sequence[Certificate],
    chain_id: bytes,
    validators: ValidatorSet,
) -> list[NamedJob]:
    count = header.view - header.parent_view - 1  # compared before anything counts up to it: views are up to 2^64
    if len(nullifications) != count:
        raise BadJustification(name, f"{len(nullifications)} nullifications for {count} skipped views")
    skipped = range(header.parent_view + 1, header.view)
    jobs: list[NamedJob] = []
    for view, nullification in zip(skipped, nullifications, strict=True):
        if nullification.kind is not VoteKind.NULLIFY:
            raise BadJustification(name, f"view {view} was skipped without a nullification")
        jobs += _check_certificate(nullification, (view, 0, b""), chain_id, validators)
    return jobs


def _check_certificate(
    certificate: Certificate, target: tuple[int, int, bytes], chain_id: bytes, validators: ValidatorSet
) -> list[NamedJob]:
    name = f"{certificate.kind.name.lower()} certificate of view {certificate.view}"
    if certificate.epoch != validators.epoch:
        raise BadCertificate(name, f"it is of epoch {certificate.epoch}")
    if (certificate.view, certificate.parent_view, certificate.digest) != target:
        raise BadCertificate(name, "it is for another block or view")
    signers = certificate.signers
    if len(set(signers)) != len(signers) or len(signers) != len(certificate.signatures):
        raise BadCertificate(name, "a signer counts twice")
    if any(not 0 <= signer < validators.n for signer in signers):
        raise BadCertificate(name, f"a signer is outside the set of {validators.n}")
    if len(signers) < validators.quorum:
        raise BadCertificate(name, f"{len(signers)} signers; a quorum is {validators.quorum}")
    message = vote_message(
        chain_id,
        certificate.kind,
        certificate.epoch,
        certificate.view,
        certificate.parent_view,
        certificate.digest,
    )
    return [
        (name, (validators.members[signer].public_key, message, signature))
        for signer, signature in zip(signers, certificate.signatures, strict=True)
    ]
