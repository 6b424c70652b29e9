"""Submitting in bulk: many envelopes in flight on one stream, which survives the loss of its node.

    async with BulkSubmitter(nodes) as bulk:
        outcome = await bulk.submit(signed)      # waits while the window is full
        status = await outcome                   # the wanted stage, or a refusal, or an expiry
        await bulk.drain()

The window bounds envelopes and bytes that have no last answer. When the node fails, falls silent or turns the stream
away, everything without a last answer goes to the next node, the same bytes under the same ids: an id executes at
most once, so nothing is lost and nothing happens twice. The same happens when another TLS authority is proved for the
node in use: what it said last is not believed. Once a node that is preferred to the one in use serves again,
new envelopes go there: the stream in use takes nothing more and ends when all that it took is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, Self

import grpc
import msgspec

from ledger.codes import Code
from lossbook.v1 import gateway_pb2, gateway_pb2_grpc
from lossbook_sdk.answers import Stage, Status, checked_status
from lossbook_sdk.envelopes import Signed
from lossbook_sdk.errors import NoFirstReceipt, Rejected, VerificationFailed
from lossbook_sdk.links import Link
from lossbook_sdk.nodes import TRANSIENT, Nodes, reason_of, refused
from lossbook_sdk.profile import Node
from lossbook_sdk.replays import with_first_receipt

WINDOW_ENVELOPES: Final = 64
"""In flight at a time: keeps a node busy for some seconds with large envelopes, and memory small."""

WINDOW_BYTES: Final = 6 << 20
"""Likewise; below the 8 MiB at which a gateway stops reading a stream."""

MESSAGE_BYTES: Final = 1 << 20
"""Envelopes packed into one message, at least one; a late one waits behind at most this much."""

SILENCE_S: Final = 10.0
"""A node that owes answers and says nothing for so long is given up: above any view change."""

RETURN_S: Final = 5.0
"""How often a node that was left is asked whether it serves again: one that comes and goes must not cost a client a
move more often than that."""

GIVE_UP_S: Final = 120.0
"""Default time without any node before what is in flight fails."""


FIRST_RECEIPT_S: Final = 5.0
"""For the first receipt of an envelope that was executed before: then the next node is sent it again, and asked."""


class Moment(msgspec.Struct, frozen=True, gc=False):
    """For measuring: when an envelope was first sent and when its last answer came (seconds, the clock given)."""

    sent_s: float
    answered_s: float


class _Flight:
    __slots__ = ("future", "not_before_s", "sent_s", "signed")

    def __init__(self, signed: Signed, future: asyncio.Future[Status]) -> None:
        self.signed = signed
        self.future = future
        self.sent_s = 0.0
        self.not_before_s = 0.0


class _Leave(Exception):
    """Go on with the next node; this one is not asked for so many seconds."""

    def __init__(self, why: str, patience_s: float = 0.0) -> None:
        super().__init__(why)
        self.patience_s = patience_s


class BulkSubmitter:
    """One client's stream of envelopes.

    Args:
        nodes: where to submit, in order of preference; not shared with another submitter.
        wait: stage to wait for.
        on_answer: told of each last answer and its times.
        return_s: how often a preferred node is asked whether it serves again.
        on_move: told of (node left, node taken, reason) at each fail-over and return.
        clock_s: monotonic seconds.
    """

    def __init__(
        self,
        nodes: Nodes,
        wait: Stage = Stage.FINAL,
        *,
        window_envelopes: int = WINDOW_ENVELOPES,
        window_bytes: int = WINDOW_BYTES,
        silence_s: float = SILENCE_S,
        give_up_s: float = GIVE_UP_S,
        return_s: float = RETURN_S,
        on_answer: Callable[[Status, Moment], None] | None = None,
        on_stage: Callable[[Status], None] | None = None,
        on_move: Callable[[Node | None, Node, str], None] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = nodes
        self._wait = wait
        self._window_envelopes = window_envelopes
        self._window_bytes = window_bytes
        self._silence_s = silence_s
        self._give_up_s = give_up_s
        self._return_s = return_s
        self._on_answer = on_answer
        self._on_stage = on_stage
        self._on_move = on_move
        self._clock_s = clock_s
        self._flights: dict[bytes, _Flight] = {}
        self._bytes = 0
        self._unsent: deque[_Flight] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Condition()
        self._closing = False
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._last_heard_s = 0.0
        self._alone_since_s = 0.0
        self._streams = 0
        self._patience_s = 0.0  #: how long the node of the last stream asked to be left alone
        self._leaving = ""  #: why the stream in use takes nothing more; empty while it does

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._changed.set()
        if self._task is not None:
            if kind is not None:
                self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for flight in self._flights.values():
            flight.future.cancel()

    @property
    def in_flight(self) -> int:
        """Envelopes without a last answer."""
        return len(self._flights)

    async def submit(self, signed: Signed) -> asyncio.Future[Status]:
        """Queue one envelope; waits while the window is full.

        Raises:
            ClientError: the stream as a whole has failed (no node for too long, or what is known is too old to check
                a proof with).
        """
        async with self._room:
            await self._room.wait_for(lambda: self._error is not None or self._fits(signed))
        if self._error is not None:
            raise self._error
        flight = _Flight(signed, asyncio.get_running_loop().create_future())
        if signed.id in self._flights:
            return self._flights[signed.id].future
        if not self._flights:
            self._alone_since_s = self._clock_s()
        self._flights[signed.id] = flight
        self._bytes += len(signed.raw)
        self._unsent.append(flight)
        self._changed.set()
        return flight.future

    async def drain(self) -> None:
        """Wait until everything has its last answer; errors as ``submit``."""
        async with self._room:
            await self._room.wait_for(lambda: self._error is not None or not self._flights)
        if self._error is not None:
            raise self._error

    def _fits(self, signed: Signed) -> bool:
        if not self._flights:
            return True
        return len(self._flights) < self._window_envelopes and self._bytes + len(signed.raw) <= self._window_bytes

    # -- the stream --------------------------------------------------------------------------

    async def _run(self) -> None:
        """One stream after another, until closed, or until no node has said anything for too long."""
        left: Node | None = None
        reason = ""
        self._alone_since_s = self._clock_s()
        try:
            while not (self._closing and not self._flights):
                await self._until_work()
                if self._closing and not self._flights:
                    return
                node = await self._nodes.ready(self._alone_since_s + self._give_up_s)
                if self._on_move is not None and node != left:
                    self._on_move(left, node, reason)
                left = node
                self._requeue()
                reason = await self._stream(node)
                if reason:
                    self._nodes.failed(node, reason, self._patience_s)
                else:
                    reason = self._leaving
        except Exception as error:  # noqa: BLE001 - of whatever kind: who waits is told, and does not wait for ever
            await self._fail(error)

    async def _until_work(self) -> None:
        while not self._flights and not self._closing:
            self._changed.clear()
            await self._changed.wait()

    def _requeue(self) -> None:
        """Everything without a last answer is to be sent (again), in the order it came."""
        self._unsent = deque(self._flights.values())

    async def _stream(self, node: Node) -> str:
        """Run one stream until it ends; the reason where that was the node's doing."""
        async with self._nodes.using(node) as link:
            return await self._stream_on(link, node)

    async def _stream_on(self, link: Link, node: Node) -> str:
        stub = gateway_pb2_grpc.GatewayServiceStub(link.channel)
        self._streams += 1
        self._leaving, self._patience_s = "", 0.0
        call = stub.SubmitStream(self._requests(self._streams), metadata=self._nodes.connector.metadata)
        self._last_heard_s = self._clock_s()
        watch = asyncio.create_task(self._watch(call))
        look_back = asyncio.create_task(self._look_back(node))
        try:
            async for response in call:
                self._last_heard_s = self._clock_s()
                self._nodes.worked(node)
                if not await self._nodes.believable(link):
                    self._leaving = f"{node} has another TLS authority now"
                    return ""
                for message in response.statuses:
                    status = await self._told(await checked_status(message, node, self._nodes))
                    self._alone_since_s = self._clock_s()  # a lie is no company: liars alone are given up like silence
                    await self._on_status(status)
        except grpc.aio.AioRpcError as error:
            if error.code() not in TRANSIENT and await self._nodes.believable(link):
                raise refused(node, error) from error
            return reason_of(error)
        except asyncio.CancelledError:
            if watch.done() and not watch.cancelled():
                return f"no answer for {self._silence_s:.0f} s"
            raise
        except _Leave as leave:
            self._patience_s = leave.patience_s
            return str(leave)
        except NoFirstReceipt as error:
            return error.problem
        except VerificationFailed as error:
            return error.problem  # a liar is left like a dead node; the next one answers for the same ids
        finally:
            self._streams += (
                1  # gRPC leaves the request iterator of a call that failed waiting: it must take nothing more
            )
            self._changed.set()
            watch.cancel()
            look_back.cancel()
            call.cancel()
        return "the stream ended before all was answered" if self._owing else ""

    async def _requests(self, stream: int) -> AsyncIterator[gateway_pb2.SubmitStreamRequest]:
        while stream == self._streams and not self._leaving:
            envelopes, wait_s = self._take()
            if envelopes:
                yield gateway_pb2.SubmitStreamRequest(envelopes=envelopes, wait=self._wait.value)  # type: ignore[arg-type]
                continue
            if self._closing and not self._flights:
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    def _take(self) -> tuple[list[bytes], float | None]:
        """One message full of envelopes that may be sent now; where there are none, seconds until some may."""
        now_s, taken, size = self._clock_s(), list[bytes](), 0
        later: list[_Flight] = []
        while self._unsent and size < MESSAGE_BYTES:
            flight = self._unsent.popleft()
            if flight.signed.id not in self._flights:
                continue
            if flight.not_before_s > now_s:
                later.append(flight)
                continue
            if taken and size + len(flight.signed.raw) > MESSAGE_BYTES:
                self._unsent.appendleft(flight)
                break
            taken.append(flight.signed.raw)
            size += len(flight.signed.raw)
            flight.sent_s = flight.sent_s or now_s
        self._unsent.extendleft(reversed(later))
        return taken, min((flight.not_before_s - now_s for flight in later), default=None)

    @property
    def _owing(self) -> bool:
        """Was something sent on this stream that has no last answer?"""
        return len(self._flights) > len(self._unsent)

    async def _look_back(self, node: Node) -> None:
        """While the node in use is not the first choice: once a better one serves again, let this stream run out."""
        while not self._leaving and node != self._nodes.all[0]:
            await asyncio.sleep(self._return_s)
            better = self._nodes.better(node)
            if better is None:
                continue
            problem = await self._nodes.problem_of(better)
            if problem:
                self._nodes.failed(better, problem)
            else:
                self._leaving = f"{better} serves again"
                self._changed.set()

    async def _watch(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        """Cancel the call when the node owes answers and is silent."""
        while True:
            await asyncio.sleep(min(1.0, self._silence_s / 4))
            if not self._owing:
                self._last_heard_s = self._clock_s()
            elif self._clock_s() - self._last_heard_s > self._silence_s:
                call.cancel()
                return

    async def _told(self, status: Status) -> Status:
        """What a status says of one envelope: of a replay, the first receipt."""
        if status.stage is Stage.REJECTED and not status.envelope_id:
            # Not looked at: which of those that were sent, nobody can say. The next node is sent them all.
            refusal = Rejected(status.rejection_code, status.rejection_text, status.node)
            raise _Leave(refusal.problem, status.retry_after_ms / 1000)
        if status.envelope_id not in self._flights or not status.reached(self._wait):
            return status
        return await with_first_receipt(status, self._nodes, give_up_s=FIRST_RECEIPT_S, clock_s=self._clock_s)

    async def _on_status(self, status: Status) -> None:
        flight = self._flights.get(status.envelope_id)
        if flight is None:
            return
        if status.stage is Stage.REJECTED and status.retry_after_ms:
            if status.rejection_code in (Code.NOT_READY, Code.NOT_VOTING):  # when this node would take it: not the next
                raise _Leave(Rejected(status.rejection_code, "", status.node).problem)
            flight.not_before_s = self._clock_s() + status.retry_after_ms / 1000
            self._unsent.append(flight)
            self._changed.set()
            return
        if not status.reached(self._wait):
            if self._on_stage is not None:
                self._on_stage(status)
            return
        del self._flights[status.envelope_id]
        self._bytes -= len(flight.signed.raw)
        if self._on_answer is not None:
            self._on_answer(status, Moment(flight.sent_s, self._clock_s()))
        if not flight.future.done():
            flight.future.set_result(status)
        self._changed.set()
        async with self._room:
            self._room.notify_all()

    async def _fail(self, error: Exception) -> None:
        self._error = error
        for flight in self._flights.values():
            if not flight.future.done():
                flight.future.set_exception(error)
                flight.future.exception()  # whoever awaits it still gets it; nobody is warned if no one does
        async with self._room:
            self._room.notify_all()
