"""What ``node status`` shows of consensus: where it stands and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consensus.rounds import Round
from consensus.startup import StartUp
from consensus.state import State
from consensus.types import VoteKind

SHOWN_MAX: Final = 8
"""Of a list that may be long: enough to ask for."""


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot; indexes are signer indexes."""

    epoch: int
    view: int
    leader: int
    quorum: int
    """Q."""
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
    start_missing: tuple[int, ...]
    """Start-up query: who has not answered, or not in a way that counts yet; empty once there are enough."""
    muted_until_view: int
    """Nothing is signed up to this view; 0 if never muted."""
    muted_peers: tuple[tuple[int, int], ...]
    """Others that sign nothing yet, as they say: (index, up to which view)."""
    stopped: str | None
    """Why nothing is signed any more, until an operator acts."""
    idle: bool
    """Nothing to do (R12): no timers run."""
    silent: tuple[int, ...]
    """Validators not heard of for ``skip_ms`` of busy time."""
    proposed: bool
    """The leader's proposal for the current view is known, at least by its digest."""
    given_up: bool
    """The current view timed out, or nothing can come of it."""
    time_outs: int
    """Views given up one after another since the last final block."""
    notarizers: tuple[int, ...]
    """Who voted N for the block of the current view."""
    nullifiers: tuple[int, ...]
    """Who voted X in the current view."""
    finalizers: tuple[int, ...]
    """Who voted F for the highest certified block; empty where that is final."""
    missing_blocks: tuple[bytes, ...]
    """Digests of blocks that are voted for or notarized and not in hand."""
    missing_nullifications: tuple[int, ...]
    """Views without a Nullification between the highest certified and the current one; the first ``SHOWN_MAX``."""
    unjudged: tuple[tuple[int, bytes, bool], ...]
    """Blocks above the floor without a verdict: (view, digest, whether the parent is known)."""
    clocks: tuple[tuple[int, int], ...]
    """Leaders whose last block kept this node from voting by its time: (index, ms ahead of the own clock)."""
    evidence_count: int
    """Pieces of evidence reported since the start."""


def status_of(state: State, missing_blocks: tuple[bytes, ...]) -> Status:
    """The snapshot of a core's state."""
    s, startup, found = state, state.startup, state.current
    header = s.blocks.header(s.floor_digest)
    signing = s.signer.state
    if signing == "signing" and s.view <= s.signer.muted_until:
        signing = "muted"
    return Status(
        epoch=s.validators.epoch,
        view=s.view,
        leader=s.leader,
        quorum=s.validators.quorum,
        floor_view=s.floor_view,
        floor_height=header.height if header else None,
        certified_view=s.certified_view,
        signing=signing,
        start_answers=(len(startup.credible(s.reachable_view)), startup.needed) if startup else (0, 0),
        start_missing=_unanswered(s, startup),
        muted_until_view=s.signer.muted_until,
        muted_peers=tuple((i, until) for i, until in sorted(s.muted_peers.items()) if until >= s.view),
        stopped=s.signer.stopped,
        idle=s.pace.armed_ms is None,
        silent=s.activity.silent(),
        proposed=found is not None and found.slot is not None,
        given_up=s.pace.expired,
        time_outs=s.streak(),
        notarizers=_signers(found, VoteKind.NOTARIZE, found.slot if found else None),
        nullifiers=_signers(found, VoteKind.NULLIFY, b""),
        finalizers=_finalizers(s),
        missing_blocks=missing_blocks,
        missing_nullifications=tuple(s.missing_nullifications()[:SHOWN_MAX]),
        unjudged=tuple(
            (block.header.view, block.header.digest, block.placed)
            for block in s.blocks.ascending()
            if block.header.view > s.floor_view and block.bad is None and not block.good
        ),
        clocks=tuple((leader, ahead) for leader, (_, ahead) in sorted(s.clocks.items()) if not _agrees(s, ahead)),
        evidence_count=s.evidence_count,
    )


def _unanswered(state: State, startup: StartUp | None) -> tuple[int, ...]:
    if startup is None or startup.done:
        return ()
    counted = {i for i, view in startup.answers.items() if view <= state.reachable_view}
    return tuple(i for i in range(state.validators.n) if i != state.own_index and i not in counted)


def _signers(found: Round | None, kind: VoteKind, digest: bytes | None) -> tuple[int, ...]:
    if found is None or digest is None:
        return ()
    return tuple(signer for signer, vote in sorted(found.votes[kind].items()) if vote.digest == digest)


def _finalizers(state: State) -> tuple[int, ...]:
    found = state.rounds.get(state.certified_view) if state.unfinalized else None
    return _signers(found, VoteKind.FINALIZE, found.certified if found else None)


def _agrees(state: State, ahead_ms: int) -> bool:
    delta_ms = state.config.clock_delta_ms
    return -(delta_ms + 2 * state.config.certification_ms) <= ahead_ms <= delta_ms
