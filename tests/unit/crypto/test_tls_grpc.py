"""The certificates work in gRPC itself: Ed25519 authority, P-256 leaves, both sides authenticated, TLS 1.3."""

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
import pytest

from crypto.keys import SigningKey
from crypto.tls import LeafIdentity, check_leaf, issue_leaf, make_authority

ACME = SigningKey.from_seed(b"a" * 32)
BOREAS = SigningKey.from_seed(b"b" * 32)
STRANGER = SigningKey.from_seed(b"s" * 32)
NOW = datetime.now(tz=UTC)  # gRPC compares with the machine's clock
DAY = timedelta(days=1)
ROOTS = make_authority(ACME, "acme", NOW - DAY) + make_authority(BOREAS, "boreas", NOW - DAY)
METHOD = "/test.Test/Echo"


def test_both_sides_see_each_others_leaf_over_tls_1_3() -> None:
    seen = asyncio.run(_call(client=(BOREAS, "boreas"), target="acme"))
    assert seen["version"] == b"TLSv1.3"
    assert isinstance(seen["peer"], bytes)
    identity = check_leaf(seen["peer"], BOREAS.public, NOW)
    assert identity == LeafIdentity("boreas", "client", identity.not_after)


def test_invalid_client_of_an_unknown_authority() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(_call(client=(STRANGER, "boreas"), target="acme"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_invalid_client_without_a_certificate() -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        asyncio.run(_call(client=None, target="acme"))


def test_invalid_server_of_another_organisation_than_the_one_called() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(_call(client=(BOREAS, "boreas"), target="boreas"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def _call(client: tuple[SigningKey, str] | None, target: str) -> dict[str, object]:
    seen: dict[str, object] = {}

    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        found = context.auth_context()
        seen["version"] = next(iter(found["ssl_tls_version"]))
        seen["peer"] = next(iter(found["x509_pem_cert"]))
        return request

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("test.Test", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    server.add_generic_rpc_handlers((handler,))
    leaf, leaf_key = issue_leaf(ACME, "acme", "node", NOW, DAY)
    credentials = grpc.ssl_server_credentials([(leaf_key, leaf)], ROOTS, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        if client is None:
            own = grpc.ssl_channel_credentials(ROOTS)
        else:
            leaf, leaf_key = issue_leaf(*client, "client", NOW, DAY)
            own = grpc.ssl_channel_credentials(ROOTS, leaf_key, leaf)
        options = [("grpc.ssl_target_name_override", f"{target}.lossbook")]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", own, options) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            assert await call(b"hello", timeout=10) == b"hello"
    finally:
        await server.stop(None)
    return seen
