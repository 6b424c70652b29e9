"""SealedService: sealed blobs from this node's own store, to callers that are authorised to hold them.

Who that is stands in ``services.auth.ACCESS``: validators' nodes, which have to hold a blob before they vote for what
commits to it. A replica and a reader are authorised by what is addressed or granted to them; no operation of this
version does either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import grpc

from crypto.hashing import DIGEST_BYTES
from lossbook.v1 import sealed_pb2, sealed_pb2_grpc
from services.limits import STREAM_CHUNK_BYTES
from services.logs import get_logger
from store.errors import SealedDamaged

COMMITMENTS_MAX: Final = 256
"""Asked for at once; one blob at a time is in memory, whatever is asked for."""

NAMED_MAX: Final = 4
"""Of those that are missing, in the text of the answer."""

_log = get_logger("sealed")


class SealedSource(Protocol):
    """Where blobs lie; ``store.sealed.SealedStore``."""

    def get(self, commitment: bytes) -> bytes | None:
        """The blob, compared with its commitment; None if it is not here.

        Raises:
            SealedDamaged: it is not what was stored.
        """


class SealedServicer(sealed_pb2_grpc.SealedServiceServicer):
    """Serves a ``SealedSource``; None where the node's store cannot be opened."""

    def __init__(self, source: SealedSource | None) -> None:
        self._source = source

    async def GetBlobs(  # noqa: N802 - gRPC's name
        self, request: sealed_pb2.GetBlobsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[sealed_pb2.GetBlobsResponse]:
        """See sealed.proto."""
        asked = tuple(dict.fromkeys(request.commitments))
        if not 0 < len(request.commitments) <= COMMITMENTS_MAX or any(len(each) != DIGEST_BYTES for each in asked):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"1 to {COMMITMENTS_MAX} commitments of {DIGEST_BYTES} bytes each can be asked for: ask in parts",
            )
        missing: list[bytes] = []
        for commitment in asked:
            blob = await self._blob(commitment, context)
            if blob is None:
                missing.append(commitment)
                continue
            for at in range(0, len(blob), STREAM_CHUNK_BYTES):
                yield sealed_pb2.GetBlobsResponse(
                    commitment=commitment, total_bytes=len(blob), chunk=blob[at : at + STREAM_CHUNK_BYTES]
                )
        if missing:
            await context.abort(grpc.StatusCode.NOT_FOUND, _not_found(missing, len(asked)))

    async def _blob(self, commitment: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes | None:
        if self._source is None:
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "this node cannot open its sealed store (its log says why): ask another"
            )
            return None
        try:
            return self._source.get(commitment)
        except SealedDamaged as error:
            _log.error("a sealed blob cannot be served", problem=str(error))
            await context.abort(
                grpc.StatusCode.DATA_LOSS, f"the blob of {commitment.hex()} is damaged on this node: ask another"
            )
            return None


def _not_found(missing: list[bytes], asked: int) -> str:
    named = ", ".join(each.hex() for each in missing[:NAMED_MAX]) + (", ..." if len(missing) > NAMED_MAX else "")
    return (
        f"{len(missing)} of {asked} sealed blobs are not stored here: {named}. No operation of this version seals a "
        "field, so the ledger commits to none"
    )
