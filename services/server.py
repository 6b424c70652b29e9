"""The gRPC server of a daemon: TLS both ways, every call authenticated, health, reflection where wanted."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection

from services.auth import Authenticator, AuthInterceptor
from services.health import Health
from services.identity import Identity
from services.limits import CALLS_MAX, SERVER_OPTIONS

GRACE_S: Final = 2.0
"""Calls that run get so long to end when the daemon leaves."""


class ListenError(Exception):
    """The daemon cannot listen where it was told to.

    Attributes:
        address: host:port.
    """

    def __init__(self, address: str, problem: str, advice: str) -> None:
        super().__init__(f"cannot listen on {address}: {problem}. {advice}")
        self.address = address


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``.

    Raises:
        ListenError: it is neither.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ListenError(address, "not host:port", "Write it as 127.0.0.1:7100 or [::1]:7100.")
    return host.strip("[]"), int(port)


def check_free(address: str) -> None:
    """Bind once and let go: gRPC itself says only that it failed.

    Raises:
        ListenError: the port is taken, or the address is not this machine's, with what to do.
    """
    host, port = split_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except socket.gaierror as error:
        raise ListenError(address, "the host name does not resolve", "Give an address of this machine.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "Another process has the port: stop it, or set another address in lossbook.toml."
            raise ListenError(address, "the port is taken", advice) from error
        raise ListenError(address, error.strerror or str(error), "Give an address of this machine.") from error


class Server:
    """A gRPC server to which servicers are added before it starts.

    Args:
        identity: own leaf and the members.
        authenticator: judges every caller.
        health: told of the services that are added.
        reflection_on: whether anyone who may call may also list the services.
        on_refused: told of each refused call (reason, peer, text).
    """

    def __init__(
        self,
        identity: Identity,
        authenticator: Authenticator,
        health: Health,
        *,
        reflection_on: bool = False,
        on_refused: Callable[[str, str, str], None],
    ) -> None:
        self._identity = identity
        self._health = health
        self._reflection_on = reflection_on
        self._names: list[str] = []
        self._server = grpc.aio.server(
            interceptors=[AuthInterceptor(authenticator, on_refused)],
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=CALLS_MAX,
        )
        self.ports: dict[str, int] = {}

    def add(self, name: str, register: Callable[[Any, grpc.aio.Server], None], servicer: object) -> None:
        """Add one service; ``register`` is the generated ``add_...Servicer_to_server``."""
        register(servicer, self._server)
        self._names.append(name)

    async def start(self, addresses: Sequence[str]) -> None:
        """Listen on each different address (``host:port``; port 0 takes a free one, see ``ports``).

        Raises:
            ListenError: one of them cannot be had; nothing listens then.
        """
        self._health.add_to(self._server, self._names)
        if self._reflection_on:
            names = (*self._names, "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        wanted = list(dict.fromkeys(addresses))
        for address in wanted:
            check_free(address)
        for address in wanted:
            try:
                # Credentials of their own for each: the first handshake of each port has to be given a certificate.
                self.ports[address] = self._server.add_secure_port(address, self._identity.server_credentials())
            except RuntimeError as error:
                raise ListenError(address, str(error), "Another process took it just now; try again.") from error
        await self._server.start()
        await self._health.set_serving(self._health.serving)

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Take no new calls, let running ones end, then close."""
        await self._server.stop(grace_s)
