"""Carrying the books of one network on in another: the genesis block of a rebuilt network.

A network of which one copy survived is founded anew by ceremony (docs/adr/0031). Its state is the old one, leaf by leaf
and receipt by receipt, and one block more: the genesis block, one height above the last final block. It writes

    organisations, cards, keys   of the new genesis and of nobody else: who hands in no card is no member any more, what
                                 it insured stays in the books
    parameters                   of the new genesis, from its height on
    epochs, membership           the epoch after the last one, with the members of the new genesis. What lapses with an
                                 epoch lapses: proposals, changes of the set that passed or were approved
    node keys                    those of the new cards beside all there ever were; no consensus key is used twice
    predecessors                 whose books these were

and touches nothing else: policies, claims, replay records, batch heads, evidence and the marks of when views were stay
as they are. Heights, epochs and positions of receipts go on, so none of them ever means two things.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from consensus.types import Certificate
from crypto.hashing import ZERO_DIGEST
from ledger.cards import Card, GenesisError, key_records
from ledger.epochs import membership
from ledger.genesis import Genesis, Permissions, assemble, genesis_records, load_genesis
from ledger.invariant import InvariantViolated
from ledger.organisations import CARDS, KEYS, ORGANISATIONS, find_key, find_organisation
from ledger.parameters import Parameters
from ledger.ports import BlockWrites
from ledger.predecessor import Predecessor
from ledger.registrations import NODE_KEYS
from ledger.state import State, StateView, Table


class PredecessorRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A network whose books were carried on, under the height of the genesis block that did so."""

    chain_id: bytes
    """Of that network, 32 bytes."""
    height: int
    """Of its last block."""
    epoch: int
    """The last that had begun."""
    time_ms: int
    """Block time of its last block, milliseconds since 1970-01-01 UTC."""
    header_digest: bytes
    """Of its last block, 32 bytes."""
    state_root: bytes
    """After its last block, 32 bytes."""
    receipts_root: bytes
    """After its last block, 32 bytes."""


PREDECESSORS: Final = Table(0x08, PredecessorRecord, "predecessors")
"""Under the height of a genesis block, u64 big-endian; empty where a network began with empty books."""


class SuccessionError(GenesisError):
    """A genesis and the books it is to carry on do not belong together."""


class BooksMismatch(SuccessionError):
    """The books are not those that the genesis says it carries on."""


def first_epoch(view: StateView) -> int:
    """Of the network whose state this is: 0, or the one after the last epoch of the network before."""
    last = 0
    for _, record in view.iterate(PREDECESSORS):
        last = record.epoch + 1
    return last


def end_of(chain_id: bytes, state: State, finalization: Certificate) -> Predecessor:
    """How a network ended: its last executed block and that block's Finalization. The new roots are still to be found.

    Args:
        chain_id: of the network that ended.
        state: after that block.
    """
    head = state.head
    if head is None:
        raise InvariantViolated("a network ended before its genesis")
    return Predecessor(
        chain_id=chain_id,
        height=head.height,
        epoch=membership(state).epoch,
        time_ms=head.timestamp_ms,
        header_digest=head.block_digest,
        finalization=finalization,
        state_root=head.state_root,
        receipts_root=head.receipts_root,
        receipt_count=head.receipt_count,
        genesis_state_root=ZERO_DIGEST,
        genesis_leaf_count=1,
    )


def assemble_on(
    cards: Iterable[Card],
    state: State,
    before: Predecessor,
    *,
    name: str,
    time_ms: int,
    parameters: Parameters,
    permissions: Permissions | None = None,
) -> bytes:
    """The genesis file of a network that carries these books on; the same bytes whoever assembles it.

    Args:
        state: after the last block of the network before; it is used up.
        before: ``end_of`` it.
        name, time_ms, parameters, permissions: as in ``ledger.genesis.assemble``.

    Raises:
        SuccessionError: the cards, or the parameters, do not go with these books.
        GenesisError: the file would not load.
    """
    held = tuple(cards)

    def file(predecessor: Predecessor) -> bytes:
        return assemble(
            held, name=name, time_ms=time_ms, parameters=parameters, permissions=permissions, predecessor=predecessor
        )

    _check_head(before, state)
    record = write_genesis_block(load_genesis(file(before)), state).record
    return file(
        msgspec.structs.replace(before, genesis_state_root=record.state_root, genesis_leaf_count=record.leaf_count)
    )


def succeed(genesis: Genesis, state: State) -> BlockWrites:
    """The genesis block of a rebuilt network, on the state after the last block of the network before.

    Returns:
        Its rows; the caller stores them.

    Raises:
        BooksMismatch: the state is not the one that the genesis names. Throw ``state`` away then.
        SuccessionError: the genesis breaks a rule. Likewise.
    """
    before = genesis.predecessor
    if before is None:
        raise InvariantViolated("a genesis without a predecessor carries nothing on")
    _check_head(before, state)
    writes = write_genesis_block(genesis, state)
    record = writes.record
    if (record.state_root, record.leaf_count) != (before.genesis_state_root, before.genesis_leaf_count):
        raise BooksMismatch(
            f"the books carried on have the root {record.state_root.hex()[:16]}, the genesis says "
            f"{before.genesis_state_root.hex()[:16]}",
            "Do not take part: have it assembled again, or assemble it yourself from the same cards, and compare.",
        )
    return writes


def write_genesis_block(genesis: Genesis, state: State) -> BlockWrites:
    """``succeed`` for a genesis that does not state its own roots yet.

    Raises:
        SuccessionError: the genesis breaks a rule.
    """
    _check_members(genesis, state)
    _check_keys(genesis, state)
    replaced: tuple[Table[Any], ...] = (ORGANISATIONS, CARDS, KEYS)
    for table in replaced:
        for key in [key for key, _ in state.iterate(table)]:
            state.delete(table, key)
    for table, key, record in genesis_records(genesis):
        state.put(table, key, record)
    state.put(PREDECESSORS, genesis.height.to_bytes(8, "big"), predecessor_record(genesis))
    return state.commit(genesis.height, genesis.time_ms, ())


def predecessor_record(genesis: Genesis) -> PredecessorRecord:
    """What the genesis block of a rebuilt network writes down of the network before."""
    before = genesis.predecessor
    if before is None:
        raise InvariantViolated("a genesis without a predecessor carries nothing on")
    return PredecessorRecord(
        chain_id=before.chain_id,
        height=before.height,
        epoch=before.epoch,
        time_ms=before.time_ms,
        header_digest=before.header_digest,
        state_root=before.state_root,
        receipts_root=before.receipts_root,
    )


def _check_head(before: Predecessor, state: State) -> None:
    head = state.head
    advice = "Use the archive that this genesis was assembled from; compare its last height and root with the others."
    if head is None:
        raise BooksMismatch("the state of the network before is empty", advice)
    pairs = (
        ("height", head.height, before.height),
        ("last block", head.block_digest.hex()[:16], before.header_digest.hex()[:16]),
        ("block time", head.timestamp_ms, before.time_ms),
        ("state root", head.state_root.hex()[:16], before.state_root.hex()[:16]),
        ("receipts root", head.receipts_root.hex()[:16], before.receipts_root.hex()[:16]),
        ("number of receipts", head.receipt_count, before.receipt_count),
        ("epoch", membership(state).epoch, before.epoch),
    )
    for what, found, wanted in pairs:
        if found != wanted:
            raise BooksMismatch(
                f"the books end with the {what} {found}, the genesis says that the network before ended with {wanted}",
                advice,
            )


def _check_members(genesis: Genesis, view: StateView) -> None:
    for card in genesis.organisations:
        record = find_organisation(view, card.id)
        if record is not None and record.kind != card.kind:
            raise SuccessionError(
                f"{card.id} was of another kind in the network before",
                "An organisation keeps its kind; it takes another id to be something else.",
            )


def _check_keys(genesis: Genesis, view: StateView) -> None:
    for card in genesis.organisations:
        known = view.get(NODE_KEYS, card.ledger_key)
        if find_key(view, card.ledger_key) or (
            known is not None and (known.organisation, known.epoch) != (card.id, None)
        ):
            raise _taken(card.id, "ledger key")
        if card.is_validator and (view.get(NODE_KEYS, card.consensus_key) or find_key(view, card.consensus_key)):
            raise SuccessionError(
                f"the consensus key of {card.id} was used in the network before",
                f"{card.id} makes a new one and hands over a new card: move its office's keys/consensus.key away, then "
                "`lossbook genesis card` again.",
            )
        for public, _ in key_records(card):
            holder = find_key(view, public)
            if view.get(NODE_KEYS, public) or (holder is not None and holder.organisation != card.id):
                raise _taken(card.id, "signing key")


def _taken(organisation: str, what: str) -> SuccessionError:
    return SuccessionError(
        f"a {what} of {organisation} was another's, or used for something else, in the network before",
        f"{organisation} makes a new one and hands over a new card.",
    )
