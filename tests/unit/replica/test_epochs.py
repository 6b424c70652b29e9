"""A replica across changes of the validator set: what it follows, and which hand-overs it refuses (consensus.md §9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consensus.types import Certificate, Proposal, Vote, VoteKind
from consensus.votes import vote_message
from contracts.tables import TABLES
from crypto.hashing import TAG_BATCH_SIGNATURE
from ledger import operations as ops
from ledger.epochs import current_epoch
from ledger.evidence import EVIDENCE, breaches
from ledger.genesis import Genesis
from ledger.invariant import InvariantViolated
from ledger.organisations import CARDS
from ledger.proof_errors import BelowCheckpoint
from ledger.proof_types import Proof
from ledger.proofs import verify_proof
from ledger.types import Ack, Batch, Block, JustifiedHeader
from ledger.wire import (
    decode_batch,
    decode_block,
    encode_batch,
    encode_batch_header,
    encode_payload,
    make_justification,
)
from node.turn import PeerMessage, PeerMessages
from replica.errors import FeedError, ForgedBlock, ForgedCertificate, Gap
from replica.execute import ReplicaExecutor
from replica.follow import Follower
from replica.introductions import known_epochs
from replica.verify import ChainVerifier, Head, StartPoint
from services.blocks import block_message
from services.members import Members, members_of
from services.state_reader import StateReader
from store.errors import FailureKind, StoreFailed
from tests.support.chain import altered, altered_certificate, altered_header
from tests.support.epoch_cluster import Node
from tests.support.insurers import SUPERVISOR
from tests.support.notices import proven
from tests.support.replicas import ReplicaStores, execute, follow_until, honest
from tests.support.voting import plain_card
from tests.unit.node.test_epochs import Market, finalizes, seat
from tests.unit.node.test_governed_change import NEWCOMERS, Governed
from tests.unit.replica.test_verify import feed


class History(Market):
    """Three epochs: the first ends with tails, a batch of it is listed in the second, in which a double vote of the
    first is recorded; the second takes in a fifth validator and lets the fourth go."""

    def __init__(self) -> None:
        super().__init__(newcomers=1)
        self.made: dict[bytes, int] = {}  #: epoch of every batch, by its digest
        self.ends: set[bytes] = set()
        self.cluster.lose = self.lose
        self.load(3)
        self.rotate()
        self.cluster.run(30)
        self.load(8, every_ms=5)
        self.reach(1)
        self.double_vote(1)
        self.load(5)
        self.reach_everywhere()
        self.change(*[seat(self.nodes[at], 2) for at in (0, 1, 2, 4)])
        self.reach(2)
        self.load(5, by=(0, 1, 2))
        self.reach_everywhere()
        final = min(node.validator.finalized_height for node in self.nodes)
        self.blocks = [self.nodes[0].block(height) for height in range(1, final + 1)]

    def reach_everywhere(self) -> None:
        assert self.cluster.run(30_000, lambda: all(proven(n, e) for e in self.sent for n in self.nodes[:3]))

    def lose(self, _: Node, __: Node, message: PeerMessage) -> bool:
        """Finality of the first boundary until there are two tails; and the acknowledgements that would have listed the
        last batches of epoch 0 in it."""
        if isinstance(message, Batch):
            self.made[message.header.digest] = message.header.epoch
        if isinstance(message, Proposal) and message.header.epoch == 0:
            header = message.header
            if header.next_valset_hash or header.parent_digest in self.ends:
                self.ends.add(header.digest)
        late = isinstance(message, Ack) and message.epoch == 0 and len(self.sent) > 5
        return late or (finalizes(message) and 0 < len(self.ends) <= 2)

    def double_vote(self, signer: int) -> None:
        """One validator is found to have voted twice in the epoch before."""
        culprit, witness = self.nodes[signer], self.nodes[0]
        before = witness.validator._before
        assert before is not None
        floor = before.core.floor
        assert floor is not None
        for digest in (b"one " * 8, b"two " * 8):
            fields = (VoteKind.NOTARIZE, 0, floor.view, floor.view - 1, digest)
            signature = culprit.key.sign(vote_message(self.genesis.chain_id, *fields))
            witness.give(PeerMessages(culprit.id, (Vote(*fields, signer, signature),)))

    @property
    def genesis(self) -> Genesis:
        return self.cluster.genesis

    def boundary(self, epoch: int) -> Block:
        return next(b for b in self.blocks if b.header.epoch == epoch and b.header.next_valset_hash)


@pytest.fixture(scope="module")
def history() -> History:
    return History()


@pytest.fixture
def stores(tmp_path: Path, history: History) -> Iterator[ReplicaStores]:
    made = ReplicaStores(tmp_path, history.genesis, history.cluster.contracts)
    yield made
    made.close()


def at_height(height: int) -> Callable[[Follower, ReplicaExecutor], bool]:
    return lambda _, executor: executor.height >= height


def resigned(history: History, block: Block, **changes: object) -> Block:
    """The block with other header fields and a Finalization of it by a quorum that colludes."""
    changed = altered_header(altered(block, tails=()), **changes)
    header = changed.header
    fields = (VoteKind.FINALIZE, header.epoch, header.view, header.parent_view, header.digest)
    message = vote_message(history.genesis.chain_id, *fields)
    keys = [history.cluster.by_id[each.organisation] for each in history.sets[header.epoch][:3]]
    signatures = tuple(node.sign(header.epoch, message) for node in keys)
    return altered(changed, finalization=Certificate(*fields, (0, 1, 2), signatures))


def assert_same_roots(executor: ReplicaExecutor, history: History, heights: range) -> None:
    for height in heights:
        assert executor.roots(height) == history.nodes[0].state.height_record(height)


# -- following ---------------------------------------------------------------------------------


def test_a_replica_follows_every_epoch_from_the_genesis(history: History, stores: ReplicaStores) -> None:
    last = len(history.blocks)
    follower, executor, _ = follow_until(stores, history, {"insurer-1": honest(history.blocks)}, at_height(last))
    assert follower.failure == ""
    assert_same_roots(executor, history, range(last + 1))
    epoch, record = current_epoch(executor.state)
    assert (epoch, record.members) == (2, history.sets[2])
    found = {(record.organisation, record.epoch) for _, record in executor.state.iterate(EVIDENCE)}
    assert found == {("insurer-2", 0)}
    assert executor.breaches == breaches(history.nodes[0].state)


def test_the_history_has_what_the_other_tests_need(history: History) -> None:
    assert len(history.boundary(0).tails) == 2
    assert history.boundary(1).tails == ()
    after = history.blocks[history.boundary(0).header.height]
    assert {history.made[digest] for digest in after.payload.batch_digests} == {0}
    assert after.payload.statements


def test_a_replica_may_be_restarted_after_any_block(history: History, stores: ReplicaStores) -> None:
    for block in history.blocks:
        execute(stores.executor(), history, [block])
        stores.reopen()
    executor = stores.executor()
    assert executor.height == len(history.blocks)
    assert_same_roots(executor, history, range(len(history.blocks) + 1))


def test_from_any_block_on_a_replica_believes_the_proof_of_a_later_card_and_none_of_an_earlier_state(
    history: History, stores: ReplicaStores, tmp_path: Path
) -> None:
    """Whoever is that far behind gets to know by it whom it dials (``replica.introductions``)."""
    (tmp_path / "ahead").mkdir()
    ahead = ReplicaStores(tmp_path / "ahead", history.genesis, history.cluster.contracts)
    level = ahead.executor()
    execute(level, history, history.blocks)
    key = b"insurer-1"
    reader = StateReader(level.state, level.chain, TABLES, position_of=ahead.index.position)
    proof = Proof(history.genesis.chain_id, reader.record_proof(CARDS.prefix + key))
    ahead.close()
    shown = proof.subject.header.subject
    assert shown.epoch == 2
    executor = stores.executor()
    for block in history.blocks:
        known = known_epochs(history.genesis, executor, None)
        if executor.height <= shown.height:
            assert verify_proof(proof, history.genesis, known=known).key == CARDS.prefix + key
        else:
            with pytest.raises(BelowCheckpoint):
                verify_proof(proof, history.genesis, known=known)
        execute(executor, history, [block])


def test_a_crash_while_the_end_of_an_epoch_is_written_costs_nothing(
    history: History, stores: ReplicaStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = history.boundary(0).header.height

    def full(*_: object, **__: object) -> None:
        raise StoreFailed(FailureKind.DISK_FULL, "write", Path("state"))

    executor = stores.executor()
    execute(executor, history, history.blocks[: at - 1])
    with monkeypatch.context() as patched:
        patched.setattr(stores.state, "commit", full)
        with pytest.raises(StoreFailed):
            execute(executor, history, history.blocks[at - 1 : at])
    stores.reopen()
    executor = stores.executor()
    assert (executor.height, executor.epoch) == (at - 1, 0)
    execute(executor, history, history.blocks[at - 1 :])
    assert_same_roots(executor, history, range(len(history.blocks) + 1))


def test_a_replica_follows_a_replica(history: History, stores: ReplicaStores, tmp_path: Path) -> None:
    first = stores.executor()
    execute(first, history, history.blocks)
    served = []
    for height in range(1, first.height + 1):
        stored = first.chain.block(height)
        assert stored is not None
        served.append(decode_block(block_message(stored)))
    assert [block.tails for block in served] == [block.tails for block in history.blocks]
    (tmp_path / "second").mkdir()
    second = ReplicaStores(tmp_path / "second", history.genesis, history.cluster.contracts)
    try:
        executor = second.executor()
        execute(executor, history, served)
        assert_same_roots(executor, history, range(len(history.blocks) + 1))
    finally:
        second.close()


def test_the_blocks_that_change_the_members_are_noticed(history: History, stores: ReplicaStores) -> None:
    executor, noticed = stores.executor(), []
    for block in history.blocks:
        execute(executor, history, [block])
        if executor.members_changed:
            noticed.append(block.header.height)
    assert noticed == [history.boundary(0).header.height, history.boundary(1).header.height]


def test_a_member_that_is_admitted_by_vote_is_noticed(tmp_path: Path) -> None:
    market = Governed(newcomers=NEWCOMERS[:1], running=4)
    changes = [
        ops.CardChange(plain_card(NEWCOMERS[0])),
        ops.CardChange(plain_card(SUPERVISOR, public_address="127.0.0.1:9")),
    ]
    for number, change in enumerate(changes):
        market.decide(f"card-{number}", change)
    market.load(2)
    market.settle()
    node = market.nodes[0]
    stores = ReplicaStores(tmp_path, market.cluster.genesis)
    members = Members.from_genesis(market.cluster.genesis)
    try:
        executor = stores.executor()
        for height in range(1, node.validator.finalized_height + 1):
            execute(executor, market.cluster, [node.block(height)])
            if executor.members_changed:
                members.update(members_of(executor.state))
    finally:
        stores.close()
    assert members.generation == len(changes)
    assert list(members) == members_of(node.state)
    assert NEWCOMERS[0].id in {member.id for member in members}


def test_what_follows_an_epoch_is_examined_only_once_its_end_is_executed(history: History) -> None:
    verifier = verifier_at(history, history.boundary(0).header.height - 1)
    feed(verifier, history.boundary(0), "insurer-1")
    assert verifier.epoch_ended
    with pytest.raises(InvariantViolated, match="before the epoch it is of began"):
        verifier.examine(history.blocks[verifier.final_height], "insurer-1")


# -- what no honest node serves ----------------------------------------------------------------


def verifier_at(history: History, height: int) -> ChainVerifier:
    """A verifier that has followed to a height; its rules are those of the node's own state."""
    source = history.nodes[0].validator._epochs
    epochs = {}
    heads: dict[str, Head] = {}
    for block in history.blocks[:height]:
        for batch in block.batches:
            header = batch.header
            heads[header.origin] = Head(header.incarnation, header.sequence, header.digest)
        if block.header.epoch not in epochs:
            rules = source.header_rules(block.header.epoch)
            assert rules is not None
            epochs[rules.validators.epoch] = rules
    tip = history.blocks[height - 1].header
    if tip.next_valset_hash:
        rules = source.header_rules(tip.epoch + 1)
        assert rules is not None
        epochs[tip.epoch + 1] = rules
    return ChainVerifier(chain_id=history.genesis.chain_id, epochs=epochs, start=StartPoint(tip, heads))


def refused(history: History, block: Block, kind: type[FeedError], words: str, *, after: int | None = None) -> None:
    """The block is refused in these words; the honest one is taken afterwards."""
    verifier = verifier_at(history, block.header.height - 1 if after is None else after)
    with pytest.raises(kind, match=words) as caught:
        feed(verifier, block, "liar")
    assert type(caught.value) is kind
    assert caught.value.source == "liar"
    assert feed(verifier, history.blocks[verifier.next_height - 1], "insurer-1")


def test_invalid_an_end_without_its_finalization(history: History) -> None:
    for epoch in (0, 1):
        block = altered(history.boundary(epoch), finalization=None, tails=())
        refused(history, block, ForgedCertificate, "no finalization of it or of a tail")


def test_invalid_tails_left_out_added_or_in_another_order(history: History) -> None:
    boundary = history.boundary(0)
    first, second = boundary.tails
    refused(history, altered(boundary, tails=()), ForgedCertificate, "for another block")
    refused(history, altered(boundary, tails=(first,)), ForgedCertificate, "for another block")
    for tails in ((second,), (second, first), (first, first)):
        refused(history, altered(boundary, tails=tails), ForgedBlock, "does not build on what was served before it")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 99}, "repeats the boundary's height"),
        ({"timestamp_ms": 1}, "repeats the boundary's timestamp_ms"),
        ({"state_root": b"x" * 32}, "repeats the boundary's state_root"),
        ({"next_valset_hash": b"x" * 32}, "ends the epoch a second time"),
        ({"payload_root": b"x" * 32}, "lists batches after the end"),
        ({"epoch": 1}, "another epoch"),
        ({"valset_hash": b"x" * 32}, "another validator set"),
        ({"chain_id": b"x" * 32}, "another chain"),
    ],
)
def test_invalid_tails_that_repeat_something_else(history: History, change: dict[str, object], words: str) -> None:
    boundary = history.boundary(0)
    tail = boundary.tails[-1]
    header = altered_header(altered(boundary, header=tail.header), **change).header
    tails = (*boundary.tails[:-1], JustifiedHeader(header, tail.justification))
    refused(history, altered(boundary, tails=tails), ForgedBlock, words)


def test_invalid_tails_with_another_justification(history: History) -> None:
    boundary = history.boundary(0)
    first, second = boundary.tails
    swapped = (JustifiedHeader(first.header, second.justification), second)
    refused(history, altered(boundary, tails=swapped), ForgedCertificate, "tail of view .*not the one its header")
    parent = first.justification.parent
    assert parent is not None
    forged = make_justification(
        altered_certificate(parent, signatures=(bytes(64), *parent.signatures[1:])), first.justification.nullifications
    )
    header = altered_header(
        altered(boundary, header=first.header), justification_digest=forged.digest, next_valset_hash=b""
    ).header
    target = (VoteKind.FINALIZE, header.epoch, header.view, header.parent_view, header.digest)
    signatures = tuple(node.sign(0, vote_message(history.genesis.chain_id, *target)) for node in history.nodes[:3])
    finalization = Certificate(*target, (0, 1, 2), signatures)
    block = altered(boundary, tails=(JustifiedHeader(header, forged),), finalization=finalization)
    refused(history, block, ForgedCertificate, "bad signature in the notarize certificate")


def test_invalid_tails_of_a_block_that_ends_nothing(history: History) -> None:
    block = altered(history.blocks[1], tails=history.boundary(0).tails)
    refused(history, block, ForgedBlock, "does not end its epoch")


def test_invalid_another_next_set_than_was_signed(history: History) -> None:
    boundary = history.boundary(1)
    refused(history, altered_header(boundary, next_valset_hash=b"x" * 32), ForgedCertificate, "for another block")


def test_invalid_a_certificate_by_the_set_of_another_epoch(history: History) -> None:
    block = history.blocks[history.boundary(0).header.height]
    assert block.finalization is not None
    forged = altered(block, finalization=altered_certificate(block.finalization, epoch=0))
    refused(history, forged, ForgedCertificate, "another epoch")
    message = vote_message(
        history.genesis.chain_id, VoteKind.FINALIZE, 1, block.header.view, block.header.parent_view, block.header.digest
    )
    old = tuple(node.sign(0, message) for node in history.nodes[:3])  # keys of epoch 0, leaked
    forged = altered(block, finalization=altered_certificate(block.finalization, signers=(0, 1, 2), signatures=old))
    refused(history, forged, ForgedCertificate, "bad signature")


def test_invalid_a_block_of_the_old_epoch_after_its_end(history: History) -> None:
    at = history.boundary(0).header.height
    first = history.blocks[at]
    refused(history, altered_header(first, epoch=0), ForgedBlock, "another epoch")
    refused(history, altered_header(first, parent_view=1, view=2), Gap, "does not build on")


def test_invalid_the_next_epoch_before_the_old_one_has_ended(history: History) -> None:
    at = history.boundary(0).header.height
    early = altered_header(history.blocks[at], height=at)
    refused(history, early, ForgedBlock, "another epoch", after=at - 1)


def test_invalid_a_batch_of_two_epochs_before(history: History) -> None:
    old = next(batch for block in history.blocks for batch in block.batches if batch.header.epoch == 0)
    block = next(b for b in history.blocks if b.header.epoch == 2 and b.batches)
    payload = encode_payload([old.header.digest])
    forged = altered_header(altered(block, batches=(old,), payload=payload), payload_root=payload.root)
    refused(history, forged, ForgedBlock, "for another network or epoch")


def test_invalid_a_batch_of_one_who_has_left(history: History) -> None:
    """Its seat is gone, and so is the key of the epoch the batch claims to be of."""
    block = next(b for b in history.blocks if b.header.epoch == 2 and b.batches)
    leaver, given = history.nodes[3], block.batches[0]
    header = encode_batch_header(
        chain_id=history.genesis.chain_id,
        epoch=2,
        origin=leaver.id,
        incarnation=99,
        sequence=1,
        previous=given.header.previous,
        envelopes=given.envelopes,
        attachment_root=given.header.attachment_root,
    )
    signature = leaver.sign(2, TAG_BATCH_SIGNATURE + header)
    batch = decode_batch(encode_batch(header, signature, given.envelopes))
    payload = encode_payload([batch.header.digest])
    forged = altered_header(altered(block, batches=(batch,), payload=payload), payload_root=payload.root)
    refused(history, forged, ForgedBlock, "who is no validator of epoch 2")


def test_a_source_that_forges_a_hand_over_is_named_and_the_next_one_goes_on(
    history: History, stores: ReplicaStores
) -> None:
    boundary = history.boundary(0)
    at, last = boundary.header.height, len(history.blocks)
    forged = [*history.blocks[: at - 1], altered(boundary, tails=boundary.tails[:1]), *history.blocks[at:]]
    scripts = {"insurer-1": honest(forged), "insurer-2": honest(history.blocks)}
    follower, executor, feed_ = follow_until(stores, history, scripts, at_height(last))
    assert feed_.asked == [("insurer-1", 1), ("insurer-2", at)]
    fault = follower.last_fault
    assert fault is not None
    assert (fault.kind, fault.height, fault.source) == ("forged certificate", at, "insurer-1")
    assert_same_roots(executor, history, range(last + 1))


# -- what a quorum does against its own state ----------------------------------------------------


def rule_broken(history: History, stores: ReplicaStores, block: Block, words: str) -> None:
    served = [*history.blocks[: block.header.height - 1], block]
    follower, executor, _ = follow_until(stores, history, {"insurer-1": honest(served)}, lambda *_: False)
    assert follower.diverged
    assert f"DIVERGENCE: block {block.header.height} {words}" in follower.failure
    assert executor.height == block.header.height - 1
    assert stores.index.distrusted() == [], "a quorum signed it: no source is to blame"


def test_invalid_an_epoch_that_ends_without_an_approved_change(history: History, stores: ReplicaStores) -> None:
    rule_broken(
        history, stores, resigned(history, history.blocks[2], next_valset_hash=b"x" * 32), "ends epoch 0 although"
    )


def test_invalid_an_epoch_that_goes_on_after_a_change_was_approved(history: History, stores: ReplicaStores) -> None:
    rule_broken(history, stores, resigned(history, history.boundary(0), next_valset_hash=b""), "goes on with epoch 0")


def test_invalid_a_next_set_other_than_the_approved_one(history: History, stores: ReplicaStores) -> None:
    block = resigned(history, history.boundary(1), next_valset_hash=b"x" * 32)
    rule_broken(history, stores, block, "names 7878")


def test_invalid_an_epoch_that_ends_before_its_parents_state_holds_the_change(
    history: History, stores: ReplicaStores
) -> None:
    boundary = history.boundary(0).header
    before = history.blocks[boundary.height - 2]
    block = resigned(history, before, next_valset_hash=boundary.next_valset_hash)
    rule_broken(history, stores, block, "ends epoch 0 although")
