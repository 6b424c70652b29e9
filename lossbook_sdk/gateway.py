"""Submitting: one envelope at a time, with retries and fail-over. For many at once see ``stream``.

The same envelope goes to the next node whenever one fails or is full: an id executes at most once, so trying again
is safe whatever became of the first try.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import grpc

from lossbook.v1 import gateway_pb2, gateway_pb2_grpc
from lossbook_sdk.answers import Stage, Status, checked_status
from lossbook_sdk.envelopes import Signed
from lossbook_sdk.errors import NothingReachable, Rejected, Undecided
from lossbook_sdk.nodes import GIVE_UP_S, TRANSIENT, Nodes, reason_of, refused
from lossbook_sdk.profile import Node
from lossbook_sdk.replays import with_first_receipt

WAIT_S: Final = 60.0
"""Default time for the wanted stage: some view changes and the loss of a node."""

CALL_S_MAX: Final = 20.0
"""One call waits at most so long; then the next one asks again, perhaps elsewhere."""


class Gateway:
    """Submits envelopes to the first node that takes them.

    Args:
        nodes: where to submit, in order of preference.
        clock_s: monotonic seconds.
    """

    def __init__(self, nodes: Nodes, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._nodes = nodes
        self._clock_s = clock_s

    async def submit(
        self, signed: Signed, wait: Stage = Stage.FINAL, *, wait_s: float = WAIT_S, give_up_s: float = GIVE_UP_S
    ) -> Status:
        """Submit and wait for a stage (ACCEPTED, FINAL or PROVEN).

        Args:
            wait_s: for the stage, once a node has taken the envelope.
            give_up_s: for finding a node that takes it.

        Raises:
            NothingReachable: no node took it.
            Undecided: a node took it; the stage was not reached in time.
            NoFirstReceipt: it was executed before, and nobody says what it did.
            NodeRefused, VerificationFailed: a node's answer cannot be used.
            CheckpointNeeded: PROVEN was wanted, and what this client knows is too old to check a proof.

        A refusal, an expiry and a failed receipt are answers: see ``Status.raise_for_failure``.
        """
        until_s = self._clock_s() + give_up_s
        latest: Status | None = None
        while latest is None or (not latest.reached(wait) and self._clock_s() < until_s):
            try:
                node = await self._nodes.ready(until_s)
            except NothingReachable:
                if latest is not None:
                    break
                raise
            answer = await self._ask(node, signed, wait, until_s, fresh=latest is None)
            if answer is None:
                continue
            if answer.stage is Stage.REJECTED and answer.retry_after_ms:
                error = Rejected(answer.rejection_code, answer.rejection_text, answer.node)
                self._nodes.failed(node, error.problem, answer.retry_after_ms / 1000)
                continue
            if latest is None:
                until_s = self._clock_s() + wait_s
            latest = answer
        if not latest.reached(wait):
            raise Undecided(signed.id, latest.stage.name)
        return await with_first_receipt(latest, self._nodes)

    async def wait(self, envelope_id: bytes, not_after_ms: int, wait: Stage = Stage.FINAL, *, wait_s: float) -> Status:
        """What became of an envelope that was submitted before, here or elsewhere; errors as ``submit``."""
        request = gateway_pb2.WaitReceiptRequest(
            envelope_id=envelope_id,
            wait=wait.value,  # type: ignore[arg-type]
            not_after_ms=not_after_ms,
        )
        response, node = await self._nodes.call(
            lambda channel: gateway_pb2_grpc.GatewayServiceStub(channel).WaitReceipt,
            request,
            timeout_s=wait_s,
            give_up_s=wait_s + GIVE_UP_S,
        )
        status = await checked_status(response.status, node, self._nodes, envelope_id)
        return await with_first_receipt(status, self._nodes)

    async def _ask(self, node: Node, signed: Signed, wait: Stage, until_s: float, *, fresh: bool) -> Status | None:
        """One Submit; the gateway answers a known id with what it knows. None: ask again, perhaps elsewhere."""
        request = gateway_pb2.SubmitRequest(envelope=signed.raw, wait=wait.value)  # type: ignore[arg-type]
        timeout_s = CALL_S_MAX if fresh else max(0.5, min(CALL_S_MAX, until_s - self._clock_s()))
        async with self._nodes.using(node) as link:
            stub = gateway_pb2_grpc.GatewayServiceStub(link.channel)
            try:
                response = await stub.Submit(request, timeout=timeout_s, metadata=self._nodes.connector.metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() in TRANSIENT:
                    self._nodes.failed(node, reason_of(error))
                elif await self._nodes.believable(link):
                    raise refused(node, error) from error
                return None
            self._nodes.worked(node)
            await self._nodes.learn()
            if not await self._nodes.believable(link):
                return None
        return await checked_status(response.status, node, self._nodes, signed.id)
