"""Who holds which batch, as the acknowledgements say, and what a leader may list because of it.

An acknowledgement is cumulative: it stands for its batch and all before it in the incarnation. So the newest one of
each acker for each origin is all that is kept, and a batch that arrives late gets the holders of those after it.

A leader lists what extends a branch's heads with Q holders, or f + 1 for longer than 2D (a Byzantine origin that serves
only f + 1 must not stall the others).

An acknowledgement holds for the epoch it names: at the next one counting begins anew.

Who acknowledges may lie, and may name any digest: a batch is looked up with its position, so that no claim brings
anything into memory but unexecuted batches that were stored here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping

from consensus.events import Now
from ledger.acks import HELD, ack_message
from ledger.types import Ack
from node.batches import NO_HEAD, BatchPool, Head, Known, Misplaced
from node.epoch import Epoch, Verify
from node.turn import Penalty, Turn
from node.wanted import WantedBatches


class Holders:
    """See the module text.

    Args:
        chain_id: genesis digest.
        epoch: the present one.
        verify: checks a signature: public key, message, signature.
        pool: batches that are known.
        wanted: told of batches that others hold and this node does not.
        executed: last listed batch of every origin in executed state; its owner moves it on.
        bad: digests of ill-formed batches.
        on_quorum: told once of every batch in memory that a quorum holds.
        delay_ms: D.
    """

    def __init__(
        self,
        *,
        chain_id: bytes,
        epoch: Epoch,
        verify: Verify,
        pool: BatchPool,
        wanted: WantedBatches,
        executed: Mapping[str, Head],
        bad: Container[bytes],
        on_quorum: Callable[[Known, Turn], None],
        delay_ms: int,
    ) -> None:
        self._chain_id = chain_id
        self._epoch = epoch
        self._validators = epoch.validators
        self._verify = verify
        self._pool = pool
        self._wanted = wanted
        self._executed = executed
        self._bad = bad
        self._on_quorum = on_quorum
        self._delay_ms = delay_ms
        self._acks: dict[tuple[int, str], Ack] = {}  #: highest ack of (acker, origin)
        self._gaps: dict[str, Known] = {}  #: by origin: a held batch whose predecessor is not here
        self._weak: dict[bytes, int] = {}  #: batches that f + 1 hold: when they become listable, monotonic ms
        self._moved: set[str] = set()  #: origins whose executed head moved: there is room for what was refused

    def enter(self, epoch: Epoch) -> None:
        """An epoch begins: nobody has acknowledged anything in it yet."""
        self._epoch = epoch
        self._validators = epoch.validators
        self._acks.clear()
        self._gaps.clear()
        self._weak.clear()
        for known in self._pool.all():
            known.ackers = 0
            known.weak_since_ms = None

    # -- counting ----------------------------------------------------------------------------

    def on_ack(self, ack: Ack, sender: str, now: Now, turn: Turn) -> None:
        """An acknowledgement of this epoch arrived; what it covers counts one holder more."""
        if ack.kind != HELD or ack.acker >= self._validators.n or ack.origin not in self._executed:
            turn.penalties.append(Penalty(sender, "acknowledgement that cannot be"))
            return
        best = self._acks.get((ack.acker, ack.origin))
        if best is not None and (ack.incarnation, ack.sequence) <= (best.incarnation, best.sequence):
            return
        if not self._is_ahead(ack):
            return
        key = self._validators.members[ack.acker].public_key
        if not self._verify(key, ack_message(self._chain_id, ack), ack.signature):
            turn.penalties.append(Penalty(sender, "acknowledgement with a bad signature"))
            return
        self.add(ack, now, turn)

    def add(self, ack: Ack, now: Now, turn: Turn) -> None:
        """Count an acknowledgement that was checked, or is this node's own."""
        self._acks[(ack.acker, ack.origin)] = ack
        self._count(ack, now, turn)

    def _count(self, ack: Ack, now: Now, turn: Turn) -> None:
        if ack.digest in self._bad:
            return
        try:
            known = self._pool.at(ack.digest, (ack.origin, ack.incarnation, ack.sequence))
        except Misplaced:
            acker = self._epoch.organisation(ack.acker)
            turn.penalties.append(Penalty(acker, "acknowledgement of a batch that stands elsewhere"))
            return
        if known is None:
            self._wanted.acknowledged(self._epoch.organisation(ack.acker), ack.origin, ack.digest, now)
        elif known.checked:  # else it counts when the check ends
            self._mark(known, 1 << ack.acker, now, turn)
        if ack.origin in self._gaps:
            self._before(self._gaps[ack.origin], now)

    def on_held(self, known: Known, now: Now, turn: Turn) -> None:
        """This batch was checked: who acknowledged it, or one after it, before it was here?"""
        header = known.batch.header
        bits = 0
        for follower in self._pool.successors(header.origin, Head(header.incarnation, header.sequence, header.digest)):
            if follower.batch.header.incarnation == header.incarnation:
                bits |= follower.ackers
        for acker in range(self._validators.n):
            ack = self._acks.get((acker, header.origin))
            if ack is not None and ack.digest == header.digest:
                bits |= 1 << acker
        self._mark(known, bits, now, turn)

    def _mark(self, known: Known | None, bits: int, now: Now, turn: Turn) -> None:
        """Set the ackers' bits on the batch and on all before it in its incarnation."""
        while known is not None and bits & ~known.ackers:
            before = known.ackers.bit_count()
            known.ackers |= bits
            self._note(known, before, now, turn)
            known = self._before(known, now)

    def _note(self, known: Known, before: int, now: Now, turn: Turn) -> None:
        holders, digest = known.ackers.bit_count(), known.batch.header.digest
        quorum, weak = self._validators.quorum, self._validators.f + 1
        if before < weak <= holders < quorum:
            known.weak_since_ms = now.monotonic_ms
            self._weak[digest] = now.monotonic_ms + 2 * self._delay_ms
        if before < quorum <= holders:
            self._weak.pop(digest, None)
            self._on_quorum(known, turn)

    def _before(self, known: Known, now: Now) -> Known | None:
        """The batch before this one in its incarnation, unless it is executed; looked for where it is not here."""
        header = known.batch.header
        if self._gaps.get(header.origin) is known:
            del self._gaps[header.origin]
        position = (header.incarnation, header.sequence - 1)
        if header.sequence == 1 or position <= self._executed[header.origin].position:
            return None
        try:
            previous = self._pool.at(header.previous, (header.origin, *position))
        except Misplaced:
            return None  # its origin broke its own chain: nobody can list it
        if previous is None and header.previous not in self._bad:
            self._gaps[header.origin] = known
            holders = [self._epoch.organisation(i) for i in range(self._validators.n) if known.ackers >> i & 1]
            self._wanted.gap(header.origin, header.previous, holders, now)
        return previous

    def _is_ahead(self, ack: Ack) -> bool:
        return (ack.incarnation, ack.sequence) > self._executed[ack.origin].position

    # -- time --------------------------------------------------------------------------------

    def on_moved(self, origin: str) -> None:
        """The origin's executed head moved."""
        self._moved.add(origin)

    def settle(self, now: Now, turn: Turn) -> None:
        """End of a turn: where a head moved, acknowledged batches may be taken that were refused for want of room."""
        for origin in sorted(self._moved):
            gap = self._gaps.get(origin)
            if gap is not None:
                self._before(gap, now)
            for acker in range(self._validators.n):
                ack = self._acks.get((acker, origin))
                if ack is not None and self._is_ahead(ack):
                    self._count(ack, now, turn)
        self._moved.clear()
        if self._weak:
            self._weak = {digest: due for digest, due in self._weak.items() if due > now.monotonic_ms}

    def deadline_ms(self) -> int | None:
        """Monotonic time at which a batch becomes listable by waiting, if any does."""
        return min(self._weak.values(), default=None)

    # -- as leader ---------------------------------------------------------------------------

    def listable(self, heads: Mapping[str, Head], now: Now) -> Iterator[Known]:
        """Batches a leader may list after ``heads``, each origin's in chain order, origins in turn."""
        epoch = self._epoch
        current = {origin: heads.get(origin, NO_HEAD) for origin in epoch.origins}
        progress = True
        while progress:
            progress = False
            for origin in epoch.origins:
                for known in self._pool.successors(origin, current[origin]):
                    if epoch.may_list(known.batch.header.epoch) and self._held(known, now):
                        header = known.batch.header
                        current[origin] = Head(header.incarnation, header.sequence, header.digest)
                        progress = True
                        yield known
                        break

    def _held(self, known: Known, now: Now) -> bool:
        holders = known.ackers.bit_count()
        if holders >= self._validators.quorum:
            return True
        since = known.weak_since_ms
        return holders > self._validators.f and since is not None and now.monotonic_ms - since >= 2 * self._delay_ms
