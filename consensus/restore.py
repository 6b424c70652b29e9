"""From records to rounds and back: what a restart knows (consensus.md §5, "Replay")."""

from __future__ import annotations

from collections.abc import Iterable

from consensus.records import BuiltBlock, Certification, HeldCertificate, MutedUntil, OwnVote, Record, epoch_of
from consensus.rounds import Round, Rounds
from consensus.types import Certificate, VoteKind


def replay(records: Iterable[Record], epoch: int, rounds: Rounds) -> int:
    """Apply the epoch's records in order to fresh rounds; the view up to which nothing is signed, 0 if there is none.

    Own votes go back into the vote boxes: a node that forgets to count its own X keeps everybody from a quorum when
    all have restarted (commonware #4275).
    """
    muted_until = 0
    for record in records:
        if epoch_of(record) != epoch:
            continue
        match record:
            case OwnVote(vote):
                found = rounds.at(vote.view)
                found.count(vote)
                if vote.kind is VoteKind.NOTARIZE:
                    found.fill_slot(vote.digest)
            case HeldCertificate(certificate):
                _hold(rounds.at(certificate.view), certificate)
            case BuiltBlock(_, view, digest):
                rounds.at(view).built = digest
            case Certification(_, view, digest, valid):
                found = rounds.at(view)
                found.certified = digest if valid else None
                found.rejected = None if valid else digest
            case MutedUntil(_, view):
                muted_until = max(muted_until, view)
    return muted_until


def _hold(found: Round, certificate: Certificate) -> None:
    found.certificates.setdefault(certificate.kind, certificate)
    for vote in certificate.votes():
        found.count(vote)
    if certificate.kind is VoteKind.NOTARIZE:
        if found.slot not in (None, certificate.digest):
            found.equivocated = True
        found.slot = certificate.digest


def live_records(rounds: Rounds, epoch: int, own_index: int | None, muted_until: int) -> list[Record]:
    """The records that ``replay`` needs for these rounds, lowest view first."""
    records: list[Record] = [MutedUntil(epoch, muted_until)] if muted_until else []
    for found in rounds.ascending():
        if found.built is not None:
            records.append(BuiltBlock(epoch, found.view, found.built))
        if own_index is not None:
            records += [OwnVote(votes[own_index]) for votes in found.votes.values() if own_index in votes]
        records += [HeldCertificate(certificate) for _, certificate in sorted(found.certificates.items())]
        if found.certified is not None:
            records.append(Certification(epoch, found.view, found.certified, True))
        elif found.rejected is not None:
            records.append(Certification(epoch, found.view, found.rejected, False))
    return records
