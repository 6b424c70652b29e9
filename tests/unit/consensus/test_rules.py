"""R1 to R11 one by one, on one core."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.effects import (
    Broadcast,
    Build,
    Certified,
    FetchBlock,
    Finalized,
    Penalise,
    Persist,
    Send,
    Verify,
    ViewEntered,
)
from consensus.events import (
    BlockFetched,
    BuildRefused,
    Built,
    CertificateReceived,
    PeerConnected,
    ProposalReceived,
    Tick,
    WantReceived,
)
from consensus.invariant import InvariantViolated
from consensus.messages import Want
from consensus.records import BuiltBlock, Certification, HeldCertificate, OwnVote
from consensus.types import Certificate, Proposal, Vote
from tests.unit.consensus.solo import FakeHeaders, Solo, only, resigned, sent
from tests.unit.consensus.support import CONFIG, F, N, X, certificate, child, justify, propose, rehash

# -- R1 ------------------------------------------------------------------------------------------


def test_r1_views_are_entered_forward_only() -> None:
    node = Solo()
    node.receive(node.nullification(3))
    assert node.core.view == 4
    node.receive(node.nullification(1), node.nullification(2))
    assert node.core.view == 4


def test_r1_leader_timer_is_2d_and_certification_timer_3d() -> None:
    node = Solo()
    node.work()
    node.wait(2 * CONFIG.delay_ms - 1)
    assert not node.signed(X)
    node.wait(1)
    assert len(node.signed(X, 1)) == 1

    node = Solo()
    node.work()
    node.receive(node.proposal(1))
    node.wait(3 * CONFIG.delay_ms - 1)
    assert not node.signed(X)
    node.wait(1)
    assert len(node.signed(X, 1)) == 1


# -- R2 ------------------------------------------------------------------------------------------


def test_r2_the_leader_builds_on_the_highest_certified_block_with_its_certificate() -> None:
    node = Solo(index=2)
    block = node.notarized_block(1)
    offer = only(node.effects, Build)[-1]
    assert (offer.view, offer.parent, offer.parent_certificate) == (2, block, node.notarization(block))
    assert not offer.nullifications
    assert not offer.at_once


def test_r2_the_leader_brings_a_nullification_for_every_skipped_view() -> None:
    node = Solo(index=3)
    node.receive(node.nullification(1), node.nullification(2))
    offer = only(node.effects, Build)[-1]
    assert offer.view == 3
    assert [n.view for n in offer.nullifications] == [1, 2]


def test_r2_a_missing_nullification_is_asked_for_again_and_again_and_nothing_is_built() -> None:
    node = Solo(index=3)
    effects = node.receive(node.nullification(2))
    assert node.core.view == 3
    assert sent(effects, Want) == [Want(0, 1)]
    assert not only(node.effects, Build)
    assert sent(node.wait(CONFIG.retry_ms), Want)
    effects = node.receive(node.nullification(1))
    assert only(effects, Build)[0].view == 3


def test_r2_a_notarization_is_an_honest_answer_to_a_want() -> None:
    node = Solo(index=3)
    node.receive(node.nullification(2))
    proposal = node.proposal(1)
    effects = node.receive(node.notarization(proposal.header))
    assert not only(effects, Penalise)
    node.do(BlockFetched(1, proposal))
    effects = node.valid(proposal.header)
    assert only(effects, Build)[0].parent == proposal.header


def test_r2_block_and_vote_are_logged_before_the_proposal_leaves() -> None:
    node = Solo(index=1)
    offer = only(node.effects, Build)[0]
    justification = justify(None)
    header = child(offer.parent, 1, justification)
    effects = node.do(Built(1, header, justification, b""))
    records = [effect.record for effect in only(effects, Persist)]
    assert records[0] == BuiltBlock(0, 1, header.digest)
    assert isinstance(records[1], OwnVote)
    assert sent(effects, Proposal)[0].header == header


def test_r2_one_view_one_block() -> None:
    node = Solo(index=1)
    offer = only(node.effects, Build)[0]
    first = node.build(node.effects)
    justification = justify(None)
    other = child(offer.parent, 1, justification, payload=b"other")
    assert not sent(node.do(Built(1, other, justification, b"other")), Proposal)
    again = node.restarted()
    assert not only(again.effects, Build)
    assert [p.header.digest for p in sent(again.effects, Proposal)] in ([], [first.header.digest])


def test_r2_a_restarted_leader_proposes_the_same_block_again() -> None:
    node = Solo(index=1)
    first = node.build(node.effects)
    node.store.proposals[first.header.digest] = replace(first, vote=replace(first.vote, signature=bytes(64)))
    again = node.restarted()
    assert sent(again.effects, Proposal)[0] == first


def test_r2_a_refusal_is_a_time_out() -> None:
    node = Solo(index=1)
    node.do(BuildRefused(1))
    assert len(node.signed(X, 1)) == 1


def test_r2_a_block_built_for_a_view_already_left_is_dropped() -> None:
    node = Solo(index=1)
    offer = only(node.effects, Build)[0]
    node.receive(node.nullification(1))
    justification = justify(None)
    assert not sent(node.do(Built(1, child(offer.parent, 1, justification), justification, b"")), Proposal)
    assert not node.signed()


def test_r2_a_better_parent_replaces_the_offer() -> None:
    node = Solo(index=3)
    first = node.proposal(1)
    node.receive(first, node.nullification(1), node.nullification(2))
    assert only(node.effects, Build)[-1].parent == node.genesis
    node.receive(node.notarization(first.header))
    node.do(BlockFetched(1, first))
    node.valid(first.header)
    offer = only(node.effects, Build)[-1]
    assert (offer.view, offer.parent) == (3, first.header)
    assert [n.view for n in offer.nullifications] == [2]


def test_r2_a_bad_block_of_the_own_application_stops_the_node() -> None:
    node = Solo(index=1)
    justification = justify(None)
    with pytest.raises(InvariantViolated, match="nobody would vote"):
        node.do(Built(1, child(node.genesis, 1, justification, timestamp_ms=0), justification, b""))
    assert not node.signed()


# -- R3, R4 --------------------------------------------------------------------------------------


def test_r4_a_verified_proposal_gets_one_vote() -> None:
    node = Solo()
    proposal = node.proposal(1)
    effects = node.receive(proposal)
    assert [v.proposal for v in only(effects, Verify)] == [proposal]
    assert not node.signed()
    effects = node.valid(proposal.header)
    assert sent(effects, Vote) == [node.vote(N, 1, 0, proposal.header)]
    node.receive(proposal)
    node.valid(proposal.header)
    assert len(node.signed()) == 1


def test_r4_no_vote_before_the_view_is_current() -> None:
    node = Solo()
    first = node.proposal(1)
    node.receive(first)
    node.valid(first.header)
    second = node.proposal(2, first.header)
    node.receive(second)
    node.valid(second.header)
    assert node.signed(N, 2)  # its justification carries the Notarization that certifies view 1
    early = Solo()
    ahead = early.proposal(2, nullified=[1])
    early.receive(ahead)
    early.valid(ahead.header)
    assert early.core.view == 2
    assert early.signed(N, 2)


def test_r4_no_vote_after_x_in_the_view() -> None:
    node = Solo()
    node.work()
    node.wait(2 * CONFIG.delay_ms)
    proposal = node.proposal(1)
    node.receive(proposal)
    node.valid(proposal.header)
    assert [v.kind for v in node.signed()] == [X]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"chain_id": bytes(32)},
        {"height": 2},
        {"height": 0},
        {"valset_hash": bytes(32)},
        {"timestamp_ms": 1_000_000_000_000},
        {"state_height": 1},
    ],
)
def test_r4_invalid_header_fields_expire_the_view_at_once(change: dict[str, object]) -> None:
    node = Solo()
    good, justification = node.header(1)
    bad = resigned(good, **change)
    node.receive(propose(bad, justification, node.validators))
    assert [v.kind for v in node.signed()] == [X]


def test_r4_state_height_never_goes_back() -> None:
    node = Solo()
    first = node.proposal(1)
    second = node.proposal(2, first.header, state_height=1)
    third = node.proposal(3, second.header, state_height=0)
    for proposal in (first, second):
        node.receive(proposal)
        node.valid(proposal.header)
    node.receive(node.notarization(second.header), third)
    assert node.signed(X, 3)


def test_r4_invalid_body_or_unequal_root_expires_the_view_at_once() -> None:
    node = Solo()
    proposal = node.proposal(1)
    node.receive(proposal)
    node.invalid(proposal.header)
    assert [v.kind for v in node.signed()] == [X]


def test_r4_no_vote_while_the_parent_is_not_certified_here() -> None:
    node = Solo()
    first, second = node.proposal(1), None
    node.receive(first)
    second = node.proposal(2, first.header)
    node.receive(second)
    node.valid(second.header)
    assert not node.signed(N)
    node.valid(first.header)
    assert [v.view for v in node.signed(N)] == [2]


def test_r4_no_vote_for_a_block_below_the_floor() -> None:
    node = Solo()
    block = node.notarized_block(1)
    node.receive(certificate(F, 1, block, (1, 2, 3)))
    skipping = node.proposal(2, nullified=[1])  # f + 1 must have lied to make this
    node.receive(skipping)
    node.valid(skipping.header)
    assert not node.signed(N, 2)


def test_r4_a_block_from_the_future_is_voted_for_when_the_clock_has_come_close() -> None:
    node = Solo()
    ahead_ms = node.wall_ms + CONFIG.clock_delta_ms + 100
    proposal = node.proposal(1, timestamp_ms=ahead_ms)
    node.receive(proposal)
    node.valid(proposal.header)
    assert not node.signed()
    assert node.core.deadline_ms == 100
    node.wait(99)
    assert not node.signed()
    node.wait(1)
    assert [v.kind for v in node.signed()] == [N]


def test_r4_an_antedated_block_is_not_voted_for_but_can_be_certified() -> None:
    node = Solo()
    node.wall_ms += CONFIG.clock_delta_ms + 2 * CONFIG.certification_ms + 100
    proposal = node.proposal(1)
    node.receive(proposal)
    node.valid(proposal.header)
    assert not node.signed()
    node.receive(node.notarization(proposal.header))
    assert node.core.view == 2
    assert len(node.signed(F, 1)) == 1


def test_r4_the_justification_must_be_the_one_the_header_commits_to() -> None:
    node = Solo()
    node.receive(node.nullification(1))
    proposal = node.proposal(2, nullified=[1])
    other = justify(None, [node.nullification(1, (0, 1, 2))])
    effects = node.receive(replace(proposal, justification=other))
    assert only(effects, Penalise)
    assert not only(effects, Verify)


def test_r4_certificates_held_locally_do_not_replace_those_of_the_justification() -> None:
    node = Solo()
    node.receive(node.nullification(1))
    header, justification = node.header(2)
    bare = propose(header, justification, node.validators)  # skips view 1 without a word
    node.receive(bare)
    node.valid(header)
    assert not node.signed(N)
    assert node.signed(X, 2)


# -- R5, R6 --------------------------------------------------------------------------------------


def test_r5_a_quorum_of_n_makes_a_notarization_sent_once() -> None:
    node = Solo()
    proposal = node.proposal(1)
    node.receive(proposal)
    node.valid(proposal.header)
    effects = node.votes(N, 1, [2], proposal.header)
    assert [c.signers for c in sent(effects, Certificate)] == [(0, 1, 2)]
    assert not sent(node.votes(N, 1, [3], proposal.header), Certificate)


def test_r5_votes_for_different_blocks_never_add_up() -> None:
    node = Solo()
    a, b = node.proposal(1), node.proposal(1, payload=b"b")
    node.votes(N, 1, [2], a.header)
    node.votes(N, 1, [0, 3], b.header)
    assert not sent(node.effects, Certificate)


def test_r6_certifying_logs_enters_the_next_view_and_votes_f() -> None:
    node = Solo()
    block = node.notarized_block(1)
    assert node.core.view == 2
    assert Certification(0, 1, block.digest, True) in node.log
    assert node.signed(F) == [node.vote(F, 1, 0, block)]
    assert only(node.effects, Certified)[-1].header == block
    records = [type(r) for r in node.log]
    assert records.index(Certification) < len(records) - 1


def test_r6_a_notarization_alone_does_not_move_the_view() -> None:
    node = Solo()
    proposal = node.proposal(1)
    node.receive(proposal, node.notarization(proposal.header))
    assert node.core.view == 1
    node.valid(proposal.header)
    assert node.core.view == 2


def test_r6_ancestors_are_certified_first() -> None:
    node = Solo()
    first = node.proposal(1)
    second = node.proposal(2, first.header)
    node.receive(first, second, node.notarization(second.header))
    node.valid(second.header)
    assert node.core.view == 1
    node.valid(first.header)
    assert node.core.view == 3
    assert sorted(v.view for v in node.signed(F)) == [1, 2]


# -- R7, R8 --------------------------------------------------------------------------------------


def test_r7_x_is_sent_again_with_what_brought_the_node_here() -> None:
    node = Solo()
    node.receive(node.nullification(1))
    node.work()
    node.wait(3_000)
    again = node.wait(CONFIG.retry_ms)
    assert node.vote(X, 2, 0) in sent(again, Vote)
    assert node.nullification(1) in sent(again, Certificate)
    assert len(node.signed(X)) == 1


def test_r7_the_leaders_own_x_expires_the_view_at_once() -> None:
    node = Solo()
    node.votes(X, 1, [2])
    assert not node.signed()
    node.votes(X, 1, [1])
    assert [v.kind for v in node.signed()] == [X]


def test_r7_timeouts_back_off_with_nullified_views_up_to_a_cap() -> None:
    node = Solo(index=0)
    waits = []
    for view in range(1, 12):
        node.work()
        start_ms = node.now_ms
        while not node.signed(X, view):
            node.wait(1)
        waits.append(node.now_ms - start_ms)
        node.receive(node.nullification(view))
    assert waits[:3] == [200, 300, 450]
    assert max(waits) == CONFIG.timeout_ms_max


def test_r7_a_finalization_resets_the_back_off() -> None:
    node = Solo()
    for view in range(1, 5):
        node.receive(node.nullification(view))
    block = node.notarized_block(5, nullified=[1, 2, 3, 4])
    node.receive(certificate(F, 5, block, (1, 2, 3)))
    node.work()
    node.wait(2 * CONFIG.delay_ms)
    assert node.signed(X, 6)


def test_r8_a_nullification_enters_the_next_view_without_an_own_x() -> None:
    node = Solo()
    effects = node.receive(node.nullification(1))
    assert only(effects, ViewEntered)[0].view == 2
    assert not node.signed()


def test_r8_a_quorum_of_x_makes_a_nullification() -> None:
    node = Solo()
    effects = node.votes(X, 1, [2, 3, 1])
    assert Broadcast(node.nullification(1)) in effects
    assert node.core.view == 2


# -- R9, R10 -------------------------------------------------------------------------------------


def test_r9_a_finalization_delivers_block_and_ancestors_in_order() -> None:
    node = Solo()
    first = node.notarized_block(1)
    second = node.notarized_block(2, first)
    finalized = only(node.receive(certificate(F, 2, second, (1, 2, 3))), Finalized)
    assert [f.headers for f in finalized] == [(first, second)]
    assert finalized[0].complete
    assert node.core.floor_view == 2


def test_r9_the_own_f_counts() -> None:
    node = Solo()
    block = node.notarized_block(1)
    effects = node.votes(F, 1, [1, 2], block)
    assert only(effects, Finalized)[0].certificate.signers == (0, 1, 2)


def test_r9_a_finalization_needs_no_body_and_enters_the_next_view() -> None:
    node = Solo()
    header, _ = node.header(7, nullified=range(1, 7))
    finalized = only(node.receive(certificate(F, 7, header, (1, 2, 3))), Finalized)
    assert not finalized[0].complete
    assert not finalized[0].headers
    assert (node.core.view, node.core.floor_view) == (8, 7)


def test_r9_the_floor_never_goes_back() -> None:
    node = Solo()
    high, _ = node.header(7, nullified=range(1, 7))
    low, _ = node.header(3, nullified=range(1, 3))
    node.receive(certificate(F, 7, high, (1, 2, 3)), certificate(F, 3, low, (1, 2, 3)))
    assert node.core.floor_view == 7
    assert node.restarted().core.floor_view == 7


def test_r10_a_certificate_is_passed_on_once_if_it_is_news() -> None:
    node = Solo()
    assert sent(node.receive(node.nullification(1)), Certificate)
    assert not sent(node.receive(node.nullification(1, (0, 1, 2))), Certificate)
    node.receive(node.nullification(5))
    assert not sent(node.receive(node.nullification(3)), Certificate)


@pytest.mark.parametrize("kind", [N, X, F])
def test_r10_invalid_certificate_costs_its_sender(kind: object) -> None:
    node = Solo()
    header, _ = node.header(1)
    genuine = certificate(kind, 1, None if kind is X else header, (1, 2, 3))  # type: ignore[arg-type]
    forged = replace(genuine, signatures=(*genuine.signatures[:2], bytes(64)))
    effects = node.do(CertificateReceived(3, forged))
    assert [p.sender for p in only(effects, Penalise)] == [3]
    assert node.core.view == 1


def test_r10_a_certificate_is_logged_before_it_is_passed_on() -> None:
    node = Solo()
    node.receive(node.nullification(1))
    assert HeldCertificate(node.nullification(1)) in node.log


# -- R11 -----------------------------------------------------------------------------------------


def test_r11_an_x_for_an_old_view_is_answered_with_what_is_held_and_the_floor() -> None:
    node = Solo()
    block = node.notarized_block(1)
    final = certificate(F, 1, block, (1, 2, 3))
    node.receive(final, node.nullification(2))
    effects = node.votes(X, 1, [3])
    answers = [effect.message for effect in only(effects, Send) if effect.to == 3]
    assert final in answers
    assert node.nullification(2) in answers


def test_r11_a_want_is_answered_within_a_budget() -> None:
    node = Solo()
    node.receive(node.nullification(1))
    assert sent(node.do(WantReceived(3, Want(0, 1))), Certificate) == [node.nullification(1)]
    for _ in range(100):
        node.do(WantReceived(3, Want(0, 1)))
    assert not sent(node.do(WantReceived(3, Want(0, 1))), Certificate)
    assert sent(node.do(WantReceived(2, Want(0, 1))), Certificate)
    node.wait(CONFIG.retry_ms)
    assert sent(node.do(WantReceived(3, Want(0, 1))), Certificate)


def test_r11_an_x_far_below_the_window_is_answered_with_the_floor() -> None:
    node = Solo()
    header, _ = node.header(1_000, nullified=range(1, 1_000))
    final = certificate(F, 1_000, header, (1, 2, 3))
    node.receive(final)
    assert sent(node.votes(X, 1, [3]), Certificate) == [final]


def test_a_peer_that_connects_again_is_told_where_this_node_is() -> None:
    node = Solo()
    block = node.notarized_block(1)
    messages = [effect.message for effect in only(node.do(PeerConnected(2)), Send)]
    assert node.notarization(block) in messages
    assert node.vote(F, 1, 0, block) in messages


# -- blocks known only by digest -----------------------------------------------------------------


def test_a_missing_block_is_fetched_from_its_leader_and_voters_again_and_again() -> None:
    node = Solo()
    proposal = node.proposal(1)
    effects = node.receive(node.notarization(proposal.header, (0, 2, 3)))
    assert only(effects, FetchBlock) == [FetchBlock(proposal.header.digest, 1, (1, 2, 3))]
    assert len(only(node.wait(3 * CONFIG.retry_ms), FetchBlock)) == 3
    node.do(BlockFetched(2, proposal))
    assert not only(node.wait(3 * CONFIG.retry_ms), FetchBlock)


def test_a_block_many_voted_for_is_fetched_before_its_notarization() -> None:
    node = Solo()
    proposal = node.proposal(1)
    assert not only(node.votes(N, 1, [1], proposal.header), FetchBlock)
    assert only(node.votes(N, 1, [2], proposal.header), FetchBlock)


def test_a_fetched_block_with_another_justification_costs_its_sender() -> None:
    node = Solo()
    proposal = node.proposal(1)
    node.receive(node.notarization(proposal.header))
    wrong = replace(proposal, justification=justify(None, [node.nullification(9)]))
    assert only(node.do(BlockFetched(2, wrong)), Penalise)[0].sender == 2
    assert only(node.do(BlockFetched(3, proposal)), Verify)


def test_a_block_in_the_store_is_not_fetched() -> None:
    store = FakeHeaders()
    node = Solo(store=store)
    proposal = node.proposal(1)
    store.proposals[proposal.header.digest] = proposal
    effects = node.receive(node.notarization(proposal.header))
    assert only(effects, Verify)
    assert not only(effects, FetchBlock)


def test_unasked_blocks_are_not_taken() -> None:
    node = Solo()
    assert not node.do(BlockFetched(2, node.proposal(1)))


# -- what senders are blamed for -----------------------------------------------------------------


def test_proposals_whose_parts_do_not_belong_together_cost_their_sender() -> None:
    node = Solo()
    proposal = node.proposal(1)
    strangers = [
        replace(proposal, vote=node.vote(N, 1, 1, resigned(proposal.header, height=9))),
        replace(proposal, vote=node.vote(N, 1, 2, proposal.header)),
        replace(proposal, vote=replace(proposal.vote, signature=bytes(64))),
        replace(proposal, vote=node.vote(F, 1, 1, proposal.header)),
    ]
    for stranger in strangers:
        effects = node.do(ProposalReceived(3, stranger))
        assert [p.sender for p in only(effects, Penalise)] == [3], stranger
    assert not node.signed()


def test_votes_of_another_epoch_are_ignored_without_blame() -> None:
    node = Solo()
    assert not node.receive(replace(node.vote(X, 1, 1), epoch=1))


def test_votes_far_ahead_are_dropped_and_those_of_the_next_view_kept() -> None:
    node = Solo()
    node.votes(X, 3, [1, 2, 3])
    assert node.core.view == 1
    node.votes(X, 2, [1, 2, 3])
    assert node.core.view == 3


def test_below_the_window_nothing_is_kept() -> None:
    node = Solo()
    first = node.notarized_block(1)
    header, _ = node.header(500, nullified=range(1, 500))
    node.receive(certificate(F, 500, header, (1, 2, 3)))
    rounds = node.core._state.rounds
    assert rounds.get(1) is None
    node.receive(node.vote(N, 500 - CONFIG.retention_views - 1, 3, first), node.nullification(1))
    assert [found.view for found in rounds.ascending()] == [500]
    node.votes(X, 500 - CONFIG.retention_views, [3])
    assert [found.view for found in rounds.ascending()] == [500 - CONFIG.retention_views, 500]


def test_a_tick_before_its_time_is_harmless() -> None:
    node = Solo()
    assert node.do(Tick()) == []


def test_headers_need_a_new_digest_when_a_field_changes() -> None:
    node = Solo()
    header, _ = node.header(1)
    assert rehash(header).digest == header.digest
    assert resigned(header, height=7).digest != header.digest
