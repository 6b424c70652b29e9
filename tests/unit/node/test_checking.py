"""Batches that arrive are judged before anything else is done with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from crypto.merkle import EMPTY_ROOT
from ledger import wire
from ledger.types import Batch
from node.checking import BatchChecker
from node.turn import BatchChecked
from services.verification import VerificationPool
from tests.support.insurers import INSURERS, Ledger, policy_issue

LEDGER = Ledger()
CHAIN = LEDGER.genesis.chain_id
GOOD = [LEDGER.envelope([policy_issue()]) for _ in range(3)]


def batch(raws: Sequence[bytes]) -> Batch:
    """A batch of these envelopes."""
    header = wire.encode_batch_header(
        chain_id=CHAIN,
        epoch=0,
        origin=INSURERS[0].id,
        incarnation=1,
        sequence=1,
        previous=bytes(32),
        envelopes=raws,
        attachment_root=EMPTY_ROOT,
    )
    return wire.decode_batch(wire.encode_batch(header, bytes(64), raws))


def check(judged: Batch) -> BatchChecked:
    return asyncio.run(BatchChecker(CHAIN, VerificationPool(0)).check(judged))


def test_a_good_batch_comes_back_with_its_envelopes_decoded() -> None:
    judged = batch([envelope.raw for envelope in GOOD])
    assert check(judged) == BatchChecked(judged.header.digest, True, tuple(GOOD))


def garbled(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])  # the last byte of the last signature


@pytest.mark.parametrize(
    "bad",
    [
        garbled(GOOD[1].raw),
        wire.encode_envelope(GOOD[1].body, GOOD[1].signatures[:-1]),
        wire.encode_envelope(GOOD[1].body, GOOD[1].signatures[::-1]),
        LEDGER.envelope([policy_issue()], chain_id=bytes(32)).raw,
        b"\xff\xff",
    ],
    ids=["signature", "stripped", "order", "chain", "bytes"],
)
def test_invalid_envelope_makes_the_whole_batch_invalid(bad: bytes) -> None:
    judged = batch([GOOD[0].raw, bad, GOOD[2].raw])
    assert check(judged) == BatchChecked(judged.header.digest, False, ())
