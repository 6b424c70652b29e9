"""Survivors with a history: one that began with a snapshot, and one of a network that was itself rebuilt."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from contracts.dispatch import CONTRACTS
from contracts.tables import TABLES
from ledger.block_port import FirstHeightWrite
from ledger.genesis import Genesis, load_genesis, write_genesis_state
from ledger.genesis_header import genesis_header_of
from ledger.parameters import Parameters
from ledger.ports import BlockWrites
from ledger.state import State
from ledger.succession import PREDECESSORS, assemble_on
from ledger.types import Block
from ledger.wire.archives import decode_archive_head
from node.opening import open_state
from services.archive_file import ArchiveFile, Frame
from services.archive_making import Made, make_archive
from services.archive_reading import Restored, restore, take_over
from services.stored_chain import block_writes
from store.blocks import LevelBlockStore
from store.home import HomeKind, create_home
from store.memory import MemoryStateStore
from store.state import LevelStateStore
from tests.support.chains import Chain
from tests.support.insurers import INSURERS
from tests.support.rebuilt import cards, renewed
from tests.support.snapshots import fetch, long_chain, pinned
from tests.unit.node.test_rebuilt import Rebuilt


def copied(source: MemoryStateStore, target: LevelStateStore, last: int) -> None:
    """The heights up to ``last`` of a state that began with empty books and fills no twig and no group."""
    leaves = receipts = 0
    for height in range(last + 1):
        record = source.height_record(height)
        assert record is not None
        rows = list(source.leaves(leaves, record.leaf_count))
        blobs = list(source.receipt_blobs(receipts, record.receipt_count))
        target.commit(BlockWrites(record, leaves, rows, [], receipts, blobs, []))
        leaves, receipts = record.leaf_count, record.receipt_count


def opened(path: Path, genesis: Genesis) -> Restored:
    return restore(ArchiveFile(path), genesis, MemoryStateStore(), CONTRACTS)


# -- a snapshot


def block_of(chain: Chain, height: int) -> Block:
    """As it is served."""
    final = chain.headers[height - 1]
    justified = final.justified
    payload, batches = chain.payloads[height - 1], chain.batches[height - 1]
    return Block(justified.header, justified.justification, payload, batches, final.finalization)


def test_a_node_that_began_with_a_snapshot_hands_on_as_much(tmp_path: Path) -> None:
    chain = long_chain()
    source, snapshot = pinned(chain)
    home = create_home(tmp_path / "home", HomeKind.NODE, chain.genesis.raw, chain.genesis.chain_id, INSURERS[0].id)
    with (
        closing(LevelBlockStore(home.blocks, chain.genesis.chain_id)) as blocks,
        closing(LevelStateStore(home.state)) as states,
    ):
        state = State.open(states)
        write_genesis_state(chain.genesis, state)
        states.commit(state.commit(0, chain.genesis.time_ms, ()))
        assert fetch(states, source, snapshot)
        open_state(chain.genesis, states, blocks)
        assert states.base_height() == snapshot.height > 1
        for height in range(snapshot.height + 1, chain.finalized_height() + 1):
            blocks.commit(block_writes(block_of(chain, height)))
    made = make_archive(home.path, tmp_path / "books", CONTRACTS, TABLES)
    restored, lived = opened(tmp_path / "books", chain.genesis), chain.ledger.state
    assert restored.head == lived.height_record(made.height)
    assert made.executed_here == made.finalized_height - snapshot.height
    assert made.height == lived.height
    for table in TABLES:
        assert list(restored.state.iterate(table)) == list(lived.iterate(table))
    kinds = [kind for kind, _ in ArchiveFile(tmp_path / "books").frames()]
    assert kinds.count(Frame.CHUNK) > 3, "more than one twig and one group"


# -- a rebuilt network


class Second:
    """A network that carries on another's books, after some blocks of its own, lost again."""

    def __init__(self, path: Path, blocks: int) -> None:
        self.first = Rebuilt()
        self.genesis = self.first.genesis
        self.first.cluster.start()
        self.first.cluster.run(500)
        node = self.first.nodes[0]
        wanted = self.genesis.height + blocks
        while (node.blocks.finalized_height() or 0) < wanted or node.state.height < wanted:
            self.first.load(1)
        self.last = wanted
        self.state = node.state
        home = create_home(
            path / "home", HomeKind.NODE, self.genesis.raw, self.genesis.chain_id, self.genesis.validators[0].id
        )
        with closing(LevelStateStore(home.state)) as states:
            copied(node.states, states, wanted)
        with closing(LevelBlockStore(home.blocks, self.genesis.chain_id)) as stored:
            header = genesis_header_of(self.genesis)
            stored.commit([FirstHeightWrite(header.height + 1, header.digest)])
            for height in range(header.height + 1, wanted + 1):
                stored.commit(block_writes(node.block(height)))
        self.archive = path / "books"
        self.made: Made = make_archive(home.path, self.archive, CONTRACTS, TABLES)


@pytest.mark.parametrize("blocks", [1, 2, 6])
def test_a_rebuilt_network_can_be_rebuilt_again(tmp_path: Path, blocks: int) -> None:
    """With one block, the certified state is that of its genesis, whose leaves its file does not hold."""
    second = Second(tmp_path, blocks)
    assert second.genesis.height < second.made.height <= second.last
    restored = opened(second.archive, second.genesis)
    assert restored.head == second.state.height_record(second.made.height)
    raw = assemble_on(
        cards([renewed(organisation, "again") for organisation in INSURERS]),
        restored.state,
        restored.end,
        name="again",
        time_ms=restored.head.timestamp_ms + 60_000,
        parameters=Parameters(),
    )
    third = load_genesis(raw)
    (tmp_path / "room").mkdir()
    take_over(ArchiveFile(second.archive), second.genesis, third, tmp_path / "room", CONTRACTS)
    with closing(LevelStateStore(tmp_path / "room" / "state")) as states:
        state = State.open(states)
        before = [record for _, record in state.iterate(PREDECESSORS)]
    assert [record.chain_id for record in before] == [second.first.lost.genesis.chain_id, second.genesis.chain_id]
    assert third.first_epoch == 2


def test_the_leaves_of_a_rebuilt_networks_genesis_are_in_its_archive(tmp_path: Path) -> None:
    second = Second(tmp_path, 1)
    frames = list(ArchiveFile(second.archive).frames())
    kinds = [kind for kind, _ in frames]
    assert kinds[0] is Frame.HEAD
    assert kinds.count(Frame.CHUNK) == 2  # leaves and receipts
    head = decode_archive_head(frames[0][1])
    assert (head.state_header, head.last.subject.state_height) == (None, second.genesis.height)
