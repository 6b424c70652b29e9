"""After the faults: what became of every operation, asked of every validator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from chaos.clients import Readers, told
from chaos.history import EXPIRED, SETTLEMENT, Failed, History, Proven, Story, stories
from ledger.codes import Code
from ledger.types import Receipt
from lossbook_sdk.errors import VerificationFailed

ASK_S: Final = 20.0
"""For one question; nothing is wrong with anybody any more."""
AT_A_TIME: Final = 16
SHOWN_MAX: Final = 5


class Settled(msgspec.Struct):
    """What was found."""

    acknowledged: int = 0
    """Operations that a node vouched for: ACCEPTED, or a receipt."""
    final: int = 0
    """Of all operations, those with a receipt."""
    proven: int = 0
    """Of those acknowledged: the receipt, which says what became of it, was proved from a certified root."""
    expired: int = 0
    """Of those acknowledged: a proved receipt says that it came too late, or block time has passed its last moment at
    every validator, and none has a receipt."""
    lost: int = 0
    """Of those acknowledged, neither."""
    problems: list[str] = msgspec.field(default_factory=list)


async def settle(history: History, readers: Readers, block_times_ms: Mapping[str, int]) -> Settled:
    """Ask every validator for the receipt of every operation, and one of them for its proof.

    What nobody had said yet is recorded in the history. Block times: of the validators, now.

    Raises:
        ClientError: a validator that should answer does not.
    """
    found = Settled()
    told_of = stories(history.events)
    room = asyncio.Semaphore(AT_A_TIME)

    async def one(number: int, story: Story) -> None:
        async with room:
            await _settle_one(number, story, history, readers, block_times_ms, found)

    await asyncio.gather(*(one(number, story) for number, story in enumerate(told_of.values())))
    return found


async def _settle_one(
    number: int,
    story: Story,
    history: History,
    readers: Readers,
    block_times_ms: Mapping[str, int],
    found: Settled,
) -> None:
    invoked = story.invoked
    prover = readers.names[number % len(readers.names)]
    receipts, proven = await _receipts(bytes.fromhex(invoked.envelope), prover, readers, found)
    held = {name: receipt for name, receipt in receipts.items() if receipt is not None}
    late = any(receipt.code == Code.EXPIRED for receipt in held.values())
    found.acknowledged += story.acknowledged
    found.final += bool(held)
    for name, receipt in held.items():
        event = told(invoked.op, name, receipt, history.now_us())
        if story.final is None or _differs(story, receipt):
            history.record(event)
        if story.final is None and not isinstance(event, Failed):
            story.final = event
    if held and len(held) < len(receipts):
        missing = ", ".join(name for name in receipts if name not in held)
        _note(found, f"operation {invoked.op} was executed, and has no receipt at {missing}")
    if not story.acknowledged:
        if not held and not story.failed and _over(story, block_times_ms):
            history.record(Failed(history.now_us(), invoked.op, "all", EXPIRED))
        return
    if proven:
        found.proven += not late
        found.expired += late
        history.record(Proven(history.now_us(), invoked.op, prover))
    elif not held and story.final is None and _over(story, block_times_ms):
        found.expired += 1
        if not story.failed:
            history.record(Failed(history.now_us(), invoked.op, "all", EXPIRED))
    else:
        found.lost += 1
        _note(found, f"operation {invoked.op} was acknowledged, and is neither proved nor expired")


async def _receipts(
    envelope_id: bytes, prover: str, readers: Readers, found: Settled
) -> tuple[dict[str, Receipt | None], bool]:
    """The receipt at each validator, and whether the prover's came with a proof that verified."""
    receipts: dict[str, Receipt | None] = {}
    proven = False
    for name in readers.names:
        try:
            answer = await readers.query(name, ASK_S).receipt(envelope_id, prove=name == prover)
        except VerificationFailed as error:
            _note(found, str(error))
            answer = None
        receipts[name] = None if answer is None else answer[0]
        proven = proven or (answer is not None and answer[1] is not None)
    return receipts, proven


def _differs(story: Story, receipt: Receipt) -> bool:
    final = story.final
    return final is not None and (final.height, final.index, final.codes) != (
        receipt.height,
        receipt.index,
        receipt.operation_codes,
    )


def _over(story: Story, block_times_ms: Mapping[str, int]) -> bool:
    return all(time_ms > story.invoked.not_after_ms for time_ms in block_times_ms.values())


def _note(found: Settled, problem: str) -> None:
    if len(found.problems) < SHOWN_MAX:
        found.problems.append(problem)


async def read_settled(readers: Readers, records: Iterable[str]) -> list[str]:
    """Read every claim with proof, each at another validator in turn, into the history; which cannot be proved."""
    room = asyncio.Semaphore(AT_A_TIME)
    problems: list[str] = []

    async def one(number: int, record: str) -> None:
        async with room:
            names: Sequence[str] = readers.names[number % len(readers.names) :] + readers.names
            for name in names:  # a record that changed lately can be proved once its root is certified
                if await readers.read(SETTLEMENT, name, bytes.fromhex(record), prove=True) is not None:
                    return
            problems.append(f"claim {record[:16]} cannot be proved by any validator")

    await asyncio.gather(*(one(number, record) for number, record in enumerate(records)))
    return problems[:SHOWN_MAX]
