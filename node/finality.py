"""Finality and execution: certified blocks become final in order, then are executed one by one.

A Finalization makes its block and all before it final as soon as every one of them and every batch is
in hand; what is missing is fetched. A final block is executed once it is on disk, an envelope at a
time (``execute_slice``), so that a large block never keeps votes waiting. A finalized header that
contradicts this node's own state stops it: then it is broken, or more than f others are.

The block that ends an epoch is final with it or with any tail after it; tails are stored with it, and never executed.
Once it is executed the state names the next epoch, and ``enter`` begins it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from consensus.events import Now
from consensus.types import Certificate, Header, Proposal
from ledger import wire
from ledger.block_port import FinalizedWrite
from ledger.execution import ListedBatch
from ledger.types import Statement
from node.batches import Head, envelopes_of
from node.branches import Branches, ExecutedState
from node.dissemination import Dissemination
from node.epoch import Epoch
from node.statements import StatementPool
from node.tree import BlockNode, Verdict
from node.turn import AlarmNotice, CertifiedRootNotice, ExecutedNotice, FinalizedNotice, Turn


class Executor(ExecutedState, Protocol):
    """Executes finalized blocks, one at a time, and commits each atomically."""

    def begin(self, header: Header, batches: Sequence[ListedBatch], listed: Sequence[Statement]) -> bool:
        """Start a block, with the statements it lists; False where it may be finished at once."""

    def advance(self) -> bool:
        """Execute one envelope; whether more are waiting."""

    def finish(self) -> ExecutedNotice:
        """Commit the block."""


class Finality:
    """See the module text.

    Args:
        epoch: the present one.
        executor, dissemination, statements, branches: ports and neighbours.
    """

    def __init__(
        self,
        *,
        epoch: Epoch,
        executor: Executor,
        dissemination: Dissemination,
        statements: StatementPool,
        branches: Branches,
    ) -> None:
        self._epoch = epoch
        self._executor = executor
        self._batches = dissemination
        self._statements = statements
        self._branches = branches
        self._final = branches.root
        self._target: Certificate | None = None  #: highest Finalization known
        self._backfilled: Certificate | None = None  #: highest Finalization whose block was backfilled
        self._certificates: dict[bytes, Certificate] = {}  #: Finalizations of blocks above the final one
        self._queue: deque[BlockNode] = deque()  #: final and stored, to be executed
        self._stored_next: list[BlockNode] = []  #: final, stored with this turn
        self._executing: BlockNode | None = None
        self.divergence = ""  #: what the network certified and this node contradicts

    @property
    def diverged(self) -> bool:
        """Nothing is executed or decided any more."""
        return bool(self.divergence)

    def enter(self, epoch: Epoch) -> None:
        """The next epoch begins."""
        self._epoch = epoch
        self._target = self._backfilled = None
        self._certificates.clear()

    @property
    def header(self) -> Header:
        """The highest final block whose branch is complete here."""
        return self._final.header

    @property
    def epoch_ended(self) -> bool:
        """Is the block that ends the present epoch final, and the next epoch not begun?"""
        return bool(self.header.next_valset_hash) and self.header.epoch == self._epoch.number

    @property
    def _view(self) -> int:
        """View of the final block, 0 at the start of the epoch."""
        return self.header.view if self.header.epoch == self._epoch.number else 0

    def on_finalized(self, certificate: Certificate) -> None:
        """A Finalization is held; its block and all before it become final when they are in hand."""
        if certificate.epoch != self._epoch.number or certificate.view <= self._view or self.epoch_ended:
            return
        self._certificates[certificate.digest] = certificate
        if self._target is None or certificate.view > self._target.view:
            self._target = certificate

    def on_backfilled(self, certificate: Certificate) -> None:
        """Its block and all before it are in hand; much higher ones may be known to be final, and still be missing."""
        self.on_finalized(certificate)
        if self._backfilled is None or certificate.view > self._backfilled.view:
            self._backfilled = certificate

    @property
    def backfilling(self) -> bool:
        """Backfilled blocks are not final here yet: their batches are being checked."""
        return self._backfilled is not None and self._backfilled.view > self._view and not self.epoch_ended

    def settle(self, now: Now, turn: Turn) -> bool:
        """Move the final block forward; False where blocks on the way are not held (they must be fetched)."""
        target = self._target
        if target is None:
            return True
        reached: Certificate | None = target
        path = self._branches.path(target.digest)
        if path is None:
            path, reached = self._path_so_far()
        for at, node in enumerate(path):
            if node.header.height <= self.header.height:
                continue  # final before, or a tail
            self._branches.settled(node.header.digest)
            if node.heads is None:
                if node.verdict is Verdict.INVALID:
                    self._diverge(turn, f"finalized block {node.header.height} breaks a rule of this node")
                everybody = [member.id for member in self._epoch.validators.members]
                self._branches.look_for(node, everybody, now)
                return reached is target
            certificate = self._certificates.pop(node.header.digest, None)
            tails = path[at + 1 :] if node.header.next_valset_hash else []
            for tail in tails:
                self._branches.write(tail, turn)
            self._finalize(node, reached if tails and certificate is None else certificate, turn)
        if reached is target or self.epoch_ended:
            self._target = None
        return self._target is None

    def _path_so_far(self) -> tuple[list[BlockNode], Certificate | None]:
        """Down to the highest final block that is reached by what is here: far behind, blocks come in parts."""
        self._certificates = {d: each for d, each in self._certificates.items() if each.view > self._view}
        for certificate in sorted(self._certificates.values(), key=lambda each: each.view, reverse=True):
            path = self._branches.path(certificate.digest)
            if path is not None:
                return path, certificate
        return [], None

    def _finalize(self, node: BlockNode, certificate: Certificate | None, turn: Turn) -> None:
        header = node.header
        self._branches.write(node, turn)
        raw = wire.certificate_bytes(certificate) if certificate else b""
        turn.block_writes.append(FinalizedWrite(header.height, header.digest, raw, tuple(node.payload.batch_digests)))
        turn.sync_blocks = True
        turn.notices.append(FinalizedNotice(header.height))
        turn.notices.append(CertifiedRootNotice(header.state_height, header.height))
        self._final = node
        self._stored_next.append(node)

    def turn_stored(self) -> None:
        """What the last turn wrote is on disk: the blocks it made final may be executed."""
        self._queue.extend(self._stored_next)
        self._stored_next.clear()

    def resume(self, nodes: Sequence[Proposal]) -> None:
        """After a restart: blocks that were final before and are not executed yet, oldest first."""
        for proposal in nodes:
            if proposal.header.epoch != self._epoch.number:
                return  # made final again when that epoch begins here
            node = self._branches.add_stored(proposal)
            if node is None:
                continue
            if node.heads is None:
                return  # a batch is missing: it is fetched, and finality is reached again by certificate
            self._final = node
            self._queue.append(node)

    # -- execution ---------------------------------------------------------------------------

    @property
    def executed_height(self) -> int:
        """Last executed height."""
        return self._executor.height

    @property
    def behind(self) -> bool:
        """Is something known to be final and not executed here?"""
        return bool(self._queue or self._stored_next) or self._target is not None

    def execute_slice(self, now: Now, turn: Turn) -> bool:
        """Execute one envelope, or commit the block; True while more is waiting."""
        if self.diverged or not self._queue:
            return False
        node = self._queue[0]
        if self._executing is None:
            if not self._agrees_with_own_state(node, turn):
                return False
            self._executing = node
            if self._executor.begin(node.header, self._listed(node), node.statements):
                return True
        elif self._executor.advance():
            return True
        notice = self._executor.finish()
        self._executing = None
        self._queue.popleft()
        moved = self._moved(node)
        self._branches.set_root(node)
        self._batches.on_executed(moved, self._branches.lists, turn)
        self._statements.on_executed(node.header)
        turn.notices.append(notice)
        return bool(self._queue)

    def _moved(self, node: BlockNode) -> dict[str, Head]:
        before, after = self._branches.root.heads or {}, node.heads or {}
        return {origin: head for origin, head in after.items() if before.get(origin) != head}

    def _listed(self, node: BlockNode) -> list[ListedBatch]:
        batches: list[ListedBatch] = []
        for digest in node.payload.batch_digests:
            known = self._batches.pool.get(digest)
            if known is None:
                raise LookupError(f"batch {digest.hex()} of a finalized block is not in the block store")
            batches.append(ListedBatch(known.batch.header, envelopes_of(known)))
        return batches

    def _agrees_with_own_state(self, node: BlockNode, turn: Turn) -> bool:
        """A finalized block must keep the rules and commit to the roots that this node found in its state itself."""
        header = node.header
        if not self._branches.keeps_rules(node, self._branches.root.header):
            self._diverge(turn, f"finalized block {header.height} breaks a rule of this node's state")
            return False
        known = self._executor.base_height <= header.state_height <= self._executor.height
        if not known or self._branches.roots_agree(header):
            return True
        self._diverge(turn, f"finalized block {header.height} commits to another state at height {header.state_height}")
        return False

    def _diverge(self, turn: Turn, text: str) -> None:
        if not self.diverged:
            self.divergence = text
            turn.notices.append(AlarmNotice("divergence", text))
