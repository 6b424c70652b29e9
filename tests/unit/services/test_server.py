"""Listening, health, and the plain HTTP pages."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from contextlib import redirect_stderr

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, Counter

from services import logs
from services.auth import Authenticator
from services.health import Health
from services.http import Check, HttpServer
from services.server import ListenError, Server, check_free, split_address
from tests.support.insurers import INSURERS
from tests.support.tls import identity, market_members


def test_addresses_of_both_families_are_split() -> None:
    assert split_address("127.0.0.1:7100") == ("127.0.0.1", 7100)
    assert split_address("[::1]:7100") == ("::1", 7100)


@pytest.mark.parametrize("address", ["7100", "host", "host:", "host:port", "host:70000"])
def test_invalid_address_says_how_to_write_it(address: str) -> None:
    with pytest.raises(ListenError, match=r"127\.0\.0\.1:7100"):
        split_address(address)


def test_invalid_port_that_is_taken_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match="the port is taken") as error:
            check_free(address)
        assert error.value.address == address


def test_invalid_address_of_another_machine_says_so() -> None:
    with pytest.raises(ListenError, match="this machine"):
        check_free("192.0.2.1:7100")  # RFC 5737: nobody's


def test_one_server_listens_once_on_an_address_that_is_named_twice() -> None:
    async def main() -> int:
        server = Server(identity(INSURERS[0]), Authenticator(market_members()), Health(), on_refused=lambda *_: None)
        await server.start(["127.0.0.1:0", "127.0.0.1:0"])
        try:
            return len(server.ports)
        finally:
            await server.stop(0)

    assert asyncio.run(main()) == 1


def test_one_server_listens_on_two_addresses() -> None:
    """Each port asks for a certificate of its own before its first handshake."""

    async def main() -> list[int]:
        own, health = identity(INSURERS[0]), Health()
        server = Server(own, Authenticator(market_members()), health, on_refused=lambda *_: None)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            second = f"127.0.0.1:{free.getsockname()[1]}"
        await server.start(["127.0.0.1:0", second])
        seen = []
        for port in server.ports.values():
            async with own.channel(own.organisation, f"127.0.0.1:{port}") as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                seen.append((await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)).status)
        await server.stop(0)
        return seen

    assert asyncio.run(main()) == [health_pb2.HealthCheckResponse.NOT_SERVING] * 2


def test_health_says_not_serving_until_told_otherwise() -> None:
    async def main() -> list[int]:
        health = Health()
        own = identity(INSURERS[0])
        server = Server(own, Authenticator(market_members()), health, on_refused=lambda *_: None)
        await server.start(["127.0.0.1:0"])
        seen = []
        async with own.channel(own.organisation, f"127.0.0.1:{server.ports['127.0.0.1:0']}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for serving in (False, True, False):
                await health.set_serving(serving)
                seen.append((await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)).status)
        await server.stop(0)
        return seen

    status = health_pb2.HealthCheckResponse
    assert asyncio.run(main()) == [status.NOT_SERVING, status.SERVING, status.NOT_SERVING]


def test_what_only_reads_serves_while_the_rest_does_not() -> None:
    status = health_pb2.HealthCheckResponse

    async def main() -> list[tuple[int, int]]:
        health = Health(reading=("lossbook.v1.QueryService",))
        names = ("lossbook.v1.QueryService", "lossbook.v1.GatewayService")
        server = grpc.aio.server()
        health.add_to(server, names)
        seen = []
        for serving, reading in ((False, True), (True, True), (False, False)):
            await health.set_serving(serving, reading=reading)
            asked = [health_pb2.HealthCheckRequest(service=name) for name in names]
            answers = [(await health._servicer.Check(each, None)).status for each in asked]
            seen.append((answers[0], answers[1]))
        return seen

    assert asyncio.run(main()) == [
        (status.SERVING, status.NOT_SERVING),
        (status.SERVING, status.SERVING),
        (status.NOT_SERVING, status.NOT_SERVING),
    ]


def test_reflection_is_there_only_where_it_is_turned_on() -> None:
    async def listed(*, on: bool) -> grpc.StatusCode:
        from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

        own = identity(INSURERS[0])
        server = Server(own, Authenticator(market_members()), Health(), reflection_on=on, on_refused=lambda *_: None)
        await server.start(["127.0.0.1:0"])
        try:
            async with own.channel(own.organisation, f"127.0.0.1:{server.ports['127.0.0.1:0']}") as channel:
                call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
                await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
                await call.done_writing()
                async for response in call:
                    names = {service.name for service in response.list_services_response.service}
                    assert "grpc.health.v1.Health" in names
                code: grpc.StatusCode = await call.code()
                return code
        except grpc.aio.AioRpcError as error:
            return error.code()
        finally:
            await server.stop(0)

    assert asyncio.run(listed(on=True)) is grpc.StatusCode.OK
    assert asyncio.run(listed(on=False)) is grpc.StatusCode.UNIMPLEMENTED


# -- HTTP ----------------------------------------------------------------------------------


def http_server(*, live: bool = True, ok: bool = True) -> HttpServer:
    registry = CollectorRegistry()
    Counter("lossbook_test_total", "A test.", registry=registry).inc(3)
    return HttpServer(registry, lambda: live, lambda: [Check("disk", True, "writes"), Check("peers", ok, "2 of 3")])


def page(server: HttpServer, target: str, method: str = "GET") -> tuple[int, str]:
    head, _, body = server.respond(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def test_metrics_are_shown() -> None:
    status, body = page(http_server(), "/metrics")
    assert status == 200
    assert "lossbook_test_total 3.0" in body


def test_a_live_loop_is_told_from_a_stuck_one() -> None:
    assert page(http_server(), "/livez")[0] == 200
    assert page(http_server(live=False), "/livez")[0] == 503


def test_readiness_names_what_is_missing_and_with_verbose_everything() -> None:
    assert page(http_server(), "/readyz") == (200, "ready\n")
    assert page(http_server(ok=False), "/readyz") == (503, "[-] peers: 2 of 3\nnot ready\n")
    assert page(http_server(ok=False), "/readyz?verbose")[1] == "[+] disk: writes\n[-] peers: 2 of 3\nnot ready\n"


def test_invalid_requests_get_their_status() -> None:
    assert page(http_server(), "/secret")[0] == 404
    assert page(http_server(), "/metrics", "POST")[0] == 405
    assert page(http_server(), "/metrics", "HEAD") == (200, "")
    assert http_server().respond(b"\x00\xff\r\n\r\n").startswith(b"HTTP/1.1 405")


def test_the_pages_are_served_over_a_socket() -> None:
    async def main() -> bytes:
        server = http_server()
        await server.start("127.0.0.1:0")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /livez HTTP/1.1\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await server.stop()
        return answer

    assert asyncio.run(main()).endswith(b"\r\n\r\nok\n")


# -- logs ----------------------------------------------------------------------------------


def test_a_log_line_is_json_with_bytes_as_hex_and_without_secrets() -> None:
    output = io.StringIO()
    with redirect_stderr(output):
        logs.configure("json", "info")
        logs.get_logger("test").info("hello", digest=b"\x01\x02", passphrase="open sesame", body=b"raw")
        logs.get_logger("test").debug("not shown")
    (line,) = output.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["part"], event["digest"]) == ("hello", "test", "0102")
    assert "sesame" not in line
    assert event["body"] == "(not logged)"


class FullDisk(io.StringIO):
    """A stderr that goes to a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    with redirect_stderr(FullDisk()):
        logs.configure("json", "info")
        logs.get_logger("test").error("disk full")
