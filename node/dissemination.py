"""Dissemination: batches are held by a quorum before they are ordered.

Pure: inputs in, effects into the ``Turn``. What makes own batches is ``node.origin``; here is what is done with
everybody's.

As **acker** (``on_batch``, ``on_checked``, ``_advance``): one digest per position, in chain order
from the origin's last listed digest in executed state, after the batch is checked and synced. The
acknowledged head is a vote-log record, durable before the Ack leaves: forgetting it could
acknowledge two digests at one position. Acks are cumulative, sent once per turn and origin to all,
and again on reconnect. What others acknowledged and is not here is looked for (``node.wanted``).
What an executed head left beside its chain can never be listed, and goes from disk.

As **leader** (``listable``): what enough others hold (``node.holders``).

    next epoch       acknowledgements of the one before are void, so every head is acknowledged again; batches made
                     before may be listed in this epoch and not in the next, for which their origin makes them anew

Specification: ledger.md, "Batch, block, proofs" (design); docs/protocol.md for the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set

import msgspec

from consensus.events import Now
from crypto.hashing import TAG_BATCH_SIGNATURE
from crypto.merkle import root as merkle_root
from ledger import wire
from ledger.acks import HELD, ack_message
from ledger.block_port import BatchDrop, BatchWrite
from ledger.types import Ack, Batch, Envelope
from node.aside import Aside, leftovers
from node.batches import NO_HEAD, ORIGIN_BATCHES_MAX, ORIGIN_BYTES_MAX, BatchPool, Head, Known, StoredBatches
from node.epoch import Epoch, Verify
from node.holders import Holders
from node.origin import CLOSE_BYTES, NO_ATTACHMENTS, Origin
from node.turn import OriginAnswer, OriginQuery, Penalty, Turn
from node.wanted import WantedBatches

BAD_MAX = 1024  #: digests of ill-formed batches remembered so that a block listing one is refused


class Dissemination:
    """See the module text.

    Args:
        chain_id: genesis digest.
        epoch: the present one; an observer in it checks and stores, and says nothing.
        organisation: whose node this is.
        verify: checks signatures.
        stored: the block store's batches.
        heads: last listed batch of every origin in executed state.
        acked: own acknowledged heads, from the vote log.
        incarnation: own highest incarnation, from the vote log; 0 if none.
        nonce: fresh random bytes for the query at start.
        delay_ms: D, the assumed delay bound.
        close_bytes: a busy origin closes a batch at this size.
    """

    def __init__(
        self,
        *,
        chain_id: bytes,
        epoch: Epoch,
        organisation: str,
        verify: Verify,
        stored: StoredBatches,
        heads: Mapping[str, Head],
        acked: Mapping[str, Head],
        incarnation: int,
        nonce: bytes,
        delay_ms: int,
        close_bytes: int = CLOSE_BYTES,
    ) -> None:
        self._chain_id = chain_id
        self._epoch = epoch
        self._own_id = organisation
        self._verify = verify
        self.pool = BatchPool(stored, wire.decode_batch)
        self.executed: dict[str, Head] = {
            origin: heads.get(origin, NO_HEAD) for origin in sorted({*epoch.origins, *heads, *acked, organisation})
        }
        self._acked: dict[str, Head] = {
            origin: _higher(head, acked.get(origin, NO_HEAD)) for origin, head in self.executed.items()
        }
        self._wanted = WantedBatches(self._others(), delay_ms)
        self._bad: dict[bytes, None] = {}
        self._aside = Aside()
        self._going = self._find_leftovers(stored)  #: on disk, and nobody lists them: they go when the turn ends
        self._seen = dict.fromkeys(self.executed, 0)  #: by origin: highest incarnation of a batch that arrived
        self._holders = Holders(
            chain_id=chain_id,
            epoch=epoch,
            verify=verify,
            pool=self.pool,
            wanted=self._wanted,
            executed=self.executed,
            bad=self._bad,
            on_quorum=self._on_quorum,
            delay_ms=delay_ms,
        )
        #: Origins whose acknowledged head goes out this turn; after a start, all whose head was not listed.
        self._dirty = self._unlisted_origins()
        self.origin = Origin(
            chain_id=chain_id,
            epoch=epoch,
            organisation=organisation,
            pool=self.pool,
            executed=self.executed,
            acked=self._acked,
            advance=self._advance,
            incarnation=incarnation,
            nonce=nonce,
            delay_ms=delay_ms,
            close_bytes=close_bytes,
        )

    def _find_leftovers(self, stored: StoredBatches) -> list[bytes]:
        found = leftovers(stored, self.executed, self._acked, self._epoch, self._own_id)
        for header in found.beside:
            room = self._aside.acknowledged_bytes(header.origin) < ORIGIN_BYTES_MAX
            self._aside.add(header, promised=self._epoch.own is not None and room)
        return found.going

    def _others(self) -> list[str]:
        return [member.id for member in self._epoch.validators.members if member.id != self._own_id]

    # -- epochs ------------------------------------------------------------------------------

    def enter(self, epoch: Epoch, turn: Turn) -> None:
        """The next epoch begins: what is held is acknowledged again, what can no longer be listed is made anew."""
        was_member, self._epoch = self._epoch.own is not None, epoch
        for origin in epoch.origins:
            self.executed.setdefault(origin, NO_HEAD)
            self._acked.setdefault(origin, NO_HEAD)
            self._seen.setdefault(origin, 0)
        self._holders.enter(epoch)
        self._wanted.enter(self._others())
        if epoch.own is not None and not was_member:
            turn.vote_records += self._acked_records()  # until now they bound nobody
        stale = [known for known in self.pool.all() if epoch.is_past(known.batch.header.epoch)]
        self.origin.enter(epoch, turn)
        for known in stale:
            header = known.batch.header
            ahead = (header.incarnation, header.sequence) > self.executed[header.origin].position
            if known.checked and ahead and (header.origin != self._own_id or self.origin.opened):
                turn.block_writes.append(BatchDrop(header.digest))  # own ones only once they are made anew
            self.pool.drop(header.digest)
        self._dirty = self._unlisted_origins()

    def _unlisted_origins(self) -> set[str]:
        """Origins with an acknowledged head that may still be listed; one that may not is not held any more."""
        return {origin for origin in self._epoch.origins if self._is_ahead(origin) and self._may_list_head(origin)}

    def _may_list_head(self, origin: str) -> bool:
        digest = self._acked[origin].digest
        held = self.pool.in_memory(digest)
        known = held or self.pool.get(digest)
        if known is None or self._epoch.may_list(known.batch.header.epoch):
            return known is not None
        if held is None:
            self.pool.drop(digest)
        return False

    # -- turns -------------------------------------------------------------------------------

    def flush(self, now: Now, turn: Turn) -> None:
        """End of a turn: make what is due, send the acknowledged heads, look for what is wanted."""
        self.origin.flush(now, turn)
        self._send_acks(now, turn)
        self._holders.settle(now, turn)
        turn.fetches += self._wanted.due(now)
        # What a block that came in this very turn lists was taken from disk again, and is in memory as stored.
        turn.block_writes += [BatchDrop(digest) for digest in self._going if self.pool.in_memory(digest) is None]
        self._going.clear()

    def deadline_ms(self) -> int | None:
        """Monotonic time of the next retry, or at which a batch becomes listable by waiting; None if there is none."""
        times = (self._holders.deadline_ms(), self._wanted.deadline_ms(), self.origin.deadline_ms())
        return min((time for time in times if time is not None), default=None)

    # -- as acker ----------------------------------------------------------------------------

    def on_batch(self, batch: Batch, sender: str, now: Now, turn: Turn) -> None:
        """A batch arrived, pushed or fetched; it is checked before anything else is done with it."""
        header = batch.header
        if header.chain_id != self._chain_id or header.attachment_root != NO_ATTACHMENTS:
            turn.penalties.append(Penalty(sender, "batch of another network, or of a later version"))
            return
        if not self._epoch.may_list(header.epoch):
            return  # late, or its sender is ahead of this node: then it comes again
        key = self._epoch.origin_key(header.origin, header.epoch)
        if key is None:
            turn.penalties.append(Penalty(sender, "batch of no validator of its epoch"))
            return
        if self._epoch.index(header.origin) is None and not self._wanted.is_listed(header.digest):
            return  # who left may finish what the others hold, not go on
        if self.pool.in_memory(header.digest) is not None or header.digest in self._bad:
            return
        room = self.pool.has_room(header, ORIGIN_BYTES_MAX, ORIGIN_BATCHES_MAX)
        if not self._wanted.is_listed(header.digest):
            if (header.incarnation, header.sequence) <= self.executed[header.origin].position:
                return
            if not room:
                return  # not acknowledged; taken when a block lists it, or when there is room
        if self.pool.get(header.digest) is not None:
            self._wanted.found(header.digest)
            return
        if not self._verify(key, TAG_BATCH_SIGNATURE + header.raw, batch.signature):
            turn.penalties.append(Penalty(sender, "batch with a bad signature"))
            return
        if merkle_root(batch.envelopes) != header.envelope_root:
            # The sender's fault, not the origin's: nothing may be remembered of this digest.
            turn.penalties.append(Penalty(sender, "batch with other envelopes than its header commits to"))
            return
        self._wanted.found(header.digest)
        if not room and header.origin != self._own_id:
            # A leader makes this node take more of an origin than it would: what lies longest beside its chain goes.
            head = self._acked[header.origin].digest
            for evicted in self.pool.evict(header.origin, head, ORIGIN_BYTES_MAX, ORIGIN_BATCHES_MAX):
                own = self._epoch.own
                self._aside.add(evicted.batch.header, promised=own is not None and bool(evicted.ackers >> own & 1))
        self._seen[header.origin] = max(self._seen[header.origin], header.incarnation)
        self.pool.add(batch, None, checked=False)
        turn.checks.append(batch)

    def on_checked(self, digest: bytes, ok: bool, envelopes: tuple[Envelope, ...], now: Now, turn: Turn) -> None:
        """All envelopes of a batch were verified, or one is ill-formed and the batch with it."""
        known = self.pool.in_memory(digest)
        if known is None or known.checked:
            return
        header = known.batch.header
        if not ok:
            self.pool.drop(digest)
            self._bad[digest] = None
            if len(self._bad) > BAD_MAX:
                del self._bad[next(iter(self._bad))]
            turn.penalties.append(Penalty(header.origin, "batch with an ill-formed envelope"))
            return
        known.checked = True
        known.envelopes = envelopes
        turn.block_writes.append(BatchWrite(digest, known.batch.raw))
        turn.sync_blocks = True
        self._holders.on_held(known, now, turn)
        self._advance(header.origin, turn)

    def is_bad(self, digest: bytes) -> bool:
        """Is a block above the executed one invalid for listing this: is it ill-formed, or behind its origin's head?"""
        if digest in self._bad:
            return True
        held = self.pool.in_memory(digest)
        known = held or self.pool.get(digest)
        if known is None:
            return False
        header = known.batch.header
        behind = (header.incarnation, header.sequence) <= self.executed.get(header.origin, NO_HEAD).position
        if behind and held is None:
            self.pool.drop(digest)
        return behind

    def _advance(self, origin: str, turn: Turn) -> None:
        """Acknowledge as far as the chain of checked batches reaches."""
        if self._aside.acknowledged_bytes(origin) >= ORIGIN_BYTES_MAX:
            return  # its broken promises fill the disk: no further ones
        head = _higher(self.executed[origin], self._acked[origin])
        before = self._acked[origin]
        while True:
            follower = next(self.pool.successors(origin, head), None)
            if follower is None or follower.batch.header.incarnation != head.incarnation:
                opened = self.pool.successors(origin, self.executed[origin])
                follower = next((k for k in opened if k.batch.header.incarnation > head.incarnation), None)
            if follower is None:
                break
            header = follower.batch.header
            head = Head(header.incarnation, header.sequence, header.digest)
        if head != before and head != self.executed[origin]:
            self._acked[origin] = head
            self._dirty.add(origin)
            if self._epoch.own is not None:
                turn.vote_records.append(
                    wire.encode_record(wire.AckedRecord(origin, head.incarnation, head.sequence, head.digest))
                )

    def _send_acks(self, now: Now, turn: Turn) -> None:
        if self._epoch.own is None:
            self._dirty.clear()
            return
        for origin in sorted(self._dirty):
            if not self._is_ahead(origin):
                continue  # executed, or left beside the chain and dropped from disk, within this very turn
            ack = self._own_ack(origin)
            turn.sends.append((None, ack))
            self._holders.add(ack, now, turn)
        self._dirty.clear()

    def _is_ahead(self, origin: str) -> bool:
        """Was something acknowledged that is not executed?"""
        return self._acked[origin].position > self.executed[origin].position

    def _own_ack(self, origin: str) -> Ack:
        head = self._acked[origin]
        acker = self._epoch.own or 0
        unsigned = Ack(HELD, self._epoch.number, acker, origin, head.incarnation, head.sequence, head.digest, b"")
        return msgspec.structs.replace(unsigned, signature=self._epoch.sign(ack_message(self._chain_id, unsigned)))

    def live_records(self) -> list[bytes]:
        """Vote-log records from which a restart knows what was said."""
        records: list[bytes] = []
        if self.origin.incarnation:
            records.append(wire.encode_record(wire.IncarnationRecord(self.origin.incarnation)))
        return records + self._acked_records()

    def _acked_records(self) -> list[bytes]:
        return [
            wire.encode_record(wire.AckedRecord(origin, head.incarnation, head.sequence, head.digest))
            for origin, head in sorted(self._acked.items())
            if head != NO_HEAD
        ]

    # -- as leader, and for the executor -----------------------------------------------------

    def on_ack(self, ack: Ack, sender: str, now: Now, turn: Turn) -> None:
        """An acknowledgement arrived; what it covers counts one holder more."""
        self._holders.on_ack(ack, sender, now, turn)

    def listable(self, heads: Mapping[str, Head], now: Now) -> Iterator[Known]:
        """Batches a leader may list after ``heads``, each origin's in chain order, origins in turn."""
        return self._holders.listable(heads, now)

    def want(self, digest: bytes, sources: Sequence[str], now: Now, *, at_once: bool = False) -> None:
        """A block lists this batch, and it is not here; ``at_once`` if it is not on its way either."""
        self._wanted.listed(digest, sources, now, at_once=at_once)

    def unwant(self, digests: Sequence[bytes]) -> None:
        """The block that lists them is invalid: nobody looks for them on its account."""
        for digest in digests:
            self._wanted.unlisted(digest)

    def on_executed(self, heads: Mapping[str, Head], listable: Callable[[bytes], bool], turn: Turn) -> None:
        """A block was executed and moved these origins' heads; ``listable``: does a block above it list a digest?"""
        passed: dict[str, Set[bytes]] = {}
        for origin, head in heads.items():
            before, self.executed[origin] = self.executed.get(origin, NO_HEAD), head
            listed = passed[origin] = self._listed_between(origin, before, head)
            own = origin == self._own_id
            for digest in self.pool.overtaken(origin, head):
                known = self.pool.in_memory(digest)
                if known is None:
                    continue
                if own:
                    self.origin.on_overtaken(known, before)
                if listed and digest not in listed and self._never_listed(known, before):
                    turn.block_writes.append(BatchDrop(digest))
                self.pool.drop(digest)
            if own:
                self.origin.on_executed(before, head, turn)
            self._advance(origin, turn)
            self._holders.on_moved(origin)
        back = [digest for digest in self._aside if self.pool.in_memory(digest) is not None]
        for digest in back:
            self._aside.discard(digest)
        self._going += self._aside.settle(self.executed, passed, listable)

    def _listed_between(self, origin: str, before: Head, head: Head) -> Set[bytes]:
        """Digests that blocks listed to move the head from one to the other; empty if that cannot be told."""
        listed: set[bytes] = set()
        digest = head.digest
        while digest != before.digest:
            known = self.pool.in_memory(digest)
            if known is None or known.batch.header.origin != origin:
                return frozenset()
            listed.add(digest)
            digest = known.batch.header.previous
        return listed

    @staticmethod
    def _never_listed(known: Known, before: Head) -> bool:
        """It is stored, and did not come back from disk, where it lies because an earlier head listed it."""
        header = known.batch.header
        return known.checked and (header.incarnation, header.sequence) > before.position

    def _on_quorum(self, known: Known, turn: Turn) -> None:
        if known.batch.header.origin == self._own_id:
            self.origin.on_quorum(known, turn)

    # -- peers -------------------------------------------------------------------------------

    def on_connected(self, peer: str, turn: Turn) -> None:
        """Resend what the peer may have missed: own unexecuted batches it has not acknowledged, and our acks."""
        self._resend(peer, 0, turn)

    def on_entered(self, peer: str, turn: Turn) -> None:
        """The peer has entered this epoch, and took nothing of it before: resend what this node made in it."""
        self._resend(peer, self._epoch.number, turn)

    def _resend(self, peer: str, from_epoch: int, turn: Turn) -> None:
        index = self._epoch.index(peer)
        if self._epoch.own is None or index is None:
            return
        self.origin.resend(peer, index, from_epoch, turn)
        for origin in sorted(self._unlisted_origins()):
            turn.sends.append((peer, self._own_ack(origin)))

    def on_origin_query(self, query: OriginQuery, sender: str, turn: Turn) -> None:
        """The sender starts: the highest incarnation seen of it, bound to its nonce."""
        heads = (self.executed.get(sender, NO_HEAD), self._acked.get(sender, NO_HEAD))
        seen = max(self._seen.get(sender, 0), *[head.incarnation for head in heads])
        turn.sends.append((sender, OriginAnswer(query.nonce, seen)))


def _higher(executed: Head, acked: Head) -> Head:
    """The executed head where both are at one position: what is executed no longer depends on what was acknowledged."""
    return acked if acked.position > executed.position else executed
