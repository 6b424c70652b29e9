"""/livez, /readyz and /metrics over plain HTTP/1.1, for supervisors of processes and Prometheus.

Three fixed pages without input: a web framework would be more code than this. Bind it to a private address; nothing
on it is secret, and nothing can be changed through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from services.server import check_free, split_address

REQUEST_BYTES_MAX: Final = 8 << 10
"""Request line and headers; a scraper's are some hundred bytes."""

REQUEST_S_MAX: Final = 5.0
"""A connection that has not asked by then is closed."""

CONNECTIONS_MAX: Final = 32
"""At a time; scrapers open one each."""


class Check(msgspec.Struct, frozen=True):
    """One condition of being ready."""

    name: str
    ok: bool
    text: str  #: what is the case, and if not ok what to do


class HttpServer:
    """Serves the three pages.

    Args:
        registry: metrics to expose.
        live: whether the event loop does its work (a daemon that hangs should be restarted).
        ready: the conditions of being ready, each with its text.
    """

    def __init__(self, registry: CollectorRegistry, live: Callable[[], bool], ready: Callable[[], list[Check]]) -> None:
        self._registry = registry
        self._live = live
        self._ready = ready
        self._server: asyncio.Server | None = None
        self._connections = 0
        self.port = 0

    async def start(self, address: str) -> None:
        """Listen on ``host:port``.

        Raises:
            ListenError: the address cannot be had.
        """
        check_free(address)
        host, port = split_address(address)
        self._server = await asyncio.start_server(self._serve, host, port, limit=REQUEST_BYTES_MAX)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener; a page being written is finished by its own task."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS_MAX:
                async with asyncio.timeout(REQUEST_S_MAX):
                    head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self.respond(head))
                async with asyncio.timeout(REQUEST_S_MAX):
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # whoever asks like this gets no page; there is nobody to tell
        finally:
            self._connections -= 1
            writer.close()

    def respond(self, head: bytes) -> bytes:
        """The whole response to a request head."""
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target = rest.partition(" ")[0]
        path, _, query = target.partition("?")
        if method not in ("GET", "HEAD"):
            status, kind, body = "405 Method Not Allowed", "text/plain", b"GET only\n"
        else:
            status, kind, body = self._page(path, query)
        headers = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return headers.encode("latin-1") + (b"" if method == "HEAD" else body)

    def _page(self, path: str, query: str) -> tuple[str, str, bytes]:
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)
        if path == "/livez":
            ok = self._live()
            return ("200 OK", "text/plain", b"ok\n") if ok else ("503 Service Unavailable", "text/plain", b"stuck\n")
        if path == "/readyz":
            checks = self._ready()
            ok = all(check.ok for check in checks)
            lines = [f"[{'+' if check.ok else '-'}] {check.name}: {check.text}" for check in checks]
            shown = lines if query == "verbose" else [line for line in lines if line.startswith("[-]")]
            text = "\n".join([*shown, "ready" if ok else "not ready"]) + "\n"
            return ("200 OK" if ok else "503 Service Unavailable"), "text/plain; charset=utf-8", text.encode()
        return "404 Not Found", "text/plain", b"/livez, /readyz?verbose, /metrics\n"
