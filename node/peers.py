"""Streams between validators.

Each node dials every other one and sends on its own stream; it receives on the streams the others dialled. One
direction failing is thus seen by the side that can mend it, and no rule has to settle who dials whom. What a turn has
for a peer leaves in as few messages as it fits into; a broadcast is encoded once.

The queue of a link is bounded by bytes. A peer too slow for it loses the stream, not single messages: once it is
reached again ``PeerConnected`` makes the validator resend all that still matters. That may be megabytes, so a peer
that takes streams and drops them is dialled less and less often, whatever it does to be heard of.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from ledger.wire import WireError
from lossbook.v1 import peer_pb2
from node import peer_wire
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.reputation import Patience, Reputation, Standing
from node.turn import PeerConnected, PeerLost, PeerMessage, PeerMessages
from node.twins import REPLACED, Processes, Signs
from services.auth import caller_of
from services.dial_problem import Problem, problem_of
from services.identity import Identity, UnknownMember
from services.limits import CONNECT_MS_MAX, INSTANCE_KEY, STREAM_CHUNK_BYTES
from services.logs import get_logger
from services.tasks import Tasks

METHOD: Final = "/lossbook.v1.PeerService/Exchange"

QUEUE_BYTES_MAX: Final = 32 << 20
"""Waiting for one peer: some seconds of full load; the stream of a peer that is further behind is given up."""

CONNECT_S_MAX: Final = CONNECT_MS_MAX / 1000
"""Until TLS and the first answer; a dead address is tried again after that."""

BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 3.0
"""Between attempts, with jitter: a restarted peer is found within seconds, a dead one costs nothing."""

BACKOFF_SEATLESS_S_MAX: Final = 60.0
"""The same for a member without a seat: its card may name an address where nothing ever ran. A node that starts there
dials by itself, and is dialled at once."""

STEADY_S: Final = 5.0
"""A stream that lasted so long was no attempt that failed: the next one begins with the shortest back-off."""

MESSAGES_PER_INPUT: Final = 16
"""Handed to the validator at once, so that a request of nothing but small messages cannot hold up the others'."""

INSTANCE_CHARS_MAX: Final = 64
"""Of what a peer says of its process: twice what this version says."""

_log = get_logger("peers")


class Link:
    """The stream this node dialled to one peer."""

    def __init__(
        self,
        organisation: str,
        address: str,
        identity: Identity,
        mailbox: Mailbox,
        metrics: Metrics,
        process: str = "",
    ) -> None:
        self.organisation = organisation
        self.address = address
        self._process = process
        self._replaced = Signs()
        self._identity = identity
        self._mailbox = mailbox
        self._metrics = metrics
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._filled = asyncio.Event()
        self._overflowed = False
        self._woken = asyncio.Event()
        self.connected = False
        self._connected_s = 0.0
        self.problem = Problem("not dialled yet")

    @property
    def _backoff_s_max(self) -> float:
        member = self._identity.members.get(self.organisation)
        return BACKOFF_S_MAX if member is not None and member.is_validator else BACKOFF_SEATLESS_S_MAX

    @property
    def speaks_of_a_twin(self) -> bool:
        """Whether the peer ends streams of this node because another process with its identity opens newer ones."""
        return self._replaced.told(asyncio.get_running_loop().time())

    def send(self, raw: bytes) -> None:
        """Queue one encoded message; dropped while there is no stream."""
        if not self.connected or self._overflowed:
            return
        self._queue.append(raw)
        self._queued_bytes += len(raw)
        self._overflowed = self._queued_bytes > QUEUE_BYTES_MAX
        self._filled.set()

    async def run(self) -> None:
        """Dial, send, dial again; until cancelled."""
        backoff = BACKOFF_S_MIN
        while True:
            try:
                await self._stream()
                self._note(Problem("the peer closed the stream"))
            except grpc.aio.AioRpcError as error:
                self._note(self._ended_by(error.code(), error.details() or ""))
            except (TimeoutError, UnknownMember) as error:
                self._note(Problem(str(error) or f"no answer from {self.address}"))
            finally:
                lasted_s = self._lost()
            if lasted_s is not None and lasted_s > STEADY_S:
                backoff = BACKOFF_S_MIN
            await self._pause(backoff * random.uniform(0.5, 1.5), cut_short=lasted_s is None)
            backoff = min(backoff * 1.6, self._backoff_s_max)

    def wake(self) -> None:
        """The peer was heard of: dial now, if it could not be reached before."""
        self._woken.set()

    async def _pause(self, seconds: float, *, cut_short: bool) -> None:
        """Until the time is over or, where it may be cut short, the peer was heard of."""
        if not cut_short:
            await asyncio.sleep(seconds)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):  # asyncio.wait_for of Python 3.11 may swallow a cancellation
                    await self._woken.wait()
        self._woken.clear()

    async def _stream(self) -> None:
        channel = self._identity.channel(self.organisation, self.address)
        try:
            exchange: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(METHOD)
            call = exchange(metadata=(*self._identity.metadata, (INSTANCE_KEY, self._process)))
            async with asyncio.timeout(CONNECT_S_MAX):
                await call.wait_for_connection()
                await call.initial_metadata()  # the peer's servicer has let us in, or has turned us away
            if call.done():
                await self._raise_status(call)
            self._connected()
            ended = asyncio.create_task(self._until_end(call))
            sender = asyncio.create_task(self._send_all(call))
            try:
                await asyncio.wait((ended, sender), return_when=asyncio.FIRST_COMPLETED)
                for task in (ended, sender):
                    if task.done():
                        task.result()
            finally:
                ended.cancel()
                sender.cancel()
                call.cancel()
                await asyncio.gather(ended, sender, return_exceptions=True)
        finally:
            await channel.close()

    async def _until_end(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        while await call.read() is not grpc.aio.EOF:
            pass  # nothing is sent this way by this version
        await self._raise_status(call)

    async def _raise_status(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        code = await call.code()
        if code is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), await call.details())

    async def _send_all(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        sent = self._metrics.peer_sent.labels(self.organisation)
        while True:
            await self._filled.wait()
            self._filled.clear()
            if self._overflowed:
                self._metrics.peer_resets.labels(self.organisation).inc()
                raise TimeoutError(f"{self._queued_bytes} bytes wait for it; the stream is given up")
            waiting, self._queue = self._queue, deque()
            for request in peer_wire.pack(waiting, STREAM_CHUNK_BYTES):
                await call.write(request)
                sent.inc(len(request))
                self._queued_bytes -= len(request)
            if not self._queue:
                self._queued_bytes = 0  # framing was counted, too

    def _connected(self) -> None:
        self.connected = True
        self._connected_s = asyncio.get_running_loop().time()
        self.problem = Problem("")
        self._metrics.peers_connected.inc()
        self._mailbox.put_now(PeerConnected(self.organisation))
        _log.info("peer connected", peer=self.organisation, address=self.address)

    def _lost(self) -> float | None:
        """The stream is over; seconds it lasted, None if there was none."""
        self._queue.clear()
        self._queued_bytes = 0
        self._overflowed = False
        self._filled.clear()
        if self.connected:
            self.connected = False
            self._metrics.peers_connected.dec()
            self._mailbox.put_now(PeerLost(self.organisation))
            return asyncio.get_running_loop().time() - self._connected_s
        return None

    def _ended_by(self, code: grpc.StatusCode, details: str) -> Problem:
        if details != REPLACED:
            return problem_of(self.organisation, self.address, code, details)
        self._replaced.seen(asyncio.get_running_loop().time())
        return Problem("it has a newer stream of another process with this node's identity")

    def _note(self, problem: Problem) -> None:
        if problem != self.problem:  # a peer that is down is reported once, not at every attempt
            _log.warning("peer not reachable", peer=self.organisation, address=self.address, problem=problem.text)
        self.problem = problem


class Peers:
    """All links of a validator.

    Args:
        addresses: host:port of the others, by organisation.
        tasks: where the links run.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        identity: Identity,
        mailbox: Mailbox,
        metrics: Metrics,
        tasks: Tasks,
    ) -> None:
        self._identity = identity
        self._mailbox = mailbox
        self._metrics = metrics
        self._tasks = tasks
        self._process = secrets.token_hex(16)
        self._endings: dict[str, Callable[[], bool]] = {}
        self.links = {organisation: self._link(organisation, addresses) for organisation in sorted(addresses)}

    def _link(self, organisation: str, addresses: Mapping[str, str]) -> Link:
        address = addresses[organisation]
        return Link(organisation, address, self._identity, self._mailbox, self._metrics, self._process)

    def start(self) -> None:
        """Begin to dial; ``tasks`` ends it."""
        for organisation, link in self.links.items():
            self._endings[organisation] = self._tasks.start(link.run())

    def follow(self, addresses: Mapping[str, str], renewed: Collection[str]) -> None:
        """These are the others now. ``renewed``: those of them that are to be dialled anew."""
        stay = {
            name for name, link in self.links.items() if addresses.get(name) == link.address and name not in renewed
        }
        for organisation in [name for name in self.links if name not in stay]:
            del self.links[organisation]
            self._endings.pop(organisation)()
        for organisation in sorted(addresses):
            if organisation not in stay:
                link = self.links[organisation] = self._link(organisation, addresses)
                self._endings[organisation] = self._tasks.start(link.run())

    def wake(self, organisation: str) -> None:
        """A peer was heard of: dial it now, if it is not connected."""
        if (link := self.links.get(organisation)) is not None and not link.connected:
            link.wake()

    def send(self, sends: Sequence[tuple[str | None, PeerMessage]]) -> None:
        """Queue what a turn sends; each message is encoded once."""
        for to, message in sends:
            raw = peer_wire.encode(message)
            if to is None:
                for link in self.links.values():
                    link.send(raw)
            elif (link_ := self.links.get(to)) is not None:
                link_.send(raw)


Context = grpc.aio.ServicerContext[peer_pb2.ExchangeRequest, peer_pb2.ExchangeResponse]

_Ending = asyncio.Future[tuple[grpc.StatusCode, str]]


class PeerServicer:
    """Receives what the other validators' links send.

    Args:
        others: organisations whose nodes are heard.
        on_heard: told that a peer opened a stream: it can be dialled, too.
        clock_s: monotonic seconds.
    """

    def __init__(
        self,
        others: Container[str],
        mailbox: Mailbox,
        metrics: Metrics,
        on_heard: Callable[[str], None] = lambda _: None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._others = others
        self._mailbox = mailbox
        self._metrics = metrics
        self._on_heard = on_heard
        self._clock_s = clock_s
        self._streams: dict[str, _Ending] = {}
        self._reputations: defaultdict[str, Reputation] = defaultdict(Reputation)
        self._patience: defaultdict[str, Patience] = defaultdict(Patience)
        self._processes: defaultdict[str, Processes] = defaultdict(Processes)
        self._closed = False

    def follow(self, addresses: Mapping[str, str], renewed: Collection[str]) -> None:
        """These are the others now; who is not among them any more, or has a new certificate, loses its stream."""
        self._others = addresses
        for organisation in list(self._streams):
            if organisation not in addresses:
                self._end(organisation, grpc.StatusCode.PERMISSION_DENIED, "its card names no node any more")
            elif organisation in renewed:
                self._end(organisation, grpc.StatusCode.ABORTED, "its card has changed: dial again")

    def close(self) -> None:
        """End all streams: the daemon is leaving."""
        self._closed = True
        for organisation in list(self._streams):
            self._end(organisation, grpc.StatusCode.UNAVAILABLE, "this node stops")

    async def Exchange(self, request_iterator: object, context: Context) -> None:  # noqa: N802 - gRPC's name
        """See peer.proto; ends when the peer does, or when the peer opens another stream."""
        organisation = caller_of(context).organisation
        if organisation not in self._others:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{organisation} runs no other node of this network")
            return
        if self._closed:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node stops")
        if self._reputations[organisation].is_ignored(self._clock_s()):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not listened to for a while: see this node's log")
        another = self._processes[organisation].opened(*_process_of(context), self._clock_s())
        replaced = REPLACED if another else "replaced by a newer stream of the same process"
        self._end(organisation, grpc.StatusCode.ABORTED, replaced)
        ending: _Ending = asyncio.get_running_loop().create_future()
        self._streams[organisation] = ending
        self._on_heard(organisation)
        await context.send_initial_metadata(())
        # In a task of its own, so that a stream can be ended from outside, with a status the peer sees.
        receiving = asyncio.create_task(self._receive(organisation, context))
        try:
            await asyncio.wait((receiving, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            receiving.cancel()
            if self._streams.get(organisation) is ending:
                del self._streams[organisation]
        if ending.done():
            await context.abort(*ending.result())
        receiving.result()

    async def _receive(self, organisation: str, context: Context) -> None:
        received = self._metrics.peer_received.labels(organisation)
        while True:
            try:
                request: object = await context.read()
            except DecodeError as error:
                self.penalise(organisation, f"no message of this protocol: {error}")
                return
            if not isinstance(request, peer_pb2.ExchangeRequest):
                return
            size = request.ByteSize()
            received.inc(size)
            if not self._patience[organisation].lasts(len(request.messages), self._clock_s()):
                self.penalise(organisation, "sends more messages than any honest node")
                return
            try:
                messages = peer_wire.decode_all(request.messages)
            except WireError as error:
                self.penalise(organisation, str(error))
                return
            parts = range(0, len(messages), MESSAGES_PER_INPUT)
            for at in parts:
                part = messages[at : at + MESSAGES_PER_INPUT]
                await self._mailbox.put(organisation, size // len(parts), PeerMessages(organisation, part))

    def penalise(self, organisation: str, reason: str) -> None:
        """The peer sent what no honest node can send: end its stream, do not listen for a while, forget the rest."""
        self._metrics.penalties.labels(organisation).inc()
        ignored_s = self._reputations[organisation].offence(reason, self._clock_s())
        self._mailbox.discard(organisation)
        _log.warning("peer sent what no honest node sends", peer=organisation, reason=reason, ignored_s=ignored_s)
        self._end(organisation, grpc.StatusCode.INVALID_ARGUMENT, reason)

    def standing(self, organisation: str) -> Standing:
        """What a peer's offences cost it now."""
        return self._reputations[organisation].standing(self._clock_s())

    def twins(self, organisation: str) -> tuple[str, ...]:
        """Where two processes call from that run with this organisation's identity; empty where no two do."""
        return self._processes[organisation].twins(self._clock_s())

    def _end(self, organisation: str, code: grpc.StatusCode, text: str) -> None:
        ending = self._streams.pop(organisation, None)
        if ending is not None and not ending.done():
            ending.set_result((code, text))


def _process_of(context: Context) -> tuple[str, str]:
    """Which process calls, as it names itself, and its host."""
    named = dict(context.invocation_metadata() or ()).get(INSTANCE_KEY, "")
    return str(named)[:INSTANCE_CHARS_MAX], context.peer().rpartition(":")[0].partition(":")[2]
