"""The services of a daemon that verifies and serves but takes no submissions: a supervisor's replica."""

from __future__ import annotations

from lossbook.v1 import blocks_pb2_grpc, gateway_pb2_grpc, query_pb2_grpc
from services.blocks import BlocksServicer
from services.query import QueryServicer
from services.reader import Reader
from services.readonly_gateway import ReadOnlyGatewayServicer
from services.server import Server
from services.sources import ChainSource


def add_read_only_services(server: Server, reader: Reader, chain: ChainSource) -> BlocksServicer:
    """Query and Blocks, and a Gateway that refuses in words; returns Blocks, which has subscriptions to close."""
    blocks = BlocksServicer(chain)
    server.add("lossbook.v1.QueryService", query_pb2_grpc.add_QueryServiceServicer_to_server, QueryServicer(reader))
    server.add("lossbook.v1.BlocksService", blocks_pb2_grpc.add_BlocksServiceServicer_to_server, blocks)
    server.add(
        "lossbook.v1.GatewayService",
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server,
        ReadOnlyGatewayServicer(),
    )
    return blocks
