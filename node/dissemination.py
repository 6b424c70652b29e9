"""Dissemination: how envelopes become batches that a quorum holds before they are ordered.

Pure: inputs in, effects into the ``Turn``. One object serves both sides.

As **origin** (``submit``, ``_close``): envelopes wait in ``pending``; a batch is closed at once when
nothing of ours is unacknowledged, else when enough bytes wait, so that an idle network answers fast
and a busy one batches by itself. It is pushed once to every validator. A quorum of HELD
acknowledgements, our own included, makes its envelopes ACCEPTED.

    start            ask all peers for the highest incarnation they have seen of us; Q-1 answers ->
                     open the next one on our last executed head, re-batch what was not listed
    head moved away  (a batch of an older incarnation was listed) -> open the next one likewise

As **acker** (``on_batch``, ``on_checked``, ``_advance``): one digest per position, in chain order
from the origin's last listed digest in executed state, after the batch is checked and synced. The
acknowledged head is a vote-log record, durable before the Ack leaves: forgetting it could
acknowledge two digests at one position. Acks are cumulative, sent once per turn and origin to all,
and again on reconnect.

As **leader** (``listable``): what extends a branch's heads with Q holders, or f + 1 for longer than
2D (a Byzantine origin that serves only f + 1 must not stall the others).

Specification: ledger.md, "Batch, block, proofs" (design); docs/protocol.md for the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from consensus.events import Now
from consensus.types import ValidatorSet
from crypto.hashing import TAG_BATCH_SIGNATURE
from crypto.merkle import root as merkle_root
from ledger import wire
from ledger.acks import HELD, ack_message
from ledger.block_port import BatchWrite
from ledger.types import BATCH_BYTES_MAX, BATCH_ENVELOPES_MAX, Ack, Batch, Envelope
from node.batches import NO_HEAD, BatchPool, Head, Known, StoredBatches
from node.turn import (
    AcceptedNotice,
    FetchBatches,
    OriginAnswer,
    OriginQuery,
    Penalty,
    Turn,
)

CLOSE_BYTES = 192 << 10  #: a busy origin closes at this size (64-256 KB cost least an operation)
ORIGIN_BYTES_MAX = 16 << 20  #: of one origin in memory, unexecuted: some seconds of full load
WANTED_MAX = 1024  #: digests being looked for; more are found again by their next ack
FETCH_TRIES_MAX = 30  #: then nobody has it; who still needs it says so again
BAD_MAX = 1024  #: digests of ill-formed batches remembered so that a block listing one is refused
NO_ATTACHMENTS = merkle_root(())


class Signer(msgspec.Struct, frozen=True):
    """The own consensus key, and how others' signatures are checked."""

    sign: Callable[[bytes], bytes]
    verify: Callable[[bytes, bytes, bytes], bool]


class _Wanted:
    __slots__ = ("asked_ms", "sources", "tries")

    def __init__(self, now_ms: int) -> None:
        self.asked_ms = now_ms
        self.sources: set[int] = set()
        self.tries = 0


class Dissemination:
    """Origin and acker of one validator; see the module text.

    Args:
        chain_id: genesis digest.
        validators: set of the epoch.
        own: own signer index, None for an observer (it checks and stores, and says nothing).
        signer: own consensus key.
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
        validators: ValidatorSet,
        own: int | None,
        signer: Signer,
        stored: StoredBatches,
        heads: Mapping[str, Head],
        acked: Mapping[str, Head],
        incarnation: int,
        nonce: bytes,
        delay_ms: int,
        close_bytes: int = CLOSE_BYTES,
    ) -> None:
        self._close_bytes = close_bytes
        self._chain_id = chain_id
        self._validators = validators
        self._index = {member.id: i for i, member in enumerate(validators.members)}
        self._own = own
        self._own_id = validators.members[own].id if own is not None else ""
        self._signer = signer
        self._delay_ms = delay_ms
        self.pool = BatchPool(stored, wire.decode_batch)
        self.executed: dict[str, Head] = {member.id: heads.get(member.id, NO_HEAD) for member in validators.members}
        self._acked: dict[str, Head] = {
            member.id: max(acked.get(member.id, NO_HEAD), self.executed[member.id], key=lambda h: h.position)
            for member in validators.members
        }
        self._acks: dict[tuple[int, str], Ack] = {}  #: highest ack of (acker, origin)
        self._early: dict[bytes, dict[tuple[int, str], Ack]] = {}  #: acks of batches not held yet
        self._wanted: dict[bytes, _Wanted] = {}
        self._bad: dict[bytes, None] = {}
        self._dirty: set[str] = set()  #: origins whose new acknowledged head goes out this turn
        # As origin.
        self._incarnation = incarnation
        self._nonce = nonce
        self._opened = False
        self._answers: dict[int, int] = {}
        self._asked_ms: int | None = None
        self._tip = NO_HEAD
        self._unacked = 0  #: own batches below quorum
        self._pending: deque[Envelope] = deque()
        self._pending_bytes = 0
        self._pending_ids: set[bytes] = set()
        self.changed = False  #: something became listable, or a batch arrived; the caller resets it

    # -- as origin ---------------------------------------------------------------------------

    @property
    def backlog_bytes(self) -> int:
        """Own envelopes that are not executed yet; admission refuses beyond its limit."""
        return self._pending_bytes + self.pool.bytes_of(self._own_id)

    @property
    def opened(self) -> bool:
        """May this origin make batches yet?"""
        return self._opened

    def submit(self, envelopes: Sequence[Envelope]) -> None:
        """Queue admitted envelopes; an id that waits already is not queued again."""
        for envelope in envelopes:
            if envelope.id not in self._pending_ids:
                self._pending_ids.add(envelope.id)
                self._pending.append(envelope)
                self._pending_bytes += len(envelope.raw)

    def flush(self, now: Now, turn: Turn) -> None:
        """End of a turn: open, close what is due, send the acknowledged heads, look for what is wanted."""
        self._open(now, turn)
        while self._due():
            self._close(turn)
        self._send_acks(turn)
        self._fetch_wanted(now, turn)

    def deadline_ms(self) -> int | None:
        """Monotonic time of the next retry, if any."""
        times = [w.asked_ms + self._delay_ms for w in self._wanted.values()]
        if self._own is not None and not self._opened and self._asked_ms is not None:
            times.append(self._asked_ms + 2 * self._delay_ms)
        return min(times, default=None)

    def _open(self, now: Now, turn: Turn) -> None:
        if self._own is None or self._opened:
            return
        if len(self._answers) < self._validators.quorum - 1:
            if self._asked_ms is None or now.monotonic_ms >= self._asked_ms + 2 * self._delay_ms:
                self._asked_ms = now.monotonic_ms
                turn.sends.append((None, OriginQuery(self._nonce)))
            return
        highest = max([self._incarnation, self._acked[self._own_id].incarnation, *self._answers.values()])
        self._open_incarnation(highest + 1, turn)

    def _open_incarnation(self, incarnation: int, turn: Turn) -> None:
        head = self.executed[self._own_id]
        unlisted: list[Envelope] = []
        for known in self._own_unlisted():
            unlisted.extend(known.envelopes or [wire.decode_envelope(raw) for raw in known.batch.envelopes])
            self.pool.drop(known.batch.header.digest)
        self._incarnation = incarnation
        turn.vote_records.append(wire.encode_record(wire.IncarnationRecord(incarnation)))
        self._tip = Head(incarnation, 0, head.digest)
        self._opened = True
        self._unacked = 0
        waiting = list(self._pending)
        self._pending.clear()
        self._pending_ids.clear()
        self._pending_bytes = 0
        # Closed before anything else can happen: with the incarnation's record stands that of its batches, or neither.
        self.submit(unlisted)
        while self._pending:
            self._close(turn)
        self.submit(waiting)

    def _own_unlisted(self) -> list[Known]:
        """Own batches made and not executed, oldest first; read back from disk after a restart."""
        digest = self._acked[self._own_id].digest
        while digest != self.executed[self._own_id].digest and (known := self.pool.get(digest)) is not None:
            digest = known.batch.header.previous
        return self.pool.of_origin(self._own_id)

    def _due(self) -> bool:
        if not self._opened or not self._pending:
            return False
        if self.pool.bytes_of(self._own_id) >= ORIGIN_BYTES_MAX - BATCH_BYTES_MAX:
            return False
        return self._unacked == 0 or self._pending_bytes >= self._close_bytes

    def _close(self, turn: Turn) -> None:
        envelopes: list[Envelope] = []
        size = 0
        while self._pending and len(envelopes) < BATCH_ENVELOPES_MAX:
            length = len(self._pending[0].raw)
            if envelopes and size + length > self._close_bytes:
                break
            envelope = self._pending.popleft()
            self._pending_ids.discard(envelope.id)
            envelopes.append(envelope)
            size += length
        self._pending_bytes -= size
        raws = tuple([envelope.raw for envelope in envelopes])
        header = wire.encode_batch_header(
            chain_id=self._chain_id,
            epoch=self._validators.epoch,
            origin=self._own_id,
            incarnation=self._incarnation,
            sequence=self._tip.sequence + 1,
            previous=self._tip.digest,
            envelopes=raws,
            attachment_root=NO_ATTACHMENTS,
        )
        signature = self._signer.sign(TAG_BATCH_SIGNATURE + header)
        raw = wire.encode_batch(header, signature, raws)
        batch = Batch(wire.decode_batch_header(header), signature, raws, raw)
        self._tip = Head(self._incarnation, self._tip.sequence + 1, batch.header.digest)
        self.pool.add(batch, tuple(envelopes), checked=True)
        self._unacked += 1
        turn.block_writes.append(BatchWrite(batch.header.digest, raw))
        turn.sync_blocks = True
        turn.sends.append((None, batch))
        self._advance(self._own_id, turn)

    # -- as acker ----------------------------------------------------------------------------

    def on_batch(self, batch: Batch, sender: int, now: Now, turn: Turn) -> None:
        """A batch arrived, pushed or fetched; it is checked before anything else is done with it."""
        header = batch.header
        index = self._index.get(header.origin)
        if header.chain_id != self._chain_id or index is None or header.attachment_root != NO_ATTACHMENTS:
            turn.penalties.append(Penalty(sender, "batch of another network or of no validator"))
            return
        wanted = header.digest in self._wanted
        if self.pool.get(header.digest) is not None or header.digest in self._bad:
            return
        if (header.incarnation, header.sequence) <= self.executed[header.origin].position and not wanted:
            return
        if self.pool.bytes_of(header.origin) + header.envelope_bytes > ORIGIN_BYTES_MAX and not wanted:
            return  # not acknowledged; fetched when a block lists it
        key = self._validators.members[index].public_key
        if not self._signer.verify(key, TAG_BATCH_SIGNATURE + header.raw, batch.signature):
            turn.penalties.append(Penalty(sender, "batch with a bad signature"))
            return
        self._wanted.pop(header.digest, None)
        self.pool.add(batch, None, checked=False)
        turn.checks.append(batch)

    def on_checked(self, digest: bytes, ok: bool, envelopes: tuple[Envelope, ...], now: Now, turn: Turn) -> None:
        """All envelopes of a batch were verified, or one is ill-formed and the batch with it."""
        known = self.pool.in_memory(digest)
        if known is None or known.checked:
            return
        header = known.batch.header
        self.changed = True
        if not ok:
            self.pool.drop(digest)
            self._early.pop(digest, None)
            self._bad[digest] = None
            if len(self._bad) > BAD_MAX:
                del self._bad[next(iter(self._bad))]
            turn.penalties.append(Penalty(self._index[header.origin], "batch with an ill-formed envelope"))
            return
        known.checked = True
        known.envelopes = envelopes
        turn.block_writes.append(BatchWrite(digest, known.batch.raw))
        turn.sync_blocks = True
        for ack in self._early.pop(digest, {}).values():
            self._count(ack, now, turn)
        self._advance(header.origin, turn)

    def is_bad(self, digest: bytes) -> bool:
        """Was this batch found ill-formed?"""
        return digest in self._bad

    def _advance(self, origin: str, turn: Turn) -> None:
        """Acknowledge as far as the chain of checked batches reaches."""
        head = max(self._acked[origin], self.executed[origin], key=lambda h: h.position)
        before = self._acked[origin]
        while True:
            follower = next(self.pool.successors(origin, head), None)
            if follower is None or follower.batch.header.incarnation != head.incarnation:
                opened = next(
                    (
                        k
                        for k in self.pool.successors(origin, self.executed[origin])
                        if k.batch.header.incarnation > head.incarnation
                    ),
                    None,
                )
                follower = opened if opened is not None else None
            if follower is None:
                break
            header = follower.batch.header
            head = Head(header.incarnation, header.sequence, header.digest)
        if head != before and head != self.executed[origin]:
            self._acked[origin] = head
            self._dirty.add(origin)
            if self._own is not None:
                turn.vote_records.append(
                    wire.encode_record(wire.AckedRecord(origin, head.incarnation, head.sequence, head.digest))
                )

    def _send_acks(self, turn: Turn) -> None:
        if self._own is None:
            self._dirty.clear()
            return
        for origin in sorted(self._dirty):
            ack = self._own_ack(origin)
            turn.sends.append((None, ack))
            self._acks[(self._own, origin)] = ack
            self._mark(ack, turn, None)
        self._dirty.clear()

    def _own_ack(self, origin: str) -> Ack:
        head = self._acked[origin]
        unsigned = Ack(
            HELD, self._validators.epoch, self._own or 0, origin, head.incarnation, head.sequence, head.digest, b""
        )
        return msgspec.structs.replace(unsigned, signature=self._signer.sign(ack_message(self._chain_id, unsigned)))

    def live_records(self) -> list[bytes]:
        """Vote-log records from which a restart knows what was said."""
        records: list[bytes] = []
        if self._incarnation:
            records.append(wire.encode_record(wire.IncarnationRecord(self._incarnation)))
        for origin, head in sorted(self._acked.items()):
            if head != NO_HEAD:
                record = wire.AckedRecord(origin, head.incarnation, head.sequence, head.digest)
                records.append(wire.encode_record(record))
        return records

    # -- counting acknowledgements -----------------------------------------------------------

    def on_ack(self, ack: Ack, sender: int, now: Now, turn: Turn) -> None:
        """An acknowledgement arrived; what it covers counts one holder more."""
        if (
            ack.kind != HELD
            or ack.epoch != self._validators.epoch
            or ack.acker >= self._validators.n
            or ack.origin not in self._index
        ):
            turn.penalties.append(Penalty(sender, "acknowledgement that cannot be"))
            return
        best = self._acks.get((ack.acker, ack.origin))
        if best is not None and (ack.incarnation, ack.sequence) <= (best.incarnation, best.sequence):
            return
        if (ack.incarnation, ack.sequence) <= self.executed[ack.origin].position:
            return
        key = self._validators.members[ack.acker].public_key
        if not self._signer.verify(key, ack_message(self._chain_id, ack), ack.signature):
            turn.penalties.append(Penalty(sender, "acknowledgement with a bad signature"))
            return
        self._acks[(ack.acker, ack.origin)] = ack
        self._count(ack, now, turn)

    def _count(self, ack: Ack, now: Now, turn: Turn) -> None:
        known = self.pool.get(ack.digest)
        if known is None or not known.checked:
            slot = self._early.setdefault(ack.digest, {})
            slot[(ack.acker, ack.origin)] = ack
            if known is None:
                self.want(ack.digest, (ack.acker,), now)
            while len(self._early) > WANTED_MAX:
                del self._early[next(iter(self._early))]
            return
        self._mark(ack, turn, now)

    def _mark(self, ack: Ack, turn: Turn, now: Now | None) -> None:
        """Set the acker's bit on the batch and on all before it in its incarnation."""
        bit = 1 << ack.acker
        quorum, weak = self._validators.quorum, self._validators.f + 1
        digest = ack.digest
        while (known := self.pool.in_memory(digest)) is not None and not known.ackers & bit:
            known.ackers |= bit
            holders = known.ackers.bit_count()
            if holders == weak and now is not None:
                known.weak_since_ms = now.monotonic_ms
            if holders == quorum:
                self.changed = True
                if known.batch.header.origin == self._own_id:
                    self._unacked = max(0, self._unacked - 1)
                    ids = tuple([envelope.id for envelope in self.envelopes(known)])
                    turn.notices.append(AcceptedNotice(digest, ids))
            if known.batch.header.sequence == 1:
                break
            digest = known.batch.header.previous

    # -- as leader, and for the executor -----------------------------------------------------

    def listable(self, heads: Mapping[str, Head], now: Now) -> Iterator[Known]:
        """Batches a leader may list after ``heads``, each origin's in chain order, origins in turn."""
        current = {origin: heads.get(origin, NO_HEAD) for origin in self._index}
        progress = True
        while progress:
            progress = False
            for origin in self._index:
                for known in self.pool.successors(origin, current[origin]):
                    if self._held(known, now):
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

    def envelopes(self, known: Known) -> tuple[Envelope, ...]:
        """Decoded envelopes of a checked batch."""
        if known.envelopes is None:
            known.envelopes = tuple([wire.decode_envelope(raw) for raw in known.batch.envelopes])
        return known.envelopes

    def on_executed(self, heads: Mapping[str, Head], turn: Turn) -> None:
        """A block was executed and moved these origins' heads."""
        for origin, head in heads.items():
            self.executed[origin] = head
            own = origin == self._own_id
            for digest in self.pool.overtaken(origin, head):
                known = self.pool.in_memory(digest)
                if own and known is not None and known.ackers.bit_count() < self._validators.quorum:
                    self._unacked = max(0, self._unacked - 1)
                self.pool.drop(digest)
            if own and self._opened and not self._on_own_chain(head):
                self._open_incarnation(max(self._incarnation, head.incarnation) + 1, turn)
            self._advance(origin, turn)

    def _on_own_chain(self, head: Head) -> bool:
        return head.incarnation == self._incarnation and head.sequence <= self._tip.sequence

    # -- looking for batches -----------------------------------------------------------------

    def want(self, digest: bytes, sources: Sequence[int], now: Now, *, at_once: bool = False) -> None:
        """A batch is needed (a block lists it, or somebody acknowledged it); it may still be on its way."""
        wanted = self._wanted.get(digest)
        if wanted is None:
            if len(self._wanted) >= WANTED_MAX:
                return
            wanted = self._wanted[digest] = _Wanted(now.monotonic_ms - (self._delay_ms if at_once else 0))
        wanted.sources.update(s for s in sources if s != self._own)

    def _fetch_wanted(self, now: Now, turn: Turn) -> None:
        """Two holders first, then everybody: the origin may have served only a few."""
        groups: dict[tuple[int, ...], list[bytes]] = {}
        for digest, wanted in list(self._wanted.items()):
            if now.monotonic_ms < wanted.asked_ms + self._delay_ms:
                continue
            if wanted.tries >= FETCH_TRIES_MAX or self.pool.get(digest) is not None:
                del self._wanted[digest]
                continue
            wanted.asked_ms = now.monotonic_ms
            wanted.tries += 1
            everybody = [i for i in range(self._validators.n) if i != self._own]
            sources = sorted(wanted.sources)[:2] if wanted.tries == 1 and wanted.sources else everybody
            groups.setdefault(tuple(sources), []).append(digest)
        for sources_key, digests in groups.items():
            turn.fetches.append(FetchBatches(sources_key, tuple(digests)))

    def no_longer_wanted(self, digest: bytes) -> None:
        """Stop looking for a batch."""
        self._wanted.pop(digest, None)

    # -- peers -------------------------------------------------------------------------------

    def on_connected(self, peer: int, turn: Turn) -> None:
        """Resend what the peer may have missed: own unexecuted batches it has not acknowledged, and our acks."""
        if self._own is None:
            return
        if not self._opened:
            turn.sends.append((peer, OriginQuery(self._nonce)))
        bit = 1 << peer
        for known in self.pool.of_origin(self._own_id):
            if not known.ackers & bit:
                turn.sends.append((peer, known.batch))
        for (acker, _), ack in sorted(self._acks.items()):
            if acker == self._own:
                turn.sends.append((peer, ack))

    def on_origin_query(self, query: OriginQuery, sender: int, turn: Turn) -> None:
        """The sender starts: the highest incarnation seen of it, bound to its nonce."""
        origin = self._validators.members[sender].id
        seen = [self.executed[origin].incarnation, self._acked[origin].incarnation]
        seen += [known.batch.header.incarnation for known in self.pool.of_origin(origin)]
        turn.sends.append((sender, OriginAnswer(query.nonce, max(seen))))

    def on_origin_answer(self, answer: OriginAnswer, sender: int) -> None:
        """One more peer's answer; Q - 1 open the next incarnation."""
        if answer.nonce == self._nonce and not self._opened:
            self._answers[sender] = answer.incarnation
