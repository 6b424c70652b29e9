"""Reading: records, receipts, blocks, status. Proofs are checked here, from the genesis on, before anyone sees them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final, TypeVar

import grpc
import msgspec

from ledger.proof_errors import ProofError
from ledger.proof_types import Proof, ReceiptProof
from ledger.proofs import Proven
from ledger.state import Table
from ledger.types import Block, Receipt
from ledger.wire import WireError, decode_block, decode_receipt
from ledger.wire.proofs import decode_envelope_proof, decode_receipt_proof, decode_record_proof
from lossbook.v1 import blocks_pb2, blocks_pb2_grpc, query_pb2, query_pb2_grpc
from lossbook_sdk.errors import NodeRefused, VerificationFailed
from lossbook_sdk.links import Link
from lossbook_sdk.nodes import TRANSIENT, Nodes, reason_of, refused
from lossbook_sdk.profile import Node
from lossbook_sdk.trust import Trust

PAGE: Final = 1000
"""Records of one page; what a node gives at most."""

CREDIT_BYTES: Final = 16 << 20
"""Bytes of blocks asked for ahead: a block of ordinary size and the next ones."""


R = TypeVar("R", bound=msgspec.Struct)


class Found(msgspec.Struct, frozen=True):
    """A record as a node gave it."""

    key: bytes
    value: bytes
    height: int
    """Executed height that was read; with a proof, the height whose state is proved."""
    node: str
    proof: Proof | None = None
    proven: Proven | None = None
    """What the proof shows, once verified."""


def read_record(table: Table[R], found: Found) -> R:
    """What a record says, where only a node says so.

    Raises:
        VerificationFailed: nothing that a ledger holds in this table.
    """
    try:
        return table.decode(found.value)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _no_proof(found.node, f"a record of table {table.prefix.hex()} cannot be read ({error})") from error


class Query:
    """Questions to whichever node answers first."""

    def __init__(self, nodes: Nodes, *, give_up_s: float = 10.0) -> None:
        self._nodes = nodes
        self._give_up_s = give_up_s

    @property
    def _trust(self) -> Trust:
        return self._nodes.connector.trust

    async def record(self, key: bytes, *, prove: bool = False) -> Found | None:
        """A record by table byte and key; None if there is none (which is not proved).

        Raises:
            VerificationFailed: the proof does not verify, or is of another record.
            NothingReachable, NodeRefused: as every call.
        """
        response, node = await self._call("GetRecord", query_pb2.GetRecordRequest(key=key, prove=prove))
        if not response.found:
            return None
        if not prove:
            return Found(key, response.value, response.height, node.organisation)
        if not response.HasField("proof"):
            raise _no_proof(node, "it gave none")
        try:
            proof = Proof(self._trust.genesis.chain_id, decode_record_proof(response.proof))
            proven = self._trust.verify(proof)
        except (WireError, ProofError) as error:
            raise _no_proof(node, str(error)) from error
        if proven.key != key:
            raise _no_proof(node, "it proves another record")
        return Found(key, proven.value, proven.header.state_height, node.organisation, proof, proven)

    async def records(self, prefix: bytes, *, limit: int | None = None) -> AsyncIterator[Found]:
        """Records whose key starts with the prefix, in order of the key, a page at a time; not proved.

        Raises:
            VerificationFailed: a node lists others, or out of order, which need never end.
        """
        after, left = b"", limit
        while left is None or left > 0:
            page = PAGE if left is None else min(PAGE, left)
            request = query_pb2.ListRecordsRequest(prefix=prefix, after=after, limit=page)
            response, node = await self._call("ListRecords", request)
            for entry in response.entries:
                if not entry.key.startswith(prefix) or entry.key <= after:
                    raise _no_proof(node, "it lists records that were not asked for, or out of order")
                yield Found(entry.key, entry.value, response.height, node.organisation)
                after = entry.key
            left = None if left is None else left - len(response.entries)
            if not response.more or not response.entries:
                return

    async def receipt(self, envelope_id: bytes, *, prove: bool = False) -> tuple[Receipt, Proof | None] | None:
        """The receipt of an envelope, and its proof where asked for; None if there is none (yet). Errors as above."""
        request = query_pb2.GetReceiptRequest(envelope_id=envelope_id, prove=prove)
        response, node = await self._call("GetReceipt", request)
        if not response.found:
            return None
        receipt, proof = read_receipt(response, envelope_id, node, self._trust, prove=prove)
        return receipt, Proof(self._trust.genesis.chain_id, proof) if proof is not None else None

    async def envelope(self, envelope_id: bytes) -> tuple[Proof, Proven] | None:
        """An envelope as it was ordered, proved; None if it was not."""
        request = query_pb2.GetEnvelopeProofRequest(envelope_id=envelope_id)
        response, node = await self._call("GetEnvelopeProof", request)
        if not response.found:
            return None
        try:
            proof = Proof(self._trust.genesis.chain_id, decode_envelope_proof(response.proof))
            proven = self._trust.verify(proof)
        except (WireError, ProofError) as error:
            raise _no_proof(node, str(error)) from error
        if proven.envelope is None or proven.envelope.id != envelope_id:
            raise _no_proof(node, "it proves another envelope")
        return proof, proven

    async def block(self, height: int) -> Block | None:
        """A block as the node holds it, not verified; None if it has none of this height."""
        response, node = await self._call("GetBlock", query_pb2.GetBlockRequest(height=height))
        if not response.found:
            return None
        try:
            block = decode_block(response.block)
        except WireError as error:
            raise _no_proof(node, str(error)) from error
        if block.header.height != height:
            raise _no_proof(node, f"it gave block {block.header.height} for block {height}")
        return block

    async def status(self) -> query_pb2.GetStatusResponse:
        """How the first node that answers is doing."""
        response: query_pb2.GetStatusResponse
        response, _ = await self._call("GetStatus", query_pb2.GetStatusRequest())
        return response

    async def report(self, height: int = 0) -> query_pb2.GetReportResponse:
        """Totals by line and insurer, from a replica."""
        response: query_pb2.GetReportResponse
        response, _ = await self._call("GetReport", query_pb2.GetReportRequest(height=height))
        return response

    async def tail(self, from_height: int, *, headers_only: bool = True) -> AsyncIterator[Block]:
        """Blocks from a height on, as they become final; not verified. Ends when the node ends it.

        Raises:
            NodeRefused: the node broke off; the caller may start again at the next height.
        """
        node = self._nodes.all[0] if self._nodes.choose() is None else self._nodes.choose()
        if node is None:
            raise self._nodes.unreachable()
        first = blocks_pb2.SubscribeRequest(
            from_height=from_height, credit_bytes=CREDIT_BYTES, headers_only=headers_only
        )
        async with self._nodes.using(node) as link, aclosing(self._tail(link, first)) as blocks:
            async for block in blocks:
                yield block

    async def _tail(self, link: Link, first: blocks_pb2.SubscribeRequest) -> AsyncGenerator[Block, None]:
        node, stub = link.node, blocks_pb2_grpc.BlocksServiceStub(link.channel)
        call = stub.Subscribe(metadata=self._nodes.connector.metadata)
        try:
            await call.write(first)
            async for response in call:
                self._nodes.worked(node)
                if not await self._nodes.believable(link):
                    raise NodeRefused(f"{node} has another TLS authority now", advice="Try again")
                if response.HasField("block"):
                    yield decode_block(response.block)
                    await call.write(blocks_pb2.SubscribeRequest(credit_bytes=response.ByteSize()))
        except grpc.aio.AioRpcError as error:
            if error.code() not in TRANSIENT:
                raise refused(node, error) from error
            raise NodeRefused(f"{node} broke off: {reason_of(error)}", advice="Try again") from error
        except WireError as error:
            raise _no_proof(node, str(error)) from error
        finally:
            call.cancel()

    async def _call(self, method: str, request: Any) -> tuple[Any, Node]:
        return await self._nodes.call(
            lambda channel: getattr(query_pb2_grpc.QueryServiceStub(channel), method),
            request,
            give_up_s=self._give_up_s,
        )


def read_receipt(
    response: query_pb2.GetReceiptResponse, envelope_id: bytes, node: Node, trust: Trust, *, prove: bool
) -> tuple[Receipt, ReceiptProof | None]:
    """The receipt that a node found for an envelope; with its proof, verified, where that was asked for.

    Raises:
        VerificationFailed: it is of another envelope, the proof is missing, or it does not verify.
    """
    try:
        receipt = decode_receipt(response.receipt)
        if receipt.envelope_id != envelope_id:
            raise _no_proof(node, "it gave the receipt of another envelope")
        if not prove:
            return receipt, None
        if not response.HasField("proof"):
            raise _no_proof(node, "it gave none")
        proof = decode_receipt_proof(response.proof)
        proven = trust.verify(Proof(trust.genesis.chain_id, proof))
    except (WireError, ProofError) as error:
        raise _no_proof(node, str(error)) from error
    if proven.receipt is None or proven.receipt.raw != receipt.raw:
        raise _no_proof(node, "it proves another receipt")
    return receipt, proof


def _no_proof(node: Node | str, problem: str) -> VerificationFailed:
    return VerificationFailed(
        f"what {node} served does not verify: {problem}",
        unchanged="Nothing was stored",
        advice="Ask another node, and tell the organisation that runs this one",
    )
