"""Who is let in: real TLS on this machine, one reason for refusal at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lossbook.v1 import peer_pb2, peer_pb2_grpc, query_pb2, query_pb2_grpc
from services import auth
from services.auth import Authenticator, Caller, Refusal, caller_of
from services.identity import Identity, UnknownMember
from services.limits import CHAIN_KEY, PROTOCOL_KEY
from services.members import Member, Members
from services.query import QueryServicer
from tests.support.insurers import INSURERS, SUPERVISOR, Organisation
from tests.support.tls import identity, market_members, serving

SERVER, CLIENT = INSURERS[0], INSURERS[1]


class WhoAmI(QueryServicer):
    """Answers with the caller it was told of."""

    def __init__(self) -> None: ...

    async def GetStatus(  # noqa: N802
        self, request: query_pb2.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> query_pb2.GetStatusResponse:
        caller = caller_of(context)
        return query_pb2.GetStatusResponse(organisation=caller.organisation, kind=caller.role)


class Echo(peer_pb2_grpc.PeerServiceServicer):
    """Sends back what it gets."""

    async def Exchange(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        async for request in request_iterator:
            yield peer_pb2.ExchangeResponse(messages=request.messages)


QUERY = ("lossbook.v1.QueryService", query_pb2_grpc.add_QueryServiceServicer_to_server, WhoAmI())
PEER = ("lossbook.v1.PeerService", peer_pb2_grpc.add_PeerServiceServicer_to_server, Echo())


async def ask(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> query_pb2.GetStatusResponse:
    stub = query_pb2_grpc.QueryServiceStub(channel)
    return await stub.GetStatus(query_pb2.GetStatusRequest(), metadata=metadata, timeout=10)


def with_server(body: Callable[[str], Awaitable[None]], *, members: Members | None = None) -> list[tuple[str, str]]:
    """Run ``body`` against a server; what it refused."""

    async def main() -> list[tuple[str, str]]:
        async with serving(SERVER, QUERY, PEER, members=members) as (address, refused):
            await body(address)
            return refused

    return asyncio.run(main())


def refused_call(
    caller: Identity, metadata: tuple[tuple[str, str], ...] | None = None, *, members: Members | None = None
) -> tuple[grpc.StatusCode, str, list[tuple[str, str]]]:
    """The status and text that one call is refused with."""
    seen: list[grpc.aio.AioRpcError] = []

    async def body(address: str) -> None:
        async with caller.channel(SERVER.id, address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await ask(channel, caller.metadata if metadata is None else metadata)
            seen.append(error.value)

    refused = with_server(body, members=members)
    return seen[0].code(), seen[0].details() or "", refused


def test_a_registered_members_leaf_is_let_in_and_named_to_the_servicer() -> None:
    caller = identity(CLIENT, "client")

    async def body(address: str) -> None:
        async with caller.channel(SERVER.id, address) as channel:
            answer = await ask(channel, caller.metadata)
        assert (answer.organisation, answer.kind) == (CLIENT.id, "client")

    assert with_server(body) == []


def test_invalid_a_leaf_of_a_strangers_authority_does_not_get_through_the_handshake() -> None:
    stranger = Organisation("stranger", "insurer")
    code, _, refused = refused_call(identity(stranger))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert refused == []


def leaf_naming(named: str, issuer: Organisation) -> tuple[bytes, bytes]:
    """A leaf that the issuer's authority really signed, in another member's name."""
    card = issuer.card()
    authority = x509.load_pem_x509_certificate(card.body.ca_certificate.encode())
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    names = [x509.DNSName(f"{named}.lossbook"), x509.UniformResourceIdentifier("lossbook:node")]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(Ed25519PrivateKey.from_private_bytes(issuer.ledger_key.seed()), None)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return leaf.public_bytes(Encoding.PEM), private


def test_invalid_a_leaf_in_another_members_name_gets_through_tls_and_is_refused_by_its_signature() -> None:
    leaf, key = leaf_naming(SUPERVISOR.id, CLIENT)
    code, text, refused = refused_call(Identity(SUPERVISOR.id, leaf, key, market_members()))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "did not sign it" in text
    assert refused[0][0] == "certificate"


def test_invalid_chain_id_is_refused_with_what_to_do() -> None:
    caller = identity(CLIENT, "client")
    code, text, refused = refused_call(caller, ((CHAIN_KEY, "00" * 32), (PROTOCOL_KEY, "1")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "genesis.json" in text
    assert refused[0][0] == "chain"


def test_invalid_protocol_version_is_refused_with_both_versions() -> None:
    caller = identity(CLIENT, "client")
    chain = caller.metadata[0]
    code, text, refused = refused_call(caller, (chain, (PROTOCOL_KEY, "2")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "'2'" in text
    assert "speaks 1" in text
    assert refused[0][0] == "protocol"


def test_invalid_call_without_metadata_is_refused() -> None:
    code, _, refused = refused_call(identity(CLIENT, "client"), ())
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused[0][0] == "chain"


def test_a_client_may_not_speak_as_a_peer_and_a_node_may() -> None:
    async def body(address: str) -> None:
        for role, expected in (("client", grpc.StatusCode.PERMISSION_DENIED), ("node", grpc.StatusCode.OK)):
            caller = identity(CLIENT, role)
            async with caller.channel(SERVER.id, address) as channel:
                call = peer_pb2_grpc.PeerServiceStub(channel).Exchange(metadata=caller.metadata)
                try:
                    await call.write(peer_pb2.ExchangeRequest())
                    await call.done_writing()
                    assert isinstance(await call.read(), peer_pb2.ExchangeResponse)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    assert expected is not grpc.StatusCode.OK
                assert await call.code() is expected

    with_server(body)


def test_a_client_that_holds_many_calls_open_shuts_out_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CALLS_PER_CALLER_MAX", 2)

    async def body(address: str) -> None:
        greedy, node = identity(CLIENT, "client"), identity(CLIENT, "node")
        async with greedy.channel(SERVER.id, address) as channel, node.channel(SERVER.id, address) as other:
            watch = health_pb2_grpc.HealthStub(channel).Watch
            held = [watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
            for call in held:
                await call.read()
            with pytest.raises(grpc.aio.AioRpcError, match="2 calls of") as refused:
                await ask(channel, greedy.metadata)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await ask(other, node.metadata)).kind == "node"
            held[0].cancel()
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await ask(channel, greedy.metadata)
                        break

    assert {reason for reason, _ in with_server(body)} == {"calls"}


def test_a_member_without_permission_to_read_is_refused() -> None:
    everybody = market_members()
    silent = [
        Member(m.id, m.kind, m.ledger_key, m.ca_pem, m.is_validator, may_read=m.id != CLIENT.id, may_subscribe=True)
        for m in everybody
    ]
    members = Members(everybody.chain_id, silent)
    code, text, refused = refused_call(identity(CLIENT, "client"), members=members)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert CLIENT.id in text
    assert refused[0][0] == "role"


def test_a_member_whose_card_names_no_node_sends_no_peer_messages() -> None:
    """Also with a certificate for a node, which its ledger key can issue whenever it likes."""
    caller = identity(SUPERVISOR, "node")

    async def body(address: str) -> None:
        async with caller.channel(SERVER.id, address) as channel:
            call = peer_pb2_grpc.PeerServiceStub(channel).Exchange(metadata=caller.metadata, timeout=10)
            with pytest.raises(grpc.aio.AioRpcError, match="peer address") as error:
                await call.read()
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED

    assert with_server(body)[0][0] == "role"


def test_health_needs_a_certificate_but_no_metadata() -> None:
    caller = identity(CLIENT, "client")

    async def body(address: str) -> None:
        async with caller.channel(SERVER.id, address) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING

    assert with_server(body) == []


def test_the_client_refuses_a_server_that_is_not_the_member_it_dialled() -> None:
    caller = identity(CLIENT, "client")

    async def body(address: str) -> None:
        async with caller.channel(INSURERS[2].id, address) as channel:  # SERVER answers there
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await ask(channel, caller.metadata)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE

    with_server(body)


def test_nobody_is_dialled_who_is_no_member() -> None:
    with pytest.raises(UnknownMember, match="genesis show"):
        identity(CLIENT).channel("nobody", "127.0.0.1:1")


def test_invalid_tls_1_2_is_refused() -> None:
    caller = identity(CLIENT, "client")

    async def body(address: str) -> None:
        answer = await asyncio.to_thread(raw_call_over_tls_1_2, caller, address)
        assert b"only TLS 1.3 is taken" in answer

    refused = with_server(body)
    assert refused[0][0] == "tls_version"


def raw_call_over_tls_1_2(caller: Identity, address: str) -> bytes:
    """A health check in hand-made HTTP/2: gRPC's own client has no switch for the TLS version."""
    host, port = address.split(":")
    member = caller.members.get(SERVER.id)
    assert member is not None
    context = ssl.create_default_context(cadata=member.ca_pem.decode())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as directory:
        pair = Path(directory) / "pair.pem"
        pair.write_bytes(caller.leaf_key_pem + caller.leaf_pem)
        context.load_cert_chain(pair)
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": f"{SERVER.id}.lossbook",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    message = bytes(5)  # an empty gRPC message
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=f"{SERVER.id}.lossbook") as connection,
    ):
        assert connection.version() == "TLSv1.2"
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, block) + frame(0, 1, 1, message)
        )
        received = b""
        while b"TLS" not in received and (part := connection.recv(65_536)):
            received += part
        return received


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


# -- the authenticator alone ---------------------------------------------------------------


def auth_context(caller: Identity, version: bytes = b"TLSv1.3") -> dict[str, list[bytes]]:
    return {"ssl_tls_version": [version], "x509_pem_cert": [caller.leaf_pem]}


def authenticate(authenticator: Authenticator, caller: Identity) -> Caller:
    return authenticator.authenticate("lossbook.v1.QueryService", auth_context(caller), dict(caller.metadata))


def test_a_leaf_is_looked_at_again_and_refused_once_it_has_expired() -> None:
    time_s = datetime.now(UTC).timestamp()
    clock = [time_s]
    authenticator = Authenticator(market_members(), lambda: clock[0])
    caller = identity(CLIENT, "client")
    assert authenticate(authenticator, caller).organisation == CLIENT.id
    clock[0] = time_s + 2 * 86_400
    with pytest.raises(Refusal, match="valid until"):
        authenticate(authenticator, caller)


def test_invalid_connection_without_tls_is_refused() -> None:
    with pytest.raises(Refusal, match=r"TLS 1\.3"):
        Authenticator(market_members()).authenticate("lossbook.v1.QueryService", {}, {})


def test_an_unknown_service_is_open_to_nobody() -> None:
    caller = identity(CLIENT, "node")
    with pytest.raises(Refusal) as refusal:
        Authenticator(market_members()).authenticate(
            "lossbook.v1.NewService", auth_context(caller), dict(caller.metadata)
        )
    assert refusal.value.status is grpc.StatusCode.PERMISSION_DENIED


def test_an_identity_does_not_show_its_private_key() -> None:
    assert "PRIVATE" not in repr(identity(CLIENT))
