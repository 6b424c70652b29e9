"""What ``node status`` shows of consensus: where it stands and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot; indexes are signer indexes."""

    epoch: int
    view: int
    leader: int
    floor_view: int
    """View of the highest finalized block."""
    floor_height: int | None
    """Its height; None while its header is being backfilled."""
    certified_view: int
    """Highest view with a block that is certified here."""
    signing: str
    """``signing``, ``observer``, ``starting``, ``muted``, ``stopped`` or ``ended`` (the epoch is over)."""
    start_answers: tuple[int, int]
    """Start-up query: answers counted, answers needed."""
    muted_until_view: int
    """Nothing is signed up to this view; 0 if never muted."""
    stopped: str | None
    """Why nothing is signed any more, until an operator acts."""
    idle: bool
    """Nothing to do (R12): no timers run."""
    silent: tuple[int, ...]
    """Validators not heard of for ``skip_ms`` of busy time."""
    missing: tuple[str, ...]
    """What the current view waits for, in words."""
    evidence_count: int
    """Pieces of evidence reported since the start."""
