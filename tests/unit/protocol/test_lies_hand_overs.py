"""Lies about the end of an epoch: the product and the stranger refuse each of them, though a quorum signed it.

The network is that of the vectors: alpha leaves with epoch 0, whose last block is finalized with a tail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as replace_header
from functools import cache

import pytest
from msgspec.structs import replace

from consensus.types import Certificate, Header, VoteKind
from consensus.votes import vote_message
from ledger import proof_building as building
from ledger import proof_errors, proofs, wire
from ledger.epochs import EPOCHS, Seat
from ledger.known_epochs import KnownEpochs
from ledger.proof_types import HandOver, HeaderProof, Proof, RecordProof
from ledger.types import JustifiedHeader
from tests.unit.protocol import stranger
from tests.unit.protocol.liars import OTHER, accepted, file_of, refused
from tests.vectors.small_network import INSURERS, Network, build_two_epochs, consensus_key, seeded_key

ALL = (0, 1, 2, 3)


@cache
def later() -> Network:
    return build_two_epochs()


def subject() -> RecordProof:
    return building.record_proof(later(), later().state, EPOCHS, (1).to_bytes(8, "big"))


def good() -> HandOver:
    return subject().header.hand_overs[0]


def with_hand_overs(*hand_overs: HandOver) -> bytes:
    return file_of(replace(subject(), header=replace(subject().header, hand_overs=hand_overs)))


def one(**changes: object) -> bytes:
    """The proof with its one hand-over changed."""
    return with_hand_overs(replace(good(), **changes))


def sign(kind: VoteKind, header: Header, *, epoch: int = 0, signers: tuple[int, ...] = (0, 1, 2)) -> Certificate:
    """A genuine certificate of whatever header."""
    names = [member for member in INSURERS if epoch == 0 or member != "alpha"]
    message = vote_message(later().genesis.chain_id, kind, epoch, header.view, header.parent_view, header.digest)
    signatures = tuple(consensus_key(names[signer], epoch).sign(message) for signer in signers)
    return Certificate(kind, epoch, header.view, header.parent_view, header.digest, signers, signatures)


def altered(header: Header, **changes: object) -> Header:
    names = [name for name in Header.__dataclass_fields__ if name not in ("raw", "digest")]
    return wire.encode_header(**{name: getattr(header, name) for name in names} | changes)


def boundary() -> JustifiedHeader:
    return good().headers[0]


def tail() -> JustifiedHeader:
    return good().headers[1]


def lying_tail(**changes: object) -> bytes:
    """A tail with other fields, certified anew."""
    header = altered(tail().header, **changes)
    return one(headers=(boundary(), JustifiedHeader(header, tail().justification)), finalization=_final(header))


def lying_boundary(members: tuple[Seat, ...] | None = None, **changes: object) -> bytes:
    """The last block of the epoch with other fields, certified anew, without tails."""
    header = altered(boundary().header, **changes)
    return one(
        headers=(JustifiedHeader(header, boundary().justification),),
        finalization=_final(header),
        members=good().members if members is None else members,
    )


def _final(header: Header) -> Certificate:
    return sign(VoteKind.FINALIZE, header)


def in_next_epoch(**changes: object) -> bytes:
    """The proved header with other fields, certified anew by the members of epoch 1."""
    justified = subject().header.headers[0]
    header = altered(justified.header, **changes)
    row = (JustifiedHeader(header, justified.justification),)
    proof = HeaderProof(row, sign(VoteKind.FINALIZE, header, epoch=1), subject().header.hand_overs)
    return file_of(replace(subject(), header=proof))


def by_the_old_set() -> bytes:
    """The header of epoch 1, finalized by the keys of epoch 0."""
    header = subject().header.subject
    return file_of(replace(subject(), header=replace(subject().header, finalization=sign(VoteKind.FINALIZE, header))))


def by_old_keys() -> bytes:
    """As an epoch 1 certificate, but signed with the keys of epoch 0."""
    header = subject().header.subject
    message = vote_message(
        later().genesis.chain_id, VoteKind.FINALIZE, 1, header.view, header.parent_view, header.digest
    )
    signatures = tuple(seeded_key(name, "consensus").sign(message) for name in INSURERS[1:])
    certificate = replace_header(subject().header.finalization, signatures=signatures)
    return file_of(replace(subject(), header=replace(subject().header, finalization=certificate)))


def swapped(members: tuple[Seat, ...]) -> tuple[Seat, ...]:
    return (members[1], members[0], *members[2:])


def rekeyed(members: tuple[Seat, ...], key: bytes) -> tuple[Seat, ...]:
    return (Seat(members[0].organisation, key), *members[1:])


LIES: dict[str, Callable[[], bytes]] = {
    "no hand-over": lambda: with_hand_overs(),
    "the hand-over twice": lambda: with_hand_overs(good(), good()),
    "a member less": lambda: one(members=good().members[1:]),
    "a member more": lambda: one(members=(Seat("alpha", OTHER), *good().members)),
    "members in another order": lambda: one(members=swapped(good().members)),
    "another key": lambda: one(members=rekeyed(good().members, OTHER)),
    "no key": lambda: one(members=rekeyed(good().members, b"")),
    "one key for two": lambda: one(members=rekeyed(good().members, good().members[1].consensus_key)),
    "another finalization": lambda: one(finalization=sign(VoteKind.NOTARIZE, tail().header)),
    "too few signers": lambda: one(finalization=sign(VoteKind.FINALIZE, tail().header, signers=(0, 1))),
    "the tail left out": lambda: one(headers=(boundary(),)),
    "the boundary left out": lambda: one(headers=(tail(),)),
    "the tail before the boundary": lambda: one(headers=(tail(), boundary())),
    "a tail that ends the epoch again": lambda: lying_tail(next_valset_hash=boundary().header.next_valset_hash),
    "a tail that lists batches": lambda: lying_tail(payload_root=OTHER),
    "a tail with a height of its own": lambda: lying_tail(height=boundary().header.height + 1),
    "a tail with a time of its own": lambda: lying_tail(timestamp_ms=boundary().header.timestamp_ms + 1),
    "a tail with another state": lambda: lying_tail(state_root=OTHER),
    "a tail with other receipts": lambda: lying_tail(receipts_root=OTHER),
    "a tail of another parent": lambda: lying_tail(parent_digest=OTHER),
    "a tail of another view": lambda: lying_tail(parent_view=tail().header.parent_view - 1),
    "a tail of another epoch": lambda: lying_tail(epoch=1),
    "a tail that skips a view silently": lambda: lying_tail(view=tail().header.view + 1),
    "an end that names nobody": lambda: lying_boundary(next_valset_hash=b""),
    "an end that names others": lambda: lying_boundary(next_valset_hash=OTHER),
    "an end in another epoch": lambda: lying_boundary(epoch=1),
    "an end of another set": lambda: lying_boundary(valset_hash=OTHER),
    "an end on another network": lambda: lying_boundary(chain_id=OTHER),
    "the next epoch in the old one's name": lambda: in_next_epoch(epoch=0),
    "the next epoch under another set": lambda: in_next_epoch(valset_hash=OTHER),
    "the next epoch on another block": lambda: in_next_epoch(parent_digest=OTHER),
    "the next epoch with a gap": lambda: in_next_epoch(height=subject().header.subject.height + 1),
    "the next epoch before the last": lambda: in_next_epoch(height=2),
    "the next epoch at the old time": lambda: in_next_epoch(timestamp_ms=boundary().header.timestamp_ms),
    "the next epoch on the end's view": lambda: in_next_epoch(parent_view=1),
    "finalized by the old set": by_the_old_set,
    "finalized with old keys": by_old_keys,
}


def test_the_honest_hand_over_is_accepted() -> None:
    accepted(file_of(subject()))


def test_a_hand_over_that_needed_no_tail_is_accepted() -> None:
    accepted(one(headers=(boundary(),), finalization=_final(boundary().header)))


@pytest.mark.parametrize("lie", LIES)
def test_invalid_hand_over(lie: str) -> None:
    refused(LIES[lie]())


@pytest.mark.parametrize(
    "members",
    [
        (),
        (Seat("", b""),),
        (Seat("x" * 33, b""),),
        (Seat("bravo", b"\x01" * 31),),
        tuple(Seat(f"m-{at:03}", b"") for at in range(257)),
    ],
)
def test_invalid_members_do_not_decode(members: tuple[Seat, ...]) -> None:
    refused(one(members=members))


def test_a_set_signed_for_by_a_quorum_that_is_no_set_is_refused() -> None:
    """The committed hash of members out of order, or with one key twice."""
    key = good().members[1].consensus_key
    for members in (swapped(good().members), rekeyed(good().members, key)):
        refused(lying_boundary(members, next_valset_hash=_hash(members)))


def _hash(members: tuple[Seat, ...]) -> bytes:
    from ledger.epochs import validators, valset_hash

    return valset_hash(1, validators(members))


def next_epoch_of(members: tuple[Seat, ...], signers: tuple[int, ...] = (0, 1, 2)) -> bytes:
    """The record under a header of an epoch 1 with these members, all signatures genuine."""
    end = altered(boundary().header, next_valset_hash=_hash(members))
    row = (JustifiedHeader(end, boundary().justification),)
    first = altered(
        subject().header.subject,
        parent_digest=end.digest,
        valset_hash=_hash(members),
        view=1,
        justification_digest=wire.make_justification(None, ()).digest,
    )
    proof = HeaderProof(
        (JustifiedHeader(first, wire.make_justification(None, ())),),
        sign(VoteKind.FINALIZE, first, epoch=1, signers=signers),
        (HandOver(row, _final(end), members),),
    )
    return file_of(replace(subject(), header=proof))


def test_a_member_without_a_key_counts_and_cannot_sign() -> None:
    four = (*good().members, Seat("echo", b""))
    accepted(next_epoch_of(four))
    accepted(next_epoch_of(good().members))
    keyless = rekeyed(good().members, b"")
    refused(next_epoch_of(keyless))  # whatever stands for its signature is bad
    refused(next_epoch_of(keyless, (1, 2)))  # and two of three are no quorum


# -- what is known already -----------------------------------------------------------------------


def proof() -> Proof:
    return Proof(later().genesis.chain_id, subject())


def test_a_hand_over_is_verified_once() -> None:
    first = proofs.verify_proof(proof(), later().genesis)
    assert first.known is not None
    assert first.known.latest.validators.epoch == 1
    counted: list[int] = []

    def counting(jobs: object) -> list[bool]:
        counted.append(len(jobs))  # type: ignore[arg-type]
        return [True] * len(jobs)  # type: ignore[arg-type]

    again = proofs.verify_proof(proof(), later().genesis, counting, first.known)
    assert again.known == first.known
    assert counted[0] == again.signatures == 6  # one nullification, one finalization: three signers each
    assert first.signatures > again.signatures


def test_a_failed_proof_teaches_nothing() -> None:
    known = KnownEpochs.of_genesis(later().genesis)
    with pytest.raises(proof_errors.ProofError):
        proofs.verify_bytes(LIES["finalized with old keys"](), later().genesis, known=known)
    assert sorted(known.starts) == [0]


def test_a_second_history_is_refused_by_who_knows_the_first() -> None:
    """Every key of epoch 0 leaks; another end of it, perfectly signed, convinces only those who know nothing yet."""
    header = altered(boundary().header, timestamp_ms=boundary().header.timestamp_ms + 1)
    members = good().members
    first = altered(subject().header.subject, parent_digest=header.digest)
    forged = replace(
        subject(),
        header=HeaderProof(
            (JustifiedHeader(first, subject().header.headers[0].justification),),
            sign(VoteKind.FINALIZE, first, epoch=1),
            (HandOver((JustifiedHeader(header, boundary().justification),), _final(header), members),),
        ),
    )
    accepted(file_of(forged))
    known = proofs.verify_proof(proof(), later().genesis).known
    with pytest.raises(proof_errors.ConflictingHistory):
        proofs.verify_bytes(file_of(forged), later().genesis, known=known)


def test_records_of_an_earlier_epoch_need_no_hand_over() -> None:
    old = building.header_proof(later(), 6)
    assert old.hand_overs == ()
    known, _ = proofs.verify_header_proof(old, KnownEpochs.of_genesis(later().genesis))
    assert sorted(known.starts) == [0]


def test_every_height_is_proved_whatever_epoch_it_is_of() -> None:
    raw = later().genesis.raw
    for height in range(1, later().finalized_height() + 1):
        made = building.header_proof(later(), height)
        _, count = proofs.verify_header_proof(made, KnownEpochs.of_genesis(later().genesis))
        assert count
        message = wire.proofs.encode_header_proof(made).SerializeToString(deterministic=True)
        assert stranger.check_headers(message, stranger.read_network(raw))["height"] == height
    assert len(building.header_proof(later(), 8).headers) == 2
