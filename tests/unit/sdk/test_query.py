"""Reading: what a node gives is what was asked for, or it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from ledger import wire
from ledger.organisations import ORGANISATIONS
from ledger.types import Block
from lossbook.v1 import query_pb2
from lossbook_sdk.errors import VerificationFailed
from lossbook_sdk.query import Found, Query, read_record
from tests.support.epoch_chain import EpochChain
from tests.support.gateways import AnyQuery, FakeGateway, final, never, nodes_of
from tests.support.insurers import FIRST
from tests.unit.sdk.test_gateway import envelope, other

T = TypeVar("T")
PREFIX = ORGANISATIONS.prefix
Page = tuple[list[bytes], bool]


class Node(AnyQuery):
    """Gives what its test puts here, whatever is asked."""

    pages: Callable[[bytes], Page]
    receipt = b""
    block: Any = None

    async def ListRecords(  # noqa: N802
        self, request: query_pb2.ListRecordsRequest, context: Any
    ) -> query_pb2.ListRecordsResponse:
        keys, more = self.pages(request.after)
        entries = [query_pb2.ListRecordsResponse.Entry(key=key, value=b"?") for key in keys]
        return query_pb2.ListRecordsResponse(entries=entries, more=more)

    async def GetReceipt(  # noqa: N802
        self, request: query_pb2.GetReceiptRequest, context: Any
    ) -> query_pb2.GetReceiptResponse:
        return query_pb2.GetReceiptResponse(found=True, receipt=self.receipt)

    async def GetBlock(  # noqa: N802
        self, request: query_pb2.GetBlockRequest, context: Any
    ) -> query_pb2.GetBlockResponse:
        return query_pb2.GetBlockResponse(found=True, block=self.block)


def ask(node: Node, question: Callable[[Query], Awaitable[T]]) -> T:
    async def story() -> T:
        gateway = FakeGateway(FIRST.id, never)
        await gateway.start(query=node)
        nodes = nodes_of(gateway)
        try:
            async with asyncio.timeout(20):
                return await question(Query(nodes))
        finally:
            await nodes.close()
            await gateway.stop()

    return asyncio.run(story())


def make_node() -> Node:
    return Node()  # type: ignore[abstract]


def listed(pages: Callable[[bytes], Page]) -> list[bytes]:
    async def question(query: Query) -> list[bytes]:
        return [found.key async for found in query.records(PREFIX)]

    node = make_node()
    node.pages = pages
    return ask(node, question)


def test_records_come_page_after_page() -> None:
    keys = [PREFIX + name for name in (b"a", b"b", b"c")]

    def pages(after: bytes) -> Page:
        left = [key for key in keys if key > after]
        return left[:2], len(left) > 2

    assert listed(pages) == keys


@pytest.mark.parametrize(
    "keys",
    [[PREFIX + b"a"], [PREFIX + b"b", PREFIX + b"a"], [PREFIX + b"a", PREFIX + b"a"], [b"\xee" + b"a"], [b""]],
    ids=["the same page again", "descending", "twice", "another table", "no key"],
)
def test_invalid_lists_that_need_never_end(keys: list[bytes]) -> None:
    with pytest.raises(VerificationFailed, match="not asked for, or out of order"):
        listed(lambda _: (keys, True))


def test_invalid_a_record_that_no_ledger_holds() -> None:
    for value in (b"", b"\x00garbage", b"\xc1"):
        with pytest.raises(VerificationFailed, match="cannot be read"):
            read_record(ORGANISATIONS, Found(PREFIX + b"a", value, 1, FIRST.id))


def test_invalid_the_receipt_of_another_envelope_and_one_without_the_proof_that_was_asked_for() -> None:
    node, signed = make_node(), other()
    node.receipt = final(signed.raw).receipt
    with pytest.raises(VerificationFailed, match="receipt of another envelope"):
        ask(node, lambda query: query.receipt(envelope().id))
    assert ask(node, lambda query: query.receipt(signed.id)) is not None
    with pytest.raises(VerificationFailed, match="it gave none"):
        ask(node, lambda query: query.receipt(signed.id, prove=True))


def test_invalid_a_block_of_another_height() -> None:
    chain = EpochChain()
    chain.block()
    found = chain.final_header(chain.finalized_height())
    assert found is not None
    justified, node = found.justified, make_node()
    node.block = wire.encode_block(
        Block(justified.header, justified.justification, wire.encode_payload(()), (), found.finalization)
    )
    height = justified.header.height
    block = ask(node, lambda query: query.block(height))
    assert block is not None
    assert block.header == justified.header
    with pytest.raises(VerificationFailed, match=f"gave block {height} for block {height + 1}"):
        ask(node, lambda query: query.block(height + 1))
