"""Whole validators of a network that carries on another's books: blocks, epochs, proofs and snapshots as in any."""

from __future__ import annotations

import copy

import msgspec
import pytest

from ledger.block_port import FirstHeightWrite
from ledger.codes import Code
from ledger.epochs import EPOCHS, Seat
from ledger.execution import HEADS
from ledger.genesis_header import genesis_header_of
from ledger.proof_building import record_proof
from ledger.proof_types import Proof
from ledger.proofs import verify_proof
from ledger.state import State
from ledger.succession import succeed
from ledger.types import Envelope
from node.turn import ExecutedNotice
from simulator.serving import StoredBlocks
from store.memory import MemoryStateStore
from store.memory_blocks import MemoryBlockStore
from tests.support.epoch_cluster import SETTINGS, Cluster, Node, epoch_key
from tests.support.insurers import INSURERS, Organisation, policy_issue
from tests.support.notices import assert_agreement, executed, proven
from tests.support.rebuilt import RENEWED, lost_chain, rebuild

pytestmark = pytest.mark.slow  # whole validators: a second or two each


class Rebuilt:
    """Four validators on the books of a lost chain, whose last listed batches were theirs."""

    def __init__(self, organisations: tuple[Organisation, ...] = RENEWED[:4]) -> None:
        self.lost = lost_chain()
        self.genesis = rebuild(self.lost)
        self.cluster = Cluster(seed=7, genesis=self.genesis, organisations=organisations)
        self.nodes = self.cluster.nodes
        for node in self.nodes:
            self.fill(node)
        self.sent: list[Envelope] = []

    def fill(self, node: Node) -> None:
        """What `node init` puts into its home."""
        node.states = copy.deepcopy(self.lost.ledger.store)
        node.states.commit(succeed(self.genesis, State.open(node.states)), sync=True)
        first = FirstHeightWrite(self.genesis.height + 1, genesis_header_of(self.genesis).digest)
        node.blocks.commit([first], sync=True)

    def submit(self, by: int, number: int) -> Envelope:
        envelope = self.lost.ledger.envelope(
            [policy_issue(policy_id=b"rebuilt-%08d" % number)],
            by=INSURERS[by],
            chain_id=self.genesis.chain_id,
            not_after_ms=self.cluster.now.wall_ms + 3_600_000,
        )
        self.nodes[by].submit(envelope)
        self.sent.append(envelope)
        return envelope

    def load(self, count: int) -> None:
        for _ in range(count):
            self.submit(len(self.sent) % 4, len(self.sent))
            self.cluster.run(60)

    def settle(self, within_ms: int = 30_000) -> None:
        waiting = [node for node in self.nodes if node.up]
        assert self.cluster.run(within_ms, lambda: all(proven(n, e) for e in self.sent for n in waiting)), [
            (node.id, node.validator.status()) for node in waiting
        ]
        assert_agreement(self.cluster)


@pytest.fixture
def rebuilt() -> Rebuilt:
    made = Rebuilt()
    made.cluster.start()
    made.cluster.run(500)
    return made


def test_blocks_and_batches_go_on_above_the_genesis_block(rebuilt: Rebuilt) -> None:
    heads = dict(rebuilt.lost.ledger.state.iterate(HEADS))
    assert heads
    rebuilt.load(12)
    rebuilt.settle()
    node = rebuilt.nodes[0]
    first = node.block(rebuilt.genesis.height + 1)
    assert first.header.parent_digest == genesis_header_of(rebuilt.genesis).digest
    assert (first.header.epoch, first.header.height) == (1, 6)
    for key, before in heads.items():
        after = node.state.get(HEADS, key)
        assert after is not None
        assert after.incarnation > before.incarnation


def test_an_envelope_is_executed_once_though_it_is_sent_to_all(rebuilt: Rebuilt) -> None:
    envelope = rebuilt.submit(0, 1)
    for node in rebuilt.nodes[1:]:
        node.submit(envelope)
    rebuilt.settle()
    codes = [
        receipt.code
        for notice in rebuilt.nodes[2].notices
        if isinstance(notice, ExecutedNotice)
        for receipt in notice.receipts
        if receipt.envelope_id == envelope.id
    ]
    assert codes.count(Code.OK) == 1


def test_everybody_crashes_and_starts_again(rebuilt: Rebuilt) -> None:
    rebuilt.load(3)
    for node in rebuilt.nodes:
        node.crash()
    rebuilt.cluster.start_all_that_are_down()
    rebuilt.load(3)
    rebuilt.settle()


def test_a_crash_before_the_first_block_costs_nothing() -> None:
    made = Rebuilt()
    made.cluster.start()
    for node in made.nodes:
        node.crash()
    made.cluster.start_all_that_are_down()
    made.load(2)
    made.settle()


def test_the_set_of_validators_changes_and_proofs_lead_there_from_the_new_genesis(rebuilt: Rebuilt) -> None:
    rebuilt.load(4)
    seats = [Seat(node.id, epoch_key(node.id, 2)) for node in rebuilt.nodes]
    rebuilt.cluster.changes[b"rebuilt-%08d" % 900] = tuple(seats)
    rebuilt.submit(0, 900)
    assert rebuilt.cluster.run(20_000, lambda: all(node.validator.epoch.number == 2 for node in rebuilt.nodes))
    rebuilt.load(4)
    rebuilt.settle()
    node = rebuilt.nodes[1]
    proof = record_proof(StoredBlocks(node.blocks, node.state), node.state, EPOCHS, (2).to_bytes(8, "big"))
    assert len(proof.header.hand_overs) == 1
    shown = verify_proof(Proof(rebuilt.genesis.chain_id, proof), rebuilt.genesis)
    assert shown.header.epoch == 2
    assert shown.known is not None
    assert sorted(shown.known.starts) == [1, 2]


def test_a_node_that_was_away_for_long_fetches_the_state(rebuilt: Rebuilt) -> None:
    away = rebuilt.nodes[3]
    away.crash()
    rebuilt.load(60)
    rebuilt.cluster.run(2_000)
    away.settings = msgspec.structs.replace(SETTINGS, snapshot_blocks=5, snapshot_writes=1_000_000)
    away.start()
    level = rebuilt.nodes[0].validator.executed_height
    assert rebuilt.cluster.run(60_000, lambda: away.validator.executed_height >= level)
    assert away.blocks.first_height() > rebuilt.genesis.height + 1, "it fetched the blocks"
    assert away.state.height_record(away.state.height) == rebuilt.nodes[0].state.height_record(away.state.height)


def test_a_newcomer_that_has_the_books_only_catches_up(rebuilt: Rebuilt) -> None:
    rebuilt.nodes[3].crash()
    rebuilt.load(8)
    late = rebuilt.nodes[3]
    late.blocks, late.states = MemoryBlockStore(), MemoryStateStore()
    rebuilt.fill(late)
    late.start()
    last = rebuilt.submit(0, 100)
    assert rebuilt.cluster.run(30_000, lambda: executed(late, last) is not None)
    assert_agreement(rebuilt.cluster)
