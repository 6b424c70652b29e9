"""What the state should be: the finalized blocks, executed once more from genesis, apart from every node."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.dispatch import CONTRACTS
from ledger import wire
from ledger.block_port import BlockStore
from ledger.execution import ExecutableBlock, Execution, ListedBatch
from ledger.genesis import Genesis
from ledger.state import State
from node.assembly import commit_genesis
from simulator.serving import block_at
from store.memory import MemoryStateStore


def model_roots(genesis: Genesis, blocks: BlockStore, height: int) -> Iterator[tuple[bytes, bytes]]:
    """(state root, receipts root) after each height from 1 on, as far as the blocks are there."""
    store = MemoryStateStore()
    state = State.open(store)
    commit_genesis(genesis, state, store)
    execution = Execution(state, CONTRACTS)
    for at in range(1, height + 1):
        block = block_at(blocks, at)
        if block is None:
            return
        listed = [
            ListedBatch(batch.header, tuple(wire.decode_envelope(raw) for raw in batch.envelopes))
            for batch in block.batches
        ]
        statements = [wire.decode_statement(raw) for raw in block.payload.statements]
        result = execution.run(ExecutableBlock.of(block.header, listed, statements))
        store.commit(result.writes)
        yield result.state_root, result.receipts_root
