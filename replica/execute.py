"""Own execution: every operation again, and the roots compared, block by block.

    begin         the roots its header certifies must be those this replica computed after ``state_height``, and it must
                  keep the rules its state holds (``replica.rules``); then the block goes to ``ledger.execution``
    advance       one envelope; the caller may serve readers in between
    finish        totals; then, in this order, the block, the index and (last, atomically) the state are written

A crash between any two writes leaves the executed height where it was, and the block is fetched and executed again.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.justification import HeaderRules
from consensus.types import Header
from ledger.block_port import BlockStore
from ledger.commitment import decode_leaf
from ledger.contract import Contracts
from ledger.epochs import find_epoch, membership
from ledger.evidence import breaches
from ledger.execution import HEADS, ExecutableBlock, Execution, ListedBatch
from ledger.genesis import Genesis, require_no_predecessor, write_genesis_state
from ledger.genesis_header import genesis_header_of
from ledger.organisations import ORGANISATIONS
from ledger.ports import HeightRecord, StateStore
from ledger.state import State
from ledger.types import Envelope
from ledger.wire import decode_receipt
from replica.errors import ReplicaStateError, RootMismatch, RuleBroken
from replica.index import Index
from replica.projection import Projection, Report, report_of_books
from replica.rules import block_problem
from replica.verify import PROTOCOL_VERSION, Head, StartPoint, VerifiedBlock
from services.stored_chain import StoredChain, block_writes


class ReplicaExecutor:
    """The replica's state and its three stores, moved on one finalized block at a time.

    Args:
        genesis: of the network; its state is built where the store is new.
        blocks: blocks that were verified and executed.
        store: rows of the state.
        index: totals and positions of receipts.
        contracts: handlers of the operations.

    Raises:
        GenesisError: the genesis carries on the books of a network before, and they are not here.
        CorruptStore: a store cannot be read.
        ReplicaStateError: stores contradict each other, or the state is another network's.
    """

    def __init__(
        self, genesis: Genesis, *, blocks: BlockStore, store: StateStore, index: Index, contracts: Contracts
    ) -> None:
        self.genesis_header = genesis_header_of(genesis)  #: its block has no certificate and needs none
        self._chain_id = genesis.chain_id
        self._blocks = blocks
        self._store = store
        self._index = index
        self.state = State.open(store)
        if self.state.head is None:
            require_no_predecessor(genesis)
            write_genesis_state(genesis, self.state)
            store.commit(self.state.commit(0, genesis.time_ms, []), sync=True)
        self._check_genesis()
        self._execution = Execution(self.state, contracts, want_outcomes=True)
        self.chain = StoredChain(blocks, lambda: self.height)
        if genesis.predecessor is not None and self.height == genesis.height > index.latest().height:
            head = self._record(self.height)
            blobs = self.state.receipt_blobs(0, head.receipt_count)
            index.begin(report_of_books(self.state), (decode_receipt(blob) for blob in blobs))
        self._projection = Projection(index.rewind(self.height, self._record(self.height).timestamp_ms))
        self._block: VerifiedBlock | None = None
        self.members_changed = False
        """Whether the last block changed who is a member, with which keys and addresses, or who votes."""
        self.breaches = breaches(self.state)
        """Recorded breaches of consensus, by culprit."""
        self._tip = self._stored_tip()

    @property
    def height(self) -> int:
        """Last executed height."""
        return self.state.height

    @property
    def tip(self) -> Header:
        """Header of the last executed block."""
        return self._tip

    @property
    def report(self) -> Report:
        """Totals after the last executed block."""
        return self._projection.report

    def start_point(self) -> StartPoint:
        """Where verification goes on."""
        heads = {
            key.decode(): Head(record.incarnation, record.sequence, record.digest)
            for key, record in self.state.iterate(HEADS)
        }
        return StartPoint(self._tip, heads)

    @property
    def epoch(self) -> int:
        """The epoch of the next block."""
        return membership(self.state).epoch

    def epochs(self) -> dict[int, HeaderRules]:
        """Rules of every epoch that has begun."""
        return {epoch: self.epoch_rules(epoch) for epoch in range(self.genesis_header.epoch, self.epoch + 1)}

    def epoch_rules(self, epoch: int) -> HeaderRules:
        """What headers of an epoch that has begun agree with: its set is the one this state decided.

        Raises:
            ReplicaStateError: the stores do not hold it.
        """
        record = find_epoch(self.state, epoch)
        start = self._header(record.first_height - 1) if record is not None else None
        if record is None or start is None:
            raise ReplicaStateError(
                f"the stores do not hold how epoch {epoch} began. Run `lossbook replica resync` to follow again from "
                "the genesis"
            )
        return HeaderRules(PROTOCOL_VERSION, self._chain_id, record.validator_set(epoch), start)

    def _header(self, height: int) -> Header | None:
        return self.genesis_header if height == self.genesis_header.height else self.chain.header(height)

    def roots(self, height: int) -> HeightRecord | None:
        """Roots after an executed height; None above it."""
        return self.state.height_record(height) if height <= self.height else None

    # ------------------------------------------------------------ one block

    def begin(self, block: VerifiedBlock) -> None:
        """Start on the next block.

        Raises:
            RootMismatch: it certifies roots that own execution contradicts; nothing was changed.
            RuleBroken: it breaks a rule of the state; nothing was changed.
        """
        self._check_roots(block.header)
        problem = block_problem(block.block, self._tip, self.state)
        if problem is not None:
            raise RuleBroken(block.header.height, problem)
        self._execution.begin(ExecutableBlock.of(block.header, _listed(block), block.statements))
        self._block = block

    def advance(self) -> bool:
        """Execute one envelope, if one is left; whether more are waiting."""
        return self._execution.advance()

    def finish(self) -> Report:
        """Write the block, the index and the state; returns the new totals.

        Raises:
            StoreError: a write failed; the replica must be restarted.
        """
        block = self._block
        if block is None:
            raise ReplicaStateError("a block was finished before it was begun")
        result = self._execution.finish()
        report = self._projection.apply(result.height, block.header.timestamp_ms, result.outcomes, block.signatures)
        self._blocks.commit(block_writes(block.block), sync=True)
        self._index.write(report, result.outcomes)
        self._store.commit(result.writes, sync=True)
        if result.stated:
            self.breaches = breaches(self.state)
        self.members_changed = bool(block.header.next_valset_hash) or _wrote_organisation(result.writes.leaves)
        self._tip = block.header
        self._block = None
        self.chain.grown.beat()
        return report

    def _check_roots(self, header: Header) -> None:
        own = self._record(header.state_height)
        for what, certified, found in (
            ("state root", header.state_root, own.state_root),
            ("receipts root", header.receipts_root, own.receipts_root),
        ):
            if certified != found:
                raise RootMismatch(header.height, header.state_height, what, certified, found)

    # ------------------------------------------------------------ start

    def _record(self, height: int) -> HeightRecord:
        record = self.state.height_record(height)
        if record is None:
            raise ReplicaStateError(
                f"the state has no roots for the executed height {height}. Run `lossbook replica resync`"
            )
        return record

    def _check_genesis(self) -> None:
        first, header = self.state.height_record(self.genesis_header.height), self.genesis_header
        if first is not None and (first.state_root, first.receipts_root) != (header.state_root, header.receipts_root):
            raise ReplicaStateError("the state began with another genesis. Run `lossbook replica resync`")

    def _stored_tip(self) -> Header:
        if self.height == self.genesis_header.height:
            return self.genesis_header
        header = self.chain.header(self.height)
        if header is None or header.digest != self._record(self.height).block_digest:
            raise ReplicaStateError(
                f"the block store does not hold the block of the executed height {self.height}. Run `lossbook replica "
                "resync` to follow again from the genesis"
            )
        return header


def _wrote_organisation(leaves: Sequence[bytes]) -> bool:
    """Whether a block's leaves, which ascend by table and key, begin with a record of the first table."""
    return bool(leaves) and decode_leaf(leaves[0]).key[:1] == ORGANISATIONS.prefix


def _listed(block: VerifiedBlock) -> Sequence[ListedBatch]:
    listed: list[ListedBatch] = []
    rest: Sequence[Envelope] = block.envelopes
    for batch in block.block.batches:
        listed.append(ListedBatch(batch.header, rest[: batch.header.count]))
        rest = rest[batch.header.count :]
    return listed
