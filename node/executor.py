"""Execution as the application drives it: one finalized block at a time, committed atomically."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consensus.types import Header
from ledger import statements
from ledger.commitment import writes_to
from ledger.contract import Contracts
from ledger.epochs import MEMBERSHIP, EpochRecord, end_at, find_epoch, membership
from ledger.evidence import EvidenceRecord
from ledger.execution import HEADS, ExecutableBlock, Execution, ListedBatch
from ledger.key_statements import owes_readiness, owes_registration
from ledger.organisations import CARDS, ORGANISATIONS
from ledger.parameters import Parameters, parameters_at
from ledger.ports import HeightRecord, StateStore
from ledger.state import State
from ledger.statement_types import Moment
from ledger.types import Statement
from node.batches import Head
from node.turn import ExecutedNotice

MEMBERS_TABLES: Final = (ORGANISATIONS, CARDS, MEMBERSHIP)
"""What ``services.members`` is read from."""


class BlockExecutor:
    """``ledger.execution`` over a state and its store.

    Args:
        state: opened on ``store``, at genesis or later.
        store: where each block's rows go, in one atomic write.
        contracts: handlers of the operations.
    """

    def __init__(self, state: State, store: StateStore, contracts: Contracts) -> None:
        self._state = state
        self._store = store
        self._execution = Execution(state, contracts)
        self._operations = 0
        self.base_height = store.base_height()  #: of the snapshot this state began with; 0 for the genesis
        self.changed_height = 0  #: highest height executed since the start that changed the state

    @property
    def height(self) -> int:
        """Last executed height."""
        return self._state.height

    def roots(self, height: int) -> HeightRecord | None:
        """Roots after an executed height; None above it or where pruned."""
        return self._state.height_record(height) if height <= self._state.height else None

    def heads(self) -> dict[str, Head]:
        """Last listed batch of every origin, in executed state."""
        return {
            key.decode(): Head(record.incarnation, record.sequence, record.digest)
            for key, record in self._state.iterate(HEADS)
        }

    def is_due(self, statement: Statement, moment: Moment) -> bool:
        """Would executing it on this state, after ``moment``, write anything?"""
        return statements.is_due(statement, self._state, moment)

    # -- what the state says of epochs and rules -----------------------------------------------

    @property
    def epoch(self) -> int:
        """The present epoch."""
        return membership(self._state).epoch

    def epoch_record(self, epoch: int) -> EpochRecord | None:
        """Of an epoch that has begun; None otherwise."""
        return find_epoch(self._state, epoch)

    def next_valset_hash(self, epoch: int, state_height: int) -> bytes:
        """See ``ExecutedState``. A block in progress changes nothing in this: its height is above all asked for."""
        return end_at(self._state, epoch, state_height)

    def parameters(self, height: int, parent_state_height: int) -> Parameters:
        """See ``ExecutedState``."""
        return parameters_at(self._state, height, parent_state_height)

    def owes_registration(self, organisation: str) -> int | None:
        """See ``OwedState``."""
        return owes_registration(self._state, organisation)

    def owes_readiness(self, organisation: str, time_ms: int) -> tuple[bytes, bytes] | None:
        """See ``OwedState``."""
        return owes_readiness(self._state, organisation, time_ms)

    # -- execution ---------------------------------------------------------------------------

    def begin(self, header: Header, batches: Sequence[ListedBatch], listed: Sequence[Statement]) -> bool:
        """Start a block, with the statements it lists; False where no envelope is left and it may be finished."""
        self._execution.begin(ExecutableBlock.of(header, batches, listed))
        self._operations = sum(len(envelope.operations) for batch in batches for envelope in batch.envelopes)
        return bool(batches)

    def advance(self) -> bool:
        """Execute one envelope; whether more are waiting."""
        return self._execution.advance()

    def finish(self) -> ExecutedNotice:
        """Commit the block."""
        result = self._execution.finish()
        self._store.commit(result.writes)
        if result.writes.leaves:
            self.changed_height = result.height
        return ExecutedNotice(
            height=result.height,
            block_time_ms=result.writes.record.timestamp_ms,
            receipts=result.receipts,
            operations=self._operations,
            state_root=result.state_root,
            breaches=[record for record in result.stated if isinstance(record, EvidenceRecord)],
            members_moved=any(writes_to(result.writes.leaves, table.prefix) for table in MEMBERS_TABLES),
        )
