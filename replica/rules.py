"""What only the state decides of a block: its parameters, and whether it has to end its epoch.

Judged when the block is executed, from the state at its parent's state height (consensus.md, R4). The block is final
then, so what is wrong with it is no source's fault: a quorum broke a rule of its own.
"""

from __future__ import annotations

from consensus.types import Header
from ledger.epochs import end_at
from ledger.parameters import parameters_at
from ledger.state import StateView
from ledger.types import Block


def block_problem(block: Block, parent: Header, state: StateView) -> str | None:
    """The rule of the state that the block breaks; None if it keeps them.

    Args:
        parent: header of the block below.
        state: executed up to it.
    """
    return _end_problem(block.header, parent, state) or _size_problem(block, parent, state)


def _end_problem(header: Header, parent: Header, state: StateView) -> str | None:
    expected = end_at(state, header.epoch, parent.state_height)
    if header.next_valset_hash == expected:
        return None
    if not expected:
        return f"ends epoch {header.epoch} although the state holds no approved change of its set"
    if not header.next_valset_hash:
        return f"goes on with epoch {header.epoch} although the state holds an approved change of its set"
    return f"names {header.next_valset_hash.hex()} as the next set instead of the approved {expected.hex()}"


def _size_problem(block: Block, parent: Header, state: StateView) -> str | None:
    header, batches = block.header, block.batches
    parameters = parameters_at(state, header.height, parent.state_height)
    if header.state_scheme != parameters.state_scheme:
        return f"has state scheme {header.state_scheme} instead of {parameters.state_scheme}"
    if not block.payload.empty and header.height - header.state_height > parameters.k_max:
        return f"lists batches or statements more than {parameters.k_max} heights above its state"
    size = sum(batch.header.envelope_bytes for batch in batches)
    if len(batches) > 1 and size > parameters.block_bytes_max:
        return f"lists {size} bytes in {len(batches)} batches, at most {parameters.block_bytes_max} are allowed"
    return None
