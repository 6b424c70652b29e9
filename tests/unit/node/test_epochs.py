"""Whole validators across changes of their set, in virtual time (consensus.md §9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from consensus.records import OwnVote
from consensus.types import Certificate, Header, Proposal, Vote, VoteKind
from consensus.votes import vote_message
from ledger import wire
from ledger.epochs import Seat
from ledger.evidence import EVIDENCE
from ledger.types import Ack, Batch, Envelope
from node.turn import (
    AlarmNotice,
    EpochNotice,
    PeerMessage,
    PeerMessages,
)
from tests.support.epoch_cluster import Cluster, Node, epoch_key
from tests.support.epoch_oracle import check_agreement
from tests.support.insurers import INSURERS, SUPERVISOR, Ledger, Organisation, make_genesis, policy_issue
from tests.support.notices import accepted, assert_agreement, executed, proven
from tests.unit.node.byzantine_boundary import EndsEarly, GoesOn, NeverEnds

pytestmark = pytest.mark.slow

MAKER = Ledger()


def seat(node: Node, epoch: int) -> Seat:
    """The node's seat with its key of an epoch."""
    return Seat(node.id, epoch_key(node.id, epoch))


class Market:
    """A cluster, the sets of its epochs, and what was submitted to it."""

    def __init__(self, seed: int = 1, newcomers: int = 0, liars: Mapping[int, type[Node]] | None = None) -> None:
        organisations = [*INSURERS]
        for number in range(newcomers):
            newcomer = Organisation(f"insurer-{5 + number}", "insurer")
            newcomer.consensus_key = None
            organisations.append(newcomer)
        genesis = make_genesis((*organisations, SUPERVISOR)) if newcomers else None
        self.maker = Ledger(genesis) if newcomers else MAKER
        self.cluster = Cluster(seed, genesis=genesis, organisations=organisations, liars=liars)
        self.nodes = self.cluster.nodes
        first = [Seat(card.id, card.consensus_key) for card in self.cluster.genesis.validators]
        self.sets: dict[int, Sequence[Seat]] = {0: first}
        self.sent: list[Envelope] = []
        self.cluster.start()
        self.cluster.run(500)

    def change(self, *seats: Seat, by: int = 0) -> None:
        """Submit what approves this set as the next one."""
        epoch = max(self.sets) + 1
        policy_id = b"change-%09d" % epoch
        self.sets[epoch] = self.cluster.changes[policy_id] = tuple(sorted(seats, key=lambda s: s.organisation))
        self.submit(self.envelope(policy_id, by), by)

    def rotate(self, by: int = 0) -> None:
        """The same members with new keys."""
        epoch = max(self.sets) + 1
        members = [seat.organisation for seat in self.sets[epoch - 1]]
        self.change(*[seat(self.cluster.by_id[member], epoch) for member in members], by=by)

    def envelope(self, policy_id: bytes, by: int) -> Envelope:
        return self.maker.envelope(
            [policy_issue(policy_id=policy_id)], by=INSURERS[by], not_after_ms=self.cluster.now.wall_ms + 3_600_000
        )

    def submit(self, envelope: Envelope, by: int) -> None:
        self.nodes[by].submit(envelope)
        if self.nodes[by].up:
            self.sent.append(envelope)

    def load(self, count: int, every_ms: int = 60, by: Sequence[int] = (0, 1, 2, 3)) -> None:
        """So many policies, each through another node."""
        for _ in range(count):
            at = by[len(self.sent) % len(by)]
            self.submit(self.envelope(b"policy-%09d" % len(self.sent), at), at)
            self.cluster.run(every_ms)

    def reach(self, epoch: int, nodes: Sequence[Node] | None = None, within_ms: int = 20_000) -> None:
        """Wait until these nodes (all that are up) are in an epoch."""
        waiting = [node for node in self.nodes if node.up] if nodes is None else nodes
        assert self.cluster.run(within_ms, lambda: all(node.validator.epoch.number == epoch for node in waiting)), [
            (node.id, node.validator.status()) for node in waiting
        ]

    def settle(self, nodes: Sequence[Node] | None = None, within_ms: int = 30_000) -> list[Header]:
        """Everything sent is proven on these nodes (all that are up); the final chain, judged."""
        waiting = [node for node in self.nodes if node.up] if nodes is None else nodes
        assert self.cluster.run(within_ms, lambda: all(proven(n, e) for e in self.sent for n in waiting)), [
            (node.id, node.validator.status()) for node in waiting
        ]
        return self.judge()

    def judge(self) -> list[Header]:
        honest = [node for node in self.nodes if type(node) is Node]
        if len(honest) == len(self.nodes):
            assert_agreement(self.cluster)
        liars = {node.id for node in self.nodes} - {node.id for node in honest}
        assert {penalty.peer for node in honest for penalty in node.penalties} <= liars
        return check_agreement(self.cluster, self.sets)


def boundaries(chain: Sequence[Header]) -> list[Header]:
    return [header for header in chain if header.next_valset_hash]


def signers(market: Market, epoch: int) -> set[str]:
    """Who signed the certificates of an epoch, as far as they are stored."""
    found: set[str] = set()
    for node in market.nodes:
        for height in range(node.blocks.first_height(), (node.blocks.finalized_height() or 0) + 1):
            block = node.block(height)
            for certificate in (block.finalization, block.justification.parent):
                if certificate is not None and certificate.epoch == epoch:
                    found |= {market.sets[epoch][signer].organisation for signer in certificate.signers}
    return found


# -- changes ---------------------------------------------------------------------------------


def test_all_keys_are_rotated_while_load_continues() -> None:
    market = Market()
    market.load(5)
    market.rotate()
    market.load(40)
    market.reach(1)
    chain = market.settle()
    (boundary,) = boundaries(chain)
    after = [header for header in chain if header.epoch == 1]
    assert any(header.payload_root != wire.encode_payload(()).root for header in after), "listed beyond the boundary"
    assert after[0].parent_digest == boundary.digest
    assert market.nodes[0].validator.epoch.validators.seed == int.from_bytes(boundary.digest[:8], "big")
    assert signers(market, 1) == {node.id for node in market.nodes}


def test_a_change_ends_the_epoch_at_the_first_block_whose_parents_state_holds_it() -> None:
    market = Market()
    market.rotate()
    market.reach(1)
    chain = market.settle()
    (boundary,) = boundaries(chain)
    approved = executed(market.nodes[0], market.sent[0])
    assert approved is not None
    assert chain[boundary.height - 1].state_height >= approved
    assert all(header.state_height < approved for header in chain[: boundary.height - 1])


@pytest.mark.parametrize("dead", range(4))
def test_an_idle_network_changes_its_set_also_if_the_next_leader_is_dead(dead: int) -> None:
    """Well before the next heartbeat: an approved change is work, so the others wait for that leader, and not long."""
    market = Market()
    market.nodes[dead].crash()
    market.rotate(by=(dead + 1) % 4)
    market.reach(1, within_ms=4_000)


def test_an_idle_network_changes_its_set_without_waiting_for_heartbeats() -> None:
    market = Market()
    market.rotate()
    market.reach(1, within_ms=1_500)
    market.settle(within_ms=1_500)


@pytest.mark.parametrize("dead", range(4))
def test_a_validator_is_down_during_the_whole_change_whoever_it_is(dead: int) -> None:
    """One of the views around the boundary is its own: the leader is dead."""
    market = Market()
    others = [index for index in range(4) if index != dead]
    market.nodes[dead].crash()
    market.load(4, by=others)
    market.rotate(by=others[0])
    market.load(10, by=others)
    market.reach(1)
    market.nodes[dead].start()
    market.reach(1)
    market.load(8)
    market.settle()


def test_a_fifth_validator_joins() -> None:
    market = Market(newcomers=1)
    assert market.nodes[4].validator.status()["signing"] == "observer"
    market.load(5)
    market.change(*[seat(node, 1) for node in market.nodes])
    market.load(20)
    market.reach(1)
    market.cluster.run(1_000)
    market.submit(market.envelope(b"of the newcomer!", 1), 4)
    market.settle()
    assert market.nodes[4].id in signers(market, 1)
    assert len(market.nodes[0].validator.epoch.validators.members) == 5


def test_a_newcomer_and_four_others_finalize_with_one_dead() -> None:
    market = Market(newcomers=1)
    market.change(*[seat(node, 1) for node in market.nodes])
    market.reach(1)
    market.nodes[0].crash()
    market.load(10, by=(1, 2, 3))
    market.settle()


def test_a_removed_validator_observes_and_signs_nothing_more() -> None:
    market = Market()
    market.load(5)
    market.change(*[seat(node, 1) for node in market.nodes[:3]])
    market.load(15, by=(0, 1, 2))
    market.reach(1)
    market.load(10, by=(0, 1, 2))
    market.settle()
    removed = market.nodes[3]
    assert removed.validator.status()["signing"] == "observer"
    assert not removed.validator.caught_up, "it takes no envelopes"
    assert signers(market, 1) == {node.id for node in market.nodes[:3]}
    assert own_votes(removed, epoch=1) == []
    assert own_votes(removed, epoch=0) != []


def own_votes(node: Node, epoch: int) -> list[Vote]:
    votes = [record.vote for raw in node.log if isinstance(record := wire.decode_record(raw), OwnVote)]
    return [vote for vote in votes if vote.epoch == epoch]


def test_a_removed_validator_keeps_its_log_of_the_epoch_in_which_it_voted() -> None:
    market = Market()
    market.load(5)
    removed = market.nodes[3]
    market.change(*[seat(node, 1) for node in market.nodes[:3]])
    market.reach(1)
    market.rotate()
    market.reach(2)
    kept = {wire.decode_record(raw) for raw in removed.validator.live_records()}
    latest = own_votes(removed, epoch=0)[-3:]
    assert {OwnVote(vote) for vote in latest} <= kept
    removed.log = removed.validator.live_records()
    removed.crash()
    removed.start()
    assert {OwnVote(vote) for vote in latest} <= {wire.decode_record(r) for r in removed.validator.live_records()}
    market.settle()


def test_what_a_removed_origin_promised_is_listed_in_the_next_epoch() -> None:
    market = Market()
    market.load(5)
    market.change(*[seat(node, 1) for node in market.nodes[:3]])
    late: list[Envelope] = []
    while market.nodes[3].validator.epoch.number == 0:
        late.append(market.envelope(b"late-%011d" % len(late), 3))
        market.nodes[3].submit(late[-1])
        market.cluster.run(10)
    promised = [envelope for envelope in late if accepted(market.nodes[3], envelope)]
    assert promised
    market.sent += promised
    market.settle()


def test_a_suspended_validator_comes_back() -> None:
    market = Market()
    market.change(*[seat(node, 1) for node in market.nodes[:3]])
    market.load(8, by=(0, 1, 2))
    market.reach(1)
    market.change(*[seat(node, 2) for node in market.nodes])
    market.load(8, by=(0, 1, 2))
    market.reach(2)
    market.cluster.run(1_000)
    market.load(20)
    market.settle()
    assert signers(market, 2) == {node.id for node in market.nodes}


def test_changes_in_succession() -> None:
    market = Market(newcomers=1)
    for epoch in range(1, 6):
        if epoch % 2:
            market.change(*[seat(node, epoch) for node in market.nodes])
        else:
            market.change(*[seat(node, epoch) for node in market.nodes if node.index != epoch])
        market.load(6, by=(0, 1, 3), every_ms=30)
        market.reach(epoch)
    chain = market.settle()
    assert [header.epoch for header in boundaries(chain)] == [0, 1, 2, 3, 4]


def test_a_member_without_a_key_keeps_its_seat_and_signs_nothing() -> None:
    market = Market()
    market.change(*[seat(node, 1) for node in market.nodes[:3]], Seat(market.nodes[3].id, b""))
    market.load(10, by=(0, 1, 2))
    market.reach(1)
    market.settle()
    assert market.nodes[0].validator.epoch.validators.n == 4
    assert signers(market, 1) == {node.id for node in market.nodes[:3]}
    market.nodes[2].crash()
    height = market.nodes[0].validator.finalized_height
    market.cluster.run(15_000)
    assert market.nodes[0].validator.finalized_height == height, "its seat counts: two of four are no quorum"
    market.nodes[2].start()
    market.load(5, by=(0, 1, 2))
    market.settle()


def test_a_member_whose_key_is_lost_observes_until_the_next_change() -> None:
    market = Market()
    lost = market.nodes[1]
    del lost.keys[epoch_key(lost.id, 1)]
    market.rotate()
    market.reach(1)
    market.load(5, by=(0, 2, 3))
    assert lost.validator.status()["signing"] == "observer"
    market.rotate(by=2)
    market.reach(2)
    market.cluster.run(1_000)
    market.load(8)
    market.settle()
    assert lost.id not in signers(market, 1)
    assert lost.id in signers(market, 2)


# -- faults around the boundary --------------------------------------------------------------


def run_until_final(market: Market, nodes: Sequence[Node]) -> None:
    """Until the block that ends epoch 0 is final at one of these nodes, and not a turn longer."""

    def found() -> bool:
        return any(
            node.up
            and any(
                node.block(height).header.next_valset_hash
                for height in range(1, (node.blocks.finalized_height() or 0) + 1)
            )
            for node in nodes
        )

    assert market.cluster.run(10_000, found)


def test_everybody_crashes_between_the_boundary_and_the_first_block_after_it() -> None:
    market = Market()
    market.load(3)
    market.rotate()
    run_until_final(market, market.nodes)
    for node in market.nodes:
        node.crash()
    market.cluster.run(2_000)
    for node in market.nodes:
        node.start()
    market.reach(1)
    market.load(8)
    market.settle()


@pytest.mark.parametrize("later_ms", [1, 5, 10, 20, 30, 50, 80])
def test_everybody_crashes_somewhere_in_the_hand_over(later_ms: int) -> None:
    market = Market(seed=later_ms)
    market.rotate()
    run_until_final(market, market.nodes)
    market.cluster.run(later_ms)
    for node in market.nodes:
        node.log = node.validator.live_records()
        node.crash()
    for node in market.nodes:
        node.start()
    market.reach(1)
    market.load(8)
    market.settle()


def test_a_state_that_was_lost_is_made_again_across_the_boundary() -> None:
    """Unsynced commits of the state are gone; blocks and votes of the next epoch are not."""
    market = Market()
    market.rotate()
    market.reach(1)
    market.load(10)
    node = market.nodes[2]
    before = {vote for epoch in (0, 1) for vote in own_votes(node, epoch)}
    node.crash()
    node.states = type(node.states)()
    node.start()
    market.reach(1)
    market.load(8)
    market.settle()
    assert before <= {vote for epoch in (0, 1) for vote in own_votes(node, epoch)}
    for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
        voted = [(vote.epoch, vote.view) for epoch in (0, 1) for vote in own_votes(node, epoch) if vote.kind is kind]
        assert len(voted) == len(set(voted))


def test_a_laggard_that_slept_over_two_epochs_follows() -> None:
    market = Market()
    market.nodes[3].crash()
    others = (0, 1, 2)
    for epoch in (1, 2):
        market.rotate()
        market.load(6, by=others)
        market.reach(epoch)
    market.load(6, by=others)
    market.nodes[3].start()
    market.reach(2)
    market.cluster.run(2_000)
    market.load(12)
    market.settle()
    assert market.nodes[3].id in signers(market, 2)


def test_a_laggard_follows_in_an_idle_network_at_once() -> None:
    market = Market()
    market.cluster.isolate(3)
    market.rotate()
    market.reach(1, market.nodes[:3])
    market.cluster.run(3_000)
    market.cluster.heal()
    market.reach(1, within_ms=1_500)
    market.settle()


def test_a_laggard_is_shown_the_end_whatever_it_says() -> None:
    """It is cut off from all but one node, which has long entered the next epoch."""
    market = Market()
    market.cluster.isolate(3)
    market.rotate()
    market.reach(1, market.nodes[:3])
    market.load(5, by=(0, 1, 2))
    market.cluster.cut = {pair for pair in market.cluster.cut if 0 not in pair}
    market.nodes[3].submit(market.envelope(b"not yet accepted", 3))
    market.reach(1, market.nodes[3:])


def finalizes(message: PeerMessage) -> bool:
    return isinstance(message, Vote | Certificate) and message.kind is VoteKind.FINALIZE


def lose_finality_until_there_are_tails(market: Market, count: int) -> None:
    """Every finalize vote is lost from the first boundary on until so many tails have been built on it."""
    seen: set[bytes] = set()

    def lose(_: Node, __: Node, message: PeerMessage) -> bool:
        if isinstance(message, Proposal):
            header = message.header
            if header.next_valset_hash or header.parent_digest in seen:
                seen.add(header.digest)
        return finalizes(message) and 0 < len(seen) <= count

    market.cluster.lose = lose


def test_tails_carry_the_boundary_to_finality() -> None:
    market = Market()
    market.rotate()
    lose_finality_until_there_are_tails(market, 3)
    market.reach(1)
    market.load(5)
    chain = market.settle()
    (boundary,) = boundaries(chain)
    tails = [len(node.block(boundary.height).tails) for node in market.nodes]
    assert max(tails) >= 1
    laggard = market.nodes[3]
    laggard.crash()
    laggard.blocks, laggard.states, laggard.log = type(laggard.blocks)(), type(laggard.states)(), []
    laggard.start()
    market.reach(1)
    market.settle()


def test_a_boundary_that_was_notarized_and_never_final_loses_to_another() -> None:
    market = Market()
    market.rotate()
    first: list[Header] = []

    def lose(sender: Node, to: Node, message: PeerMessage) -> bool:
        """Whatever speaks for the first boundary reaches one node only; so it is notarized there, and nowhere else."""
        if isinstance(message, Proposal) and message.header.next_valset_hash and not first:
            first.append(message.header)
        if not first:
            return False
        speaks = isinstance(message, Vote | Certificate) and message.digest == first[0].digest
        if speaks and to.index != witness:
            return True
        return sender.index == witness and to.index != witness and speaks

    witness = 2
    core = market.nodes[witness].validator._present.core
    market.cluster.lose = lose
    assert market.cluster.run(5_000, lambda: bool(first) and core.view > first[0].view)
    notarized = core.certificate(VoteKind.NOTARIZE, first[0].view)
    assert notarized is not None
    assert notarized.digest == first[0].digest
    market.cluster.isolate(witness)
    market.reach(1, [node for node in market.nodes if node.index != witness])
    market.cluster.heal()
    market.cluster.lose = lambda *_: False
    market.reach(1)
    market.load(6)
    (boundary,) = boundaries(market.settle())
    assert boundary.digest != first[0].digest


def test_a_laggard_with_nothing_to_say_follows() -> None:
    """It was cut off before the first block: it has no certificate to show, and nothing to do."""
    market = Market()
    market.cluster.isolate(3)
    market.rotate()
    market.reach(1, market.nodes[:3])
    market.cluster.run(2_000)
    market.nodes[3].crash()
    market.cluster.heal()
    market.nodes[3].voting = False  # an observer: it makes no query either
    market.nodes[3].start()
    market.reach(1, within_ms=600)
    market.settle()


# -- liars -----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("liar", [EndsEarly, NeverEnds, GoesOn])
def test_no_leader_ends_an_epoch_or_keeps_it_from_ending(liar: type[Node], index: int) -> None:
    market = Market(liars={index: liar})
    honest = [at for at in range(4) if at != index]
    market.load(8, by=honest)
    if liar is GoesOn:
        market.cluster.lose = lambda _, __, message: finalizes(message) and market.cluster.time_ms < 6_000
    market.rotate(by=honest[0])
    market.load(8, by=honest)
    market.reach(1, [market.nodes[at] for at in honest])
    market.load(4, by=honest)
    chain = market.settle([market.nodes[at] for at in honest])
    assert len(boundaries(chain)) == 1


def test_who_voted_twice_in_the_epoch_before_is_named_after_it_has_ended() -> None:
    market = Market()
    market.load(4)
    market.rotate()
    market.reach(1)
    market.settle()
    culprit, witness = market.nodes[1], market.nodes[0]
    before = witness.validator._before
    assert before is not None
    floor = before.core.floor
    assert floor is not None
    for digest in (b"one " * 8, b"two " * 8):
        message = vote_message(
            market.cluster.genesis.chain_id, VoteKind.NOTARIZE, 0, floor.view, floor.view - 1, digest
        )
        vote = Vote(VoteKind.NOTARIZE, 0, floor.view, floor.view - 1, digest, 1, culprit.key.sign(message))
        witness.give(PeerMessages(culprit.id, (vote,)))
    named = [notice.text for notice in witness.notices if isinstance(notice, AlarmNotice) and notice.kind == "evidence"]
    assert named
    assert all(culprit.id in text for text in named)

    def recorded(node: Node) -> set[tuple[str, int]]:
        return {(record.organisation, record.epoch) for _, record in node.state.iterate(EVIDENCE)}

    assert market.cluster.run(10_000, lambda: all(recorded(node) == {(culprit.id, 0)} for node in market.nodes))
    assert not any(node.penalties for node in market.nodes)


# -- batches and acknowledgements ------------------------------------------------------------


def test_a_batch_made_before_the_boundary_is_listed_after_it_on_new_acknowledgements() -> None:
    market = Market()
    market.load(3)
    kept: dict[bytes, int] = {}

    def lose(_: Node, __: Node, message: PeerMessage) -> bool:
        """Acknowledgements of the old epoch are lost once the change is on its way."""
        if isinstance(message, Batch):
            kept[message.header.digest] = message.header.epoch
        return isinstance(message, Ack) and message.epoch == 0 and len(market.sent) > 4

    market.rotate()
    market.cluster.run(30)
    market.cluster.lose = lose
    market.load(6, every_ms=5)
    market.reach(1)
    chain = market.settle()
    listed = {
        digest
        for header in chain
        if header.epoch == 1
        for digest in market.nodes[0].block(header.height).payload.batch_digests
    }
    assert any(kept.get(digest) == 0 for digest in listed)


def test_what_was_not_listed_for_two_epochs_is_made_anew() -> None:
    """Nobody hears the acknowledgements of one origin's batches for two epochs; its envelopes come through all the
    same, in batches of the third."""
    market = Market()
    stuck = INSURERS[3].id

    def lose(_: Node, __: Node, message: PeerMessage) -> bool:
        return isinstance(message, Ack) and message.origin == stuck and message.epoch < 2

    market.cluster.lose = lose
    market.submit(market.envelope(b"stuck for a time", 3), 3)
    for epoch in (1, 2):
        market.rotate()
        market.load(4, by=(0, 1, 2))
        market.reach(epoch)
    chain = market.settle()
    assert executed(market.nodes[0], market.sent[0]) is not None
    assert chain[executed(market.nodes[0], market.sent[0]) or 0].epoch == 2


# -- everything at once ----------------------------------------------------------------------


def misfortune(market: Market) -> None:
    cluster, random = market.cluster, market.cluster.random
    dice, node = random.random(), random.choice(market.nodes)
    if dice < 0.2 and node.up and sum(other.up for other in market.nodes) > 3:
        if random.random() < 0.5:
            node.log = node.validator.live_records()
        node.crash()
    elif dice < 0.5:
        cluster.start_all_that_are_down()
    elif dice < 0.6:
        cluster.isolate(node.index)
    elif dice < 0.8 and cluster.cut:
        cluster.heal()


@pytest.mark.parametrize("seed", range(10))
def test_changes_and_load_survive_crashes_cuts_and_loss(seed: int) -> None:
    market = Market(seed, newcomers=1)
    cluster, random = market.cluster, market.cluster.random
    cluster.delay_ms_max = random.choice([10, 60, 150])
    loss = random.choice([0.0, 0.02, 0.1])
    cluster.lose = lambda *_: random.random() < loss
    promised: list[tuple[Node, Envelope]] = []
    for step in range(60):
        if step % 20 == 5:
            epoch = max(market.sets) + 1
            if all(node.validator.epoch.number == epoch - 1 for node in market.nodes if node.up):
                by = next(node.index for node in market.nodes[:4] if node.up)
                left_out = random.choice([None, 4, 3])
                market.change(*[seat(node, epoch) for node in market.nodes if node.index != left_out], by=by)
        at = random.randrange(4)
        if cluster.nodes[at].up:
            envelope = market.envelope(b"policy-%09d" % step, at)
            cluster.nodes[at].submit(envelope)
            promised.append((cluster.nodes[at], envelope))
        misfortune(market)
        cluster.run(random.randint(5, 250))
    cluster.lose = lambda *_: False
    cluster.start_all_that_are_down()
    cluster.heal()
    market.sent = [envelope for node, envelope in promised if accepted(node, envelope)]
    assert market.sent
    assert cluster.run(60_000, lambda: all(executed(n, e) is not None for e in market.sent for n in market.nodes)), [
        (node.id, node.validator.status()) for node in market.nodes
    ]
    assert_agreement(cluster)
    chain = check_agreement(cluster, market.sets)
    assert chain[-1].epoch >= 0


def test_a_network_of_one_changes_its_key() -> None:
    market = Market()
    market.change(seat(market.nodes[0], 1))
    market.load(3, by=(0,))
    market.reach(1)
    market.change(seat(market.nodes[0], 2))
    market.load(5, by=(0,))
    market.reach(2)
    market.settle()


def test_every_node_says_which_epoch_began_and_who_votes_in_it() -> None:
    market = Market()
    market.change(*[seat(node, 1) for node in market.nodes[:3]])
    market.reach(1)
    chain = market.settle()
    for node in market.nodes:
        (notice,) = [notice for notice in node.notices if isinstance(notice, EpochNotice)]
        assert notice == EpochNotice(1, boundaries(chain)[0].height + 1, tuple(n.id for n in market.nodes[:3]))
        assert node.validator.status()["epoch"] == 1
        assert node.validator.status()["validators"] == [n.id for n in market.nodes[:3]]
