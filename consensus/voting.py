"""When this node votes: N (R4), F (R6), X (R7), and when a view is given up (R1, R12)."""

from __future__ import annotations

from consensus.blocks import Block
from consensus.effects import Certified
from consensus.records import Certification
from consensus.rounds import Round
from consensus.state import State
from consensus.tally import NULLIFICATION, F, N, Tally, X
from consensus.types import Header, VoteKind


class Voter:
    """Applies to the state the rules that follow from it; each method says whether it changed anything."""

    def __init__(self, state: State, tally: Tally) -> None:
        self._s = state
        self._tally = tally
        self.clock_wait_ms: int | None = None
        """When the proposal's time will be close enough to the own clock, monotonic ms."""

    # -- R4 --------------------------------------------------------------------------------

    def notarize(self) -> bool:
        """R4: vote for the block in the current view's slot."""
        self.clock_wait_ms = None
        s, found = self._s, self._s.current
        if found is None or found.slot is None or found.equivocated or not s.signer.may_sign(s.view):
            return False
        if any(s.own(found, kind) for kind in VoteKind):
            return False
        block = s.blocks.get(found.slot)
        if block is None or not block.good or not s.parent_certified(block.header):
            return False
        if block.boundary is None and not self._clock_agrees(block.header):
            return False  # a tail's time is the boundary's, however long ago that was
        self._tally.cast(N, found, (block.header.parent_view, block.header.digest))
        return True

    def _clock_agrees(self, header: Header) -> bool:
        """R4, for voters only: a block from the future is waited for, one long past is not voted for."""
        s = self._s
        ahead_ms = header.timestamp_ms - s.now.wall_ms
        delta_ms = s.config.clock_delta_ms
        if s.clocks.get(s.leader, (0, 0))[0] != s.view:
            s.clocks[s.leader] = (s.view, ahead_ms)  # at first sight: waiting brings it closer
        if ahead_ms > delta_ms:
            self.clock_wait_ms = s.now_ms + ahead_ms - delta_ms
            return False
        return ahead_ms >= -(delta_ms + 2 * s.pace.certification_ms)

    # -- R6 --------------------------------------------------------------------------------

    def certify(self) -> bool:
        """R6: notarized blocks whose bodies and ancestors are in hand, lowest view first, nullified views included."""
        s, changed = self._s, False
        for view in sorted(s.uncertified):
            found = s.rounds.get(view)
            if found is None or found.notarized is None or view not in s.uncertified:
                continue  # finalized meanwhile
            block = s.blocks.get(found.notarized.digest)
            if block is None:
                continue
            if block.bad:
                changed |= self._reject(found, block)
            elif block.good and s.parent_certified(block.header):
                self._certified(found, block)
                changed = True
        return changed

    def _certified(self, found: Round, block: Block) -> None:
        s = self._s
        s.uncertified.discard(found.view)
        if found.rejected is not None:
            s.signer.stopped = None  # restarted with what was broken repaired: the block is valid after all
        found.certified, found.rejected = block.header.digest, None
        s.persist(Certification(s.validators.epoch, found.view, block.header.digest, True))
        if found.view > s.certified_view:
            s.certified_view = found.view
            s.out.append(Certified(block.header))
        s.enter(found.view + 1)
        self.finalize(found)

    def finalize(self, found: Round) -> None:
        """R6: F for a certified block, unless this node said or saw anything else in the view."""
        s, notarized = self._s, found.notarized
        if found.certified is None or notarized is None or notarized.digest != found.certified:
            return
        if found.view <= s.floor_view or not s.signer.may_sign(found.view) or found.equivocated:
            return
        own_notarize, own_nullify, own_finalize = (s.own(found, kind) for kind in (N, X, F))
        if own_nullify or own_finalize or (own_notarize and own_notarize.digest != found.certified):
            return
        self._tally.cast(F, found, notarized.target)

    def _reject(self, found: Round, block: Block) -> bool:
        """A notarized block is provably bad: this node is broken, or more than f others are."""
        s = self._s
        if found.rejected is not None and s.signer.stopped is not None:
            return False
        found.rejected = block.header.digest
        s.persist(Certification(s.validators.epoch, found.view, block.header.digest, False))
        s.stop("divergence", f"the notarized block of view {found.view} is invalid here: {block.bad}")
        return True

    # -- R1, R7, R12 -----------------------------------------------------------------------

    def watch(self) -> bool:
        """Run the timers while there is a reason to (R12), and give the view up when there is one (R1, R4, R7)."""
        s, found = self._s, self._s.current
        touched = found is not None and found.touched
        s.pace.arm(s.unfinalized or s.work or touched, s.now_ms)
        s.pace.leader_seen = found is not None and found.slot is not None
        if s.pace.expired or not (s.pace.due(s.now_ms) or self._hopeless(found)):
            return False
        s.pace.expire(s.now_ms)
        return True

    def _hopeless(self, found: Round | None) -> bool:
        """Whether nothing can come of the current view any more, or of its leader."""
        s = self._s
        if found is not None:
            if s.leader in found.votes[X]:
                return True
            block = s.blocks.get(found.slot) if found.slot is not None else None
            if block is not None and block.bad is not None:
                return True
        return s.pace.armed_ms is not None and s.activity.skip(s.leader, s.validators.quorum)

    def nullify(self) -> bool:
        """R7: X, once, unless F was cast."""
        s = self._s
        if not s.pace.expired or not s.signer.may_sign(s.view):
            return False
        found = s.rounds.at(s.view)
        if s.own(found, X) or s.own(found, F):
            return False
        self._tally.cast(X, found, NULLIFICATION)
        return True
