"""What a daemon knows of itself and its peers, and what a reason is that comes of it (``node.reasons``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from consensus.status import Status

CERTIFICATE_DAYS_MIN: Final = 14
"""A certificate that ends sooner is worth a word; a start renews one that has less than 30 days left."""

PATIENCE_DELAYS: Final = 4
"""Times D: a view with a live leader takes at most three."""

# Kinds that /readyz asks for by name.
DISK_FULL: Final = "disk-full"
STORE_FAILED: Final = "store-failed"
DIVERGED: Final = "diverged"
TOO_MANY_MUTED: Final = "too-many-muted"
STARTING: Final = "starting"
MUTED: Final = "muted"
TOO_FEW_PEERS: Final = "too-few-peers"
CARD_REPLACED: Final = "card-replaced"
CERTIFICATE_ENDS: Final = "certificate-ends"
TWIN: Final = "twin"
NOT_LET_IN: Final = "not-let-in"


class Reason(msgspec.Struct, frozen=True):
    """One reason."""

    kind: str
    """For programs; docs/operations.md has a row for each."""
    text: str
    """What is the case."""
    next_step: str
    """What to do about it."""


class PeerFacts(msgspec.Struct, frozen=True):
    """Another validator as this node sees it."""

    organisation: str
    connected: bool
    """The stream dialled to it is up."""
    problem: str
    """Why not, in the network's words."""
    offences: int = 0
    """Messages no honest node sends, since the start."""
    last_offence: str = ""
    ignored_s: int = 0
    """It is not listened to for so many seconds more."""
    turns_away: bool = False
    """It answers, and does not let this node in."""
    speaks_of_a_twin: bool = False
    """It ends streams of this node because another process with this node's identity opens newer ones."""
    twins: Sequence[str] = ()
    """Where two processes call from that run with its identity; empty where no two do."""


class StoreFailure(msgspec.Struct, frozen=True):
    """A store whose write or sync failed while the daemon ran."""

    text: str
    disk_full: bool


class OwnBatch(msgspec.Struct, frozen=True):
    """An own batch that a quorum has not acknowledged."""

    sequence: int
    holders: Sequence[int]
    """Signer indexes of those that have."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon knows of itself and its peers."""

    own: str
    members: Sequence[str]
    """Organisation ids by signer index."""
    consensus: Status
    finalized_height: int
    executed_height: int
    catching_up: bool
    snapshot: Mapping[str, int] | None
    """How much of a snapshot has come in; None while none is fetched."""
    stalled_ms: int
    """Since when nothing became final although there was something to do."""
    delay_ms: int
    """D."""
    heartbeat_ms: int
    clock_delta_ms: int
    peers: Sequence[PeerFacts]
    failure: StoreFailure | None = None
    free_bytes: int | None = None
    """On the file system of the home; None if it cannot be told."""
    observing: str = ""
    """Why this node has no vote log, if it has none."""
    key_problem: str = ""
    """Why the consensus key of the next epoch could not be made, or those of past ones not be destroyed."""
    card_replaced: bool = False
    """A vote has put another ledger key on the own card since the start."""
    suspended: bool = False
    """A vote has suspended the own seat."""
    certificate_days: int = CERTIFICATE_DAYS_MIN
    """Whole days until the own TLS certificate ends; below zero: it has ended."""
    epoch_age_ms: int = 0
    """Block time since the epoch began."""
    divergence: str = ""
    missing_batches: Sequence[bytes] = ()
    """Digests of batches that a block waits for."""
    own_batches: Sequence[OwnBatch] = ()

    def name(self, index: int) -> str:
        """Organisation of a signer index."""
        return self.members[index] if 0 <= index < len(self.members) else f"validator {index}"

    @property
    def validators(self) -> Sequence[PeerFacts]:
        """The peers that have a seat in this epoch; others (removed, or about to join) only follow."""
        return [peer for peer in self.peers if peer.organisation in self.members]

    @property
    def faulty_max(self) -> int:
        """f: so many validators of this epoch may lie."""
        return len(self.members) - self.consensus.quorum

    @property
    def seated(self) -> bool:
        """Whether this node's organisation has a seat in this epoch."""
        return self.own in self.members

    @property
    def votes(self) -> bool:
        """Whether this node is one of those that a quorum is made of: with a seat, and a key and a log to sign with."""
        return self.seated and self.consensus.signing != "observer"

    @property
    def others_silent(self) -> Sequence[str]:
        """Organisations of the other validators that were not heard of for a while."""
        return [name for index in self.consensus.silent if (name := self.name(index)) != self.own]

    @property
    def stalls(self) -> bool:
        """Whether nothing became final for longer than a view with a live leader takes."""
        return self.stalled_ms >= PATIENCE_DELAYS * self.delay_ms
