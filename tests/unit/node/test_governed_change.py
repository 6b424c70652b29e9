"""Changes of the set from the vote to the first block of the next epoch: nodes register keys and declare readiness."""

from __future__ import annotations

from collections.abc import Sequence

from ledger import operations as ops
from ledger.epochs import Seat, membership
from ledger.registrations import possession_message, registered_key
from ledger.types import Envelope
from tests.support.epoch_cluster import EPOCHS_MAX, Cluster, epoch_key
from tests.support.epoch_oracle import check_agreement
from tests.support.insurers import INSURERS, Ledger, Organisation, key_of, policy_issue
from tests.support.notices import assert_agreement, executed, proven
from tests.support.voting import proposal_id, seat_card
from tests.unit.node.test_epochs import signers

NEWCOMERS = tuple(Organisation(f"newcomer-{number}", "insurer") for number in range(1, 4))


class Governed:
    """A market that decides by vote, on nodes that look after their own keys."""

    def __init__(self, seed: int = 1, newcomers: Sequence[Organisation] = (), running: int | None = None) -> None:
        self.organisations = [*INSURERS, *newcomers]
        self.cluster = Cluster(seed, organisations=self.organisations)
        self.nodes = self.cluster.nodes
        self.sent: list[Envelope] = []
        self.maker = Ledger()
        for node in self.nodes:
            node.made = {epoch: epoch_key(node.id, epoch) for epoch in range(1, EPOCHS_MAX)}
        for node in self.nodes[:running]:
            node.start()
        self.cluster.run(1_500)

    @property
    def sets(self) -> dict[int, Sequence[Seat]]:
        """As the first node's state has them: what the votes decided is judged by the tests themselves."""
        found: dict[int, Sequence[Seat]] = {}
        executor = self.nodes[0].validator._epochs._source
        while (record := executor.epoch_record(len(found))) is not None:
            found[len(found)] = record.members
        return found

    def admin(self, operation: ops.Operation, by: int) -> Envelope:
        """An operation of an admin, submitted at its own node; waits for its receipt."""
        envelope = self.maker.envelope(
            [operation],
            by=self.organisations[by],
            desks=("admin",),
            not_after_ms=self.cluster.now.wall_ms + 3_600_000,
        )
        at = by if self.nodes[by].up else 0
        self.nodes[at].submit(envelope)
        assert self.cluster.run(10_000, lambda: executed(self.nodes[at], envelope) is not None)
        return envelope

    def decide(
        self, name: str, change: ops.SetChange | ops.CardChange | ops.ParameterChange, by: Sequence[int] = (0, 1, 2)
    ) -> None:
        """Proposed by the first of these, voted for by the others."""
        epoch = self.nodes[by[0]].validator.epoch.number
        set_change = change if isinstance(change, ops.SetChange) else None
        parameters = change if isinstance(change, ops.ParameterChange) else None
        expires_ms = self.cluster.now.wall_ms + 86_400_000
        card = change if isinstance(change, ops.CardChange) else None
        proposal = ops.GovernancePropose(
            proposal_id(name), epoch, expires_ms, set_change=set_change, card_change=card, parameter_change=parameters
        )
        self.admin(proposal, by[0])
        for voter in by[1:]:
            self.admin(ops.GovernanceVote(proposal_id(name), True), voter)

    def load(self, count: int, by: Sequence[int] = (0, 1, 2), every_ms: int = 50) -> None:
        for _ in range(count):
            at = by[len(self.sent) % len(by)]
            envelope = self.maker.envelope(
                [policy_issue(policy_id=b"policy-%09d" % len(self.sent))],
                by=INSURERS[at],
                not_after_ms=self.cluster.now.wall_ms + 3_600_000,
            )
            self.nodes[at].submit(envelope)
            self.sent.append(envelope)
            self.cluster.run(every_ms)

    def reach(self, epoch: int, within_ms: int = 20_000) -> None:
        up = [node for node in self.nodes if node.up]
        assert self.cluster.run(within_ms, lambda: all(node.validator.epoch.number == epoch for node in up)), [
            (node.id, node.validator.status()) for node in up
        ]

    def settle(self) -> None:
        up = [node for node in self.nodes if node.up]
        assert self.cluster.run(30_000, lambda: all(proven(node, e) for e in self.sent for node in up))
        assert_agreement(self.cluster)
        assert not [penalty for node in self.nodes if node.starts for penalty in node.penalties]
        check_agreement(self.cluster, self.sets)

    def signers(self, epoch: int) -> set[str]:
        return signers(self, epoch)  # type: ignore[arg-type]


def test_every_validator_registers_its_next_key_by_itself() -> None:
    market = Governed()
    for node in market.nodes:
        assert registered_key(node.state, node.id, 1) == epoch_key(node.id, 1)
    height = market.nodes[0].validator.finalized_height
    market.cluster.run(4_000)
    assert market.nodes[0].validator.finalized_height - height <= 1, "then the network rests"


def test_keys_are_renewed_by_vote_while_load_continues() -> None:
    market = Governed()
    market.load(4)
    market.decide("renewal", ops.SetChange())
    market.load(20)
    market.reach(1)
    market.load(6, by=(0, 1, 2, 3))
    market.settle()
    assert market.sets[1] == tuple(Seat(node.id, epoch_key(node.id, 1)) for node in market.nodes)
    assert market.signers(1) == {node.id for node in market.nodes}
    for node in market.nodes:
        assert registered_key(node.state, node.id, 2) == epoch_key(node.id, 2), "and the next ones are registered"


def test_a_newcomer_that_nobody_knew_joins_by_vote() -> None:
    market = Governed(newcomers=NEWCOMERS[:1])
    market.load(4)
    market.decide("join", ops.SetChange(add=(seat_card(NEWCOMERS[0]),)))
    market.load(10)
    market.reach(1)
    market.cluster.run(500)
    market.load(10, by=(0, 1, 2, 3))
    market.settle()
    assert market.sets[1][-1].organisation == NEWCOMERS[0].id
    assert NEWCOMERS[0].id in market.signers(1)


def test_a_vote_for_newcomers_whose_nodes_do_not_run_does_not_stop_the_network() -> None:
    market = Governed(newcomers=NEWCOMERS, running=4)
    market.decide("join", ops.SetChange(add=tuple(seat_card(newcomer) for newcomer in NEWCOMERS)))
    market.load(10)
    market.settle()
    passed = membership(market.nodes[0].state).passed
    assert passed is not None
    assert len(passed.ready) == 4, "four of seven are no quorum of the next set"
    assert market.nodes[0].validator.epoch.number == 0
    market.nodes[4].start()
    market.reach(1)
    market.load(5)
    market.settle()


def test_the_set_changes_while_one_validator_is_down() -> None:
    market = Governed()
    market.nodes[3].crash()
    market.decide("renewal", ops.SetChange())
    market.reach(1)
    market.load(6)
    market.nodes[3].start()
    market.reach(1)
    market.cluster.run(1_000)
    market.load(6, by=(0, 1, 2, 3))
    market.settle()
    assert market.nodes[3].id in market.signers(1), "its key was registered before it went down"


def test_who_registered_no_key_keeps_its_seat_and_comes_back_with_the_next_change() -> None:
    market = Governed(running=3)
    market.decide("renewal", ops.SetChange())
    market.reach(1)
    assert market.sets[1][3] == Seat(INSURERS[3].id, b"")
    market.nodes[3].start()
    market.reach(1)
    market.cluster.run(1_000)
    assert market.nodes[3].validator.status()["signing"] == "observer"
    key = key_of(INSURERS[3].id, "consensus", "2")
    possession = key.sign(possession_message(market.cluster.genesis.chain_id, 2, INSURERS[3].id, key.public))
    envelope = market.maker.envelope(
        [ops.OrganisationRegisterConsensusKey(2, key.public, possession)],
        by=INSURERS[3],
        desks=("admin",),
        not_after_ms=market.cluster.now.wall_ms + 3_600_000,
    )
    market.nodes[0].submit(envelope)
    assert market.cluster.run(5_000, lambda: executed(market.nodes[0], envelope) is not None)
    market.decide("again", ops.SetChange())
    market.reach(2)
    market.cluster.run(1_000)
    market.load(8, by=(0, 1, 2, 3))
    market.settle()
    assert market.nodes[3].id in market.signers(2)


def test_a_member_is_removed_and_another_suspended_and_reinstated() -> None:
    market = Governed(newcomers=NEWCOMERS[:2])
    market.decide("grow", ops.SetChange(add=tuple(seat_card(newcomer) for newcomer in NEWCOMERS[:2])))
    market.reach(1)
    market.decide("shrink", ops.SetChange(remove=(NEWCOMERS[0].id,), suspend=(INSURERS[3].id,)), by=(0, 1, 2, 3, 5))
    market.reach(2)
    market.load(6)
    assert [seat.organisation for seat in market.sets[2]] == ["insurer-1", "insurer-2", "insurer-3", "newcomer-2"]
    market.decide("back", ops.SetChange(reinstate=(INSURERS[3].id,)), by=(0, 1, 2))
    market.reach(3)
    market.load(6)
    market.settle()
    assert market.sets[3][3] == Seat(INSURERS[3].id, b""), "who has no key of the epoch before registers by an admin"


def test_parameters_that_were_voted_for_hold_from_their_height_on() -> None:
    market = Governed()
    node = market.nodes[0]
    height = node.validator.finalized_height + 60
    change = ops.ParameterChange(height, numbers=(ops.NumberParameter("block_interval_ms", 80),))
    market.decide("slower", change)
    while node.validator.finalized_height <= height:
        market.load(10, every_ms=60)
    market.settle()
    source = node.validator._builder._executed
    assert source.parameters(height, height - 1).block_interval_ms == 80
    assert source.parameters(height - 1, height - 2).block_interval_ms == 50


def test_a_quorum_of_the_next_set_is_enough_to_begin_it() -> None:
    market = Governed()
    market.cluster.isolate(3)
    market.decide("renewal", ops.SetChange())
    assert market.cluster.run(10_000, lambda: all(n.validator.epoch.number == 1 for n in market.nodes[:3]))
    market.cluster.heal()
    market.reach(1)
    market.load(5, by=(0, 1, 2, 3))
    market.settle()
