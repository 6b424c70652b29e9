"""The supervisor's replica, started when all is over: it verifies every certificate and signature of the chain that the
validators made under fire, executes every operation again, and must come to their roots.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from chaos.clients import Readers
from lossbook.v1.query_pb2 import HeightRoots
from lossbook_sdk.errors import ClientError

LEVEL_S_MIN: Final = 60.0
"""To follow and execute a short chain."""


class Testimony(msgspec.Struct, frozen=True):
    """What it says."""

    height: int = 0
    """Highest height at which its roots and the validators' were compared."""
    signatures: int = 0
    """That it checked."""
    problem: str = ""
    """Why it does not stand behind the validators' chain; empty if it does."""


async def hear(
    readers: Readers, name: str, height: int, roots: Mapping[int, bytes], timeout_s: float = LEVEL_S_MIN
) -> Testimony:
    """Wait until the replica has executed ``height``, and compare.

    Args:
        readers: asks it, under ``name``.
        roots: state root and receipts root, one behind the other, of heights the validators agree on.
    """
    until_s = time.monotonic() + timeout_s
    executed = 0
    while time.monotonic() < until_s:
        try:
            answer = await readers.query(name).status()
        except ClientError:  # it starts
            await asyncio.sleep(0.2)
            continue
        detail = json.loads(answer.detail_json or "{}")
        if fault := detail.get("last_fault"):
            return Testimony(problem=f"the replica refused a block of {fault['source']}: {fault['reason']}")
        if failure := detail.get("failure"):
            return Testimony(problem=f"the replica makes no progress: {failure}")
        executed = answer.executed_height
        compared = [each for each in answer.roots if each.height in roots and each.height >= height]
        if compared:
            return _compared(compared[-1], roots, int(detail.get("signatures_verified", 0)))
        await asyncio.sleep(0.2)
    return Testimony(problem=f"the replica executed {executed} blocks of {height} within {timeout_s:.0f} s")


def _compared(own: HeightRoots, roots: Mapping[int, bytes], signatures: int) -> Testimony:
    if own.state_root + own.receipts_root == roots[own.height]:
        return Testimony(own.height, signatures)
    return Testimony(own.height, signatures, f"the replica comes to another root at height {own.height}")
