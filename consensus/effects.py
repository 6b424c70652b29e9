"""What the core wants done. The driver carries out the effects of one turn (one step or several) like this:

1. Blocks first: what the application has to store for this turn (batches, proposals, bodies) is synced.
2. The records of all ``Persist`` effects, in order, are appended to the vote log and synced, once.
3. Only then ``Broadcast`` and ``Send`` leave, in order. If 1 or 2 fails nothing leaves, and the node stops voting.
4. ``RemoveBackupMarker`` is carried out after 2, never before.
5. The others (``Build``, ``Verify``, ``FetchBlock``, ``Finalized``, ...) go to the application in order, at any time:
   they ask or tell, and promise nothing to anybody outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.evidence import Evidence
from consensus.messages import Message
from consensus.records import Record
from consensus.types import Certificate, Header, Proposal


@dataclass(frozen=True, slots=True)
class Persist:
    """Append this record to the vote log before anything of this turn leaves."""

    record: Record


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every other validator (the core has already counted its own)."""

    message: Message


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one validator."""

    to: int
    message: Message


@dataclass(frozen=True, slots=True)
class ViewEntered:
    """The current view changed; every ``Build`` of a lower view is void."""

    view: int
    leader: int


@dataclass(frozen=True, slots=True)
class Build:
    """This node leads: build one block on ``parent``. A later ``Build`` of the same view replaces this one."""

    view: int
    parent: Header
    parent_certificate: Certificate | None
    """For the justification; None where the parent is the genesis of the epoch."""
    nullifications: tuple[Certificate, ...]
    """For the justification: every view between parent and ``view``, ascending."""
    boundary: Header | None
    """The block that ends the epoch, if ``parent`` is it or a tail after it: then only a tail may be built."""
    at_once: bool
    """True: answer now, with an empty block if there is nothing to list (R12 a). False: an offer, answered when there
    is work in the sense of R12 (b) or (c), however long that takes."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Judge this block, fetching what is missing; answer ``Verified`` once it is certain. Parents are asked first.

    A block may come again and has to be answered again: after a restart (so that the application can rebuild its tree),
    and when it was dropped unnotarized and then turned out to be notarized.
    """

    proposal: Proposal


@dataclass(frozen=True, slots=True)
class FetchBlock:
    """Get the block of this digest from any of the sources, first one first; answer ``BlockFetched``.

    It is sent again, with all sources, while the block stays missing.
    """

    digest: bytes
    view: int
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Certified:
    """The highest certified block changed: what leaders build on, and what R12 (b) and (c) are measured by."""

    header: Header


@dataclass(frozen=True, slots=True)
class Finalized:
    """A block and all its ancestors are final. Comes at least once; after a restart the floor comes again."""

    certificate: Certificate
    headers: tuple[Header, ...]
    """Oldest first, ending with the certified block, tails included; from the one after the previous floor, if
    ``complete``."""
    complete: bool
    """False: ancestors (or all, if ``headers`` is empty) are unknown here and have to be backfilled."""


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """The boundary block is final: the core rests and answers late messages. Comes again after a restart."""

    boundary: Header
    """Its ``next_valset_hash`` names who votes next; it is view 0 of the next epoch."""
    certificate: Certificate
    """Finalization of the boundary, or of a tail after it."""


@dataclass(frozen=True, slots=True)
class Report:
    """Somebody provably broke the rules."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something an operator must see."""

    kind: str
    """``divergence``, ``fork``, ``muted``, ``forgotten-vote``."""
    text: str


@dataclass(frozen=True, slots=True)
class Penalise:
    """The peer sent what no honest node can send."""

    sender: int
    reason: str


@dataclass(frozen=True, slots=True)
class RemoveBackupMarker:
    """The bound that the marker asked for is in the log: remove the marker, after the sync."""


Effect = (
    Persist
    | Broadcast
    | Send
    | ViewEntered
    | Build
    | Verify
    | FetchBlock
    | Certified
    | Finalized
    | EpochEnded
    | Report
    | Alarm
    | Penalise
    | RemoveBackupMarker
)
