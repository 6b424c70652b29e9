"""A client that asks and does not read: HTTP/2 by hand, with a window that never opens.

gRPC's own clients take in what comes even where nobody reads it; a hostile one need not.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from services.identity import Identity

DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113 §4.1."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _headers(fields: Mapping[str, str]) -> bytes:
    """Literals without indexing or Huffman code, RFC 7541 §6.2.2; each shorter than 127 bytes."""
    return b"".join(
        b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in fields.items()
    )


class Unread:
    """One connection; streams have odd numbers, in the order of ``ask``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, metadata: Mapping[str, str]) -> None:
        self._reader = reader
        self._writer = writer
        self._metadata = metadata
        self._streams = 0

    async def ask(self, method: str, request: bytes) -> int:
        """Make a call; the number of its stream."""
        stream = 2 * self._streams + 1
        self._streams += 1
        fields = {":method": "POST", ":scheme": "https", ":path": f"/{method}", ":authority": "node.lossbook"}
        fields |= {"te": "trailers", "content-type": "application/grpc", **self._metadata}
        message = struct.pack(">BI", 0, len(request)) + request
        self._writer.write(_frame(HEADERS, END_HEADERS, stream, _headers(fields)))
        self._writer.write(_frame(DATA, END_STREAM, stream, message))
        await self._writer.drain()
        return stream

    async def next_end(self) -> int:
        """The number of the next stream that the server ends; pings are answered meanwhile."""
        while True:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind in (SETTINGS, PING) and not flags & ACK:
                self._writer.write(_frame(kind, ACK, 0, payload if kind == PING else b""))
                await self._writer.drain()
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                return stream


@asynccontextmanager
async def unread(identity: Identity, address: str, folder: Path) -> AsyncIterator[Unread]:
    """Connect; the identity's certificate is written to the folder, where ``ssl`` wants it."""
    pem = folder / "leaf.pem"
    pem.write_bytes(identity.leaf_key_pem + identity.leaf_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2"])
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, settings))
        yield Unread(reader, writer, dict(identity.metadata))
    finally:
        writer.transport.abort()
