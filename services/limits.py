"""Sizes and times of every connection, each with its reason; clients and servers use the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PROTOCOL_VERSION: Final = "1"
"""Value of the ``lossbook-protocol`` metadata; another value is refused at once, not misread later."""

CHAIN_KEY: Final = "lossbook-chain"
"""Metadata: chain id, 64 hex digits. A call meant for another network must not reach this one."""

PROTOCOL_KEY: Final = "lossbook-protocol"
"""Metadata: ``PROTOCOL_VERSION``."""

INSTANCE_KEY: Final = "lossbook-instance"
"""Metadata of streams between nodes: which process of its organisation opens one, hex digits made at its start."""

RETRY_AFTER_KEY: Final = "lossbook-retry-after-ms"
"""Trailing metadata beside RESOURCE_EXHAUSTED and UNAVAILABLE: when a retry may succeed."""

REQUEST_BYTES_MAX: Final = 4 << 20
"""One message to a server: gRPC's own default, so that any client library works; batches are at most half of it."""

RESPONSE_BYTES_MAX: Final = 68 << 20
"""One message to a client: a block of the largest allowed ``block_bytes_max`` (64 MiB) and its certificates."""

STREAM_CHUNK_BYTES: Final = 1 << 20
"""What is packed into one message of a stream, so that a late urgent one waits behind at most this much."""

KEEPALIVE_MS: Final = 10_000
"""Ping an idle connection: a peer whose machine vanished is noticed after this and the next."""

KEEPALIVE_TIMEOUT_MS: Final = 5_000
"""No answer to a ping for so long: the connection is dead."""

STREAMS_PER_CONNECTION_MAX: Final = 256
"""Calls of one client at a time; bounds what one connection can keep open."""

CALLS_MAX: Final = 4096
"""Calls of all clients at a time, waiting ones included: some ten kilobytes each."""

CALLS_PER_CALLER_MAX: Final = 512
"""Of them by one organisation's clients, or its node, or its replica: so that no client can shut the validators out."""

METHOD_CALLS_PER_CALLER_MAX: Final[Mapping[str, int]] = {
    "lossbook.v1.SyncService/GetBlocks": 8,
    "lossbook.v1.SyncService/GetBatches": 8,
    "lossbook.v1.SyncService/GetProposals": 8,
    "lossbook.v1.QueryService/GetBlock": 8,
    "lossbook.v1.GatewayService/SubmitStream": 16,
}
"""Of them by one such caller for one method, where a call may hold megabytes here for as long as its caller likes: an
answer that is not read (a block has up to 4 MiB by default, 64 MiB at most, and lies here twice), or a stream with
messages and unread answers (some 25 MiB). An honest node makes 4 calls of a kind at a time (``node.fetcher``), and as
many again may have ended there and not yet here; a submitter keeps one stream with dozens of envelopes under way.
Parts of snapshots are counted where they are made (``services.sync``)."""

RECONNECT_MS_MIN: Final = 100
RECONNECT_MS_MAX: Final = 2_000
"""gRPC's own back-off between connection attempts of one channel; a restarted node is found again soon."""

CONNECT_MS_MAX: Final = 10_000
"""One attempt may take so long, TLS included: some round trips of a slow link, with packets lost and sent again. gRPC
calls it ``min_reconnect_backoff_ms``; it does not slow down attempts that are refused."""

GrpcOptions = tuple[tuple[str, int | str], ...]

_COMMON: Final[GrpcOptions] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),  # what gRPC goes by; a minute without it (measured)
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

SERVER_OPTIONS: Final[GrpcOptions] = (
    *_COMMON,
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", RESPONSE_BYTES_MAX),
    ("grpc.so_reuseport", 0),  # two daemons on one port must not share it silently
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
)

CHANNEL_OPTIONS: Final[GrpcOptions] = (
    *_COMMON,
    ("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),
    ("grpc.max_send_message_length", REQUEST_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_MIN),
    ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment has no business between members
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, not a cached failure
)
