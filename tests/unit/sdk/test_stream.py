"""Bulk submission: a bounded window, every envelope answered once, fail-over under the same ids."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from ledger import operations as ops
from ledger.codes import Code
from ledger.wire import decode_receipt, encode_receipt
from lossbook.v1 import gateway_pb2, query_pb2
from lossbook_sdk.answers import Stage, Status
from lossbook_sdk.envelopes import Signed, build_and_sign
from lossbook_sdk.errors import Failed, NoFirstReceipt, NothingReachable
from lossbook_sdk.nodes import Nodes
from lossbook_sdk.profile import Node
from lossbook_sdk.replays import with_first_receipt
from lossbook_sdk.stream import BulkSubmitter
from tests.support.gateways import AnyQuery, FakeGateway, accepted, always, final, id_of, never, nodes_of, rejected
from tests.support.insurers import FIRST, market_genesis

T = TypeVar("T")


def envelopes(count: int) -> list[Signed]:
    return [
        build_and_sign(
            chain_id=market_genesis().chain_id,
            organisation=FIRST.id,
            keys=[FIRST.desks["handler"]],
            operations=[ops.ClaimClose(bytes(16), at)],
        )
        for at in range(count)
    ]


def watched(nodes: Nodes) -> asyncio.Event:
    """Set once a node's answer, whether it serves again, is known."""
    asked, ask = asyncio.Event(), nodes.problem_of

    async def problem_of(node: Node, *, timeout_s: float = 5.0) -> str:
        problem = await ask(node, timeout_s=timeout_s)
        asked.set()
        return problem

    nodes.problem_of = problem_of  # type: ignore[method-assign]
    return asked


async def load(bulk: BulkSubmitter, signed: Sequence[Signed]) -> list[Status]:
    async with bulk:
        futures = [await bulk.submit(one) for one in signed]
        await bulk.drain()
        return [future.result() for future in futures]


async def bounded(work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(30):
        return await work


async def start(*gateways: FakeGateway) -> None:
    for gateway in gateways:
        await gateway.start()


async def stop(*gateways: FakeGateway) -> None:
    for gateway in gateways:
        await gateway.stop()


def test_invalid_a_lie_told_again_and_again_is_given_up() -> None:
    def lie(raw: bytes) -> gateway_pb2.EnvelopeStatus:
        status = final(raw)
        status.receipt = b""
        return status

    async def story() -> None:
        gateway = FakeGateway("insurer-1", always(lie))
        await start(gateway)
        try:
            async with asyncio.timeout(20):
                await load(BulkSubmitter(nodes_of(gateway), give_up_s=0.5), envelopes(2))
        finally:
            await stop(gateway)

    with pytest.raises(NothingReachable, match="gives no receipt"):
        asyncio.run(story())


def test_a_stream_that_dies_of_anything_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> Status:
        raise RuntimeError("a defect")

    monkeypatch.setattr("lossbook_sdk.stream.checked_status", broken)

    async def story() -> None:
        gateway = FakeGateway("insurer-1", always(final))
        await start(gateway)
        async with asyncio.timeout(20), BulkSubmitter(nodes_of(gateway)) as bulk:
            (signed,) = envelopes(1)
            outcome = await bulk.submit(signed)
            with pytest.raises(RuntimeError, match="a defect"):
                await outcome
            with pytest.raises(RuntimeError, match="a defect"):
                await bulk.drain()
            with pytest.raises(RuntimeError, match="a defect"):
                await (await bulk.submit(signed))
        await stop(gateway)

    asyncio.run(story())


def test_every_envelope_gets_its_answer() -> None:
    async def story() -> None:
        gateway = FakeGateway("insurer-1", always(accepted, final))
        await start(gateway)
        stages: list[Stage] = []
        signed = envelopes(30)
        bulk = BulkSubmitter(nodes_of(gateway), on_stage=lambda status: stages.append(status.stage))
        statuses = await load(bulk, signed)
        assert [status.envelope_id for status in statuses] == [one.id for one in signed]
        assert {status.stage for status in statuses} == {Stage.FINAL}
        assert stages == [Stage.ACCEPTED] * 30
        await stop(gateway)

    asyncio.run(story())


def test_no_more_than_the_window_is_unanswered() -> None:
    async def answer(raw: bytes, wait: int) -> list[gateway_pb2.EnvelopeStatus]:
        await asyncio.sleep(0.002)
        return [final(raw)]

    async def story() -> None:
        gateway = FakeGateway("insurer-1", answer)
        await start(gateway)
        await load(BulkSubmitter(nodes_of(gateway), window_envelopes=3), envelopes(20))
        assert gateway.most_unanswered == 3
        await stop(gateway)

    asyncio.run(story())


def test_window_of_bytes_lets_one_large_envelope_through() -> None:
    async def story() -> None:
        gateway = FakeGateway("insurer-1", always(final))
        await start(gateway)
        assert len(await load(BulkSubmitter(nodes_of(gateway), window_bytes=1), envelopes(3))) == 3
        assert gateway.most_unanswered == 1
        await stop(gateway)

    asyncio.run(story())


def test_when_a_node_dies_the_rest_goes_to_the_next_under_the_same_ids() -> None:
    async def story() -> None:
        first, second = FakeGateway("insurer-1", never), FakeGateway("insurer-2", always(final))
        await start(first, second)
        moves: list[tuple[str, str]] = []
        bulk = BulkSubmitter(
            nodes_of(first, second),
            window_envelopes=5,
            on_move=lambda left, taken, _: moves.append((left.organisation if left else "", taken.organisation)),
        )
        signed = envelopes(12)
        async with bulk:
            loading = asyncio.create_task(_submit_all(bulk, signed))
            await first.saw(5)
            await first.stop()
            await loading
            await bulk.drain()
        assert {id_of(raw) for raw in first.seen} == {one.id for one in signed[:5]}
        assert [id_of(raw) for raw in second.seen] == [one.id for one in signed]
        assert moves == [("", "insurer-1"), ("insurer-1", "insurer-2")]
        await stop(second)

    asyncio.run(story())


def test_silent_node_is_left() -> None:
    async def story() -> None:
        silent, second = FakeGateway("insurer-1", never), FakeGateway("insurer-2", always(final))
        await start(silent, second)
        statuses = await load(BulkSubmitter(nodes_of(silent, second), silence_s=0.2), envelopes(4))
        assert {status.node for status in statuses} == {"insurer-2"}
        await stop(silent, second)

    asyncio.run(story())


@pytest.mark.parametrize(("code", "retry_ms"), [(Code.NOT_READY, 1_000), (Code.NOT_VOTING, 60_000)])
def test_node_that_is_not_ready_is_left_and_the_next_one_is_asked_at_once(code: Code, retry_ms: int) -> None:
    """When the node would take the envelope itself is no reason to keep it from another one."""

    async def story() -> None:
        starting = FakeGateway("insurer-1", always(lambda raw: rejected(raw, code, retry_ms)))
        second = FakeGateway("insurer-2", always(final))
        await start(starting, second)
        async with asyncio.timeout(retry_ms / 1_000 - 0.2):
            statuses = await load(BulkSubmitter(nodes_of(starting, second)), envelopes(4))
        assert {status.node for status in statuses} == {"insurer-2"}
        await stop(starting, second)

    asyncio.run(story())


def test_liar_is_left() -> None:
    async def story() -> None:
        liar = FakeGateway("insurer-1", always(lambda raw: accepted(raw, forged=True)))
        second = FakeGateway("insurer-2", always(accepted, final))
        await start(liar, second)
        statuses = await load(BulkSubmitter(nodes_of(liar, second)), envelopes(4))
        assert {status.node for status in statuses} == {"insurer-2"}
        await stop(liar, second)

    asyncio.run(story())


def test_overload_is_waited_out() -> None:
    seen: set[bytes] = set()

    async def answer(raw: bytes, wait: int) -> list[gateway_pb2.EnvelopeStatus]:
        if raw in seen:
            return [final(raw)]
        seen.add(raw)
        return [rejected(raw, Code.OVERLOADED, 20)]

    async def story() -> None:
        gateway = FakeGateway("insurer-1", answer)
        await start(gateway)
        statuses = await load(BulkSubmitter(nodes_of(gateway)), envelopes(6))
        assert {status.stage for status in statuses} == {Stage.FINAL}
        assert len(gateway.seen) == 12
        await stop(gateway)

    asyncio.run(story())


def nameless(code: int, retry_after_ms: int = 0) -> Callable[[bytes], gateway_pb2.EnvelopeStatus]:
    def refuse(raw: bytes) -> gateway_pb2.EnvelopeStatus:
        status = rejected(raw, code, retry_after_ms)
        status.envelope_id = b""
        return status

    return refuse


def test_a_refusal_that_names_no_envelope_sends_all_of_them_to_the_next_node() -> None:
    async def story() -> None:
        in_debt, free = (
            FakeGateway("insurer-1", always(nameless(Code.OVERLOADED, 60_000))),
            FakeGateway("insurer-2", always(final)),
        )
        await start(in_debt, free)
        nodes = nodes_of(in_debt, free)
        statuses = await load(BulkSubmitter(nodes), envelopes(5))
        assert {status.stage for status in statuses} == {Stage.FINAL}
        assert nodes.choose() == free.node, "the other one asked for a minute"
        await nodes.close()
        await stop(in_debt, free)

    asyncio.run(bounded(story()))


def test_a_node_that_only_refuses_what_it_does_not_name_is_given_up() -> None:
    async def story() -> None:
        gateway = FakeGateway("insurer-1", always(nameless(Code.MALFORMED)))
        await start(gateway)
        try:
            await load(BulkSubmitter(nodes_of(gateway), give_up_s=0.5), envelopes(2))
        finally:
            await stop(gateway)

    with pytest.raises(NothingReachable, match="MALFORMED"):
        asyncio.run(bounded(story()))


class FirstReceipts(AnyQuery):
    """Knows what every envelope did when it was executed first; or nothing."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    async def GetReceipt(  # noqa: N802
        self, request: query_pb2.GetReceiptRequest, context: object
    ) -> query_pb2.GetReceiptResponse:
        if self.code is None:
            return query_pb2.GetReceiptResponse()
        first = encode_receipt(
            envelope_id=request.envelope_id,
            height=2,
            index=0,
            position=0,
            block_time_ms=1,
            code=self.code,
            operation_codes=(self.code,),
        )
        return query_pb2.GetReceiptResponse(found=True, receipt=first.raw)


def replayed(raw: bytes) -> gateway_pb2.EnvelopeStatus:
    return final(raw, Code.REPLAYED, ())


@pytest.mark.parametrize("code", [Code.OK, Code.OPERATIONS_FAILED])
def test_a_replay_is_answered_with_the_first_receipt_on_a_stream_too(code: Code) -> None:
    async def story() -> Status:
        gateway = FakeGateway("insurer-1", always(replayed))
        await gateway.start(query=FirstReceipts(code))  # type: ignore[abstract]
        (status,) = await load(BulkSubmitter(nodes_of(gateway)), envelopes(1))
        await stop(gateway)
        return status

    status = asyncio.run(bounded(story()))
    assert status.receipt is not None
    assert (status.receipt.height, status.receipt.code) == (2, code)
    if code is not Code.OK:
        with pytest.raises(Failed):
            status.raise_for_failure()


def test_a_replay_of_which_a_node_does_not_hold_the_first_receipt_is_asked_about_elsewhere() -> None:
    async def story() -> Status:
        behind, level = FakeGateway("insurer-1", always(replayed)), FakeGateway("insurer-2", always(replayed))
        await behind.start(query=FirstReceipts(None))  # type: ignore[abstract]
        await level.start(query=FirstReceipts(Code.OK))  # type: ignore[abstract]
        (status,) = await load(BulkSubmitter(nodes_of(behind, level)), envelopes(1))
        await stop(behind, level)
        return status

    status = asyncio.run(bounded(story()))
    assert status.receipt is not None
    assert (status.node, status.receipt.code) == ("insurer-2", Code.OK)


def test_invalid_a_replay_without_a_first_receipt_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossbook_sdk.stream.FIRST_RECEIPT_S", 0.2)

    async def story() -> None:
        gateway = FakeGateway("insurer-1", always(replayed))
        await gateway.start(query=FirstReceipts(None))  # type: ignore[abstract]
        nodes = nodes_of(gateway)
        (signed,) = envelopes(1)
        replay = Status(signed.id, Stage.FINAL, "insurer-1", decode_receipt(replayed(signed.raw).receipt))
        try:
            with pytest.raises(Failed):
                replay.raise_for_failure()
            with pytest.raises(NoFirstReceipt, match="was executed before") as caught:
                await with_first_receipt(replay, nodes, give_up_s=0.2)
            assert f"lossbook tx show {signed.id.hex()}" in caught.value.advice
            with pytest.raises(NothingReachable, match=r"first receipt|no node gave"):
                await load(BulkSubmitter(nodes, give_up_s=0.5), [signed])
        finally:
            await nodes.close()
            await stop(gateway)

    asyncio.run(bounded(story()))


def test_final_refusals_are_answers() -> None:
    async def story() -> None:
        gateway = FakeGateway("insurer-1", always(lambda raw: rejected(raw, Code.BAD_SIGNATURE)))
        await start(gateway)
        statuses = await load(BulkSubmitter(nodes_of(gateway)), envelopes(2))
        assert {status.rejection_code for status in statuses} == {Code.BAD_SIGNATURE}
        await stop(gateway)

    asyncio.run(story())


def test_new_envelopes_go_back_to_the_preferred_node_once_it_serves_again() -> None:
    async def story() -> None:
        own, other = FakeGateway("insurer-1", never), FakeGateway("insurer-2", always(final))
        await start(own, other)
        moves: list[tuple[str, str, str]] = []
        moved = asyncio.Event()

        def on_move(left: Node | None, taken: Node, reason: str) -> None:
            moves.append((left.organisation if left else "", taken.organisation, reason))
            if len(moves) == 3:
                moved.set()

        signed = envelopes(5)
        async with BulkSubmitter(nodes_of(own, other), on_move=on_move, return_s=0.01) as bulk:
            loading = asyncio.create_task(_submit_all(bulk, signed[:3]))
            await own.saw(3)
            await own.stop()
            await loading
            await bulk.drain()
            assert (await (await bulk.submit(signed[3]))).node == "insurer-2", "its own node is down"
            own.answer = always(final)
            await own.start(own.port)
            while not moved.is_set():
                assert (await (await bulk.submit(envelopes(1)[0]))).stage is Stage.FINAL
            status = await (await bulk.submit(signed[4]))
        assert status.node == "insurer-1"
        assert [move[:2] for move in moves] == [
            ("", "insurer-1"),
            ("insurer-1", "insurer-2"),
            ("insurer-2", "insurer-1"),
        ]
        assert moves[-1][2].endswith("serves again")
        assert [id_of(raw) for raw in other.seen[:4]] == [one.id for one in signed[:4]]
        assert len(other.seen) == len({id_of(raw) for raw in other.seen}), "nothing was sent twice for the return"
        await stop(own, other)

    asyncio.run(story())


def test_a_stream_that_is_left_for_the_preferred_node_is_answered_to_its_end() -> None:
    async def story() -> None:
        free = asyncio.Event()

        async def slowly(raw: bytes, wait: int) -> list[gateway_pb2.EnvelopeStatus]:
            await free.wait()
            return [final(raw)]

        own, other = FakeGateway("insurer-1", always(final)), FakeGateway("insurer-2", slowly)
        await start(own, other)
        nodes = nodes_of(own, other)
        nodes.failed(nodes.all[0], "was down")
        asked = watched(nodes)
        first, second = envelopes(2)
        async with BulkSubmitter(nodes, return_s=0.01) as bulk:
            answer = await bulk.submit(first)
            await other.saw(1)
            await asked.wait()
            late = await bulk.submit(second)
            free.set()
            assert [(await answer).node, (await late).node] == ["insurer-2", "insurer-1"]
        assert [id_of(raw) for raw in own.seen] == [second.id]
        assert [id_of(raw) for raw in other.seen] == [first.id]
        await stop(own, other)

    asyncio.run(story())


def test_a_preferred_node_that_does_not_serve_yet_is_left_alone() -> None:
    async def story() -> None:
        own, other = FakeGateway("insurer-1", always(final)), FakeGateway("insurer-2", always(final))
        await start(own, other)
        await own.set_serving(False)
        nodes = nodes_of(own, other)
        nodes.failed(nodes.all[0], "was down")
        asked = watched(nodes)
        async with BulkSubmitter(nodes, return_s=0.01) as bulk:
            _answer = await (await bulk.submit(envelopes(1)[0]))
            await asked.wait()
            assert (await (await bulk.submit(envelopes(1)[0]))).node == "insurer-2"
        assert own.seen == []
        await stop(own, other)

    asyncio.run(story())


def test_a_long_silence_of_the_client_is_not_held_against_the_nodes() -> None:
    async def story() -> None:
        clock_s = [0.0]
        first, second = FakeGateway("insurer-1", always(final)), FakeGateway("insurer-2", always(final))
        await start(first, second)
        nodes = nodes_of(first, second, clock_s=lambda: clock_s[0])
        bulk = BulkSubmitter(nodes, give_up_s=60, clock_s=lambda: clock_s[0])
        one, other = envelopes(2)
        async with bulk:
            assert (await (await bulk.submit(one))).node == "insurer-1"
            clock_s[0] = 1000.0
            await first.stop()
            assert (await (await bulk.submit(other))).node == "insurer-2"
        await stop(second)

    asyncio.run(story())


def test_without_any_node_everything_in_flight_fails() -> None:
    async def story() -> None:
        gateway = FakeGateway("insurer-1", never)
        await start(gateway)
        await stop(gateway)
        bulk = BulkSubmitter(nodes_of(gateway), give_up_s=0.3)
        async with bulk:
            future = await bulk.submit(envelopes(1)[0])
            with pytest.raises(NothingReachable):
                await bulk.drain()
            with pytest.raises(NothingReachable):
                await future
            with pytest.raises(NothingReachable):
                _answer = await bulk.submit(envelopes(1)[0])

    asyncio.run(story())


async def _submit_all(bulk: BulkSubmitter, signed: Sequence[Signed]) -> None:
    for one in signed:
        _answer = await bulk.submit(one)
