"""Checking a batch that arrived: is every envelope in it well-formed?

What costs (signatures) goes to the workers; decoding stays here, because execution needs the decoded envelopes here.
That the header commits to just these envelopes was found when the batch arrived (``Dissemination.on_batch``): there the
sender is known, whose fault it would be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from ledger.codes import Code
from ledger.types import Batch, Envelope
from ledger.wellformed import SignatureJob, read_envelope, signature_jobs
from node.turn import BatchChecked
from services.verification import VerificationPool

SLICE_S: Final = 0.002
"""Decoding gives way to the loop after so long: votes wait at most this much behind it."""


async def decode_in_slices(raws: Sequence[bytes], chain_id: bytes) -> list[Envelope | Code]:
    """Decode many envelopes without standing in the loop's way; hostile bytes become their code."""
    decoded: list[Envelope | Code] = []
    until = time.monotonic() + SLICE_S
    for raw in raws:
        decoded.append(read_envelope(raw, chain_id))
        if time.monotonic() > until:
            await asyncio.sleep(0)
            until = time.monotonic() + SLICE_S
    return decoded


class BatchChecker:
    """Judges batches of one chain."""

    def __init__(self, chain_id: bytes, pool: VerificationPool) -> None:
        self._chain_id = chain_id
        self._pool = pool

    async def check(self, batch: Batch) -> BatchChecked:
        """The verdict on a batch whose header commits to its envelopes: ``ok`` only if every one is well-formed."""
        digest = batch.header.digest
        refused = BatchChecked(digest, False, ())
        envelopes: list[Envelope] = []
        jobs: list[SignatureJob] = []
        for result in await decode_in_slices(batch.envelopes, self._chain_id):
            if isinstance(result, Code):
                return refused
            envelopes.append(result)
            jobs += signature_jobs(result)
        if not all(await self._pool.check(jobs)):
            return refused
        return BatchChecked(digest, True, tuple(envelopes))
