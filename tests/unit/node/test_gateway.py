"""The gateway: every envelope gets an explicit answer, over real gRPC; the test plays the validator behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest

from crypto.keys import verify
from ledger.acks import accepted_message
from ledger.codes import Code
from ledger.organisations import KeyRecord, OrganisationRecord, find_key, find_organisation
from ledger.proof_types import ReceiptProof
from ledger.types import Envelope, Receipt
from ledger.wire import decode_receipt, encode_envelope, encode_receipt
from lossbook.v1 import gateway_pb2, gateway_pb2_grpc
from node import gateway
from node.admission import RoomKeeper
from node.gateway import GatewayServicer, Voucher
from node.intake import Intake
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.tracking import Tracker
from node.turn import AcceptedNotice, CertifiedRootNotice, ExecutedNotice, Stage, Submitted
from services.auth import Caller
from services.verification import VerificationPool
from tests.support.insurers import FIRST, INSURERS, Ledger, key_of, policy_issue
from tests.support.tls import identity, serving

LEDGER = Ledger()
CHAIN = LEDGER.genesis.chain_id
NOW_MS = LEDGER.time_ms
BATCH = b"b" * 32
CONSENSUS_KEY = key_of(FIRST.id, "consensus")


def envelope(not_after_ms: int | None = None) -> Envelope:
    return LEDGER.envelope([policy_issue()], desks=("underwriter",), not_after_ms=not_after_ms)


class World:
    """A gateway, with the test in the place of the validator."""

    def __init__(self, waiting_bytes_max: int = 1 << 30) -> None:
        self.receipts: dict[bytes, Receipt] = {}
        self.looked_up: dict[bytes, int] = {}
        self.looked = asyncio.Event()
        self.ready = True
        self.tracker = Tracker()
        self.tracker.block_time_ms = NOW_MS
        self.mailbox = Mailbox()
        self.metrics = Metrics()
        self.proved: list[int] = []
        self.height = 0
        intake = Intake(
            chain_id=CHAIN,
            ledger=self,
            tracker=self.tracker,
            room=RoomKeeper(waiting_bytes_max, 1 << 30, 1 << 30),
            pool=VerificationPool(0),
            mailbox=self.mailbox,
            metrics=self.metrics,
            closed=lambda: None if self.ready else Code.NOT_READY,
            clock_ms=lambda: 0,
        )
        self.servicer = GatewayServicer(
            intake=intake,
            tracker=self.tracker,
            ledger=self,
            voucher=Voucher(CHAIN, FIRST.id, lambda: (0, CONSENSUS_KEY.sign)),
            proof_of=self.proof_of,
        )

    # ledger
    def organisation(self, organisation: str) -> OrganisationRecord | None:
        return find_organisation(LEDGER.state, organisation)

    def key(self, public: bytes) -> KeyRecord | None:
        return find_key(LEDGER.state, public)

    def receipt_of(self, envelope_id: bytes) -> Receipt | None:
        self.looked_up[envelope_id] = self.looked_up.get(envelope_id, 0) + 1
        self.looked.set()
        return self.receipts.get(envelope_id)

    async def asked_for(self, envelope_id: bytes, times: int = 1) -> None:
        """Until the gateway has looked for its receipt so often; what follows it does at once."""
        while self.looked_up.get(envelope_id, 0) < times:
            self.looked.clear()
            await self.looked.wait()

    def proof_of(self, receipt: Receipt) -> ReceiptProof | None:
        self.proved.append(receipt.position)
        return None

    # validator
    async def taken(self, count: int) -> list[Envelope]:
        """The next envelopes that reach the validator."""
        found: list[Envelope] = []
        while len(found) < count:
            await self.mailbox.wait(None)
            for item in self.mailbox.drain():
                assert isinstance(item, Submitted)
                found += item.envelopes
        return found

    def accept(self, envelopes: Sequence[Envelope]) -> None:
        self.tracker.accepted(AcceptedNotice(BATCH, tuple(each.id for each in envelopes)))

    def execute(
        self, envelopes: Sequence[Envelope], *, time_ms: int = NOW_MS + 1000, certify: bool = False, code: int = 0
    ) -> None:
        self.height += 1
        made = [
            encode_receipt(
                envelope_id=each.id,
                height=self.height,
                index=at,
                position=len(self.receipts) + at,
                block_time_ms=time_ms,
                code=code,
                operation_codes=(0,),
            )
            for at, each in enumerate(envelopes)
        ]
        self.receipts.update({receipt.envelope_id: receipt for receipt in made})
        self.tracker.executed(ExecutedNotice(self.height, time_ms, made, len(made), bytes(32)))
        if certify:
            self.tracker.certified(CertifiedRootNotice(self.height, self.height + 1))


@asynccontextmanager
async def client(
    world: World,
) -> AsyncIterator[tuple[gateway_pb2_grpc.GatewayServiceAsyncStub, tuple[tuple[str, str], ...]]]:
    registration = (
        "lossbook.v1.GatewayService",
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server,
        world.servicer,
    )
    caller = identity(INSURERS[1], "client")
    async with serving(FIRST, registration) as (address, _), caller.channel(FIRST.id, address) as channel:
        yield gateway_pb2_grpc.GatewayServiceStub(channel), caller.metadata


Submit = Callable[..., Awaitable[gateway_pb2.EnvelopeStatus]]


def with_submit(world: World, body: Callable[[Submit], Awaitable[None]]) -> None:
    async def main() -> None:
        async with client(world) as (stub, metadata), asyncio.timeout(20):

            async def submit(raw: bytes, wait: Stage = Stage.FINAL, within_s: float = 15) -> gateway_pb2.EnvelopeStatus:
                request = gateway_pb2.SubmitRequest(envelope=raw, wait=wait.value)  # type: ignore[arg-type]
                return (await stub.Submit(request, metadata=metadata, timeout=within_s)).status

            await body(submit)

    asyncio.run(main())


def test_accepted_carries_a_signature_that_anybody_can_check() -> None:
    world, sent = World(), envelope()

    async def body(submit: Submit) -> None:
        asking = asyncio.ensure_future(submit(sent.raw, Stage.ACCEPTED))
        assert await world.taken(1) == [sent]
        world.accept([sent])
        status = await asking
        assert status.stage == gateway_pb2.STAGE_ACCEPTED
        word = status.accepted
        message = accepted_message(CHAIN, word.epoch, word.origin, word.batch_digest, word.envelope_id)
        assert (word.origin, word.batch_digest, word.envelope_id) == (FIRST.id, BATCH, sent.id)
        assert verify(CONSENSUS_KEY.public, message, word.signature)

    with_submit(world, body)


def test_final_carries_the_receipt() -> None:
    world, sent = World(), envelope()

    async def body(submit: Submit) -> None:
        asking = asyncio.ensure_future(submit(sent.raw))
        world.execute(await world.taken(1))
        status = await asking
        assert status.stage == gateway_pb2.STAGE_FINAL
        assert decode_receipt(status.receipt).envelope_id == sent.id

    with_submit(world, body)


def test_the_same_envelope_sent_twice_is_queued_once_and_answered_twice() -> None:
    world, sent = World(), envelope()

    async def body(submit: Submit) -> None:
        first = asyncio.ensure_future(submit(sent.raw))
        taken = await world.taken(1)
        second = asyncio.ensure_future(submit(sent.raw))
        third = asyncio.ensure_future(submit(envelope().raw))  # when this one is through, the second is, too
        assert (await world.taken(1))[0] != sent
        world.execute(taken)
        assert (await first).receipt == (await second).receipt
        third.cancel()

    with_submit(world, body)


def test_a_replay_is_answered_with_the_first_receipt_and_not_queued() -> None:
    world, sent = World(), envelope()
    world.execute([sent])

    async def body(submit: Submit) -> None:
        status = await submit(sent.raw)
        assert status.stage == gateway_pb2.STAGE_FINAL
        assert decode_receipt(status.receipt) == world.receipts[sent.id]
        assert len(world.mailbox) == 0

    with_submit(world, body)


def test_expired_is_said_when_block_time_has_passed_and_not_before() -> None:
    world = World()
    late, sent = envelope(not_after_ms=NOW_MS - 1), envelope(not_after_ms=NOW_MS + 500)

    async def body(submit: Submit) -> None:
        assert (await submit(late.raw)).stage == gateway_pb2.STAGE_EXPIRED
        asking = asyncio.ensure_future(submit(sent.raw))
        await world.taken(1)
        world.execute([], time_ms=NOW_MS + 501)
        assert (await asking).stage == gateway_pb2.STAGE_EXPIRED

    with_submit(world, body)


def test_a_call_whose_time_is_nearly_over_says_what_is_known() -> None:
    world, sent = World(), envelope()

    async def body(submit: Submit) -> None:
        asking = asyncio.ensure_future(submit(sent.raw, within_s=0.5))
        world.accept(await world.taken(1))
        status = await asking
        assert status.stage == gateway_pb2.STAGE_ACCEPTED

    with_submit(world, body)


def test_proven_falls_back_to_final_where_the_proof_cannot_be_made_yet() -> None:
    world, sent = World(), envelope()

    async def body(submit: Submit) -> None:
        asking = asyncio.ensure_future(submit(sent.raw, Stage.PROVEN))
        world.execute(await world.taken(1), certify=True)
        assert (await asking).stage == gateway_pb2.STAGE_FINAL
        assert world.proved == [0]

    with_submit(world, body)


def test_a_garbled_copy_sent_first_does_not_stand_in_the_way_of_the_genuine_envelope() -> None:
    world, sent = World(), envelope()
    garbled = encode_envelope(sent.body, [bytes(64)])

    async def body(submit: Submit) -> None:
        status = await submit(garbled)
        assert status.rejection.code == Code.BAD_SIGNATURE
        asking = asyncio.ensure_future(submit(sent.raw))
        world.execute(await world.taken(1))
        assert (await asking).stage == gateway_pb2.STAGE_FINAL

    with_submit(world, body)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\xff\xff\xff", Code.MALFORMED),
        (LEDGER.envelope([policy_issue()], chain_id=bytes(32)).raw, Code.WRONG_CHAIN),
        (encode_envelope(envelope().body, []), Code.MISSING_SIGNATURE),
    ],
)
def test_invalid_envelope_is_rejected_with_code_and_advice(raw: bytes, code: Code) -> None:
    async def body(submit: Submit) -> None:
        status = await submit(raw)
        assert status.stage == gateway_pb2.STAGE_REJECTED
        assert status.rejection.code == code
        assert status.rejection.retry_after_ms == 0

    with_submit(World(), body)


def test_a_gateway_that_is_not_ready_or_full_says_when_to_retry() -> None:
    world = World(waiting_bytes_max=1)

    async def body(submit: Submit) -> None:
        first = asyncio.ensure_future(submit(envelope().raw))
        await world.taken(1)
        full = await submit(envelope().raw)
        assert full.rejection.code == Code.OVERLOADED
        assert full.rejection.retry_after_ms > 0
        world.ready = False
        starting = await submit(envelope().raw)
        assert starting.rejection.code == Code.NOT_READY
        assert starting.rejection.retry_after_ms > 0
        first.cancel()

    with_submit(world, body)


def test_who_waits_when_the_store_fails_is_sent_to_another_node_at_once() -> None:
    world, sent = World(), envelope()

    async def body(submit: Submit) -> None:
        asking = asyncio.ensure_future(submit(sent.raw, within_s=1_000))
        await world.taken(1)
        world.servicer.halt()
        for call in (asking, submit(sent.raw, within_s=1_000)):  # also who asks later
            with pytest.raises(grpc.aio.AioRpcError, match="another insurer's node") as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE

    with_submit(world, body)


# -- streams -------------------------------------------------------------------------------


def test_a_stream_is_sent_to_another_node_when_the_store_fails_once_it_has_what_is_known() -> None:
    world = World()
    sent = [envelope() for _ in range(3)]

    async def main() -> None:
        async with client(world) as (stub, metadata), asyncio.timeout(20):
            call = stub.SubmitStream(metadata=metadata)
            await call.write(gateway_pb2.SubmitStreamRequest(envelopes=[each.raw for each in sent]))
            taken = await world.taken(3)
            world.execute(taken[:1])
            world.servicer.halt()
            known: list[bytes] = []

            async def read() -> None:
                async for response in call:
                    known.extend(status.envelope_id for status in response.statuses)

            with pytest.raises(grpc.aio.AioRpcError, match="another insurer's node") as refused:
                await read()
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert known == [taken[0].id]

    asyncio.run(main())


def test_a_stream_tells_every_stage_of_every_envelope_many_in_one_message() -> None:
    world = World()
    sent = [envelope() for _ in range(20)]

    async def main() -> None:
        async with client(world) as (stub, metadata), asyncio.timeout(20):
            call = stub.SubmitStream(metadata=metadata)
            await call.write(
                gateway_pb2.SubmitStreamRequest(envelopes=[each.raw for each in sent], wait=gateway_pb2.STAGE_FINAL)
            )
            await call.done_writing()
            taken = await world.taken(20)
            world.accept(taken)
            world.execute(taken)
            stages: dict[bytes, list[int]] = {}
            messages = 0
            async for response in call:
                messages += 1
                for status in response.statuses:
                    stages.setdefault(status.envelope_id, []).append(status.stage)
            assert await call.code() is grpc.StatusCode.OK
            expected = [gateway_pb2.STAGE_ACCEPTED, gateway_pb2.STAGE_FINAL]
            assert stages == {each.id: expected for each in sent}
            assert messages < 20

    asyncio.run(main())


def test_a_stream_answers_bad_and_good_envelopes_of_one_message_apart() -> None:
    world, good, done = World(), envelope(), envelope()
    world.execute([done])

    async def main() -> None:
        async with client(world) as (stub, metadata), asyncio.timeout(20):
            call = stub.SubmitStream(metadata=metadata)
            raws = [b"\xff", encode_envelope(envelope().body, [bytes(64)]), done.raw, good.raw]
            await call.write(gateway_pb2.SubmitStreamRequest(envelopes=raws, wait=gateway_pb2.STAGE_FINAL))
            await call.done_writing()
            world.execute(await world.taken(1))
            answers = [status async for response in call for status in response.statuses]
            codes = [status.rejection.code for status in answers if status.stage == gateway_pb2.STAGE_REJECTED]
            assert codes == [Code.MALFORMED, Code.BAD_SIGNATURE]
            final = {status.envelope_id for status in answers if status.stage == gateway_pb2.STAGE_FINAL}
            assert final == {done.id, good.id}

    asyncio.run(main())


def test_a_stream_that_breaks_leaves_its_envelopes_on_their_way() -> None:
    world, sent = World(), envelope()

    async def main() -> None:
        async with client(world) as (stub, metadata), asyncio.timeout(20):
            call = stub.SubmitStream(metadata=metadata)
            await call.write(gateway_pb2.SubmitStreamRequest(envelopes=[sent.raw], wait=gateway_pb2.STAGE_FINAL))
            await world.taken(1)
            call.cancel()
            asking = asyncio.ensure_future(
                stub.Submit(gateway_pb2.SubmitRequest(envelope=sent.raw), metadata=metadata, timeout=10)
            )
            await world.asked_for(sent.id, times=3)  # twice when it was taken, once now
            world.execute([sent])
            assert (await asking).status.stage == gateway_pb2.STAGE_FINAL
            assert world.tracker.waiting_bytes == 0

    asyncio.run(main())


def test_invalid_message_with_too_many_envelopes_is_refused_before_any_is_looked_at() -> None:
    world = World()

    async def main() -> None:
        async with client(world) as (stub, metadata), asyncio.timeout(20):
            call = stub.SubmitStream(metadata=metadata)
            raws = [b"x"] * (gateway.MESSAGE_ENVELOPES_MAX + 1)
            await call.write(gateway_pb2.SubmitStreamRequest(envelopes=raws))
            with pytest.raises(grpc.aio.AioRpcError, match="send them in several"):
                await call.read()
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(main())


def test_a_client_that_takes_no_answers_is_not_read_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "UNREAD_ANSWERS_MAX", 10)
    caller = Caller(FIRST.id, "client", is_validator=False, may_read=True, may_subscribe=True)
    monkeypatch.setattr(gateway, "caller_of", lambda _: caller)
    sent = 0

    async def garbage() -> AsyncIterator[gateway_pb2.SubmitStreamRequest]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield gateway_pb2.SubmitStreamRequest(envelopes=[b"x"] * 5)

    async def main() -> None:
        answers = World().servicer.SubmitStream(garbage(), None)  # type: ignore[arg-type]  # never aborted
        got = len((await anext(answers)).statuses)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert sent <= 5
        got += sum([len(response.statuses) async for response in answers])
        assert (sent, got) == (100, 500), "who takes them gets them all"

    asyncio.run(main())


def test_answers_that_may_carry_proofs_come_few_at_a_time() -> None:
    world = World()
    sent = [envelope() for _ in range(gateway.PROOF_ANSWERS_PER_MESSAGE + 10)]

    async def main() -> None:
        async with client(world) as (stub, metadata), asyncio.timeout(20):
            call = stub.SubmitStream(metadata=metadata)
            raws = [each.raw for each in sent]
            await call.write(gateway_pb2.SubmitStreamRequest(envelopes=raws, wait=gateway_pb2.STAGE_PROVEN))
            await call.done_writing()
            world.execute(await world.taken(len(sent)), certify=True)
            counts = [len(response.statuses) async for response in call]
        assert sum(counts) == 2 * len(sent)
        assert max(counts) <= gateway.PROOF_ANSWERS_PER_MESSAGE

    asyncio.run(main())


# -- waiting for what was submitted elsewhere -----------------------------------------------


def test_a_receipt_of_an_envelope_submitted_elsewhere_is_waited_for() -> None:
    world, elsewhere = World(), envelope()

    async def main() -> None:
        async with client(world) as (stub, metadata), asyncio.timeout(20):
            request = gateway_pb2.WaitReceiptRequest(
                envelope_id=elsewhere.id, wait=gateway_pb2.STAGE_FINAL, not_after_ms=elsewhere.not_after_ms
            )
            asking = asyncio.ensure_future(stub.WaitReceipt(request, metadata=metadata, timeout=10))
            await world.asked_for(elsewhere.id)
            world.execute([elsewhere])
            assert (await asking).status.stage == gateway_pb2.STAGE_FINAL
            assert (await stub.WaitReceipt(request, metadata=metadata)).status.stage == gateway_pb2.STAGE_FINAL
            assert len(world.tracker) == 0

    asyncio.run(main())


def test_what_was_executed_long_ago_is_final_and_never_called_expired() -> None:
    world = World()
    old = envelope(not_after_ms=NOW_MS - 1)
    world.execute([old])

    async def main() -> None:
        async with client(world) as (stub, metadata), asyncio.timeout(20):
            again = await stub.Submit(gateway_pb2.SubmitRequest(envelope=old.raw), metadata=metadata, timeout=10)
            assert again.status.stage == gateway_pb2.STAGE_FINAL
            request = gateway_pb2.WaitReceiptRequest(envelope_id=old.id, not_after_ms=old.not_after_ms)
            asked = await stub.WaitReceipt(request, metadata=metadata, timeout=10)
            assert asked.status.receipt == again.status.receipt

    asyncio.run(main())


def test_nobody_is_told_expired_who_does_not_say_when_it_would() -> None:
    async def main() -> None:
        async with client(World()) as (stub, metadata), asyncio.timeout(20):
            request = gateway_pb2.WaitReceiptRequest(envelope_id=bytes(32))
            answer = await stub.WaitReceipt(request, metadata=metadata, timeout=0.4)
            assert answer.status.stage == gateway_pb2.STAGE_PENDING

    asyncio.run(main())


def test_an_envelope_whose_not_after_was_too_far_may_be_tried_again() -> None:
    world, sent = World(), envelope()
    world.execute([sent], code=Code.NOT_AFTER_TOO_FAR)

    async def body(submit: Submit) -> None:
        asking = asyncio.ensure_future(submit(sent.raw))
        world.execute(await world.taken(1))
        assert decode_receipt((await asking).receipt).code == Code.OK

    with_submit(world, body)


def test_invalid_envelope_id_is_refused() -> None:
    async def main() -> None:
        async with client(World()) as (stub, metadata):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.WaitReceipt(gateway_pb2.WaitReceiptRequest(envelope_id=b"short"), metadata=metadata)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(main())
