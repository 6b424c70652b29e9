"""Who calls, and may they: checked on every call, before its servicer sees it.

In this order, each refusal with a text that says what to do:

1. TLS 1.3, nothing less (gRPC's server would also negotiate 1.2)          UNAUTHENTICATED
2. the leaf names a member and is signed by that member's ledger key,
   is in its period, and carries one role                                  UNAUTHENTICATED
3. ``lossbook-chain`` is this network's id                                 FAILED_PRECONDITION
4. ``lossbook-protocol`` is the version spoken here                        FAILED_PRECONDITION
5. the service is open to this kind of caller (``ACCESS``)                 PERMISSION_DENIED
6. its organisation's callers of this role have calls left, and of this
   method where a call may hold megabytes                                  RESOURCE_EXHAUSTED

A call counts until gRPC is rid of it: an answer that its caller does not read lies in memory here long after the
servicer has returned it.

One more is let in, and told nothing but ``OWN_METHOD``: who shows the very certificate of this daemon where that fails
at 2, because the organisation is no member yet, or a vote has replaced its ledger key. That is the operator, in this
daemon's own home.

The TLS handshake by itself proves less than 2: the trust bundle holds every member's authority, and any of them can
put any name into a leaf. Steps 3 and 4 are left out for health and reflection, which standard tools call.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import grpc
import msgspec

from crypto.tls import TlsIdentityError, check_leaf, claimed_org
from services.identity import Identity
from services.limits import (
    CALLS_PER_CALLER_MAX,
    CHAIN_KEY,
    METHOD_CALLS_PER_CALLER_MAX,
    PROTOCOL_KEY,
    PROTOCOL_VERSION,
)
from services.members import Members

OWN_METHOD: Final = "lossbook.v1.QueryService/GetStatus"
"""What `node status` and `replica status` ask in the home of the daemon."""

LEAVES_REMEMBERED_MAX: Final = 4096
"""Checked leaves kept, so that a call costs a dictionary look-up and not two signature checks."""

LEAF_CHECK_AGAIN_S: Final = 300.0
"""A leaf's period is looked at again after so long."""


class Caller(msgspec.Struct, frozen=True):
    """An authenticated peer."""

    organisation: str
    role: str  #: of the certificate: "node", "replica" or "client"
    is_validator: bool
    may_read: bool
    may_subscribe: bool
    runs_node: bool = False


class Refusal(Exception):
    """A call that is not let in.

    Attributes:
        status: gRPC status code of the answer.
        reason: slug for metrics and logs.
    """

    def __init__(self, status: grpc.StatusCode, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


Rule = Callable[[Caller], bool]


def _validators_node(caller: Caller) -> bool:
    return caller.is_validator and caller.role == "node"


def _members_node(caller: Caller) -> bool:
    """Also one that has no seat yet, or none any more: it follows."""
    return caller.runs_node and caller.role == "node"


def _anyone(_: Caller) -> bool:
    return True


ACCESS: Final[Mapping[str, tuple[Rule, str]]] = {
    "lossbook.v1.PeerService": (_members_node, "nodes only, of members whose card has a peer address"),
    "lossbook.v1.SyncService": (_members_node, "nodes only, of members whose card has a peer address"),
    "lossbook.v1.SealedService": (_validators_node, "validators' nodes only: no grant names other readers yet"),
    "lossbook.v1.GatewayService": (_anyone, "members"),
    "lossbook.v1.QueryService": (lambda caller: caller.may_read, "members that may read"),
    "lossbook.v1.BlocksService": (lambda caller: caller.may_subscribe, "members that may subscribe"),
    "grpc.health.v1.Health": (_anyone, "members"),
    "grpc.reflection.v1alpha.ServerReflection": (_anyone, "members"),
}
"""Service -> who may call it. Envelopes carry their own authority, so a member may relay another's."""

_STANDARD: Final = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")

_caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("lossbook_caller")


def caller_of(context: object) -> Caller:
    """The authenticated peer of the call that runs now.

    Raises:
        LookupError: the servicer was not registered behind ``AuthInterceptor``.
    """
    return _caller.get()


class Authenticator:
    """Judges callers; pure but for the clock it is given.

    Args:
        members: the network.
        clock_s: seconds since the epoch, for the leaves' periods.
        own: of the daemon that is called; None: it tells nobody more than members.
    """

    def __init__(
        self, members: Members, clock_s: Callable[[], float] = time.time, *, own: Identity | None = None
    ) -> None:
        self._members = members
        self._own = own
        self._chain = members.chain_id.hex()
        self._clock_s = clock_s
        self._leaves: dict[bytes, tuple[float, Caller]] = {}
        self._generation = members.generation

    def authenticate(self, method: str, auth: Mapping[str, list[bytes]], metadata: Mapping[str, str | bytes]) -> Caller:
        """The caller of this method, ``service/name``.

        Raises:
            Refusal: with what to answer.
        """
        service = method.partition("/")[0]
        version = _first(auth, "ssl_tls_version")
        if version != b"TLSv1.3":
            raise Refusal(
                grpc.StatusCode.UNAUTHENTICATED,
                "tls_version",
                f"this connection uses {version.decode(errors='replace') or 'no TLS'}; only TLS 1.3 is taken: "
                "upgrade the TLS library of the client",
            )
        pem = _first(auth, "x509_pem_cert")
        try:
            caller = self._leaf(pem)
        except Refusal:
            if self._own is None or method != OWN_METHOD or pem.strip() != self._own.leaf_pem.strip():
                raise
            caller = Caller(self._own.organisation, "node", is_validator=False, may_read=True, may_subscribe=False)
        if service not in _STANDARD:
            self._check_metadata(metadata)
        rule, who = ACCESS.get(service, (None, "nobody"))
        if rule is None or not rule(caller):
            raise Refusal(
                grpc.StatusCode.PERMISSION_DENIED,
                "role",
                f"{service} is for {who}; {caller.organisation} called with a certificate for a "
                f"{caller.role}: use one that its ledger key issued for the right role",
            )
        return caller

    def _leaf(self, pem: bytes) -> Caller:
        now = self._clock_s()
        if self._generation != self._members.generation:  # a ledger key may have been rotated
            self._leaves.clear()
            self._generation = self._members.generation
        known = self._leaves.get(pem)
        if known is not None and now < known[0]:
            return known[1]
        try:
            organisation = claimed_org(pem)
            member = self._members.get(organisation)
            if member is None:
                raise Refusal(
                    grpc.StatusCode.UNAUTHENTICATED,
                    "certificate",
                    f"the certificate is for {organisation}, which is no member of this network: "
                    "use one that a member's ledger key issued, or the genesis.json of this network",
                )
            leaf = check_leaf(pem, member.ledger_key, datetime.fromtimestamp(now, UTC))
        except TlsIdentityError as error:
            text = f"{error}: use one that the ledger key registered in the genesis issued, in its period"
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, "certificate", text) from error
        caller = Caller(
            member.id,
            leaf.role,
            member.is_validator,
            member.may_read,
            member.may_subscribe,
            member.runs_node,
        )
        if len(self._leaves) >= LEAVES_REMEMBERED_MAX:
            self._leaves.clear()
        self._leaves[pem] = (now + LEAF_CHECK_AGAIN_S, caller)
        return caller

    def _check_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        chain, protocol = metadata.get(CHAIN_KEY), metadata.get(PROTOCOL_KEY)
        if chain != self._chain:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "chain",
                f"the call is for network {chain!r}, this node serves {self._chain}: "
                "check that both sides use the same genesis.json",
            )
        if protocol != PROTOCOL_VERSION:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "protocol",
                f"the call speaks protocol version {protocol!r}, this node speaks {PROTOCOL_VERSION}: "
                "run the same major version of lossbook on both sides",
            )


def _first(auth: Mapping[str, list[bytes]], key: str) -> bytes:
    values = auth.get(key)
    return values[0] if values else b""


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Puts ``Authenticator`` before every method of a server."""

    def __init__(self, authenticator: Authenticator, on_refused: Callable[[str, str, str], None]) -> None:
        """``on_refused(reason, peer address, text)`` is told of each refusal."""
        self._authenticator = authenticator
        self._on_refused = on_refused
        self._calls: Counter[tuple[str, ...]] = Counter()  #: running, by organisation and role, and by method

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc.aio.ServerInterceptor."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        name = handler_call_details.method.lstrip("/")
        metadata = dict(handler_call_details.invocation_metadata)
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        guarded = self._guard(getattr(handler, kind), name, metadata, streams=bool(handler.response_streaming))
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(  # type: ignore[no-any-return]
            guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _enter(self, name: str, metadata: Mapping[str, str | bytes], context: Any) -> None:
        """Let a call in; it keeps its places until gRPC is rid of it, its last answer sent or its connection lost."""
        try:
            caller = self._authenticator.authenticate(name, context.auth_context(), metadata)
            places = self._places(caller, name)
        except Refusal as refusal:
            self._on_refused(refusal.reason, context.peer(), str(refusal))
            await context.abort(refusal.status, str(refusal))
            raise
        _caller.set(caller)
        self._calls.update(places)
        context.add_done_callback(lambda _: self._release(places))

    def _places(self, caller: Caller, name: str) -> list[tuple[str, ...]]:
        """What a call is counted under.

        Raises:
            Refusal: too many are running there.
        """
        place = (caller.organisation, caller.role)
        places: list[tuple[tuple[str, ...], int, str]] = [(place, CALLS_PER_CALLER_MAX, "calls")]
        most_of_method = METHOD_CALLS_PER_CALLER_MAX.get(name)
        if most_of_method is not None:
            places.append(((*place, name), most_of_method, f"calls of {name.rpartition('/')[2]}"))
        for counted, most, what in places:
            if self._calls[counted] >= most:
                raise Refusal(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "calls",
                    f"{most} {what} of {caller.organisation} ({caller.role}) are running here: "
                    "let some end, or use one stream, which carries any number of envelopes",
                )
        return [counted for counted, _, _ in places]

    def _release(self, places: list[tuple[str, ...]]) -> None:
        for place in places:
            self._calls[place] -= 1
            if not self._calls[place]:
                del self._calls[place]

    def _guard(
        self, method: Callable[[Any, Any], Any], name: str, metadata: Mapping[str, str | bytes], *, streams: bool
    ) -> Callable[[Any, Any], Any]:
        if streams and inspect.isasyncgenfunction(method):

            async def generate(request: object, context: object) -> AsyncIterator[object]:
                await self._enter(name, metadata, context)
                async with contextlib.aclosing(method(request, context)) as responses:
                    async for response in responses:
                        yield response

            return generate

        async def call(request: object, context: object) -> object:
            await self._enter(name, metadata, context)
            return await method(request, context)

        return call
