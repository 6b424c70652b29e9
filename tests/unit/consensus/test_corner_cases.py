"""Every row of the table of corner cases (docs/consensus.md) that needs no membership change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.effects import Alarm, Build, Certified, FetchBlock, Finalized, Penalise, Report, Verify
from consensus.events import BlockFetched, CertificateReceived, HeadersStored, PeerConnected, Tick, VoteReceived
from consensus.evidence import ConflictingVotes
from consensus.invariant import InvariantViolated
from consensus.records import Certification, OwnVote
from consensus.rounds import Round
from consensus.signer import Signer
from consensus.types import Certificate, Vote
from tests.unit.consensus.cluster import Cluster, Network
from tests.unit.consensus.solo import Solo, only, sent
from tests.unit.consensus.support import CHAIN_ID, CONFIG, F, FakeSignatures, N, X, certificate, propose, vote_for


def notarize_then_time_out(node: Solo) -> None:
    proposal = node.proposal(1)
    node.receive(proposal)
    node.valid(proposal.header)
    node.wait(CONFIG.certification_ms)


def test_n_then_x_in_the_same_view_is_legal_and_blocks_f() -> None:
    node = Solo()
    notarize_then_time_out(node)
    assert [v.kind for v in node.signed(view=1)] == [N, X]
    node.receive(node.notarization(node.proposal(1).header))
    assert node.core.view == 2, "it certifies and moves on"
    assert not node.signed(F)
    assert not only(node.effects, Report)


def test_x_then_f_is_forbidden_also_after_restart_and_by_every_resending_path() -> None:
    node = Solo()
    notarize_then_time_out(node)
    node.store.proposals[node.proposal(1).header.digest] = node.proposal(1)
    node.receive(node.notarization(node.proposal(1).header))
    again = node.restarted()
    again.work()
    again.wait(5 * CONFIG.timeout_ms_max)
    again.do(PeerConnected(2))
    assert not again.signed(F)
    assert not [v for v in sent(again.effects, Vote) if v.kind is F]


def test_the_x_flag_of_every_unfinalized_view_is_kept() -> None:
    node = Solo()
    notarize_then_time_out(node)
    block = node.proposal(1).header
    for view in range(1, 40):
        node.receive(node.nullification(view))
    for _ in range(2):
        node.receive(node.notarization(block))
        node.do(BlockFetched(1, node.proposal(1)))
        node.valid(block)
        assert not node.signed(F, 1)
        node = node.restarted()


def test_f_then_x_is_forbidden() -> None:
    node = Solo()
    node.notarized_block(1)
    node.votes(X, 1, [1, 2])
    node.work()
    node.wait(3 * CONFIG.timeout_ms_max)
    assert not node.signed(X, 1)
    again = node.restarted()
    again.wait(3 * CONFIG.timeout_ms_max)
    assert not again.signed(X, 1)


def test_the_signer_refuses_what_no_rule_may_sign() -> None:
    signer = Signer(CHAIN_ID, 0, 0, FakeSignatures())
    a, b = (0, b"a" * 32), (0, b"b" * 32)
    with pytest.raises(InvariantViolated):
        signer.sign(N, Round(1), a)  # the start-up query is not answered
    signer.ready = True
    legal = {(N, X), (N, F)}
    for first in (N, X, F):
        for second in (N, X, F):
            found = Round(1)
            found.count(signer.sign(first, found, (0, b"") if first is X else a))
            if (first, second) in legal:
                signer.sign(second, found, (0, b"") if second is X else a)
            else:
                with pytest.raises(InvariantViolated):
                    signer.sign(second, found, (0, b"") if second is X else a)
    found = Round(1)
    found.count(signer.sign(N, found, a))
    with pytest.raises(InvariantViolated, match="own N"):
        signer.sign(F, found, b)
    signer.muted_until = 1
    with pytest.raises(InvariantViolated):
        signer.sign(X, Round(1), (0, b""))


def test_two_triggers_time_out_the_same_view_and_x_is_written_once() -> None:
    node = Solo()
    node.work()
    node.votes(X, 1, [1])  # the leader's own X
    node.wait(CONFIG.leader_ms)  # and the timer
    bad = node.proposal(1)
    node.receive(bad)
    node.invalid(bad.header)  # and a bad block
    node.do(Tick())
    assert len(node.signed(X, 1)) == 1


def test_a_proposal_that_skips_a_view_without_its_nullification_gets_no_vote() -> None:
    node = Solo()
    first = node.notarized_block(1)
    node.receive(node.nullification(2))
    header, justification = node.header(3, first)
    node.receive(propose(header, justification, node.validators))
    node.valid(header)
    assert not node.signed(N, 3)
    assert node.signed(X, 3)


def both_certificates_of_view_1() -> tuple[Solo, Certificate, Certificate]:
    node = Solo()
    block = node.notarized_block(1)
    nullification = node.nullification(1)
    node.receive(nullification)
    return node, node.notarization(block), nullification


def test_with_notarization_and_nullification_of_a_view_the_next_block_may_build_on_it() -> None:
    node, notarization, nullification = both_certificates_of_view_1()
    assert node.core.certificate(N, 1) == notarization
    assert node.core.certificate(X, 1) == nullification
    block = node.proposal(1).header
    on_it = node.proposal(2, block)
    node.receive(on_it)
    node.valid(on_it.header)
    assert node.signed(N, 2)


def test_with_notarization_and_nullification_of_a_view_the_next_block_may_skip_it() -> None:
    node, _, _ = both_certificates_of_view_1()
    past_it = node.proposal(2, nullified=[1])
    node.receive(past_it)
    node.valid(past_it.header)
    assert node.signed(N, 2)


def test_a_nullified_block_becomes_final_through_a_descendant() -> None:
    node, _, _ = both_certificates_of_view_1()
    block = node.proposal(1).header
    second = node.notarized_block(2, block)
    finalized = only(node.receive(certificate(F, 2, second, (1, 2, 3))), Finalized)[0]
    assert finalized.headers == (block, second)


def test_the_root_check_waits_for_own_execution_and_never_guesses() -> None:
    """Deferred execution: silence of the application keeps the block pending, whatever the timers say."""
    node = Solo()
    proposal = node.proposal(1)
    node.receive(proposal, node.notarization(proposal.header))
    node.wait(3 * CONFIG.certification_ms)
    assert node.core.view == 1
    assert not only(node.effects, Alarm)
    node.valid(proposal.header)
    assert node.core.view == 2


def test_a_notarization_over_a_root_i_contradict_stops_me_and_survives_a_restart() -> None:
    node = Solo()
    proposal = node.proposal(1)
    node.store.proposals[proposal.header.digest] = proposal
    node.receive(proposal, node.notarization(proposal.header))
    effects = node.invalid(proposal.header)
    assert [a.kind for a in only(effects, Alarm)] == ["divergence"]
    assert Certification(0, 1, proposal.header.digest, False) in node.log
    node.work()
    node.wait(5_000)
    assert not node.signed()
    again = node.restarted()
    assert again.core.status().signing == "stopped"
    again.valid(proposal.header)  # repaired
    assert again.core.status().signing == "signing"
    assert again.core.view == 2


def test_two_certify_two_time_out_and_still_all_move_on() -> None:
    cluster = Cluster(4)
    cluster.run(50)
    cluster.network.groups = [{0, 1, 2, 3}]
    transaction = cluster.submit()
    cluster.run(2)  # the proposal of view 1 is on its way
    cluster.network.cut = {(a, b) for a in range(4) for b in (2, 3) if a != b}
    cluster.run(2_000)
    cluster.network.cut = set()
    cluster.run_until(lambda: cluster.final_everywhere(transaction))
    cluster.oracle.check_chain()


def test_who_timed_out_certifies_when_the_notarization_comes_and_does_not_vote_f() -> None:
    node = Solo()
    node.work()
    node.wait(CONFIG.leader_ms)
    assert node.signed(X, 1)
    block = node.notarized_block(1)
    assert node.core.view == 2
    assert Certification(0, 1, block.digest, True) in node.log
    assert not node.signed(F)


def test_certifying_goes_on_after_the_view_was_nullified() -> None:
    node = Solo()
    proposal = node.proposal(1)
    node.receive(proposal, node.notarization(proposal.header), node.nullification(1))
    assert node.core.view == 2
    node.valid(proposal.header)
    assert Certification(0, 1, proposal.header.digest, True) in node.log
    assert node.signed(F, 1), "no X here: F is still allowed"


def test_everybody_crashes_right_after_x_and_the_nullification_still_forms() -> None:
    cluster = Cluster(4)
    cluster.run(50)
    cluster.nodes[1].crash()  # leader of view 1
    cluster.network.cut = {(a, b) for a in range(4) for b in range(4)}
    transaction = cluster.submit(0, 2, 3)
    cluster.run(CONFIG.leader_ms + 5)
    for index in (0, 2, 3):
        assert any(v.kind is X for v in own_votes(cluster, index))
        cluster.nodes[index].crash()
    cluster.network.cut = set()
    for index in (0, 2, 3):
        cluster.nodes[index].start()
    cluster.run_until(lambda: cluster.final_everywhere(transaction, (0, 2, 3)))
    cluster.oracle.check_chain()


def own_votes(cluster: Cluster, index: int) -> list[Vote]:
    return [record.vote for record in cluster.nodes[index].log if isinstance(record, OwnVote)]


def test_the_own_x_counts_again_after_a_restart() -> None:
    node = Solo()
    node.work()
    node.wait(CONFIG.leader_ms)
    again = node.restarted()
    again.votes(X, 1, [2])
    assert again.core.view == 1
    again.votes(X, 1, [3])
    assert again.core.view == 2


def test_what_was_certified_stays_certified_after_a_restart() -> None:
    node = Solo(index=2)
    block = node.notarized_block(1)
    node.store.proposals[block.digest] = node.proposal(1)
    again = node.restarted()
    assert (again.core.view, again.core.status().certified_view) == (2, 1)
    assert only(again.effects, Certified)[-1].header == block
    assert only(again.effects, Build)[-1].parent == block
    assert again.signed(F) == node.signed(F)


def test_a_notarization_of_an_unseen_digest_is_accepted_and_fetched_and_gets_no_f_before_it_is_certified() -> None:
    node = Solo()
    proposal = node.proposal(1)
    effects = node.receive(node.notarization(proposal.header))
    assert only(effects, FetchBlock)[0].digest == proposal.header.digest
    assert not node.signed()
    effects = node.do(BlockFetched(2, proposal))
    assert only(effects, Verify)
    assert not node.signed()
    node.valid(proposal.header)
    assert [v.kind for v in node.signed(view=1)] == [F]


def test_an_invalid_block_gets_x_at_once() -> None:
    node = Solo()
    proposal = node.proposal(1)
    node.receive(proposal)
    effects = node.invalid(proposal.header)
    assert [v.kind for v in sent(effects, Vote)] == [X]
    assert node.now_ms == 0


def test_a_withheld_body_gets_x_at_the_timer_and_its_voters_are_asked_for_it() -> None:
    node = Solo()
    proposal = node.proposal(1)
    node.receive(proposal)
    node.wait(CONFIG.certification_ms)
    assert [v.kind for v in node.signed()] == [X]
    node.receive(node.nullification(1), node.notarization(proposal.header, (0, 2, 3)))
    assert node.core.view == 2
    assert [view for view, _, placed in node.core.status().unjudged if placed]
    node.valid(proposal.header)  # the application kept fetching
    assert Certification(0, 1, proposal.header.digest, True) in node.log


def test_a_nullification_names_its_view_only() -> None:
    node = Solo()
    pointing = vote_for(X, 1, 1, 0, b"d" * 32)
    assert only(node.do(VoteReceived(1, pointing)), Penalise)
    plain = node.vote(X, 1, 0)
    assert (plain.parent_view, plain.digest) == (0, b"")


def test_a_certificate_far_in_the_future_is_verified_and_jumped_to() -> None:
    node = Solo()
    forged = replace(node.nullification(1_000_000), signatures=(bytes(64),) * 3)
    assert only(node.do(CertificateReceived(3, forged)), Penalise)
    assert node.core.view == 1
    node.receive(node.nullification(1_000_000))
    assert node.core.view == 1_000_001
    assert not node.receive(node.vote(N, 1_000_003, 1, node.genesis))


def test_after_a_jump_nothing_is_proposed_without_the_nullifications_between() -> None:
    node = Solo(index=1)
    node.receive(node.nullification(4))
    assert node.core.view == 5
    assert [offer.view for offer in only(node.effects, Build)] == [1]


def test_an_equivocating_leader_gets_neither_n_nor_f_and_evidence_names_it() -> None:
    node = Solo()
    a, b = node.proposal(1), node.proposal(1, payload=b"b")
    node.receive(a)
    effects = node.receive(b)
    assert only(effects, Report)[0].evidence == ConflictingVotes(a.vote, b.vote)
    node.valid(a.header)
    assert not node.signed()
    node.receive(node.notarization(a.header))
    assert node.core.view == 2, "the certificate is authoritative"
    assert not node.signed(F)


def test_a_certificate_for_the_other_block_of_an_equivocating_leader_is_followed() -> None:
    node = Solo()
    a, b = node.proposal(1), node.proposal(1, payload=b"b")
    node.receive(a)
    node.valid(a.header)
    assert node.signed(N, 1)
    effects = node.receive(node.notarization(b.header, (1, 2, 3)))
    assert only(effects, FetchBlock)[0].digest == b.header.digest
    node.do(BlockFetched(2, b))
    node.valid(b.header)
    assert node.core.view == 2
    assert not node.signed(F), "own N was for another digest"
    assert only(node.effects, Report)[0].evidence.culprit == 1


@pytest.mark.parametrize("signer", [4, 200])
def test_a_signature_set_with_an_unknown_signer_is_rejected_and_costs_its_sender(signer: int) -> None:
    node = Solo()
    genuine = node.nullification(1, (1, 2, 3))
    effects = node.do(CertificateReceived(2, replace(genuine, signers=(1, 2, signer))))
    assert [p.sender for p in only(effects, Penalise)] == [2]
    effects = node.do(VoteReceived(2, replace(node.vote(X, 1, 1), signer=signer)))
    assert [p.sender for p in only(effects, Penalise)] == [2]


def test_a_proposal_seen_again_after_a_restart_is_verified_again_and_not_voted_for_again() -> None:
    node = Solo()
    proposal = node.proposal(1)
    node.receive(proposal)
    node.valid(proposal.header)
    node.store.proposals[proposal.header.digest] = proposal
    again = node.restarted()
    assert [v.proposal for v in only(again.effects, Verify)] == [proposal]
    again.receive(proposal)
    again.valid(proposal.header)
    assert again.signed() == node.signed()
    assert set(sent(again.effects, Vote)) == {node.signed()[0]}


def test_catch_up_waits_for_the_floors_header_and_goes_on_when_it_is_stored() -> None:
    node = Solo()
    far = node.proposal(5, nullified=range(1, 5))
    node.receive(certificate(F, 5, far.header, (1, 2, 3)))
    following = node.proposal(6, far.header)
    node.receive(following)
    assert not only(node.effects, Verify)
    node.store.proposals[far.header.digest] = far
    effects = node.do(HeadersStored(far.header.digest))
    assert [v.proposal for v in only(effects, Verify)] == [following]
    node.valid(following.header)
    assert node.signed(N, 6)


def test_a_split_heals_when_each_half_lacks_the_others_certificate() -> None:
    cluster = Cluster(4, network=Network(latency_ms=(1, 3)))
    cluster.run(50)
    for round_number in range(6):
        cluster.network.groups = [{0, 1}, {2, 3}] if round_number % 2 else [{0, 1, 2}, {3}]
        cluster.submit()
        cluster.run(700)
    cluster.network.groups = []
    transaction = cluster.submit()
    cluster.run_until(lambda: cluster.final_everywhere(transaction))
    cluster.oracle.check_chain()
