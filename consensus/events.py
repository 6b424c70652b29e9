"""What happens to the core. ``sender`` is the signer index of the authenticated peer a message came from."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from consensus.messages import Message, Muted, StartAnswer, StartQuery, Want
from consensus.types import Certificate, Header, Justification, Proposal, Vote


@dataclass(frozen=True, slots=True)
class Now:
    """The two clocks, read by the driver."""

    monotonic_ms: int
    """Never goes back; timers run by it."""
    wall_ms: int
    """Ms since 1970-01-01 UTC; only block times are compared with it (R4)."""


class Verdict(enum.Enum):
    """What the application found out about a block; it says nothing while something is missing."""

    VALID = "valid"
    """Body (and those of all ancestors) complete and durable, structurally valid, own state root equal."""
    INVALID = "invalid"
    """Provably invalid: the same for every honest node, whatever it holds and whenever it looks."""


@dataclass(frozen=True, slots=True)
class Started:
    """First event after construction: the driver is ready to carry out effects."""

    nonce: bytes
    """Fresh random bytes for the start-up query (``messages.NONCE_BYTES``)."""
    restored_from_backup: bool = False
    """The home carries the marker every backup writes."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; sent at ``Core.deadline_ms`` at the latest, earlier is harmless."""


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """The stream to a peer is up (again): it may have missed anything."""

    peer: int


@dataclass(frozen=True, slots=True)
class ProposalReceived:
    """A proposal, from its leader or relayed."""

    sender: int
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class VoteReceived:
    """A vote; not necessarily the sender's own."""

    sender: int
    vote: Vote


@dataclass(frozen=True, slots=True)
class CertificateReceived:
    """A certificate; it authenticates itself."""

    sender: int
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Certificates that the application met in blocks it fetched, and found genuine. They are looked at for evidence
    only: the blocks are final, and their Finalization comes by itself."""

    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class WantReceived:
    """A peer asks for the certificates of a view."""

    sender: int
    want: Want


@dataclass(frozen=True, slots=True)
class StartQueryReceived:
    """A peer has started."""

    sender: int
    query: StartQuery


@dataclass(frozen=True, slots=True)
class StartAnswerReceived:
    """A peer answered this node's query."""

    sender: int
    answer: StartAnswer


@dataclass(frozen=True, slots=True)
class MutedReceived:
    """A peer says up to which view it signs nothing."""

    sender: int
    muted: Muted


@dataclass(frozen=True, slots=True)
class BlockFetched:
    """Answer to ``FetchBlock``: a block known only by its digest. The leader's vote in it is not relied on."""

    sender: int
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Built:
    """The application built on the last ``Build`` of this view; payload and batches are in its write queue."""

    view: int
    header: Header
    justification: Justification
    payload: bytes


@dataclass(frozen=True, slots=True)
class BuildRefused:
    """The application cannot build in this view. (Having nothing to list yet is waiting, not refusing.)"""

    view: int


@dataclass(frozen=True, slots=True)
class Verified:
    """The application's verdict on a block it was asked to ``Verify``."""

    digest: bytes
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class HeadersStored:
    """Backfill stored finalized blocks up to this digest: the ``Headers`` port now knows their headers."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """Whether the application has work in the sense of R12 (b) or (c); send it whenever it changes."""

    pending: bool


Event = (
    Started
    | Tick
    | PeerConnected
    | ProposalReceived
    | VoteReceived
    | CertificateReceived
    | Witnessed
    | WantReceived
    | StartQueryReceived
    | StartAnswerReceived
    | MutedReceived
    | BlockFetched
    | Built
    | BuildRefused
    | Verified
    | HeadersStored
    | Work
)


def received(sender: int, message: Message) -> Event:
    """The event of a message that came from a peer."""
    match message:
        case Proposal():
            return ProposalReceived(sender, message)
        case Vote():
            return VoteReceived(sender, message)
        case Certificate():
            return CertificateReceived(sender, message)
        case Want():
            return WantReceived(sender, message)
        case StartQuery():
            return StartQueryReceived(sender, message)
        case StartAnswer():
            return StartAnswerReceived(sender, message)
        case Muted():
            return MutedReceived(sender, message)
