"""GatewayService: how a client's envelopes enter, and how it learns what became of them.

Every envelope gets an explicit answer: ACCEPTED (signed by this node: a quorum holds it), FINAL, PROVEN, EXPIRED or
REJECTED, or PENDING when the call's own deadline nears. Stages below the one asked for are told on streams only.

A stream is bounded by what it has in flight: beyond ``STREAM_BYTES_MAX`` of envelopes without a last answer it is not
read, and gRPC's flow control holds the client back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import grpc

from ledger.acks import accepted_message
from ledger.codes import Code
from ledger.proof_types import ReceiptProof
from ledger.types import Receipt
from ledger.wire.proofs import encode_receipt_proof
from lossbook.v1 import gateway_pb2, gateway_pb2_grpc
from node.admission import rejection
from node.epoch import Sign
from node.intake import Intake, Ledger, Outcome
from node.tracking import News, Tracker
from node.turn import Stage
from services.auth import caller_of
from services.pulse import Pulse

STREAM_BYTES_MAX: Final = 8 << 20
"""Of one stream without a last answer: a second or two of full load."""

STREAM_ENVELOPES_MAX: Final = 20_000
"""Likewise, for many small ones."""

UNREAD_ANSWERS_MAX: Final = 8_192
"""Answers that a client has not taken: beyond them its stream is not read either."""

MESSAGE_ENVELOPES_MAX: Final = 4_096
"""Of one message: as many as a batch holds. Garbage of one byte each would cost a thousand times its size."""

ANSWERS_PER_MESSAGE: Final = 512
"""Statuses in one response message; with a receipt each has some 200 bytes, with a proof some 10 KB."""

PROOF_ANSWERS_PER_MESSAGE: Final = 64
"""Statuses in one response where each may carry a proof."""

DEADLINE_MARGIN_S: Final = 0.25
"""A waiting call answers what it knows so long before the client's deadline."""

WAIT_S_MAX: Final = 300.0
"""A call without deadline waits at most so long, then answers what is known; the client asks again."""

HALTED: Final = "this node's store failed and it learns nothing new: send the same envelope to another insurer's node"

NEVER_MS: Final = 1 << 62
"""A block time that no network reaches."""

ProofOf = Callable[[Receipt], ReceiptProof | None]


class Voucher:
    """Signs ACCEPTED answers, by the consensus key: the origin's word that a quorum holds the envelope.

    Args:
        chain_id: genesis digest.
        origin: whose node this is.
        seat: the present epoch and its key; None where this node only observes, and can give no word.
    """

    def __init__(self, chain_id: bytes, origin: str, seat: Callable[[], tuple[int, Sign] | None]) -> None:
        self._chain_id = chain_id
        self._origin = origin
        self._seat = seat

    def vouch(self, batch_digest: bytes, envelope_id: bytes) -> gateway_pb2.Accepted | None:
        """The signed answer; None where nothing can be signed."""
        seat = self._seat()
        if seat is None:
            return None
        epoch, sign = seat
        return gateway_pb2.Accepted(
            envelope_id=envelope_id,
            origin=self._origin,
            epoch=epoch,
            batch_digest=batch_digest,
            signature=sign(accepted_message(self._chain_id, epoch, self._origin, batch_digest, envelope_id)),
        )


class _Answers:
    """Makes statuses of outcomes and news."""

    def __init__(self, voucher: Voucher, proof_of: ProofOf) -> None:
        self._voucher = voucher
        self._proof_of = proof_of

    def of_outcome(self, outcome: Outcome, wait: Stage) -> gateway_pb2.EnvelopeStatus:
        if outcome.rejection is not None:
            return gateway_pb2.EnvelopeStatus(
                envelope_id=outcome.envelope_id,
                stage=gateway_pb2.STAGE_REJECTED,
                rejection=gateway_pb2.Rejection(
                    code=outcome.rejection.code,
                    text=outcome.rejection.text,
                    retry_after_ms=outcome.rejection.retry_after_ms,
                ),
            )
        return self.of_news(outcome.news or News(outcome.envelope_id, Stage.PENDING), wait)

    def of_news(self, news: News, wait: Stage) -> gateway_pb2.EnvelopeStatus:
        """A receipt that could be proved is called FINAL to whom did not ask for the proof."""
        stage = Stage.FINAL if news.stage is Stage.PROVEN and wait < Stage.PROVEN else news.stage
        proof = self._proof_of(news.receipt) if stage is Stage.PROVEN and news.receipt is not None else None
        if stage is Stage.PROVEN and proof is None:
            stage = Stage.FINAL
        accepted = None
        if stage is Stage.ACCEPTED:
            accepted = self._voucher.vouch(news.batch_digest, news.envelope_id)
            stage = Stage.ACCEPTED if accepted is not None else Stage.PENDING
        return gateway_pb2.EnvelopeStatus(
            envelope_id=news.envelope_id,
            stage=stage.value,  # type: ignore[arg-type]  # the same numbers
            accepted=accepted,
            receipt=news.receipt.raw if news.receipt is not None else b"",
            proof=encode_receipt_proof(proof) if proof is not None else None,
        )


def _wanted(stage: int) -> Stage:
    """The stage to wait for; FINAL where nothing sensible was asked for."""
    return Stage(stage) if stage in (Stage.ACCEPTED, Stage.FINAL, Stage.PROVEN) else Stage.FINAL


def _remaining_s(context: grpc.aio.ServicerContext[Any, Any]) -> float:
    """Until the client's deadline; without one gRPC says None, whatever its types say."""
    remaining: float | None = context.time_remaining()
    return WAIT_S_MAX if remaining is None else remaining


def _is_last(stage: Stage, wait: Stage) -> bool:
    return stage >= wait or stage in (Stage.EXPIRED, Stage.REJECTED)


class GatewayServicer(gateway_pb2_grpc.GatewayServiceServicer):
    """See gateway.proto and the module text."""

    def __init__(
        self, *, intake: Intake, tracker: Tracker, ledger: Ledger, voucher: Voucher, proof_of: ProofOf
    ) -> None:
        self._intake = intake
        self._tracker = tracker
        self._ledger = ledger
        self._answers = _Answers(voucher, proof_of)
        self._waits: set[asyncio.Future[News]] = set()
        self._streams: set[_Stream] = set()
        self._halted = False

    def halt(self) -> None:
        """This node will learn nothing new: whoever waits is sent elsewhere at once, with the same envelopes."""
        self._halted = True
        for reached in self._waits:
            if not reached.done():
                reached.set_exception(_Halted)
        for stream in self._streams:
            stream.halt()

    async def Submit(  # noqa: N802 - gRPC's name
        self, request: gateway_pb2.SubmitRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> gateway_pb2.SubmitResponse:
        """See gateway.proto. Overload is answered with a status, not with a gRPC error: it says when to retry."""
        wait = _wanted(request.wait)
        (outcome,) = await self._intake.submit((request.envelope,), caller_of(context).organisation)
        status = self._answers.of_outcome(outcome, wait)
        if not _is_last(Stage(status.stage), wait):
            news = await self._news(outcome.envelope_id, wait, context)
            if news is not None:
                status = self._answers.of_news(news, wait)
        return gateway_pb2.SubmitResponse(status=status)

    async def WaitReceipt(  # noqa: N802 - gRPC's name
        self, request: gateway_pb2.WaitReceiptRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> gateway_pb2.WaitReceiptResponse:
        """See gateway.proto."""
        if len(request.envelope_id) != 32:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an envelope id has 32 bytes")
        wait = _wanted(request.wait)
        news = self._known(request.envelope_id, request.not_after_ms)
        if not _is_last(news.stage, wait):
            if not self._tracker.full:
                # Without the envelope's own not_after nobody can say EXPIRED: it is waited for.
                self._tracker.follow(request.envelope_id, request.not_after_ms or NEVER_MS)
            news = await self._news(request.envelope_id, wait, context) or news
        return gateway_pb2.WaitReceiptResponse(status=self._answers.of_news(news, wait))

    def _known(self, envelope_id: bytes, not_after_ms: int) -> News:
        receipt = self._ledger.receipt_of(envelope_id)
        if receipt is not None:
            proven = receipt.height <= self._tracker.certified_height
            return News(envelope_id, Stage.PROVEN if proven else Stage.FINAL, b"", receipt)
        if 0 < not_after_ms < self._tracker.block_time_ms:
            return News(envelope_id, Stage.EXPIRED)
        return self._tracker.find(envelope_id) or News(envelope_id, Stage.PENDING)

    async def _news(self, envelope_id: bytes, wait: Stage, context: grpc.aio.ServicerContext[Any, Any]) -> News | None:
        """Wait for the stage; what is known when the call's time is nearly over."""
        reached: asyncio.Future[News] = asyncio.get_running_loop().create_future()
        latest: list[News] = []

        def listener(news: News) -> None:
            latest[:] = [news]
            if _is_last(news.stage, wait) and not reached.done():
                reached.set_result(news)

        now = self._tracker.listen(envelope_id, wait, listener)
        if now is None or _is_last(now.stage, wait):
            return now
        timeout_s = min(max(_remaining_s(context) - DEADLINE_MARGIN_S, 0.0), WAIT_S_MAX)
        self._waits.add(reached)
        if self._halted:
            reached.set_exception(_Halted)
        try:
            async with asyncio.timeout(timeout_s):
                return await reached
        except TimeoutError:
            return latest[0] if latest else now
        except _Halted:
            await context.abort(grpc.StatusCode.UNAVAILABLE, HALTED)
            return None
        finally:
            self._waits.discard(reached)
            self._tracker.unlisten(envelope_id, listener)

    async def SubmitStream(  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[gateway_pb2.SubmitStreamRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[gateway_pb2.SubmitStreamResponse]:
        """See gateway.proto."""
        stream = _Stream(self._intake, self._tracker, self._answers, caller_of(context).organisation)
        self._streams.add(stream)
        if self._halted:
            stream.halt()
        reader = asyncio.create_task(stream.read(request_iterator))
        try:
            async for statuses in stream.answers():
                yield gateway_pb2.SubmitStreamResponse(statuses=statuses)
            await reader
        except _MessageTooLarge as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except _Halted:
            await context.abort(grpc.StatusCode.UNAVAILABLE, HALTED)
        finally:
            self._streams.discard(stream)
            reader.cancel()
            stream.close()


class _Halted(Exception):
    """The node's store failed."""


class _MessageTooLarge(Exception):
    """One message of a stream holds more envelopes than are taken at once."""


class _Stream:
    """One SubmitStream call: envelopes in flight and answers not sent yet."""

    def __init__(self, intake: Intake, tracker: Tracker, answers: _Answers, caller: str) -> None:
        self._intake = intake
        self._caller = caller
        self._tracker = tracker
        self._answers = answers
        self._wait = Stage.FINAL
        self._in_flight: dict[bytes, int] = {}
        self._in_flight_bytes = 0
        self._outbox: list[News | Outcome] = []
        self._changed = Pulse()
        self._ended = False
        self._halted = False

    def halt(self) -> None:
        """No answer will come for what is in flight and not answered yet."""
        self._halted = True
        self._changed.beat()

    async def read(self, requests: AsyncIterator[gateway_pb2.SubmitStreamRequest]) -> None:
        """Take in what the client sends, while there is room."""
        try:
            async for request in requests:
                if len(request.envelopes) > MESSAGE_ENVELOPES_MAX:
                    raise _MessageTooLarge(
                        f"{len(request.envelopes)} envelopes in one message, at most {MESSAGE_ENVELOPES_MAX}: "
                        "send them in several"
                    )
                self._wait = _wanted(request.wait)
                while self._full:
                    await self._changed.waiter().wait()
                raws = tuple(request.envelopes)
                self._enter(raws, await self._intake.submit(raws, self._caller))
        finally:
            self._ended = True
            self._changed.beat()

    @property
    def _full(self) -> bool:
        return (
            self._in_flight_bytes >= STREAM_BYTES_MAX
            or len(self._in_flight) >= STREAM_ENVELOPES_MAX
            or len(self._outbox) >= UNREAD_ANSWERS_MAX
        )

    def _enter(self, raws: Sequence[bytes], outcomes: Sequence[Outcome]) -> None:
        for raw, outcome in zip(raws, outcomes, strict=True):
            known = outcome.news
            if known is None or _is_last(known.stage, self._wait):
                self._outbox.append(outcome)
                continue
            if outcome.envelope_id not in self._in_flight:
                self._in_flight[outcome.envelope_id] = len(raw)
                self._in_flight_bytes += len(raw)
                latest = self._tracker.listen(outcome.envelope_id, self._wait, self._on_news)
                if latest is not None and latest.stage > Stage.PENDING:
                    self._on_news(latest)
                elif latest is None:  # settled while the others' signatures were checked: look again
                    self._drop(outcome.envelope_id)
                    self._outbox.append(
                        Outcome(outcome.envelope_id, rejection=rejection(Code.OVERLOADED, retry_after_ms=1))
                    )
        self._changed.beat()

    def _on_news(self, news: News) -> None:
        self._outbox.append(news)
        if _is_last(news.stage, self._wait):
            self._drop(news.envelope_id)
        self._changed.beat()

    def _drop(self, envelope_id: bytes) -> None:
        self._in_flight_bytes -= self._in_flight.pop(envelope_id, 0)

    async def answers(self) -> AsyncIterator[list[gateway_pb2.EnvelopeStatus]]:
        """Answers as they come, many in one message; ends when the client has ended and all is answered."""
        while True:
            changed = self._changed.waiter()
            if self._outbox:
                most = PROOF_ANSWERS_PER_MESSAGE if self._wait is Stage.PROVEN else ANSWERS_PER_MESSAGE
                ready, self._outbox = self._outbox[:most], self._outbox[most:]
                self._changed.beat()
                yield [self._status(item) for item in ready]
            elif self._ended and not self._in_flight:
                return
            elif self._halted and self._in_flight:
                raise _Halted
            else:
                await changed.wait()

    def _status(self, item: News | Outcome) -> gateway_pb2.EnvelopeStatus:
        if isinstance(item, News):
            return self._answers.of_news(item, self._wait)
        return self._answers.of_outcome(item, self._wait)

    def close(self) -> None:
        """The call is over: nobody listens any more. What was taken stays taken."""
        for envelope_id in list(self._in_flight):
            self._tracker.unlisten(envelope_id, self._on_news)
        self._in_flight.clear()
