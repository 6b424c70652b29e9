"""R2: when this node leads, and R12 (a): when it stops waiting for something to list."""

from __future__ import annotations

from typing import Final

from consensus.blocks import Block
from consensus.effects import Build
from consensus.events import BuildRefused, Built, Verdict
from consensus.invariant import invariant
from consensus.messages import Want
from consensus.records import BuiltBlock
from consensus.rounds import Round
from consensus.state import State
from consensus.tally import N, Tally, X
from consensus.types import Proposal

WANTS_AT_ONCE: Final = 8
"""Missing nullifications asked for at a time."""


class Proposer:
    """Offers the application to build, and signs at most one block per view, across restarts."""

    def __init__(self, state: State, tally: Tally) -> None:
        self._s = state
        self._tally = tally
        self._offer: tuple[int, bytes, bool] | None = None  #: the last ``Build``: view, parent, at once
        self.want_at_ms: int | None = None
        """When to ask again for missing nullifications, monotonic ms."""

    def propose(self) -> None:
        """R2: ask for a block on the highest certified one, once its justification is complete."""
        s = self._s
        missing = s.missing_nullifications() if self._may_propose() else []
        self._ask_for(missing)
        if missing or not self._may_propose():
            return
        parent_digest, certificate = s.highest_certified()
        parent = s.blocks.header(parent_digest)
        if parent is None:
            return  # the floor's header is being backfilled
        at_once = s.unfinalized and s.now_ms >= s.pace.entered_ms + s.config.delay_ms
        if self._offer in ((s.view, parent_digest, at_once), (s.view, parent_digest, True)):
            return
        self._offer = (s.view, parent_digest, at_once)
        skipped = range(s.certified_view + 1, s.view)
        nullifications = tuple(s.rounds.at(view).certificates[X] for view in skipped)
        boundary = s.blocks.boundary(parent_digest)
        s.out.append(Build(s.view, parent, certificate, nullifications, boundary, at_once))

    def _may_propose(self) -> bool:
        s, found = self._s, self._s.current
        if s.leader != s.own_index or not s.signer.may_sign(s.view) or s.pace.expired:
            return False
        return found is None or (found.built is None and not s.own(found, N) and not s.own(found, X))

    @property
    def at_once_ms(self) -> int | None:
        """When the leader stops waiting for the parent's Finalization (R12 a), monotonic ms."""
        s = self._s
        if not s.unfinalized or self._offer != (s.view, s.highest_certified()[0], False) or not self._may_propose():
            return None
        return s.pace.entered_ms + s.config.delay_ms

    def _ask_for(self, missing: list[int]) -> None:
        s = self._s
        if not missing:
            self.want_at_ms = None
        elif self.want_at_ms is None or s.now_ms >= self.want_at_ms:
            self.want_at_ms = s.now_ms + s.config.retry_ms
            for view in missing[:WANTS_AT_ONCE]:
                s.broadcast(Want(s.validators.epoch, view))

    def on_built(self, event: Built) -> None:
        """Log the block and the own N, then propose. An answer to an offer that is void by now is dropped."""
        s, header = self._s, event.header
        if self._offer is None or self._offer[:2] != (event.view, header.parent_digest):
            return
        if event.view != s.view or not self._may_propose():
            return
        found = s.rounds.at(s.view)
        proposal = self._sign(event, found)
        block = Block(proposal)
        block.placed = block.asked = True
        block.verdict = Verdict.VALID  # the application made it, body and root
        block.boundary = s.blocks.boundary(header.parent_digest)
        s.blocks.add(block)
        found.built = header.digest
        s.persist(BuiltBlock(s.validators.epoch, s.view, header.digest))
        self._tally.utter(proposal.vote, found, proposal)

    def _sign(self, event: Built, found: Round) -> Proposal:
        """The proposal, after the checks every voter will make: a fault here is this node's own."""
        s, header, justification = self._s, event.header, event.justification
        parent = s.blocks.header(header.parent_digest)
        problem = "unknown parent" if parent is None or header.view != s.view else None
        if parent is not None and problem is None:
            problem = (
                s.rules.header_problem(header)
                or s.rules.justification_problem(header, justification, s.certificate_problem)
                or s.rules.placement_problem(header, justification, parent, s.blocks.boundary(parent.digest))
            )
        invariant(problem is None, f"the application built a block nobody would vote for: {problem}")
        invariant(justification.digest == header.justification_digest, "the header commits to another justification")
        vote = s.signer.sign(N, found, (header.parent_view, header.digest))
        return Proposal(header, justification, event.payload, vote)

    def on_refused(self, event: BuildRefused) -> None:
        """R2: a refusal is a time-out."""
        if event.view == self._s.view and self._may_propose():
            self._s.pace.expire(self._s.now_ms)
