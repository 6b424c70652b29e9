"""What must survive a crash, as values; the file they go to is ``store.votelog``.

Every record names its epoch, and a core takes those of its own. They are applied in order at restore. There is none for
the floor: it is the highest Finalization among the certificates. ``Core.live_records`` says which are still needed when
the file is rewritten.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.types import Certificate, Vote


@dataclass(frozen=True, slots=True)
class OwnVote:
    """A vote this node signed; synced before it leaves."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """A certificate this node formed or received, and may advertise."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class BuiltBlock:
    """This node, as leader, built this block; never another one for the view."""

    epoch: int
    view: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Certification:
    """Outcome of certifying a notarized block (R6); synced before a finalize vote leaves."""

    epoch: int
    view: int
    digest: bytes
    valid: bool


@dataclass(frozen=True, slots=True)
class MutedUntil:
    """This node signs nothing in views up to this one (start-up rule); the highest such record of the epoch counts."""

    epoch: int
    view: int


Record = OwnVote | HeldCertificate | BuiltBlock | Certification | MutedUntil


def epoch_of(record: Record) -> int:
    """The epoch a record speaks of."""
    match record:
        case OwnVote(vote):
            return vote.epoch
        case HeldCertificate(certificate):
            return certificate.epoch
        case _:
            return record.epoch
