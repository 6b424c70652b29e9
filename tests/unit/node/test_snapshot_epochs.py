"""A node that was away while the set of validators changed takes a snapshot: what it believes, what it signs then."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import msgspec
import pytest

from consensus.types import Certificate
from contracts.tables import TABLES
from ledger.epochs import find_epoch
from ledger.known_epochs import KnownEpochs
from ledger.proof_types import HandOver
from ledger.snapshot import Manifest, SnapshotError, verify_leaves, verify_manifest, verify_receipts
from ledger.snapshot_import import Importer, Log
from ledger.snapshot_making import PinnedSnapshot, pin
from ledger.state import State
from ledger.succession import succeed
from ledger.wire.snapshots import encode_manifest
from node.turn import FetchChunks, FetchSnapshot, Input, SnapshotOffered
from simulator.serving import StoredBlocks
from tests.support.chains import Chain
from tests.support.epoch_cluster import SETTINGS, Cluster, Node, epoch_key
from tests.support.insurers import INSURERS, Ledger, policy_issue
from tests.support.notices import executed
from tests.support.rebuilt import RENEWED, lost_chain, rebuild
from tests.unit.node.test_epochs import Market, lose_finality_until_there_are_tails, own_votes, signers

pytestmark = pytest.mark.slow  # whole validators and their signatures: half a second a test

OTHERS = (0, 1, 2)
FAR = msgspec.structs.replace(SETTINGS, snapshot_blocks=4, snapshot_writes=1_000_000)


def market(seed: int = 1, liar: type[Node] = Node) -> Market:
    """Four validators that take a snapshot when more than four blocks are missing; the second may be a liar."""
    made = Market(seed, liars={1: liar})
    for node in made.nodes:
        node.settings = FAR
    made.load(4)
    return made


def pass_epochs(made: Market, count: int, each: int = 6) -> None:
    """Changes of all keys, and load, without the fourth validator."""
    made.nodes[3].crash()
    for _ in range(count):
        made.rotate()
        made.load(each, by=OTHERS)
        made.reach(max(made.sets), [made.nodes[index] for index in OTHERS])
    made.load(each, by=OTHERS)


def rejoin(made: Market) -> Node:
    """The fourth is started again, and is level with the others by a snapshot."""
    node = made.nodes[3]
    node.start()

    def level() -> bool:
        return node.validator.executed_height >= made.nodes[0].validator.executed_height

    assert made.cluster.run(30_000, level), node.validator.status()
    assert node.states.base_height() > 0
    return node


def replaced(made: Market) -> Node:
    """The fourth with an empty disk."""
    fresh = Node(made.cluster, 3, INSURERS[3])
    fresh.settings = FAR
    made.nodes[3] = made.cluster.by_id[fresh.id] = fresh
    return fresh


def ends(node: Node, epochs: int) -> list[HandOver | None]:
    """How the epochs ended, as the node would show others."""
    source = StoredBlocks(node.blocks, node.state)
    return [source.hand_over(epoch) for epoch in range(epochs)]


def known_to(node: Node) -> KnownEpochs:
    return node.validator._epochs.known()


# -- afterwards it is a validator like the others ------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_node_that_was_away_over_changes_of_the_set_signs_in_the_present_epoch_and_in_no_other(epochs: int) -> None:
    made = market()
    signed = own_votes(made.nodes[3], 0)
    assert signed
    pass_epochs(made, epochs)
    node = rejoin(made)
    assert find_epoch(node.state, epochs) == find_epoch(made.nodes[0].state, epochs)
    assert ends(node, epochs) == ends(made.nodes[0], epochs)
    assert None not in ends(node, epochs)
    assert known_to(node) == known_to(made.nodes[0])
    made.nodes[1].crash()  # now nothing goes on without its votes
    made.load(6, by=(0, 2, 3))
    assert made.cluster.run(30_000, lambda: all(executed(made.nodes[0], each) for each in made.sent))
    made.judge()
    assert node.id in signers(made, epochs)
    assert [own_votes(node, epoch) for epoch in range(epochs)] == [signed, *([[]] * (epochs - 1))]


def test_a_node_whose_disk_is_gone_follows_the_hand_overs_from_the_genesis() -> None:
    made = market()
    pass_epochs(made, 2)
    replaced(made)
    node = rejoin(made)
    made.load(6)
    made.cluster.run(3_000)
    made.judge()
    assert node.id in signers(made, 2)


def test_a_node_without_its_key_of_the_present_epoch_observes_until_the_next_change() -> None:
    made = market()
    del made.nodes[3].keys[epoch_key(made.nodes[3].id, 1)]
    pass_epochs(made, 1)
    node = rejoin(made)
    assert node.validator.status()["signing"] == "observer"
    made.rotate()
    made.reach(2)
    made.load(6)
    made.cluster.run(3_000)
    made.judge()
    assert own_votes(node, 1) == []
    assert node.id in signers(made, 2)


def test_who_took_a_snapshot_shows_the_hand_overs_to_the_next_one() -> None:
    made = market()
    pass_epochs(made, 2)
    first = rejoin(made)
    offered = pin(first.state, StoredBlocks(first.blocks, first.state)).manifest
    assert verify_manifest(offered, KnownEpochs.of_genesis(made.cluster.genesis)).header.epoch == 2


# -- at any height around the boundary -----------------------------------------------------------


class UpTo(StoredBlocks):
    """The blocks of a node, as they were when this height was its last."""

    def __init__(self, node: Node, height: int) -> None:
        super().__init__(node.blocks, node.state)
        self._height = height

    def finalized_height(self) -> int:
        return self._height


def imported(fresh: Node, pinned: PinnedSnapshot) -> None:
    """All chunks of a snapshot, proved, in the stores of a node that holds the genesis only."""
    snapshot = verify_manifest(pinned.manifest, KnownEpochs.of_genesis(fresh.cluster.genesis))
    fresh.start()
    fresh.crash()
    importer = Importer(fresh.states, snapshot)
    fresh.states.import_rows(importer.retarget())
    for log, wanted in importer.wanted.items():
        while (first := importer.held[log]) < wanted:
            if log is Log.LEAVES:
                leaves = pinned.leaves(first, wanted)
                rows = importer.take(log, leaves.leaves, verify_leaves(leaves, snapshot))
            else:
                receipts = pinned.receipts(first, wanted)
                rows = importer.take(log, receipts.receipts, verify_receipts(receipts, snapshot))
            fresh.states.import_rows(rows)


@pytest.mark.parametrize("tails", [False, True], ids=["boundary final", "tail final"])
def test_a_snapshot_of_any_height_around_a_boundary_opens_and_leads_on(tails: bool) -> None:
    made = market()
    if tails:
        lose_finality_until_there_are_tails(made, 3)
    pass_epochs(made, 1)
    server = made.nodes[0]
    record = find_epoch(server.state, 1)
    assert record is not None
    boundary = record.first_height - 1
    assert (len(server.block(boundary).tails) > 0) == tails
    heights: set[int] = set()
    for certified in range(boundary - 2, boundary + 6):
        pinned = pin(server.state, UpTo(server, certified))
        if pinned.height in heights:
            continue
        heights.add(pinned.height)
        fresh = replaced(made)
        imported(fresh, pinned)
        fresh.start()
        assert fresh.states.base_height() == pinned.height
        made.reach(1, [fresh])
        made.cluster.run(2_000)
        assert fresh.validator.executed_height == server.validator.executed_height
        assert ends(fresh, 1) == ends(server, 1)
        fresh.crash()
    assert {boundary - 1, boundary, boundary + 1} <= heights


# -- what is not believed ------------------------------------------------------------------------


def altered(manifest: Manifest, hand_overs: Sequence[HandOver]) -> Manifest:
    """The manifest with other hand-overs."""
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__ if name != "raw"}
    header = msgspec.structs.replace(manifest.header, hand_overs=tuple(hand_overs))
    return encode_manifest(**(fields | {"header": header}))


def without_signer(each: HandOver) -> HandOver:
    was = each.finalization
    fewer = Certificate(was.kind, was.epoch, was.view, was.parent_view, was.digest, was.signers[1:], was.signatures[1:])
    return msgspec.structs.replace(each, finalization=fewer)


def other_key(each: HandOver) -> HandOver:
    member = msgspec.structs.replace(each.members[0], consensus_key=bytes(31) + b"\1")
    return msgspec.structs.replace(each, members=(member, *each.members[1:]))


FORGED: dict[str, Callable[[Sequence[HandOver]], list[HandOver]]] = {
    "none": lambda _: [],
    "the last left out": lambda all_of: list(all_of[:-1]),
    "the first twice": lambda all_of: [all_of[0], all_of[0]],
    "a member with another key": lambda all_of: [*all_of[:-1], other_key(all_of[-1])],
    "too few signers": lambda all_of: [without_signer(all_of[0]), *all_of[1:]],
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_invalid_hand_overs_expose_who_shows_them(forge: Callable[[Sequence[HandOver]], list[HandOver]]) -> None:
    class Forger(Node):
        def serve_snapshot(self, fetch: FetchSnapshot | FetchChunks) -> list[Input]:
            answer = super().serve_snapshot(fetch)
            if isinstance(fetch, FetchSnapshot) and answer:
                genuine = answer[0]
                assert isinstance(genuine, SnapshotOffered)
                return [SnapshotOffered(self.id, altered(genuine.manifest, forge(genuine.manifest.header.hand_overs)))]
            return answer

    made = market(liar=Forger)
    pass_epochs(made, 2)
    node = rejoin(made)
    assert {penalty.peer for penalty in node.penalties} == {made.nodes[1].id}
    assert all("snapshot" in penalty.reason for penalty in node.penalties)
    made.judge()


def test_a_second_history_signed_with_old_keys_is_refused_by_who_has_seen_the_first() -> None:
    """All keys of epoch 0 and 1 leaked: the forged chain is as good as the genuine one, to a stranger."""
    genuine, forged = market(seed=1), market(seed=2)
    for made in (genuine, forged):
        made.nodes[3].crash()
    genuine.nodes[3].start()
    genuine.rotate()
    genuine.reach(1)
    pass_epochs(forged, 2)
    liar = forged.nodes[0]
    offered = pin(liar.state, StoredBlocks(liar.blocks, liar.state)).manifest
    assert verify_manifest(offered, KnownEpochs.of_genesis(genuine.cluster.genesis)).header.epoch == 2
    with pytest.raises(SnapshotError, match="end of epoch 0"):
        verify_manifest(offered, KnownEpochs.of_genesis(genuine.cluster.genesis), seen=known_to(genuine.nodes[3]))


# -- on the books of a network before ------------------------------------------------------------


def on_old_books(cluster: Cluster, index: int, chain: Chain) -> Node:
    """A node of a rebuilt network, as `init` leaves it: the old books and the new genesis block."""
    node = Node(cluster, index, RENEWED[index])
    node.settings = FAR
    node.states = copy.deepcopy(chain.ledger.store)
    node.states.commit(succeed(cluster.genesis, State.open(node.states)))
    cluster.nodes[index] = cluster.by_id[node.id] = node
    return node


def test_a_node_of_a_rebuilt_network_takes_a_snapshot_on_its_old_books() -> None:
    chain = lost_chain()
    genesis, maker = rebuild(chain), Ledger()
    cluster = Cluster(seed=4, genesis=genesis, organisations=RENEWED[:4])
    for index in range(4):
        on_old_books(cluster, index, chain)
    for node in cluster.nodes[:3]:
        node.start()
    old = genesis.height
    for number in range(10):
        envelope = maker.envelope(
            [policy_issue(policy_id=b"rebuilt-%08d" % number)],
            by=RENEWED[number % 3],
            chain_id=genesis.chain_id,
            not_after_ms=cluster.now.wall_ms + 3_600_000,
        )
        cluster.nodes[number % 3].submit(envelope)
        cluster.run(300)
    late = cluster.nodes[3]
    late.start()
    assert cluster.run(20_000, lambda: late.validator.executed_height >= cluster.nodes[0].validator.executed_height)
    assert late.states.base_height() > old + FAR.snapshot_blocks
    assert late.states.height_record(old) == cluster.nodes[0].states.height_record(old)
    for table in TABLES:
        assert list(late.state.iterate(table)) == list(cluster.nodes[0].state.iterate(table))
    cluster.nodes[1].crash()
    height = cluster.nodes[0].validator.finalized_height
    assert cluster.run(20_000, lambda: cluster.nodes[0].validator.finalized_height > height), "it votes"
    assert not late.penalties
