"""From the gateway's door to the mailbox: what happens to submitted envelopes, many at a time.

    debt? -> decode and judge -> known already? -> executed already? -> expired? -> room? -> signatures -> mailbox

Each envelope gets an answer at once: followed (news will come), or a final word (REJECTED, EXPIRED, or the first
receipt of a replay). An id is followed only after its signatures were checked: a garbled copy, sent first, must not
stand in the way of the genuine envelope.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ledger.codes import Code
from ledger.types import Envelope, Receipt
from ledger.wellformed import signature_jobs
from ledger.wire import WireError, claimed_id
from node.admission import Register, Rejection, RoomKeeper, judge, rejection
from node.checking import SLICE_S
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.tracking import News, Tracker
from node.turn import Stage, Submitted
from services.verification import VerificationPool

CLOSED_RETRY_MS = {Code.NOT_READY: 1_000, Code.NOT_VOTING: 60_000}
"""Catching up takes seconds to minutes, calling an operator longer: another gateway is the better answer to both."""

FULL_RETRY_MS = 1_000


class Ledger(Register, Protocol):
    """What the intake asks of executed state."""

    def receipt_of(self, envelope_id: bytes) -> Receipt | None:
        """The receipt that says what became of an envelope, however long ago; None if it was never listed."""


class Outcome(msgspec.Struct, frozen=True):
    """The answer to one submitted envelope. Exactly one of ``rejection`` and ``news`` is set."""

    envelope_id: bytes  #: empty where it did not decode, and where its caller owes too much for anything to be read
    rejection: Rejection | None = None
    news: News | None = None


class Intake:
    """Takes envelopes in; see the module text.

    Args:
        closed: why nothing is taken now; None when it is.
    """

    def __init__(
        self,
        *,
        chain_id: bytes,
        ledger: Ledger,
        tracker: Tracker,
        room: RoomKeeper,
        pool: VerificationPool,
        mailbox: Mailbox,
        metrics: Metrics,
        closed: Callable[[], Code | None],
        clock_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        self._chain_id = chain_id
        self._ledger = ledger
        self._tracker = tracker
        self._room = room
        self._pool = pool
        self._mailbox = mailbox
        self._metrics = metrics
        self._closed = closed
        self._clock_ms = clock_ms

    async def submit(self, raws: Sequence[bytes], caller: str) -> list[Outcome]:
        """One outcome an envelope, in order. Those without a final word are in the mailbox when this returns.

        ``caller`` is the authenticated organisation, which is charged for them; whom an envelope names is not
        believed before its signatures were checked.
        """
        outcomes: list[Outcome | None] = []
        candidates: list[tuple[int, Envelope]] = []
        until = time.monotonic() + SLICE_S
        for raw in raws:
            if time.monotonic() > until:
                await asyncio.sleep(0)
                until = time.monotonic() + SLICE_S
            outcome, envelope = self._judge(raw, caller)
            if envelope is not None:
                candidates.append((len(outcomes), envelope))
            outcomes.append(outcome)
        good = await self._verified([envelope for _, envelope in candidates])
        taken: list[Envelope] = []
        for (at, envelope), ok in zip(candidates, good, strict=True):
            outcomes[at] = self._take(envelope, taken) if ok else _refuse(envelope.id, rejection(Code.BAD_SIGNATURE))
        if taken:
            await self._mailbox.put("gateway", sum(len(each.raw) for each in taken), Submitted(tuple(taken)))
        settled = [outcome for outcome in outcomes if outcome is not None]
        for outcome in settled:
            self._count(outcome)
        return settled

    def _judge(self, raw: bytes, caller: str) -> tuple[Outcome | None, Envelope | None]:
        """A final word, or the envelope whose signatures are to be checked."""
        now_ms = self._clock_ms()
        owes = self._room.debt(caller, now_ms)
        if owes is not None:
            return _refuse(b"", owes), None
        judged = judge(raw, self._chain_id, self._ledger)
        if isinstance(judged, Rejection):
            self._room.charge_refused(caller, len(raw), now_ms)
            return _refuse(_id_of(raw), judged), None
        known = self._known(judged)
        if known is not None:
            return known, None
        if (why := self._closed()) is not None:
            return _refuse(judged.id, rejection(why, CLOSED_RETRY_MS[why])), None
        waiting = self._tracker.waiting_bytes
        refused = self._room.ask(caller, len(raw), waiting, now_ms)
        if refused is None and self._tracker.full:
            refused = rejection(Code.OVERLOADED, FULL_RETRY_MS)
        if refused is not None:
            return _refuse(judged.id, refused), None
        return None, judged

    def _known(self, envelope: Envelope) -> Outcome | None:
        """An answer without queueing: executed before, expired, or taken here and still on its way."""
        receipt = self._ledger.receipt_of(envelope.id)
        if receipt is not None and receipt.code != Code.NOT_AFTER_TOO_FAR:  # that one may be tried again
            proven = receipt.height <= self._tracker.certified_height
            news = News(envelope.id, Stage.PROVEN if proven else Stage.FINAL, b"", receipt)
            return Outcome(envelope.id, news=news)
        if envelope.not_after_ms < self._tracker.block_time_ms:
            return Outcome(envelope.id, news=News(envelope.id, Stage.EXPIRED))
        if self._tracker.taken_here(envelope.id):
            return Outcome(envelope.id, news=self._tracker.find(envelope.id))
        return None

    async def _verified(self, envelopes: Sequence[Envelope]) -> list[bool]:
        jobs = [signature_jobs(envelope) for envelope in envelopes]
        results = await self._pool.check([job for each in jobs for job in each])
        good: list[bool] = []
        at = 0
        for each in jobs:
            good.append(all(results[at : at + len(each)]))
            at += len(each)
        return good

    def _take(self, envelope: Envelope, taken: list[Envelope]) -> Outcome:
        # While signatures were checked the same envelope may have come another way.
        known = self._known(envelope)
        if known is not None:
            return known
        self._tracker.follow(envelope.id, envelope.not_after_ms, len(envelope.raw), self._clock_ms())
        taken.append(envelope)
        return Outcome(envelope.id, news=News(envelope.id, Stage.PENDING))

    def _count(self, outcome: Outcome) -> None:
        label = outcome.rejection.code.name.lower() if outcome.rejection else "taken"
        self._metrics.submitted.labels(label).inc()


def _id_of(raw: bytes) -> bytes:
    """So that a client with many under way knows which one is meant; empty where nobody can know."""
    try:
        return claimed_id(raw)
    except WireError:
        return b""


def _refuse(envelope_id: bytes, refusal: Rejection) -> Outcome:
    return Outcome(envelope_id, rejection=refusal)
