"""GatewayService of a daemon that takes no submissions: it says so, and where to go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from ledger.codes import Code, advice, text
from lossbook.v1 import gateway_pb2, gateway_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


def _read_only() -> gateway_pb2.EnvelopeStatus:
    words = f"{text(Code.READ_ONLY)}. {advice(Code.READ_ONLY)}"
    return gateway_pb2.EnvelopeStatus(
        stage=gateway_pb2.STAGE_REJECTED, rejection=gateway_pb2.Rejection(code=Code.READ_ONLY, text=words)
    )


class ReadOnlyGatewayServicer(gateway_pb2_grpc.GatewayServiceServicer):
    """Refuses every submission with READ_ONLY, in the same form in which a node refuses one."""

    async def Submit(  # noqa: N802 - gRPC's names
        self, request: gateway_pb2.SubmitRequest, context: Context
    ) -> gateway_pb2.SubmitResponse:
        """See gateway.proto."""
        return gateway_pb2.SubmitResponse(status=_read_only())

    async def SubmitStream(  # noqa: N802
        self, request_iterator: AsyncIterator[gateway_pb2.SubmitStreamRequest], context: Context
    ) -> AsyncIterator[gateway_pb2.SubmitStreamResponse]:
        """See gateway.proto; one refusal an envelope."""
        async for request in request_iterator:
            yield gateway_pb2.SubmitStreamResponse(statuses=[_read_only() for _ in request.envelopes])

    async def WaitReceipt(  # noqa: N802
        self, request: gateway_pb2.WaitReceiptRequest, context: Context
    ) -> gateway_pb2.WaitReceiptResponse:
        """See gateway.proto; receipts are read with QueryService here."""
        return gateway_pb2.WaitReceiptResponse(status=_read_only())
