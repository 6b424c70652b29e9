"""Several nodes as one: calls go to the preferred one that works, and to the next where it does not.

Transport trouble costs a node some time (doubling, with jitter, so that clients do not come back all at once) and
moves on to the next; when every node is waiting, the call waits too, until its own time is over.

A node of an organisation that is not known, or that could not be reached, may have joined, or changed its TLS
authority, since the genesis: its card is asked of a node that works, with its proof (``lossbook_sdk.trust``). That of
a node which answers is asked for too, now and then: it may answer by a key that was stolen, and replaced since
(``lossbook_sdk.card_watch``).

A connection trusts the one authority that stood on the card when it was dialled. Once another one is proved, new calls
take a new connection; those that run may end, and what they bring is not believed but asked for again. That is safe:
questions change nothing, and an envelope executes at most once under its id.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ledger.checkpoints import TrustingPeriodOver
from ledger.epochs import MEMBERSHIP
from ledger.organisations import CARDS
from ledger.printable import one_line
from ledger.proof_errors import ProofError
from ledger.proof_types import Proof
from ledger.proofs import Proven
from ledger.wire import WireError
from ledger.wire.proofs import decode_record_proof
from lossbook.v1 import query_pb2, query_pb2_grpc
from lossbook_sdk.card_watch import CardWatch
from lossbook_sdk.channel import Connector
from lossbook_sdk.errors import NodeRefused, NothingReachable
from lossbook_sdk.links import Link
from lossbook_sdk.profile import Node

BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 5.0
"""A restarted node is asked again within seconds; a dead one costs next to nothing."""

GIVE_UP_S: Final = 30.0
"""Default time to find a node that answers: outlasts the restart of one."""

HEALTH_S: Final = 2.0
"""For the question whether a node serves."""

LEARN_S: Final = 2.0
"""For a proved record that is asked for on the way: less than anybody waits for."""

EPOCH_TRIES: Final = 10
EPOCH_PAUSE_S: Final = 0.2
"""An epoch that has just begun is proved by its first blocks: some hundred milliseconds."""

T = TypeVar("T")

_log = logging.getLogger(__name__)

TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
"""Another node, or the same one later, may answer."""


class Backoff:
    """How long to wait before the next try: doubling from ``least_s`` to ``most_s``, each drawn from its upper half."""

    def __init__(
        self,
        least_s: float = BACKOFF_S_MIN,
        most_s: float = BACKOFF_S_MAX,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._uniform = uniform
        self._next_s = least_s

    def next_s(self) -> float:
        """The next wait, seconds."""
        now_s = self._next_s
        self._next_s = min(self._next_s * 2, self._most_s)
        return self._uniform(now_s / 2, now_s)

    def reset(self) -> None:
        """It worked."""
        self._next_s = self._least_s


class _Place:
    def __init__(self, node: Node, backoff: Backoff) -> None:
        self.node = node
        self.backoff = backoff
        self.not_before_s = 0.0
        self.last_error = ""
        self.works = False  #: since it was last dialled
        self.link: Link | None = None


class Nodes:
    """The nodes of one network that a client may use, in order of preference.

    Args:
        connector: dials them.
        nodes: at least one.
        clock_s: monotonic seconds.
        backoff: makes the back-off of one node.
    """

    def __init__(
        self,
        connector: Connector,
        nodes: Sequence[Node],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self.connector = connector
        self._clock_s = clock_s
        self._places = [_Place(node, backoff()) for node in nodes]
        self._asked: set[str] = set()  #: organisations whose cards were asked for since their nodes last worked
        self._cards = CardWatch()
        self._proving = asyncio.Lock()  #: so that no answer is believed while its node's card is being asked for

    @property
    def all(self) -> tuple[Node, ...]:
        """All nodes, in order of preference."""
        return tuple(place.node for place in self._places)

    @property
    def attempts(self) -> list[tuple[str, str]]:
        """(node, last error) of those that failed."""
        return [(str(place.node), place.last_error) for place in self._places if place.last_error]

    def choose(self) -> Node | None:
        """The most preferred node that need not wait; None: all wait."""
        now_s = self._clock_s()
        return next((place.node for place in self._usable if place.not_before_s <= now_s), None)

    def better(self, node: Node) -> Node | None:
        """The most preferred of those before ``node`` that need not wait; None: there is none now."""
        chosen = self.choose()
        order = self.all
        return chosen if chosen is not None and order.index(chosen) < order.index(node) else None

    def wait_s(self) -> float:
        """Until the first of them may be tried again."""
        return max(0.0, min((place.not_before_s for place in self._usable), default=0.0) - self._clock_s())

    @property
    def _usable(self) -> list[_Place]:
        """Nodes of organisations that are known."""
        return [place for place in self._places if self.connector.trust.card(place.node.organisation) is not None]

    @asynccontextmanager
    async def using(self, node: Node) -> AsyncIterator[Link]:
        """The connection to a node for one call, kept for later ones while its authority stands on the card.

        Raises:
            ProfileError: the organisation is not known.
        """
        place = self._place(node)
        await self._leave_outdated(place)
        if place.link is None:
            place.link = Link(node, self.connector.authority_of(node), self.connector.channel(node))
        link = place.link
        async with link.call():
            yield link

    def worked(self, node: Node) -> None:
        """It answered."""
        place = self._place(node)
        place.backoff.reset()
        place.last_error = ""
        place.works = True
        self._asked.discard(node.organisation)

    def failed(self, node: Node, reason: str, retry_after_s: float = 0.0) -> None:
        """It did not, or asked for patience: leave it alone for a while."""
        place = self._place(node)
        place.works = False
        place.last_error = reason
        place.not_before_s = self._clock_s() + max(place.backoff.next_s(), retry_after_s)

    async def ready(self, until_s: float) -> Node:
        """The node to use next, after waiting if need be.

        Args:
            until_s: on the clock given.

        Raises:
            NothingReachable: none may be tried before then.
            ProfileError: none of the organisations is known.
        """
        if self._places and not self._usable:
            self.connector.card_of(self._places[0].node)
        while self._places and self._clock_s() + self.wait_s() < until_s:
            node = self.choose()
            if node is not None:
                return node
            await asyncio.sleep(self.wait_s())
        raise self.unreachable()

    def unreachable(self, unchanged: str = "Nothing was changed on the ledger by this call") -> NothingReachable:
        """What to tell a person when all of them fail."""
        return NothingReachable(
            self.attempts,
            unchanged=unchanged,
            advice="Check that a node runs (`lossbook node status`), and the addresses: `lossbook profile show`",
        )

    async def call(
        self,
        method: Callable[[grpc.aio.Channel], Callable[..., Awaitable[T]]],
        request: Any,
        *,
        timeout_s: float = 10.0,
        give_up_s: float = GIVE_UP_S,
    ) -> tuple[T, Node]:
        """One unary call, at whichever node answers first; and the node that did.

        Args:
            method: takes the call off a channel, e.g. ``lambda channel: QueryServiceStub(channel).GetRecord``.
            timeout_s: for one node.
            give_up_s: for all of them together.

        Raises:
            NothingReachable: nobody answered in time.
            NodeRefused: a node answered with an error that trying again cannot cure.
        """
        until_s = self._clock_s() + give_up_s
        while True:
            node = await self.ready(until_s)
            left_s = max(0.1, min(timeout_s, until_s - self._clock_s()))
            async with self.using(node) as link:
                try:
                    call = method(link.channel)
                    answer = await call(request, timeout=left_s, metadata=self.connector.metadata)
                except grpc.aio.AioRpcError as error:
                    if error.code() in TRANSIENT:
                        self.failed(node, reason_of(error))
                    elif await self.believable(link):
                        raise refused(node, error) from error
                    continue
                self.worked(node)
                await self.learn()
                if await self.believable(link):
                    return answer, node

    # -- learning ----------------------------------------------------------------------------

    async def learn(self) -> None:
        """Ask a node that works for the cards that are missing or doubtful; nothing to do most of the time."""
        trust = self.connector.trust
        doubtful = [place.node.organisation for place in self._places if place.last_error]
        strange = [place.node.organisation for place in self._places] + list(trust.validators())
        wanted = dict.fromkeys([*doubtful, *(name for name in strange if trust.card(name) is None)])
        for organisation in wanted:
            helper = next((place for place in self._usable if place.works), None)
            if helper is None or organisation in self._asked:
                continue
            self._asked.add(organisation)
            proven = await self._proved(helper, CARDS.prefix + organisation.encode())
            if proven is not None and trust.learn_card(proven):
                await self._renewed(organisation)

    async def believable(self, link: Link) -> bool:
        """Whether what came over a connection may be believed; asks for a proof of the node's card where that is due.

        No: another authority stands on the card by now, and the same is to be asked again, of whoever is chosen then.
        """
        if self.connector.authority:
            return True  # one's own daemon, known by its certificate
        organisation = link.node.organisation
        async with self._proving:
            now_s, epoch = self._clock_s(), self.connector.trust.latest_epoch
            if self._cards.due(organisation, epoch, now_s):
                self._cards.asked(organisation, epoch, now_s)
                await self._prove_card(link.node)
        return self._stands(link)

    async def _prove_card(self, node: Node) -> None:
        """Have a node's card proved as of now: by itself, else by whichever other node can."""
        if await self._recent_card(self._place(node), node.organisation):
            return
        now_s = self._clock_s()
        others = [place for place in self._usable if place.node != node and place.not_before_s <= now_s]
        asking = [asyncio.create_task(self._recent_card(place, node.organisation)) for place in others]
        try:
            for answer in asyncio.as_completed(asking):
                if await answer:
                    return
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        _log.info("nobody proves the card of %s as of now: it is believed as before", node.organisation)

    async def _recent_card(self, place: _Place, organisation: str) -> bool:
        """Ask a node for a card; whether it proved it in a recent state."""
        proven = await self._proved(place, CARDS.prefix + organisation.encode())
        if proven is None:
            return False
        if self.connector.trust.learn_card(proven):
            await self._renewed(organisation)
        return self.connector.trust.is_recent(proven)

    async def learn_epoch(self, epoch: int) -> bool:
        """Ask those that work for a proof that leads to an epoch; whether it is known then."""
        trust = self.connector.trust
        for _ in range(EPOCH_TRIES):
            for place in self._usable:
                if trust.latest_epoch < epoch and place.works:
                    await self._proved(place, MEMBERSHIP.prefix)
            if trust.latest_epoch >= epoch:
                await self.learn()
                return True
            await asyncio.sleep(EPOCH_PAUSE_S)
        return False

    async def _proved(self, place: _Place, key: bytes) -> Proven | None:
        """A record of one node, proved; None where it gives none."""
        trust = self.connector.trust
        request = query_pb2.GetRecordRequest(key=key, prove=True)
        try:
            async with self.using(place.node) as link:
                stub = query_pb2_grpc.QueryServiceStub(link.channel)
                answer = await stub.GetRecord(request, timeout=LEARN_S, metadata=self.connector.metadata)
            if not answer.HasField("proof"):
                return None
            proven = trust.verify(Proof(trust.genesis.chain_id, decode_record_proof(answer.proof)))
        except (grpc.aio.AioRpcError, TrustingPeriodOver):
            return None  # no answer, or none that may be believed: whoever asked goes on with what is known
        except (WireError, ProofError) as error:
            self.failed(place.node, f"what it served does not verify: {error}")
            return None
        return proven if proven.key == key else None

    async def _renewed(self, organisation: str) -> None:
        """Its card is another one: its nodes may be tried at once."""
        for place in self._places:
            if place.node.organisation == organisation:
                place.not_before_s = 0.0
                place.backoff.reset()
                await self._leave_outdated(place)

    def _stands(self, link: Link) -> bool:
        """Whether the authority that a connection trusts is still its node's."""
        known = self.connector.authority or self.connector.trust.card(link.node.organisation) is not None
        return bool(known) and self.connector.authority_of(link.node) == link.authority

    async def _leave_outdated(self, place: _Place) -> None:
        """Give up a connection whose authority is not the node's any more."""
        if place.link is not None and not self._stands(place.link):
            left, place.link = place.link, None
            await left.give_up()

    async def problem_of(self, node: Node, *, timeout_s: float = HEALTH_S) -> str:
        """Why a node does not take envelopes now, by its own word (gRPC health); empty if it does."""
        try:
            async with self.using(node) as link:
                stub = health_pb2_grpc.HealthStub(link.channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return reason_of(error)
        return "" if answer.status == health_pb2.HealthCheckResponse.SERVING else "it says that it does not serve yet"

    async def close(self) -> None:
        """Close all connections in use."""
        for place in self._places:
            if place.link is not None:
                await place.link.channel.close()
                place.link = None

    def _place(self, node: Node) -> _Place:
        for place in self._places:
            if place.node == node:
                return place
        raise KeyError(node)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """One line for people."""
    details = (error.details() or "").strip().splitlines()
    text = details[0] if details else ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and ("refused" in text.lower() or "connect" in text.lower()):
        return "nobody listens there, or the connection broke"
    return f"{error.code().name}: {one_line(text)}"[:300]


def refused(node: Node, error: grpc.aio.AioRpcError) -> NodeRefused:
    """What to tell a person of an error that is final."""
    advice = "Check organisation, genesis and certificate of the profile: `lossbook profile show`"
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        advice += (
            ". Where a vote has replaced the organisation's ledger key, perhaps this very one: make the profile anew, "
            "with the new card (`lossbook profile create`)"
        )
    return NodeRefused(
        f"{node} refused the call: {one_line((error.details() or error.code().name).strip())}",
        unchanged="This call changed nothing on the ledger; what was sent before it may have been executed",
        advice=advice,
    )
