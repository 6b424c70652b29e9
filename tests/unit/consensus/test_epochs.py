"""The end of an epoch and the start of the next one, rule by rule, on a single core (consensus.md §9)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.effects import Alarm, Broadcast, Build, EpochEnded, Finalized, Report, Send, Verify
from consensus.events import (
    CertificateReceived,
    Event,
    HeadersStored,
    PeerConnected,
    ProposalReceived,
    StartAnswerReceived,
    StartQueryReceived,
    Tick,
    VoteReceived,
    WantReceived,
)
from consensus.helping import HELP_PER_INTERVAL
from consensus.messages import StartAnswer, StartQuery, Want
from consensus.records import HeldCertificate, MutedUntil
from consensus.types import Certificate, Header, Proposal, Validator, ValidatorSet, Vote
from consensus.votes import vote_message
from tests.unit.consensus.solo import NONCE, Solo, only, resigned, sent
from tests.unit.consensus.support import (
    CHAIN_ID,
    CONFIG,
    F,
    FakeSignatures,
    N,
    X,
    certificate,
    child,
    justify,
    propose,
    tail,
    validators,
    vote,
)

NEXT = b"n" * 32
"""Digest of the set that votes next; opaque to the core."""


def at_boundary(index: int | None = 0) -> tuple[Solo, Header]:
    """A node that has certified the boundary in view 1 and is in view 2."""
    node = Solo(index)
    return node, node.notarized_block(1, next_valset_hash=NEXT)


def ended(index: int | None = 0) -> tuple[Solo, Header]:
    """A node to which the boundary of view 1 is final."""
    node, boundary = at_boundary(index)
    node.receive(node.finalization(boundary))
    return node, boundary


def second_epoch(members: tuple[Validator, ...] | None = None, seed: int = 0) -> ValidatorSet:
    of = validators(4, seed, epoch=1)
    return of if members is None else replace(of, members=members)


def in_second_epoch(index: int | None = 0, of: ValidatorSet | None = None) -> Solo:
    """A node of epoch 1, which began on a boundary of view 7."""
    boundary = child(Solo().genesis, 7, justify(None), next_valset_hash=NEXT)
    return Solo(index, of=of or second_epoch(), start=boundary)


# -- the boundary ----------------------------------------------------------------------------


def test_whether_a_block_may_end_the_epoch_the_application_says() -> None:
    for verdict, kind in (("valid", N), ("invalid", X)):
        node = Solo()
        proposal = node.proposal(1, next_valset_hash=NEXT)
        effects = node.receive(proposal)
        assert [effect.proposal for effect in only(effects, Verify)] == [proposal]
        assert not node.signed()
        getattr(node, verdict)(proposal.header)
        assert [v.kind for v in node.signed()] == [kind]


def test_on_the_boundary_only_a_tail_is_built_and_only_for_its_finality() -> None:
    node, boundary = at_boundary(index=2)
    offers = only(node.effects, Build)
    assert [(offer.parent, offer.boundary, offer.at_once) for offer in offers] == [(boundary, boundary, False)]
    offers = only(node.wait(CONFIG.delay_ms), Build)
    assert [(offer.parent, offer.boundary, offer.at_once) for offer in offers] == [(boundary, boundary, True)]


def test_leaders_go_on_with_tails_until_one_is_final() -> None:
    node, boundary = at_boundary(index=3)
    first = node.certified(node.tail(2, boundary))
    proposal = node.build(node.wait(CONFIG.delay_ms))
    assert proposal.header.parent_digest == first.digest
    assert (proposal.header.height, proposal.header.timestamp_ms) == (boundary.height, boundary.timestamp_ms)
    assert proposal.header.next_valset_hash == b""


def test_a_tail_is_voted_for_however_old_the_time_it_repeats() -> None:
    node, boundary = at_boundary()
    node.wall_ms += 3_600_000
    proposal = node.tail(2, boundary)
    node.receive(proposal)
    node.valid(proposal.header)
    assert [v.digest for v in node.signed(N, 2)] == [proposal.header.digest]


@pytest.mark.parametrize(
    "change",
    [
        {"height": 2},
        {"timestamp_ms": 2_000_000_000_000},
        {"payload_root": b"p" * 32},
        {"state_height": 1},
        {"state_root": b"s" * 32},
        {"receipts_root": b"r" * 32},
        {"state_scheme": 7},
        {"next_valset_hash": NEXT},
    ],
)
@pytest.mark.parametrize("after", ["boundary", "tail"])
def test_invalid_tails_expire_the_view_at_once(after: str, change: dict[str, object]) -> None:
    node, boundary = at_boundary()
    parent = boundary if after == "boundary" else node.certified(node.tail(2, boundary))
    view = parent.view + 1
    good = node.tail(view, boundary, parent)
    bad = resigned(good.header, **change)
    node.receive(propose(bad, good.justification, node.validators))
    assert [v.kind for v in node.signed(view=view)] == [X]


def test_invalid_ordinary_block_on_the_boundary() -> None:
    node, boundary = at_boundary()
    node.receive(node.proposal(2, boundary))
    assert [v.kind for v in node.signed(view=2)] == [X]


def test_invalid_tail_of_an_ordinary_block() -> None:
    node = Solo()
    parent = node.notarized_block(1)
    justification = node.justification(parent)
    node.receive(propose(tail(parent, 2, justification, parent), justification, node.validators))
    assert [v.kind for v in node.signed(view=2)] == [X]


def test_a_tail_whose_place_is_not_known_yet_is_not_judged() -> None:
    node = Solo()
    boundary = node.header(1, next_valset_hash=NEXT)[0]
    first, second = node.tail(2, boundary), None
    second = node.tail(3, boundary, first.header)
    node.receive(second, first)
    assert not only(node.effects, Verify)
    assert not node.signed()


def test_a_boundary_that_was_notarized_and_never_final_loses_to_another() -> None:
    node, first = at_boundary()
    node.receive(node.nullification(1), node.nullification(2))
    other = node.notarized_block(3, nullified=(1, 2), next_valset_hash=NEXT, timestamp_ms=first.timestamp_ms + 5)
    node.receive(node.finalization(other))
    assert node.core.ended == other
    assert not only(node.effects, Alarm)


# -- the end ---------------------------------------------------------------------------------


def test_finalizing_the_boundary_ends_the_epoch_and_the_core_rests() -> None:
    node, boundary = ended()
    assert only(node.effects, EpochEnded) == [EpochEnded(boundary, node.finalization(boundary))]
    assert node.core.deadline_ms is None
    assert node.core.status().signing == "ended"
    signed = node.signed()
    node.work()
    proposal = node.tail(2, boundary)
    node.receive(proposal, *[node.vote(X, 2, other) for other in (1, 2, 3)])
    node.valid(proposal.header)
    node.now_ms += 100_000
    assert node.do(Tick()) == []
    assert node.core.deadline_ms is None
    assert node.signed() == signed


def test_finalizing_a_tail_finalizes_the_boundary() -> None:
    node, boundary = at_boundary()
    first = node.certified(node.tail(2, boundary))
    second = node.certified(node.tail(3, boundary, first))
    effects = node.receive(node.finalization(second))
    assert only(effects, Finalized)[0].headers == (boundary, first, second)
    assert only(effects, EpochEnded) == [EpochEnded(boundary, node.finalization(second))]
    assert node.core.ended == boundary


def test_the_end_is_seen_when_its_headers_have_been_backfilled() -> None:
    node = Solo()
    boundary = node.header(1, next_valset_hash=NEXT)[0]
    last = node.tail(2, boundary).header
    effects = node.receive(node.finalization(last))
    assert only(effects, Finalized)[0].complete is False
    assert node.core.ended is None
    node.store.headers = {header.digest: header for header in (boundary, last)}
    assert only(node.do(HeadersStored(last.digest)), EpochEnded)[0].boundary == boundary


def late_messages(node: Solo, boundary: Header) -> list[Event]:
    """One of every kind of message of the ended epoch, from validator 3."""
    return [
        VoteReceived(3, node.vote(X, 2, 3)),
        VoteReceived(3, node.vote(F, 1, 3, boundary)),
        ProposalReceived(3, node.tail(3, boundary, nullified=(2,))),
        CertificateReceived(3, node.nullification(2)),
        CertificateReceived(3, node.notarization(boundary)),
        WantReceived(3, Want(0, 2)),
        StartQueryReceived(3, StartQuery(0, b"q" * 32)),
        PeerConnected(3),
    ]


@pytest.mark.parametrize("restarted", [False, True])
def test_every_late_message_is_answered_with_the_finalization(restarted: bool) -> None:
    node, boundary = ended()
    node.store.headers[boundary.digest] = boundary
    if restarted:
        node = node.restarted(ready=False)
        assert node.core.ended == boundary
        assert sent(node.effects, Certificate) == [node.finalization(boundary)]
    for event in late_messages(node, boundary):
        effects = node.do(event)
        assert only(effects, Send) == [Send(3, node.finalization(boundary))], event
        assert not only(effects, Broadcast), event


def test_who_shows_the_end_itself_is_not_answered() -> None:
    node, boundary = ended()
    assert node.receive(node.finalization(boundary)) == []
    assert node.receive(node.finalization(node.tail(2, boundary).header)) == []


def test_messages_of_another_epoch_are_not_answered_by_an_ended_core() -> None:
    node, _ = ended()
    assert node.do(WantReceived(3, Want(1, 1))) == []
    assert node.do(StartQueryReceived(3, StartQuery(2, b"q" * 32))) == []


def test_late_messages_are_answered_within_a_budget() -> None:
    node, _ = ended()
    answers = [effect for _ in range(3 * HELP_PER_INTERVAL) for effect in node.do(WantReceived(3, Want(0, 2)))]
    assert len(answers) == HELP_PER_INTERVAL


def test_a_restart_after_the_end_signs_nothing_in_the_epoch() -> None:
    node, boundary = ended()
    node.store.headers[boundary.digest] = boundary
    again = node.restarted()
    signed = again.signed()
    again.receive(again.tail(2, boundary), *[again.vote(X, 2, other) for other in (1, 2, 3)])
    again.wait(60_000)
    assert again.signed() == signed


# -- the next epoch --------------------------------------------------------------------------


def test_the_next_epoch_begins_on_the_boundary_as_view_0() -> None:
    node = in_second_epoch()
    assert (node.core.view, node.core.floor_view) == (1, 0)
    header = node.notarized_block(1)
    assert (header.parent_view, header.parent_digest, header.height) == (
        0,
        node.genesis.digest,
        node.genesis.height + 1,
    )
    assert [(v.epoch, v.kind) for v in node.signed()] == [(1, N), (1, F)]
    finalized = only(node.receive(node.finalization(header)), Finalized)[0]
    assert (finalized.headers, finalized.complete) == ((header,), True)


def test_a_later_first_block_justifies_the_views_before_it() -> None:
    node = in_second_epoch()
    node.receive(node.nullification(1), node.nullification(2))
    assert node.notarized_block(3, nullified=(1, 2)) is not None
    assert [v.view for v in node.signed(N)] == [3]


def test_the_first_leader_is_offered_the_boundary_without_a_certificate() -> None:
    node = in_second_epoch(index=1)
    offer = only(node.effects, Build)[-1]
    assert (offer.parent, offer.parent_certificate, offer.boundary) == (node.genesis, None, None)
    node.work()
    assert node.build([offer], b"payload").header.epoch == 1


def test_invalid_first_block_with_a_certificate_of_the_boundary() -> None:
    node = in_second_epoch()
    old = certificate(F, 7, node.genesis)
    justification = justify(old)
    header = child(node.genesis, 1, justification, of=node.validators)
    node.receive(propose(header, justification, node.validators))
    assert [v.kind for v in node.signed()] == [X]


def test_invalid_first_block_that_is_not_above_the_boundary() -> None:
    for change in ({"height": 1}, {"timestamp_ms": 1_000_000_000_001}, {"parent_view": 7}):
        node = in_second_epoch()
        good, justification = node.header(9 if "parent_view" in change else 1)
        if "parent_view" in change:
            node.receive(*[node.nullification(view) for view in range(1, 9)])
        node.receive(propose(resigned(good, **change), justification, node.validators))
        assert [v.kind for v in node.signed()] == [X], change


def test_what_is_said_in_one_epoch_is_nothing_in_another() -> None:
    node = in_second_epoch()
    old = validators(4)
    before = node.core.live_records()
    node.receive(certificate(X, 1, None, of=old), *[vote(X, 1, other, of=old) for other in (1, 2, 3)], sender=3)
    assert (node.core.view, node.core.live_records()) == (1, before)


def test_a_finalization_below_the_start_of_the_epoch_is_a_fork() -> None:
    """Nothing genuine leads there; the walk down has to end all the same."""
    node = in_second_epoch()
    first = node.notarized_block(1)
    node.receive(node.finalization(first))
    skipping = node.header(2, node.genesis, nullified=(1,))[0]
    node.store.headers[skipping.digest] = skipping
    node.receive(node.finalization(skipping))
    assert [alarm.kind for alarm in only(node.effects, Alarm)] == ["fork"]


# -- the log of several epochs ---------------------------------------------------------------


def test_a_core_takes_the_records_of_its_own_epoch() -> None:
    old, boundary = at_boundary()
    new = in_second_epoch()
    new.notarized_block(1)
    log = [MutedUntil(0, 9), *old.log, MutedUntil(2, 9), *new.log]
    again = Solo(0, records=log, of=new.validators, start=new.genesis)
    assert again.core.live_records() == new.core.live_records()
    back = Solo(0, records=[*new.log, *old.log])
    assert back.core.live_records() == old.core.live_records()
    assert all(v.epoch == 0 for v in back.signed() if v in old.signed())
    assert boundary.epoch == 0


def test_who_left_the_set_never_signs_twice_in_the_epoch_it_was_in() -> None:
    node, boundary = at_boundary()
    observer = Solo(None, records=node.log, of=second_epoch(), start=boundary)
    observer.wait(1_000)
    again = Solo(0, records=observer.log)  # its state was lost, its log was not
    proposal = again.proposal(1, payload=b"another block")
    again.receive(proposal)
    again.valid(proposal.header)
    assert [v.digest for v in again.signed(N, 1)] == [boundary.digest]


# -- seats without a key ---------------------------------------------------------------------


def keyless(*seats: int) -> ValidatorSet:
    members = validators(4).members
    return second_epoch(tuple(replace(m, public_key=b"") if i in seats else m for i, m in enumerate(members)))


def test_a_seat_without_a_key_counts_in_n_and_f() -> None:
    assert (keyless(3).n, keyless(3).f, keyless(3).quorum) == (4, 1, 3)
    assert keyless(2, 3).n == 4  # two empty keys are not one key twice


def test_a_seat_without_a_key_can_sign_nothing() -> None:
    of = keyless(3)
    node = in_second_epoch(of=of)
    nobodys = vote(X, 1, 3, of=of)
    assert nobodys.signature == FakeSignatures(b"").sign(vote_message(CHAIN_ID, X, 1, 1)), "only the rule is against it"
    node.receive(nobodys, sender=2)
    assert not node.core.live_records()
    forged = certificate(X, 1, None, (1, 2, 3), of)
    node.receive(forged, sender=2)
    assert HeldCertificate(forged) not in node.log
    genuine = certificate(X, 1, None, (0, 1, 2), of)
    node.receive(genuine, sender=2)
    assert HeldCertificate(genuine) in node.log


def test_a_member_without_a_key_follows() -> None:
    node = in_second_epoch(index=None, of=keyless(3))
    header = node.notarized_block(1)
    node.receive(node.finalization(header))
    assert node.core.floor_view == 1
    assert not node.signed()


# -- starting --------------------------------------------------------------------------------


def test_the_start_up_query_is_about_one_epoch() -> None:
    node = Solo(0, of=second_epoch(), start=in_second_epoch().genesis, ready=False)
    assert sent(node.effects, StartQuery) == [StartQuery(1, NONCE)]
    assert sent(node.do(StartQueryReceived(3, StartQuery(0, b"q" * 32))), StartAnswer) == []
    assert len(sent(node.do(StartQueryReceived(3, StartQuery(1, b"q" * 32))), StartAnswer)) == 1


def test_who_enters_the_epoch_later_is_asked_then_and_told_what_was_said_last() -> None:
    node = in_second_epoch()
    node.notarized_block(1)
    told = sent(node.do(StartQueryReceived(3, StartQuery(1, b"q" * 32))), Certificate | Vote)  # type: ignore[arg-type]
    assert {(message.kind, message.view) for message in told} == {(N, 1), (F, 1)}
    starting = Solo(0, of=second_epoch(), start=node.genesis, ready=False)
    asked = starting.do(StartQueryReceived(3, StartQuery(1, b"q" * 32)))
    assert sent(asked, StartQuery) == [StartQuery(1, NONCE)]
    starting.do(StartAnswerReceived(3, StartAnswer(NONCE, 0, ())))
    assert not sent(starting.do(StartQueryReceived(3, StartQuery(1, b"q" * 32))), StartQuery)


def test_an_observer_asks_where_the_others_are() -> None:
    assert sent(Solo(None).effects, Want) == [Want(0, 1)]


# -- evidence --------------------------------------------------------------------------------


def evidence_of_fork(justified: bool) -> set[int]:
    """Culprits when a tail of view 2 is final and another boundary, of view 3, is notarized as well."""
    node, boundary = at_boundary()
    last = node.certified(node.tail(2, boundary))
    node.votes(F, 2, (1, 2), last)
    nullified = (1, 2) if justified else ()
    certificates = [certificate(X, view, None, (1, 2, 3), node.validators) for view in nullified]
    justification = justify(None, certificates)
    other = child(node.genesis, 3, justification, next_valset_hash=NEXT, timestamp_ms=boundary.timestamp_ms + 9)
    proposal = propose(other, justification, node.validators)
    node.receive(proposal)
    node.votes(N, 3, (1, 2, 3), other)
    reports = only(node.effects, Report)
    assert not any(report.evidence.culprit == 0 for report in reports)
    return {report.evidence.culprit for report in reports}


def test_a_fork_against_a_final_tail_names_who_nullified_it() -> None:
    assert evidence_of_fork(justified=True) == {1, 2}


def test_a_fork_against_a_final_tail_names_who_signed_a_header_without_the_nullifications() -> None:
    assert evidence_of_fork(justified=False) == {1, 2, 3}


def test_two_tails_of_one_view_are_evidence() -> None:
    node, boundary = at_boundary()
    proposal = node.tail(2, boundary)
    other = resigned(proposal.header, receipts_root=b"x" * 32)
    node.receive(proposal, node.vote(N, 2, node.validators.leader(2), other))
    assert [report.evidence.culprit for report in only(node.effects, Report)] == [node.validators.leader(2)]


def test_headers_of_the_epoch_before_are_no_parents() -> None:
    node = in_second_epoch()
    stranger: Proposal = node.proposal(2, replace(node.genesis, view=1, digest=b"d" * 32, epoch=1), (), b"")
    fake = replace(node.genesis, view=1, digest=b"d" * 32, next_valset_hash=b"")
    node.store.headers[b"d" * 32] = fake
    node.receive(node.nullification(1), stranger)
    assert [v.kind for v in node.signed(view=2)] == [X]


def test_a_second_end_of_the_epoch_is_a_fork_also_to_who_rests() -> None:
    node, boundary = ended()
    other = node.header(3, nullified=(1, 2), next_valset_hash=NEXT, timestamp_ms=boundary.timestamp_ms + 9)[0]
    node.store.headers[other.digest] = other
    node.receive(node.finalization(other))
    assert [alarm.kind for alarm in only(node.effects, Alarm)] == ["fork"]
