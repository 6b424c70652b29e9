"""QueryService: records, receipts and blocks, with proofs, over a ``Reader``."""

from __future__ import annotations

from typing import Any, Final

import grpc
import msgspec

from ledger.state_log import ProofUnavailable
from ledger.wire.proofs import encode_envelope_proof, encode_receipt_proof, encode_record_proof
from lossbook.v1 import query_pb2, query_pb2_grpc
from services.blocks import block_message
from services.reader import Reader

LIST_MAX: Final = 1000
"""Records of one page: about half a megabyte."""

KEY_BYTES_MAX: Final = 256
"""Longer keys exist in no table."""

Context = grpc.aio.ServicerContext[Any, Any]


class QueryServicer(query_pb2_grpc.QueryServiceServicer):
    """See query.proto."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def GetRecord(  # noqa: N802 - gRPC's names
        self, request: query_pb2.GetRecordRequest, context: Context
    ) -> query_pb2.GetRecordResponse:
        """A record, and its proof where asked for and already possible."""
        await _check_key(request.key, context)
        value = self._reader.record(request.key)
        response = query_pb2.GetRecordResponse(height=self._reader.executed_height())
        if value is None:
            return response
        response.found = True
        response.value = value
        if request.prove:
            try:
                response.proof.CopyFrom(encode_record_proof(self._reader.record_proof(request.key)))
            except ProofUnavailable as error:
                await _abort_unprovable(error, context)
        return response

    async def ListRecords(  # noqa: N802
        self, request: query_pb2.ListRecordsRequest, context: Context
    ) -> query_pb2.ListRecordsResponse:
        """One page of records under a prefix."""
        await _check_key(request.prefix, context)
        limit = min(request.limit or LIST_MAX, LIST_MAX)
        try:
            entries, more = self._reader.records(request.prefix, request.after, limit)
        except KeyError:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "the prefix names no table: docs/protocol.md lists them"
            )
        return query_pb2.ListRecordsResponse(
            entries=[query_pb2.ListRecordsResponse.Entry(key=each.key, value=each.value) for each in entries],
            more=more,
            height=self._reader.executed_height(),
        )

    async def GetReceipt(  # noqa: N802
        self, request: query_pb2.GetReceiptRequest, context: Context
    ) -> query_pb2.GetReceiptResponse:
        """The first receipt of an envelope."""
        await _check_id(request.envelope_id, context)
        receipt = self._reader.receipt(request.envelope_id)
        if receipt is None:
            return query_pb2.GetReceiptResponse()
        response = query_pb2.GetReceiptResponse(found=True, receipt=receipt)
        if request.prove:
            try:
                response.proof.CopyFrom(encode_receipt_proof(self._reader.receipt_proof(request.envelope_id)))
            except ProofUnavailable as error:
                await _abort_unprovable(error, context)
        return response

    async def GetEnvelopeProof(  # noqa: N802
        self, request: query_pb2.GetEnvelopeProofRequest, context: Context
    ) -> query_pb2.GetEnvelopeProofResponse:
        """That an envelope stands in a final block."""
        await _check_id(request.envelope_id, context)
        if self._reader.receipt(request.envelope_id) is None:
            return query_pb2.GetEnvelopeProofResponse()
        response = query_pb2.GetEnvelopeProofResponse(found=True)
        try:
            response.proof.CopyFrom(encode_envelope_proof(self._reader.envelope_proof(request.envelope_id)))
        except ProofUnavailable as error:
            await _abort_unprovable(error, context)
        return response

    async def GetBlock(  # noqa: N802
        self, request: query_pb2.GetBlockRequest, context: Context
    ) -> query_pb2.GetBlockResponse:
        """A finalized block."""
        stored = self._reader.block(request.height)
        if stored is None:
            return query_pb2.GetBlockResponse()
        return query_pb2.GetBlockResponse(found=True, block=block_message(stored))

    async def GetStatus(  # noqa: N802
        self, request: query_pb2.GetStatusRequest, context: Context
    ) -> query_pb2.GetStatusResponse:
        """Where this daemon stands."""
        status = self._reader.status()
        return query_pb2.GetStatusResponse(
            organisation=status.organisation,
            kind=status.kind,
            chain_id=status.chain_id,
            view=status.view,
            finalized_height=status.finalized_height,
            executed_height=status.executed_height,
            state_root=status.state_root,
            block_time_ms=status.block_time_ms,
            detail_json=msgspec.json.encode(status.detail).decode(),
            roots=[
                query_pb2.HeightRoots(height=each.height, state_root=each.state_root, receipts_root=each.receipts_root)
                for each in status.roots
            ],
        )

    async def GetReport(  # noqa: N802
        self, request: query_pb2.GetReportRequest, context: Context
    ) -> query_pb2.GetReportResponse:
        """Totals; replicas only."""
        report = self._reader.report(request.height)
        if report is None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED if request.height == 0 else grpc.StatusCode.NOT_FOUND,
                "reports are made by replicas, up to their executed height: ask the supervisor's replica",
            )
            return query_pb2.GetReportResponse()
        return query_pb2.GetReportResponse(
            height=report.height,
            block_time_ms=report.block_time_ms,
            rows=[query_pb2.ReportRow(**msgspec.structs.asdict(row)) for row in report.rows],
            operations=report.operations,
            envelopes=report.envelopes,
            signatures_verified=report.signatures_verified,
        )


async def _check_key(key: bytes, context: Context) -> None:
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, f"a key has 1 to {KEY_BYTES_MAX} bytes and begins with its table byte"
        )


async def _check_id(envelope_id: bytes, context: Context) -> None:
    if len(envelope_id) != 32:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an envelope id has 32 bytes")


async def _abort_unprovable(error: ProofUnavailable, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
