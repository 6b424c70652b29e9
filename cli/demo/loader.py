"""Loading: one client an insurer, with its own keys, on its own node first; all four at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cli.demo.data import Row
from cli.demo.operations import Case, bundles, count_of, refused_operation
from crypto.keys import SigningKey
from ledger import codes
from ledger.codes import Code
from lossbook_sdk import profile as profiles
from lossbook_sdk.answers import Stage, Status
from lossbook_sdk.channel import Connector
from lossbook_sdk.envelopes import Signed, build_and_sign, now_ms
from lossbook_sdk.nodes import Backoff, Nodes
from lossbook_sdk.passphrase import Passphrases
from lossbook_sdk.profile import Node
from lossbook_sdk.stream import BulkSubmitter, Moment
from lossbook_sdk.wallet import Wallet

DESKS: Final = ("underwriter", "handler-1", "handler-2", "finance-1", "finance-2")
"""Who signs each envelope: an underwriter, and two people for whatever needs four eyes."""

OPERATIONS_MAX: Final = 500
"""Operations of an envelope: five signature checks are shared by all of them, and it still executes in a blink."""
OPERATIONS_MIN: Final = 7
"""One claim: with few rows there are still several envelopes to lose."""
ENVELOPES_AIMED_AT: Final = 24
"""Of one insurer, at least, where there are rows enough: milestones are met to within a few per cent."""

WINDOW: Final = 4
"""Envelopes of one insurer without a receipt: enough to keep four nodes busy, few enough to wait little."""

NOT_AFTER_MS: Final = 15 * 60_000
"""Longer than the whole demonstration may take."""


class Progress:
    """What has been seen so far. The clock is monotonic seconds."""

    def __init__(self, total: int) -> None:
        self.total = total
        """Operations of all rows."""
        self.final = 0
        """Operations with a receipt that says OK."""
        self.first_sent_s = 0.0
        self.last_answer_s = 0.0
        self.longest_stall_s = 0.0
        """Longest time between two receipts; before the first one, since the first submit."""
        self.finality_ms: list[float] = []
        """Send to receipt, per envelope."""
        self.refused: list[str] = []
        """Receipts that should not have been refused."""
        self.moves: list[str] = []
        """Fail-overs, for people."""
        self._milestones: list[tuple[float, asyncio.Event]] = []

    @property
    def share(self) -> float:
        """Of all operations, final."""
        return self.final / self.total if self.total else 1.0

    async def reached(self, share: float) -> None:
        """Wait until this share of the operations is final."""
        event = asyncio.Event()
        self._milestones.append((share, event))
        self._wake()
        await event.wait()

    def answered(self, moment: Moment, operations: int) -> None:
        """A receipt has come; with the operations it makes final."""
        before_s = self.last_answer_s or self.first_sent_s
        self.longest_stall_s = max(self.longest_stall_s, moment.answered_s - before_s)
        self.last_answer_s = moment.answered_s
        self.finality_ms.append((moment.answered_s - moment.sent_s) * 1000)
        self.final += operations
        self._wake()

    def _wake(self) -> None:
        for share, event in self._milestones:
            if self.share >= share:
                event.set()


class Loader:
    """All insurers' clients.

    Args:
        rows: of the file, in its order.
        insurers: ids; row i belongs to insurer ClaimNo mod their number.
        profile_of: the profile file of an insurer.
        on_progress: told after each receipt.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        insurers: Sequence[str],
        profile_of: Callable[[str], Path],
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = {
            insurer: [row for row in rows if row.number % len(insurers) == at] for at, insurer in enumerate(insurers)
        }
        self.progress = Progress(sum(count_of(row) for row in rows))
        self.acknowledged: dict[bytes, int] = {}
        """Envelope id -> operations, from the first ACCEPTED or receipt on."""
        self.example: Case | None = None
        """A case that is final, to be proved: one that was paid, where there is any."""
        self.example_insurer = ""
        self._cases: dict[bytes, tuple[str, int, Case]] = {}
        self._on_progress = on_progress
        self._clock_s = clock_s
        self._submitters = {insurer: _Submitter(profiles.load(profile_of(insurer))) for insurer in insurers}
        per_insurer = self.progress.total // max(1, len(insurers))
        self._operations_max = max(OPERATIONS_MIN, min(OPERATIONS_MAX, per_insurer // ENVELOPES_AIMED_AT))
        self._window = max(1, min(WINDOW, per_insurer // self._operations_max // 10))

    async def run(self) -> None:
        """Load all rows; ends when each envelope has its receipt.

        Raises:
            ClientError: no node for too long.
        """
        async with asyncio.TaskGroup() as group:
            for insurer in self._parts:
                group.create_task(self._load(insurer))

    async def one_refused(self) -> None:
        """Submit one operation that the contract refuses, by the first insurer; counted in no total."""
        insurer = next(iter(self._parts))
        submitter = self._submitters[insurer]
        signed = submitter.sign([refused_operation()])
        async with submitter.bulk(1, on_answer=lambda *_: None, on_stage=lambda _: None, on_move=self._moved) as bulk:
            await (await bulk.submit(signed))

    async def _load(self, insurer: str) -> None:
        submitter = self._submitters[insurer]
        async with submitter.bulk(
            self._window, on_answer=self._answered, on_stage=self._acknowledge, on_move=self._moved
        ) as bulk:
            for bundle in bundles(self._parts[insurer], self._operations_max):
                operations = [operation for case in bundle for operation in case.operations]
                signed = submitter.sign(operations)
                paid = next((case for case in bundle if case.row.payment_cents > 0), bundle[0])
                self._cases[signed.id] = (insurer, len(operations), paid)
                self.progress.first_sent_s = self.progress.first_sent_s or self._clock_s()
                _answer = await bulk.submit(signed)
            await bulk.drain()

    # -- what is heard -----------------------------------------------------------------------

    def _answered(self, status: Status, moment: Moment) -> None:
        insurer, operations, case = self._cases.pop(status.envelope_id)
        self._acknowledge(status, operations)
        done = status.receipt is not None and status.receipt.code == Code.OK
        if not done:
            self.progress.refused.append(_refusal(status))
        elif self.example is None or not self.example.row.payment_cents:
            self.example, self.example_insurer = case, insurer
        self.progress.answered(moment, operations if done else 0)
        self._on_progress(self.progress)

    def _acknowledge(self, status: Status, operations: int = 0) -> None:
        if status.stage in (Stage.ACCEPTED, Stage.FINAL, Stage.PROVEN):
            known = self._cases.get(status.envelope_id)
            self.acknowledged.setdefault(status.envelope_id, known[1] if known else operations)

    def _moved(self, left: Node | None, taken: Node, reason: str) -> None:
        if left is not None:
            self.progress.moves.append(f"{left.organisation} -> {taken.organisation}: {reason}")


class _Submitter:
    """One insurer's keys and connections."""

    def __init__(self, profile: profiles.Profile) -> None:
        self._profile = profile
        self._genesis = profile.load_genesis_of()
        self._keys: tuple[SigningKey, ...] = Wallet(profile.keys, Passphrases(environment={})).keys(DESKS)
        self._connector = Connector.from_files(self._genesis, profile.certificate, profile.key)

    def sign(self, operations: Sequence[object]) -> Signed:
        return build_and_sign(
            chain_id=self._genesis.chain_id,
            organisation=self._profile.organisation,
            keys=self._keys,
            operations=operations,  # type: ignore[arg-type]
            not_after_ms=now_ms() + NOT_AFTER_MS,
        )

    def bulk(
        self,
        window: int,
        *,
        on_answer: Callable[[Status, Moment], None],
        on_stage: Callable[[Status], None],
        on_move: Callable[[Node | None, Node, str], None],
    ) -> BulkSubmitter:
        nodes = Nodes(self._connector, self._profile.nodes_of(self._genesis), backoff=lambda: Backoff(0.2, 3.0))
        return BulkSubmitter(nodes, window_envelopes=window, on_answer=on_answer, on_stage=on_stage, on_move=on_move)


def _refusal(status: Status) -> str:
    if status.receipt is None:
        return f"envelope {status.envelope_id.hex()[:16]}: {status.stage.name}"
    refused = {codes.name(code) for code in status.receipt.operation_codes if code} or {codes.name(status.receipt.code)}
    return f"envelope {status.envelope_id.hex()[:16]}: {', '.join(sorted(refused))}"


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]
