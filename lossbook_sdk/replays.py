"""What an envelope did that was listed twice: its first receipt says it, the second one only that there was a first.

An envelope that went to a second node while the first one had ordered it may be listed by both. It executes once, and
whoever waited at the second node hears REPLAYED, whether the first execution was refused or not. So that receipt is
never an answer: the first one is asked for, of any node that holds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ledger.codes import Code
from lossbook.v1 import query_pb2, query_pb2_grpc
from lossbook_sdk.answers import Stage, Status
from lossbook_sdk.errors import NoFirstReceipt, NothingReachable
from lossbook_sdk.nodes import GIVE_UP_S, Nodes
from lossbook_sdk.query import read_receipt


async def with_first_receipt(
    status: Status,
    nodes: Nodes,
    *,
    give_up_s: float = GIVE_UP_S,
    clock_s: Callable[[], float] = time.monotonic,
) -> Status:
    """The status itself; for a replay, with the first receipt instead, proved where the replay was.

    Raises:
        NoFirstReceipt: nobody gave it in time.
        NodeRefused, VerificationFailed: a node's answer cannot be used.
    """
    if status.receipt is None or status.receipt.code != Code.REPLAYED:
        return status
    prove = status.stage is Stage.PROVEN
    until_s = clock_s() + give_up_s
    while (left_s := until_s - clock_s()) > 0:
        try:
            response, node = await nodes.call(
                lambda channel: query_pb2_grpc.QueryServiceStub(channel).GetReceipt,
                query_pb2.GetReceiptRequest(envelope_id=status.envelope_id, prove=prove),
                give_up_s=left_s,
            )
        except NothingReachable:
            break
        if response.found:
            receipt, proof = read_receipt(response, status.envelope_id, node, nodes.connector.trust, prove=prove)
            if receipt.code != Code.REPLAYED:
                return Status(status.envelope_id, status.stage, node.organisation, receipt, proof)
        nodes.failed(node, "it does not hold the first receipt of an envelope that was executed")
    raise NoFirstReceipt(status.envelope_id)
