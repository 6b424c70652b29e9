"""Execution of one finalized block: statements, envelopes, a receipt for each envelope, then the state commitment.

    begin(block)      statements take effect, in listed order; parameters are those active at its height, as the state
                      before the block has them
    advance()         one envelope; returns whether more are waiting. The driver may do other work in between:
                      nothing is visible outside before finish
    finish()          drop expired replay records, write batch heads, mark the hour; after a boundary block, the next
                      epoch's record; commit state and receipts

For each envelope, in this order (the first that applies gives the receipt's code):

    1  EXPIRED                      block time > not_after
    2  NOT_AFTER_TOO_FAR            not_after > block time + max_ahead
    3  REPLAYED                     the id was met before; the receipt names the first one
       -- from here on the id is remembered until block time passes not_after
    4  UNKNOWN_ORGANISATION, KEY_NOT_REGISTERED, KEY_OF_ANOTHER_ORGANISATION
    5  operations, each by its contract; a refused one leaves no trace but its code
       OK, OPERATIONS_FAILED (some refused), ATOMIC_FAILED (one refused, none took effect)

Envelopes are well-formed (ledger/wellformed.py) and statements true (ledger/statements.py): that was judged before the
block was voted for. Statements come first, so that no envelope of the block decides what becomes of them, and every
envelope of the block meets a state that knows of them.

A contract that fails deterministically (wrong arithmetic, missing key) gives CONTRACT_FAULT on every
node alike and blocks nothing else. What another machine might not suffer (memory, recursion depth,
disk, own corrupt store, broken invariant) is not caught: the node stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from consensus.types import Header
from ledger.codes import Code
from ledger.contract import Authority, Context, Contracts, Refused
from ledger.epochs import end_epoch
from ledger.evidence import end_block
from ledger.invariant import InvariantViolated, invariant
from ledger.operations import Operation
from ledger.organisations import find_key, find_organisation
from ledger.parameters import parameters_at
from ledger.ports import BlockWrites
from ledger.state import State, Table
from ledger.statement_types import Moment
from ledger.statements import execute as execute_statement
from ledger.types import BatchHeader, Envelope, Receipt, Statement
from ledger.wire import encode_receipt

REPLAY_BUCKET_MS: Final = 60_000  #: replay records lie in the order in which they lapse, a minute together
REPLAY_DROPS_PER_ENVELOPE: Final = 2  #: more than one joins per envelope, so a backlog of lapsed records shrinks
REPLAY_DROPS_MIN: Final = 16  #: a block with few envelopes still makes progress

CONTRACT_FAULTS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Failures that depend on operation and state only, so every node has them."""


class ReplayRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An envelope that was executed or refused, under not_after bucket (u64, big-endian) | envelope id."""

    not_after_ms: int
    position: int
    """Place of its receipt in the receipts range."""


class HeadRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The last listed batch of an origin, under its organisation id."""

    incarnation: int
    sequence: int
    digest: bytes
    """32 bytes; the next batch listed must name it as its predecessor."""


REPLAYS: Final = Table(0x04, ReplayRecord, "replays")
HEADS: Final = Table(0x05, HeadRecord, "heads")


class ListedBatch(msgspec.Struct, frozen=True, gc=False):
    """A batch as execution needs it: its link and its decoded, well-formed envelopes."""

    header: BatchHeader
    envelopes: Sequence[Envelope]


class ExecutableBlock(msgspec.Struct, frozen=True, gc=False):
    """A finalized block, ready to execute."""

    height: int
    timestamp_ms: int
    digest: bytes
    batches: Sequence[ListedBatch]
    next_valset_hash: bytes = b""
    """Of the header: not empty in the last block of an epoch."""
    statements: Sequence[Statement] = ()
    epoch: int = 0
    view: int = 0

    @classmethod
    def of(cls, header: Header, batches: Sequence[ListedBatch], statements: Sequence[Statement]) -> ExecutableBlock:
        """The block under a header."""
        return cls(
            height=header.height,
            timestamp_ms=header.timestamp_ms,
            digest=header.digest,
            batches=batches,
            next_valset_hash=header.next_valset_hash,
            statements=statements,
            epoch=header.epoch,
            view=header.view,
        )


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What one envelope did, for projections."""

    envelope: Envelope
    receipt: Receipt
    events: tuple[msgspec.Struct, ...]
    """Records as its operations left them, in order; empty where nothing took effect."""


class BlockResult(msgspec.Struct, frozen=True, gc=False):
    """A block after execution."""

    height: int
    state_root: bytes
    receipts_root: bytes
    receipts: tuple[Receipt, ...]
    """One for every listed envelope, in order."""
    writes: BlockWrites
    """Rows for the state store."""
    outcomes: tuple[Outcome, ...]
    """Empty unless asked for."""
    stated: tuple[msgspec.Struct, ...] = ()
    """Records that statements left, in order."""


def replay_key(not_after_ms: int, envelope_id: bytes) -> bytes:
    """Key of a replay record: bucket u64 big-endian | id."""
    return (not_after_ms // REPLAY_BUCKET_MS).to_bytes(8, "big") + envelope_id


class Execution:
    """Executes blocks one after another on one state."""

    def __init__(self, state: State, contracts: Contracts, *, want_outcomes: bool = False) -> None:
        self._state = state
        self._contracts = contracts
        self._want_outcomes = want_outcomes
        self._block: ExecutableBlock | None = None
        self._envelopes: list[Envelope] = []
        self._receipts: list[Receipt] = []
        self._outcomes: list[Outcome] = []
        self._first_position = 0
        self._parent_time_ms = 0
        self._context: Context
        self._moment: Moment
        self._stated: tuple[msgspec.Struct, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether a block was begun and not finished."""
        return self._block is not None

    def begin(self, block: ExecutableBlock) -> None:
        """Start on the next block."""
        head = self._state.head
        if head is None:
            raise InvariantViolated("a block was given to execution before the genesis state was committed")
        invariant(self._block is None, f"block {block.height} begun before the one before was finished")
        invariant(block.height == head.height + 1, f"block {block.height} begun after {head.height}")
        invariant(block.timestamp_ms > head.timestamp_ms, f"time of block {block.height} is not after its parent's")
        self._block = block
        self._envelopes = [envelope for batch in block.batches for envelope in batch.envelopes]
        self._receipts, self._outcomes = [], []
        self._first_position = head.receipt_count
        parameters = parameters_at(self._state, block.height, head.height)
        self._context = Context(self._state, parameters, block.height, block.timestamp_ms)
        self._moment = Moment(block.height, block.timestamp_ms, block.epoch, block.view)
        self._parent_time_ms = head.timestamp_ms
        effects = [execute_statement(statement, self._state, self._moment) for statement in block.statements]
        self._stated = tuple([record for record in effects if record is not None])

    def advance(self) -> bool:
        """Execute the next envelope, if one is left; whether more are waiting."""
        invariant(self._block is not None, "advance without a block")
        at = len(self._receipts)
        if at < len(self._envelopes):
            self._execute(self._envelopes[at], at)
        return at + 1 < len(self._envelopes)

    def finish(self) -> BlockResult:
        """Close the block once all envelopes are executed; the caller stores ``writes``."""
        block = self._block
        if block is None or len(self._receipts) != len(self._envelopes):
            raise InvariantViolated("finish before all envelopes were executed")
        self._drop_lapsed(block.timestamp_ms)
        self._write_heads(block.batches)
        end_block(self._state, self._moment, self._parent_time_ms)
        if block.next_valset_hash:
            end_epoch(
                self._state,
                height=block.height,
                timestamp_ms=block.timestamp_ms,
                digest=block.digest,
                next_valset_hash=block.next_valset_hash,
            )
        writes = self._state.commit(
            block.height, block.timestamp_ms, [receipt.raw for receipt in self._receipts], block.digest
        )
        self._block = None
        return BlockResult(
            height=block.height,
            state_root=writes.record.state_root,
            receipts_root=writes.record.receipts_root,
            receipts=tuple(self._receipts),
            writes=writes,
            outcomes=tuple(self._outcomes),
            stated=self._stated,
        )

    def run(self, block: ExecutableBlock) -> BlockResult:
        """Begin, advance to the end and finish: for replicas and tests, which have nothing else to do meanwhile."""
        self.begin(block)
        while self.advance():
            pass
        return self.finish()

    # -- one envelope ------------------------------------------------------------------------------

    def _execute(self, envelope: Envelope, index: int) -> None:
        context = self._context
        context.events = []
        code, original = self._admit(envelope, self._first_position + index)
        operation_codes: list[int] = []
        if code is Code.OK:
            authority = self._authority(envelope)
            if isinstance(authority, Code):
                code = authority
            else:
                context.authority = authority
                context.chain_id = envelope.chain_id
                context.index = index
                code, operation_codes = self._operations(envelope)
        receipt = encode_receipt(
            envelope_id=envelope.id,
            height=context.height,
            index=index,
            position=self._first_position + index,
            block_time_ms=context.time_ms,
            code=code,
            operation_codes=operation_codes,
            original_position_plus_1=original,
        )
        self._receipts.append(receipt)
        if self._want_outcomes:
            self._outcomes.append(Outcome(envelope, receipt, tuple(context.events)))

    def _admit(self, envelope: Envelope, position: int) -> tuple[Code, int]:
        """Time and replay; remembers the id. Gives the code and, for a replay, 1 + the first receipt's position."""
        now_ms, not_after_ms = self._context.time_ms, envelope.not_after_ms
        if now_ms > not_after_ms:
            return Code.EXPIRED, 0
        if not_after_ms > now_ms + self._context.parameters.max_ahead_ms:
            return Code.NOT_AFTER_TOO_FAR, 0
        key = replay_key(not_after_ms, envelope.id)
        before = self._state.get(REPLAYS, key)
        if before is not None:
            return Code.REPLAYED, before.position + 1
        self._state.put(REPLAYS, key, ReplayRecord(not_after_ms, position))
        return Code.OK, 0

    def _authority(self, envelope: Envelope) -> Authority | Code:
        organisation = find_organisation(self._state, envelope.organisation)
        if organisation is None:
            return Code.UNKNOWN_ORGANISATION
        roles: list[int] = []
        for public in envelope.signer_keys:
            key = find_key(self._state, public)
            if key is None:
                return Code.KEY_NOT_REGISTERED
            if key.organisation != envelope.organisation:
                return Code.KEY_OF_ANOTHER_ORGANISATION
            roles.append(key.roles)
        return Authority(envelope.organisation, organisation.kind, tuple(roles), envelope.signer_keys)

    def _operations(self, envelope: Envelope) -> tuple[Code, list[int]]:
        state, context = self._state, self._context
        start = state.mark()
        codes: list[int] = []
        failed = False
        for at, operation in enumerate(envelope.operations):
            context.operation = at
            mark, emitted = state.mark(), len(context.events)
            code = self._operation(operation)
            codes.append(code)
            if code is Code.OK:
                continue
            failed = True
            state.rollback(mark)
            del context.events[emitted:]
            if envelope.atomic:
                state.rollback(start)
                context.events.clear()
                return Code.ATOMIC_FAILED, _atomic_codes(code, at, len(envelope.operations))
        return (Code.OPERATIONS_FAILED if failed else Code.OK), codes

    def _operation(self, operation: Operation) -> Code:
        handler = self._contracts.get(type(operation))
        if handler is None:
            return Code.UNKNOWN_OPERATION
        try:
            handler(operation, self._context)
        except Refused as refused:
            return refused.code
        except CONTRACT_FAULTS:
            return Code.CONTRACT_FAULT
        return Code.OK

    # -- the end of the block ----------------------------------------------------------------------

    def _drop_lapsed(self, now_ms: int) -> None:
        """Forget ids that can no longer execute; a block without envelopes writes nothing."""
        if not self._envelopes:
            return
        quota = REPLAY_DROPS_MIN + REPLAY_DROPS_PER_ENVELOPE * len(self._envelopes)
        current = (now_ms // REPLAY_BUCKET_MS).to_bytes(8, "big")
        lapsed: list[bytes] = []
        for key, _ in self._state.iterate(REPLAYS):
            if key[:8] >= current or len(lapsed) == quota:
                break
            lapsed.append(key)
        for key in lapsed:
            self._state.delete(REPLAYS, key)

    def _write_heads(self, batches: Sequence[ListedBatch]) -> None:
        last = {batch.header.origin: batch.header for batch in batches}
        for origin, header in last.items():
            self._state.put(HEADS, origin.encode(), HeadRecord(header.incarnation, header.sequence, header.digest))


def _atomic_codes(code: Code, at: int, count: int) -> list[int]:
    """The refused operation keeps its own code, the others say that they share its fate."""
    codes: list[int] = [Code.ATOMIC_FAILED] * count
    codes[at] = code
    return codes
