"""Records, receipts and proofs of a state, as node and replica serve them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from contracts.records import CLAIMS, POLICIES
from ledger.execution import REPLAYS
from ledger.state_log import ProofUnavailable
from ledger.wire import decode_receipt
from lossbook.v1 import query_pb2, query_pb2_grpc
from services.query import QueryServicer
from services.reader import Report, Status
from services.state_reader import ROOTS_SHOWN, StateReader
from tests.support.insurers import FIRST, Ledger, policy_issue
from tests.support.tls import identity, serving
from tests.unit.services.test_blocks import FakeChain

IDS = [b"policy-%09d" % at for at in range(7)]


class FullReader(StateReader):
    """What a daemon adds."""

    def status(self) -> Status:
        return Status("alpha", "validator", bytes(32), 3, 5, 4, b"r" * 32, 77, {"why": "idle"}, self.roots())

    def report(self, height: int) -> Report | None:
        return None


def ledger_with_policies() -> tuple[Ledger, FullReader]:
    ledger = Ledger()
    for at in range(0, 7, 2):
        ledger.block([ledger.envelope([policy_issue(policy_id=each) for each in IDS[at : at + 2]])])
    tables = (POLICIES, CLAIMS, REPLAYS)

    def position_of(envelope_id: bytes) -> int | None:
        count = ledger.state.head.receipt_count if ledger.state.head is not None else 0
        blobs = (decode_receipt(ledger.state.receipt_blob(at)) for at in range(count))
        return next((receipt.position for receipt in blobs if receipt.envelope_id == envelope_id), None)

    return ledger, FullReader(ledger.state, FakeChain(0), tables, position_of=position_of)


def test_a_listing_goes_on_where_the_page_before_ended() -> None:
    _, reader = ledger_with_policies()
    found: list[bytes] = []
    after, more = b"", True
    while more:
        entries, more = reader.records(POLICIES.prefix, after, 3)
        found += [entry.key for entry in entries]
        assert all(entry.value == reader.record(entry.key) for entry in entries)
        after = entries[-1].key
    assert found == [POLICIES.prefix + each for each in IDS]


def test_a_listing_keeps_to_its_prefix() -> None:
    _, reader = ledger_with_policies()
    prefix = POLICIES.prefix + IDS[0][:-1]
    entries, more = reader.records(prefix, b"", 100)
    assert [entry.key[1:] for entry in entries] == IDS
    assert not more
    assert reader.records(POLICIES.prefix + b"zzz", b"", 100) == ([], False)
    assert reader.records(CLAIMS.prefix, b"", 100) == ([], False)
    assert reader.records(CLAIMS.prefix, POLICIES.prefix + IDS[3], 100) == ([], False)
    with pytest.raises(KeyError):
        reader.records(b"\xfe", b"", 1)


def test_the_block_that_is_being_executed_is_not_seen() -> None:
    ledger, reader = ledger_with_policies()
    ledger.execution.begin(ledger.executable([ledger.envelope([policy_issue(policy_id=b"policy-being-now")])]))
    ledger.execution.advance()
    assert reader.record(POLICIES.prefix + b"policy-being-now") is None
    entries, _ = reader.records(POLICIES.prefix, b"", 100)
    assert len(entries) == len(IDS)
    ledger.state.discard()


def test_a_receipt_is_found_by_the_envelopes_id() -> None:
    ledger, reader = ledger_with_policies()
    envelope = ledger.envelope([policy_issue(policy_id=b"another-policy-1")])
    (receipt,) = ledger.block([envelope]).receipts
    assert reader.receipt(envelope.id) == receipt.raw
    assert reader.receipt(bytes(32)) is None


def test_nothing_is_proved_before_a_certified_header() -> None:
    ledger, reader = ledger_with_policies()
    with pytest.raises(ProofUnavailable):
        reader.record_proof(POLICIES.prefix + IDS[0])
    with pytest.raises(ProofUnavailable, match="replica"):
        reader.receipt_proof(bytes(32))
    envelope = ledger.envelope([policy_issue(policy_id=b"another-policy-1")])
    ledger.block([envelope])
    with pytest.raises(ProofUnavailable, match="not held here"):
        reader.envelope_proof(envelope.id)


def test_roots_of_recent_heights_are_shown_newest_last() -> None:
    ledger, reader = ledger_with_policies()
    shown = reader.roots()
    assert [each.height for each in shown] == [0, 1, 2, 3, 4]
    for _ in range(ROOTS_SHOWN):
        ledger.block()
    shown = reader.roots()
    assert len(shown) == ROOTS_SHOWN
    assert shown[-1].height == ledger.state.height
    head = ledger.state.head
    assert head is not None
    assert shown[-1].state_root == head.state_root


# -- the service over it -------------------------------------------------------------------


def ask(method: str, request: Any) -> Any:
    """The answer of QueryService, or the error it aborted with."""
    _, reader = ledger_with_policies()

    async def main() -> Any:
        registration = (
            "lossbook.v1.QueryService",
            query_pb2_grpc.add_QueryServiceServicer_to_server,
            QueryServicer(reader),
        )
        caller = identity(FIRST, "client")
        async with serving(FIRST, registration) as (address, _), caller.channel(FIRST.id, address) as channel:
            stub = query_pb2_grpc.QueryServiceStub(channel)
            try:
                return await getattr(stub, method)(request, metadata=caller.metadata, timeout=10)
            except grpc.aio.AioRpcError as error:
                return error

    return asyncio.run(main())


def test_a_record_is_answered_with_the_height_it_was_read_at() -> None:
    answer = ask("GetRecord", query_pb2.GetRecordRequest(key=POLICIES.prefix + IDS[2]))
    assert (answer.found, answer.height) == (True, 4)
    assert POLICIES.decode(answer.value).limit_minor > 0
    answer = ask("GetRecord", query_pb2.GetRecordRequest(key=POLICIES.prefix + b"none"))
    assert (answer.found, answer.height) == (False, 4)


def test_the_status_shows_why_and_the_roots() -> None:
    answer = ask("GetStatus", query_pb2.GetStatusRequest())
    assert (answer.organisation, answer.kind, answer.view) == ("alpha", "validator", 3)
    assert answer.detail_json == '{"why":"idle"}'
    assert [each.height for each in answer.roots] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("method", "request_", "code", "text"),
    [
        ("GetRecord", query_pb2.GetRecordRequest(), grpc.StatusCode.INVALID_ARGUMENT, "table byte"),
        ("GetRecord", query_pb2.GetRecordRequest(key=bytes(300)), grpc.StatusCode.INVALID_ARGUMENT, "256"),
        (
            "GetRecord",
            query_pb2.GetRecordRequest(key=POLICIES.prefix + IDS[0], prove=True),
            grpc.StatusCode.UNAVAILABLE,
            "ask again",
        ),
        ("ListRecords", query_pb2.ListRecordsRequest(prefix=b"\xfe"), grpc.StatusCode.INVALID_ARGUMENT, "no table"),
        ("GetReceipt", query_pb2.GetReceiptRequest(envelope_id=b"x"), grpc.StatusCode.INVALID_ARGUMENT, "32 bytes"),
        ("GetReport", query_pb2.GetReportRequest(), grpc.StatusCode.UNIMPLEMENTED, "replica"),
    ],
)
def test_invalid_question_is_answered_with_advice(method: str, request_: Any, code: grpc.StatusCode, text: str) -> None:
    error = ask(method, request_)
    assert isinstance(error, grpc.aio.AioRpcError)
    assert error.code() is code
    assert text in (error.details() or "")


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetReceipt", query_pb2.GetReceiptRequest(envelope_id=bytes(32))),
        ("GetEnvelopeProof", query_pb2.GetEnvelopeProofRequest(envelope_id=bytes(32))),
        ("GetBlock", query_pb2.GetBlockRequest(height=9)),
    ],
)
def test_what_is_not_there_is_not_found_and_no_error(method: str, request_: Any) -> None:
    assert ask(method, request_).found is False
