"""One envelope: retried, moved to another node under the same id, and never answered by silence or a lie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import grpc
import pytest

from ledger import operations as ops
from ledger.codes import Code
from ledger.wire import encode_receipt
from lossbook.v1 import gateway_pb2, query_pb2
from lossbook_sdk.answers import Stage, Status
from lossbook_sdk.envelopes import Signed, build_and_sign
from lossbook_sdk.errors import Expired, Failed, NodeRefused, NothingReachable, Rejected, Undecided, VerificationFailed
from lossbook_sdk.gateway import Gateway
from tests.support.gateways import (
    AnyQuery,
    FakeGateway,
    accepted,
    always,
    expired,
    final,
    id_of,
    never,
    nodes_of,
    rejected,
)
from tests.support.insurers import FIRST, market_genesis

T = TypeVar("T")


def envelope() -> Signed:
    return build_and_sign(
        chain_id=market_genesis().chain_id,
        organisation=FIRST.id,
        keys=[FIRST.desks["handler"]],
        operations=[ops.ClaimClose(bytes(16), 1)],
    )


def other() -> Signed:
    """Somebody's envelope, not ``envelope()``."""
    return build_and_sign(
        chain_id=market_genesis().chain_id,
        organisation=FIRST.id,
        keys=[FIRST.desks["handler"]],
        operations=[ops.ClaimClose(bytes(15) + b"x", 1)],
    )


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def submit(*gateways: FakeGateway, wait: Stage = Stage.FINAL, **times: float) -> Status:
    for gateway in gateways:
        if not gateway.port:
            await gateway.start()
    nodes = nodes_of(*gateways)
    try:
        return await Gateway(nodes).submit(envelope(), wait, **times)
    finally:
        await nodes.close()
        for gateway in gateways:
            await gateway.stop()


def test_final_receipt_is_returned() -> None:
    status = run(submit(FakeGateway("insurer-1", always(final))))
    assert (status.stage, status.node) == (Stage.FINAL, "insurer-1")
    assert status.receipt is not None
    assert status.raise_for_failure().receipt is not None


def test_accepted_must_be_signed_by_its_origin() -> None:
    good = run(submit(FakeGateway("insurer-1", always(accepted)), wait=Stage.ACCEPTED))
    assert good.stage is Stage.ACCEPTED
    with pytest.raises(VerificationFailed, match="not signed by insurer-1"):
        run(submit(FakeGateway("insurer-1", always(lambda raw: accepted(raw, forged=True))), wait=Stage.ACCEPTED))


def test_dead_node_is_passed_over_with_the_same_envelope() -> None:
    second = FakeGateway("insurer-2", always(final))

    async def story() -> Status:
        dead = FakeGateway("insurer-1", never)
        await dead.start()
        await dead.stop()
        await second.start()
        nodes = nodes_of(dead, second)
        signed = envelope()
        status = await Gateway(nodes).submit(signed)
        assert [id_of(raw) for raw in second.seen] == [signed.id]
        await nodes.close()
        await second.stop()
        return status

    assert run(story()).node == "insurer-2"


def test_overloaded_node_sends_the_client_elsewhere() -> None:
    full = FakeGateway("insurer-1", always(lambda raw: rejected(raw, Code.OVERLOADED, 20_000)))
    free = FakeGateway("insurer-2", always(final))
    assert run(submit(full, free)).node == "insurer-2"
    assert full.seen == free.seen


def test_the_only_node_is_asked_again_after_the_time_it_named() -> None:
    answers = [Code.OVERLOADED, Code.NOT_READY, None]

    async def answer(raw: bytes, wait: int) -> list[gateway_pb2.EnvelopeStatus]:
        code = answers.pop(0)
        return [final(raw) if code is None else rejected(raw, code, 10)]

    assert run(submit(FakeGateway("insurer-1", answer))).stage is Stage.FINAL


def test_refusal_at_the_door_is_final() -> None:
    status = run(submit(FakeGateway("insurer-1", always(lambda raw: rejected(raw, Code.WRONG_CHAIN)))))
    with pytest.raises(Rejected, match="another network") as caught:
        status.raise_for_failure()
    assert "genesis check" in caught.value.advice
    assert "Nothing was changed" in caught.value.unchanged


def test_expiry_and_failure_are_told_apart() -> None:
    with pytest.raises(Expired):
        run(submit(FakeGateway("insurer-1", always(expired)))).raise_for_failure()
    failing = always(lambda raw: final(raw, Code.OPERATIONS_FAILED, (0, Code.ILLEGAL_TRANSITION)))
    with pytest.raises(Failed, match="does not allow this step") as caught:
        run(submit(FakeGateway("insurer-1", failing))).raise_for_failure()
    assert "other operations of the envelope took effect" in caught.value.unchanged


def test_replay_is_answered_with_the_first_receipt() -> None:
    class Query(AnyQuery):
        async def GetReceipt(  # noqa: N802
            self, request: query_pb2.GetReceiptRequest, context: object
        ) -> query_pb2.GetReceiptResponse:
            receipt = encode_receipt(
                envelope_id=request.envelope_id,
                height=2,
                index=0,
                position=0,
                block_time_ms=1,
                code=Code.OK,
                operation_codes=(0,),
            )
            return query_pb2.GetReceiptResponse(found=True, receipt=receipt.raw)

    async def story() -> Status:
        gateway = FakeGateway("insurer-1", always(lambda raw: final(raw, Code.REPLAYED, ())))
        await gateway.start(query=Query())  # type: ignore[abstract]
        return await submit(gateway)

    status = run(story())
    assert status.receipt is not None
    assert (status.receipt.height, status.receipt.code) == (2, Code.OK)


def test_invalid_the_first_receipt_of_another_envelope() -> None:
    class Query(AnyQuery):
        async def GetReceipt(  # noqa: N802
            self, request: query_pb2.GetReceiptRequest, context: object
        ) -> query_pb2.GetReceiptResponse:
            return query_pb2.GetReceiptResponse(found=True, receipt=final(other().raw).receipt)

    async def story() -> Status:
        gateway = FakeGateway("insurer-1", always(lambda raw: final(raw, Code.REPLAYED, ())))
        await gateway.start(query=Query())  # type: ignore[abstract]
        return await submit(gateway)

    with pytest.raises(VerificationFailed, match="receipt of another envelope"):
        run(story())


@pytest.mark.parametrize(
    "true",
    [accepted, final, expired, lambda raw: rejected(raw, Code.WRONG_CHAIN)],
    ids=["accepted", "final", "expired", "rejected"],
)
def test_invalid_the_true_status_of_another_envelope(true: Callable[[bytes], gateway_pb2.EnvelopeStatus]) -> None:
    gateway = FakeGateway("insurer-1", always(lambda raw: true(other().raw)))
    with pytest.raises(VerificationFailed, match="answered about another envelope"):
        run(submit(gateway, wait=Stage.ACCEPTED))


def test_invalid_a_later_question_answered_about_another_envelope() -> None:
    class Forgetful(FakeGateway):
        async def WaitReceipt(  # noqa: N802
            self, request: gateway_pb2.WaitReceiptRequest, context: Any
        ) -> gateway_pb2.WaitReceiptResponse:
            return gateway_pb2.WaitReceiptResponse(status=final(other().raw))

    async def story() -> None:
        gateway = Forgetful("insurer-1", never)
        await gateway.start()
        nodes = nodes_of(gateway)
        try:
            await Gateway(nodes).wait(envelope().id, 0, wait_s=5.0)
        finally:
            await nodes.close()
            await gateway.stop()

    with pytest.raises(VerificationFailed, match="answered about another envelope"):
        run(story())


def test_a_refusal_before_the_envelope_was_read_needs_no_id() -> None:
    def nameless(raw: bytes) -> gateway_pb2.EnvelopeStatus:
        status = rejected(raw, Code.WRONG_CHAIN)
        status.envelope_id = b""
        return status

    gateway = FakeGateway("insurer-1", always(nameless))
    status = run(submit(gateway))
    assert status.stage is Stage.REJECTED
    assert status.envelope_id == id_of(gateway.seen[0])


def test_nobody_there_is_said_with_every_node_and_reason() -> None:
    async def story() -> None:
        gateway = FakeGateway("insurer-1", never)
        await gateway.start()
        await gateway.stop()
        nodes = nodes_of(gateway)
        try:
            await Gateway(nodes).submit(envelope(), give_up_s=0.3)
        finally:
            await nodes.close()

    with pytest.raises(NothingReachable, match="insurer-1") as caught:
        run(story())
    assert caught.value.exit_code == 3
    assert "lossbook node status" in caught.value.advice


def test_a_stage_that_is_not_reached_is_undecided_not_refused() -> None:
    with pytest.raises(Undecided, match="ACCEPTED") as caught:
        run(submit(FakeGateway("insurer-1", always(accepted)), wait_s=0.2))
    assert caught.value.exit_code == 3
    assert f"lossbook tx show {caught.value.envelope_id.hex()}" in caught.value.advice


def test_a_call_that_is_refused_for_good_is_not_repeated() -> None:
    class Refusing(FakeGateway):
        async def Submit(  # noqa: N802
            self, request: gateway_pb2.SubmitRequest, context: Any
        ) -> gateway_pb2.SubmitResponse:
            self.seen.append(request.envelope)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the call is for network 'x'")
            return gateway_pb2.SubmitResponse()

    gateway = Refusing("insurer-1", never)
    with pytest.raises(NodeRefused, match="the call is for network"):
        run(submit(gateway))
    assert len(gateway.seen) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"receipt": b""}, "gives no receipt"),
        ({"receipt": b"\xff\xff"}, "cannot be read"),
        ({"envelope_id": bytes(32)}, "another envelope"),
        ({"stage": gateway_pb2.STAGE_PROVEN}, "no proof"),
        ({"stage": 77}, "cannot be read"),
    ],
)
def test_answers_no_honest_node_gives_are_refused(change: dict[str, Any], why: str) -> None:
    def lie(raw: bytes) -> gateway_pb2.EnvelopeStatus:
        status = final(raw)
        for field, value in change.items():
            setattr(status, field, value)
        return status

    with pytest.raises(VerificationFailed, match=why) as caught:
        run(submit(FakeGateway("insurer-1", always(lie))))
    assert caught.value.exit_code == 4
