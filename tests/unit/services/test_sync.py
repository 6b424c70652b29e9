"""What a peer that asks may cost: an answer is bounded, however the question repeats itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lossbook.v1 import block_pb2, peer_pb2
from services import sync
from services.pulse import Pulse
from services.sources import StoredBlock
from services.sync import SyncServicer
from tests.support.snapshots import NoSnapshots

CONTEXT: Any = None  #: never aborted in these tests


class Everything:
    """A source that holds a batch and a proposal for every digest."""

    def __init__(self) -> None:
        self.grown = Pulse()

    def finalized_height(self) -> int:
        return 0

    def first_height(self) -> int:
        return 1

    def block(self, height: int, *, with_batches: bool = True) -> StoredBlock | None:
        return None

    def batch(self, digest: bytes) -> bytes | None:
        return digest * 100

    def proposal(self, digest: bytes) -> bytes | None:
        return block_pb2.Proposal(header=digest * 100).SerializeToString()


SERVICER = SyncServicer(Everything(), NoSnapshots())


def digests(count: int) -> list[bytes]:
    return [bytes([number]) * 32 for number in range(count)]


def test_a_digest_that_is_repeated_is_answered_once() -> None:
    async def main() -> None:
        asked = digests(3) * 300
        batches = peer_pb2.GetBatchesRequest(digests=asked)
        assert len([response async for response in SERVICER.GetBatches(batches, CONTEXT)]) == 3
        proposals = await SERVICER.GetProposals(peer_pb2.GetProposalsRequest(digests=asked), CONTEXT)
        assert len(proposals.proposals) == 3

    asyncio.run(main())


def test_proposals_fill_one_message_only_and_the_first_always_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    request = peer_pb2.GetProposalsRequest(digests=digests(10))

    async def count(limit: int) -> int:
        monkeypatch.setattr(sync, "PROPOSALS_BYTES_MAX", limit)
        return len((await SERVICER.GetProposals(request, CONTEXT)).proposals)

    assert asyncio.run(count(4 * 3_300)) == 4
    assert asyncio.run(count(1)) == 1
