"""The origin's side of dissemination: how a validator's own envelopes become batches that a quorum holds.

Pure: inputs in, effects into the ``Turn``.

Envelopes wait in ``pending``; a batch is closed at once when nothing of ours is unacknowledged, else when enough bytes
wait, so that an idle network answers fast and a busy one batches by itself. It is pushed once to every validator. A
quorum of HELD acknowledgements, our own included, makes its envelopes ACCEPTED, once a batch of the running incarnation
was listed (``_may_promise``).

    start            ask all peers for the highest incarnation they have seen of us, push again what was made and not
                     listed; Q-1 answers, and nothing left that can be listed ->
                     open the next one on our last executed head, make anew what cannot be listed any more
    head moved away  (a batch of an older incarnation was listed) -> open the next one likewise
    next epoch       a batch made two epochs before can no longer be listed -> open the next one likewise

Waiting is what keeps a promise: of batches made anew the first one that is listed leaves all of the incarnation before
beside the chain, and this node may be gone for ever by then, with those that nobody else has yet. Nothing keeps what
waits from being listed, as long as Q validators are connected: it is pushed, acknowledged and listed as ever, and no
other batch takes its place. A node that has forgotten (its records are of an earlier life than its peers have seen)
cannot know what there is to wait for, nor can count on acknowledgements of what it remembers: it waits for a while.
Reasons: docs/adr/0035-a-restarted-origin-waits.md.

Specification: ledger.md, "Batch, block, proofs" (design); docs/protocol.md for the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from consensus.events import Now
from crypto.hashing import TAG_BATCH_SIGNATURE
from crypto.merkle import root as merkle_root
from ledger import wire
from ledger.block_port import BatchDrop, BatchWrite
from ledger.types import BATCH_BYTES_MAX, BATCH_ENVELOPES_MAX, Batch, Envelope
from node.batches import NO_HEAD, ORIGIN_BATCHES_MAX, ORIGIN_BYTES_MAX, BatchPool, Head, Known, envelopes_of, extends
from node.epoch import Epoch
from node.facts import OwnBatch
from node.turn import AcceptedNotice, OriginAnswer, OriginQuery, Turn

CLOSE_BYTES = 192 << 10  #: a busy origin closes at this size (64-256 KB cost least an operation)
INCARNATION_MAX = 1 << 63  #: a higher one is a peer's lie; the bound leaves as many numbers again for honest starts
FORGOTTEN_DELAYS = 10  #: x D: by then others have listed what they hold of an earlier life that this node forgot
NO_ATTACHMENTS = merkle_root(())


class Origin:
    """See the module text.

    Args:
        chain_id: genesis digest.
        epoch: the present one; an observer in it makes no batches.
        organisation: whose node this is.
        pool: batches that are known.
        executed: last listed batch of every origin in executed state; its owner moves it on.
        acked: own acknowledged heads; likewise.
        advance: acknowledges an origin's chain as far as it reaches.
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
        pool: BatchPool,
        executed: Mapping[str, Head],
        acked: Mapping[str, Head],
        advance: Callable[[str, Turn], None],
        incarnation: int,
        nonce: bytes,
        delay_ms: int,
        close_bytes: int,
    ) -> None:
        self._chain_id = chain_id
        self._epoch = epoch
        self._id = organisation
        self._pool = pool
        self._executed = executed
        self._acked = acked
        self._advance = advance
        self._incarnation = incarnation
        self._nonce = nonce
        self._delay_ms = delay_ms
        self._close_bytes = close_bytes
        self._opened = False
        self._answers: dict[str, int] = {}
        self._began_ms: int | None = None
        self._asked_ms: int | None = None
        self._tip = NO_HEAD
        self._unacked = 0  #: own batches below quorum
        self._pending: deque[Envelope] = deque()
        self._pending_bytes = 0
        self._pending_ids: set[bytes] = set()

    # -- what others ask ---------------------------------------------------------------------

    @property
    def opened(self) -> bool:
        """May this origin make batches yet?"""
        return self._opened

    @property
    def incarnation(self) -> int:
        """The own highest one; 0 if none."""
        return self._incarnation

    @property
    def backlog_bytes(self) -> int:
        """Own envelopes that are not executed yet; admission refuses beyond its limit."""
        return self._pending_bytes + self._pool.bytes_of(self._id)

    def unacknowledged(self) -> list[OwnBatch]:
        """Own batches below quorum, oldest first."""
        validators = self._epoch.validators
        quorum, everybody = validators.quorum, range(validators.n)
        return [
            OwnBatch(known.batch.header.sequence, [i for i in everybody if known.ackers >> i & 1])
            for known in self._pool.of_origin(self._id)
            if known.ackers.bit_count() < quorum
        ]

    # -- what comes in -----------------------------------------------------------------------

    def submit(self, envelopes: Sequence[Envelope]) -> None:
        """Queue admitted envelopes; an id that waits already is not queued again."""
        for envelope in envelopes:
            if envelope.id not in self._pending_ids:
                self._pending_ids.add(envelope.id)
                self._pending.append(envelope)
                self._pending_bytes += len(envelope.raw)

    def on_answer(self, answer: OriginAnswer, sender: str) -> None:
        """One more validator's answer; Q - 1 open the next incarnation."""
        others = self._epoch.index(sender) is not None and sender != self._id
        if others and answer.nonce == self._nonce and not self._opened:
            self._answers[sender] = min(answer.incarnation, INCARNATION_MAX)

    def resend(self, peer: str, index: int, from_epoch: int, turn: Turn) -> None:
        """The peer may have missed: the query, and own batches it has not acknowledged, made in that epoch or later."""
        if not self._opened:
            turn.sends.append((peer, OriginQuery(self._nonce)))
            self._unlisted()  # into memory
        for known in self._pool.of_origin(self._id):
            made_in = known.batch.header.epoch
            if not known.ackers >> index & 1 and made_in >= from_epoch and self._epoch.may_list(made_in):
                turn.sends.append((peer, known.batch))

    def enter(self, epoch: Epoch, turn: Turn) -> None:
        """The next epoch begins: what can no longer be listed is made anew."""
        self._epoch = epoch
        self._answers.clear()
        self._asked_ms = None
        if epoch.own is None:
            self._opened = False
            self._clear()
        # What is executed may be in memory again, for a block that lists it once more: nobody acknowledges that.
        own = [
            known.batch.header
            for known in self._pool.of_origin(self._id)
            if (known.batch.header.incarnation, known.batch.header.sequence) > self._executed[self._id].position
        ]
        if self._opened and not all(epoch.may_list(header.epoch) for header in own):
            self._open_incarnation(self._incarnation + 1, turn)
        elif self._opened:
            self._unacked = sum(header.incarnation == self._incarnation for header in own)

    def on_quorum(self, known: Known, turn: Turn) -> None:
        """A quorum holds this batch of ours."""
        if known.batch.header.incarnation == self._incarnation:
            self._unacked = max(0, self._unacked - 1)
            if self._may_promise:
                self._promise(known, turn)

    def on_overtaken(self, known: Known, before: Head) -> None:
        """This batch of ours is at or below the head that was just executed, and leaves memory."""
        header = known.batch.header
        if known.ackers.bit_count() >= self._epoch.validators.quorum:
            return
        if header.incarnation == self._incarnation and (header.incarnation, header.sequence) > before.position:
            self._unacked = max(0, self._unacked - 1)

    def on_executed(self, before: Head, head: Head, turn: Turn) -> None:
        """A block was executed and moved our own head."""
        if self._opened and not self._on_own_chain(head):
            self._open_incarnation(max(self._incarnation, head.incarnation) + 1, turn)
        elif self._opened and before.incarnation != head.incarnation:
            self._promise_what_is_held(turn)

    def _on_own_chain(self, head: Head) -> bool:
        return head.incarnation == self._incarnation and head.sequence <= self._tip.sequence

    # -- promises ----------------------------------------------------------------------------

    @property
    def _may_promise(self) -> bool:
        """Does a quorum that holds a batch of the running incarnation keep it from being lost, whatever comes?

        Batches of an incarnation before stay listable, and the one that is listed leaves what other incarnations
        hold beside the chain, where only this origin can bring it back: it may be down for ever by then. So nothing
        is promised before a batch of the running incarnation was listed, for then no older one can be; the first
        incarnation has none before it.
        """
        return self._incarnation == 1 or self._executed[self._id].incarnation == self._incarnation

    def _promise(self, known: Known, turn: Turn) -> None:
        ids = tuple([envelope.id for envelope in envelopes_of(known)])
        turn.notices.append(AcceptedNotice(known.batch.header.digest, ids))

    def _promise_what_is_held(self, turn: Turn) -> None:
        """The first batch of the running incarnation was listed: its followers that a quorum holds are safe now."""
        for known in self._pool.of_origin(self._id):
            header = known.batch.header
            if header.incarnation == self._incarnation and known.ackers.bit_count() >= self._epoch.validators.quorum:
                self._promise(known, turn)

    # -- opening -----------------------------------------------------------------------------

    def flush(self, now: Now, turn: Turn) -> None:
        """End of a turn: open the next incarnation, close what is due."""
        self._open(now, turn)
        while self._due():
            self._close(turn)

    def deadline_ms(self) -> int | None:
        """Monotonic time at which to ask again; None if nothing is asked."""
        if self._epoch.own is None or self._opened or self._asked_ms is None:
            return None
        return self._asked_ms + 2 * self._delay_ms

    def _open(self, now: Now, turn: Turn) -> None:
        if self._epoch.own is None or self._opened:
            return
        if self._began_ms is None:
            self._began_ms = now.monotonic_ms
        if len(self._answers) >= self._epoch.validators.quorum - 1 and not self._waits(now, self._began_ms):
            void = [known.batch.header for known in self._unlisted()]
            highest = max([self._incarnation, self._acked[self._id].incarnation, *self._answers.values()])
            self._open_incarnation(highest + 1, turn)
            turn.block_writes += [BatchDrop(each.digest) for each in void if self._epoch.is_past(each.epoch)]
        elif self._asked_ms is None or now.monotonic_ms >= self._asked_ms + 2 * self._delay_ms:
            self._asked_ms = now.monotonic_ms
            turn.sends.append((None, OriginQuery(self._nonce)))

    def _waits(self, now: Now, began_ms: int) -> bool:
        """May something that was made before still be listed, and would a new incarnation take its place?"""
        if self._has_forgotten:
            return now.monotonic_ms < began_ms + FORGOTTEN_DELAYS * self._delay_ms
        unlisted = [known.batch.header for known in self._unlisted()]
        if not unlisted or any(self._epoch.is_past(header.epoch) for header in unlisted):
            return False
        return extends(self._executed[self._id], unlisted[0]) or self._lies_ahead(unlisted[0].previous)

    def _lies_ahead(self, digest: bytes) -> bool:
        """Is the own batch on which the incarnation was opened above the executed head?

        It had been executed then; a power failure took the state of that, and it is executed again.
        """
        held = self._pool.in_memory(digest)
        known = held or self._pool.get(digest)
        if known is None:
            return False
        ahead = known.batch.header.position[1:] > self._executed[self._id].position
        if held is None and not ahead:
            self._pool.drop(digest)
        return ahead

    @property
    def _has_forgotten(self) -> bool:
        """Was there a later life than this node's records know of: says executed state, or one honest peer at least?"""
        later = sum(seen > self._incarnation for seen in self._answers.values())
        return later > self._epoch.validators.f or self._executed[self._id].incarnation > self._incarnation

    def _open_incarnation(self, incarnation: int, turn: Turn) -> None:
        head = self._executed[self._id]
        unlisted: list[Envelope] = []
        for known in self._unlisted():
            unlisted.extend(envelopes_of(known))
            self._pool.drop(known.batch.header.digest)
        self._incarnation = incarnation
        turn.vote_records.append(wire.encode_record(wire.IncarnationRecord(incarnation)))
        self._tip = Head(incarnation, 0, head.digest)
        self._opened = True
        self._unacked = 0
        waiting = list(self._pending)
        self._clear()
        # Closed before anything else can happen: with the incarnation's record stands that of its batches, or neither.
        self.submit(unlisted)
        while self._pending:
            self._close(turn)
        self.submit(waiting)

    def _clear(self) -> None:
        self._pending.clear()
        self._pending_ids.clear()
        self._pending_bytes = 0

    def _unlisted(self) -> list[Known]:
        """Batches of the own last incarnation that are not executed, oldest first; from disk after a restart.

        What stood before it was listed, or is in it once more.
        """
        head, executed = self._acked[self._id], self._executed[self._id]
        unlisted: list[Known] = []
        digest, sequence = head.digest, head.sequence
        while sequence and (head.incarnation, sequence) > executed.position:
            known = self._pool.at(digest, (self._id, head.incarnation, sequence))
            if known is None:
                break
            unlisted.append(known)
            digest, sequence = known.batch.header.previous, sequence - 1
        unlisted.reverse()
        return unlisted

    # -- closing -----------------------------------------------------------------------------

    def _due(self) -> bool:
        if not self._opened or not self._pending:
            return False
        if self._pool.bytes_of(self._id) >= ORIGIN_BYTES_MAX - BATCH_BYTES_MAX:
            return False
        if self._pool.count_of(self._id) >= ORIGIN_BATCHES_MAX // 2:
            return False  # the other half is for what a restart makes anew
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
        batch = self._make(tuple([envelope.raw for envelope in envelopes]))
        self._tip = Head(self._incarnation, self._tip.sequence + 1, batch.header.digest)
        self._pool.add(batch, tuple(envelopes), checked=True)
        self._unacked += 1
        turn.block_writes.append(BatchWrite(batch.header.digest, batch.raw))
        turn.sync_blocks = True
        turn.sends.append((None, batch))
        self._advance(self._id, turn)

    def _make(self, raws: tuple[bytes, ...]) -> Batch:
        header = wire.encode_batch_header(
            chain_id=self._chain_id,
            epoch=self._epoch.number,
            origin=self._id,
            incarnation=self._incarnation,
            sequence=self._tip.sequence + 1,
            previous=self._tip.digest,
            envelopes=raws,
            attachment_root=NO_ATTACHMENTS,
        )
        signature = self._epoch.sign(TAG_BATCH_SIGNATURE + header)
        return Batch(wire.decode_batch_header(header), signature, raws, wire.encode_batch(header, signature, raws))
