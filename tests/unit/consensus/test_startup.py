"""The start-up rule: nothing is signed before the others were asked, nothing twice after a restored backup."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.effects import Alarm, Build, Penalise, Persist, RemoveBackupMarker, Send
from consensus.events import PeerConnected, StartAnswerReceived, StartQueryReceived
from consensus.messages import START_ANSWER_VOTES_MAX, StartAnswer, StartQuery
from consensus.records import HeldCertificate, MutedUntil, OwnVote
from consensus.types import Certificate, Vote
from tests.unit.consensus.cluster import Cluster
from tests.unit.consensus.solo import NONCE, Solo, only, sent
from tests.unit.consensus.support import CONFIG, F, N, X, certificate


def answer(node: Solo, sender: int, highest: int = 0, *votes: Vote) -> None:
    node.do(StartAnswerReceived(sender, StartAnswer(NONCE, highest, votes)))


def test_nothing_is_signed_before_q_minus_1_others_answered() -> None:
    node = Solo(ready=False)
    proposal = node.proposal(1)
    node.receive(proposal)
    node.valid(proposal.header)
    assert not node.signed()
    answer(node, 1)
    assert node.core.status().signing == "starting"
    assert node.core.status().start_answers == (1, 2)
    answer(node, 1)
    assert not node.signed()
    answer(node, 2)
    assert [v.kind for v in node.signed()] == [N]
    assert not only(node.effects, Alarm)


def test_nothing_is_proposed_before_the_answers_either() -> None:
    node = Solo(index=1, ready=False)
    assert not only(node.effects, Build)
    node.answer_start()
    assert only(node.effects, Build)


def test_nothing_times_out_by_an_x_before_the_answers() -> None:
    node = Solo(ready=False)
    node.work()
    node.wait(5_000)
    assert not node.signed()
    node.answer_start()
    assert [v.kind for v in node.signed()] == [X]


def test_the_query_is_repeated_until_answered_and_sent_to_peers_that_connect() -> None:
    node = Solo(ready=False)
    assert sent(node.effects, StartQuery) == [StartQuery(0, NONCE)]
    assert len(sent(node.wait(3 * CONFIG.retry_ms), StartQuery)) == 3
    assert Send(2, StartQuery(0, NONCE)) in node.do(PeerConnected(2))
    node.answer_start()
    assert not sent(node.wait(3 * CONFIG.retry_ms), StartQuery)


def test_answers_to_another_nonce_do_not_count() -> None:
    node = Solo(ready=False)
    for other in (1, 2, 3):
        node.do(StartAnswerReceived(other, StartAnswer(bytes(32), 0, ())))
    assert node.core.status().start_answers == (0, 2)


@pytest.mark.parametrize("stranger", [0, 4, -1])
def test_only_answers_of_other_validators_count(stranger: int) -> None:
    node = Solo(ready=False)
    answer(node, stranger)
    assert node.core.status().start_answers == (0, 2)


def test_an_observer_does_not_answer_because_it_cannot_know_what_it_signed() -> None:
    node = Solo(index=None)
    assert not node.do(StartQueryReceived(3, StartQuery(0, b"n" * 32)))


def test_answers_are_given_at_once_also_while_waiting() -> None:
    node = Solo(ready=False)
    effects = node.do(StartQueryReceived(3, StartQuery(0, b"n" * 32)))
    assert Send(3, StartAnswer(b"n" * 32, 0, ())) in effects


def test_an_answer_holds_the_askers_votes_and_the_highest_signed_view_after_certificates_that_prove_it() -> None:
    node = Solo()
    block = node.notarized_block(1)
    effects = node.do(StartQueryReceived(3, StartQuery(0, b"n" * 32)))
    messages = [effect.message for effect in only(effects, Send)]
    assert messages[-1] == StartAnswer(b"n" * 32, 1, (node.vote(N, 1, 3, block),))
    assert node.notarization(block) in messages[:-1]


def test_an_answer_is_bounded() -> None:
    node = Solo()
    for view in range(1, 2 * START_ANSWER_VOTES_MAX):
        node.receive(node.nullification(view))
    answers = sent(node.do(StartQueryReceived(3, StartQuery(0, b"n" * 32))), StartAnswer)
    assert len(answers[0].votes) == START_ANSWER_VOTES_MAX
    assert answers[0].votes[0].view == 2 * START_ANSWER_VOTES_MAX - 1


def test_a_fresh_node_nobody_knows_votes_of_signs_as_usual() -> None:
    node = Solo()
    assert node.core.status().signing == "signing"
    assert node.core.status().muted_until_view == 0


def test_a_vote_of_mine_that_my_log_lacks_mutes_me_past_the_highest_answer() -> None:
    node = Solo(ready=False)
    node.receive(node.nullification(4, (1, 2, 3)))
    lost = node.vote(X, 3, 0)
    answer(node, 1, 5, lost)
    answer(node, 2, 5)
    assert MutedUntil(0, 6) in node.log
    assert [a.kind for a in only(node.effects, Alarm)] == ["muted"]
    assert node.core.status().signing == "muted"
    node.work()
    node.wait(5_000)
    assert not [v for v in node.signed() if v != lost]
    node.receive(node.nullification(5), node.nullification(6))
    node.wait(5_000)
    assert [v.view for v in node.signed(X) if v != lost] == [7]


def test_the_bound_survives_the_next_restart() -> None:
    node = Solo(ready=False)
    answer(node, 1, 1, node.vote(X, 1, 0))
    answer(node, 2, 1)
    assert MutedUntil(0, 2) in node.log
    again = node.restarted()
    again.work()
    again.wait(5_000)
    assert again.core.status().muted_until_view == 2
    assert [v.view for v in again.signed()] == [1], "only the one others showed it"


def test_a_vote_of_mine_that_my_log_holds_contradicts_nothing() -> None:
    node = Solo()
    node.work()
    node.wait(CONFIG.leader_ms)
    again = node.restarted(ready=False)
    answer(again, 1, 1, *node.signed())
    answer(again, 2, 1)
    assert again.core.status().signing == "signing"


def test_a_lost_vote_below_the_floor_matters_no_more() -> None:
    node = Solo(ready=False)
    header, _ = node.header(9, nullified=range(1, 9))
    node.receive(certificate(F, 9, header, (1, 2, 3)))
    answer(node, 1, 9, node.vote(X, 3, 0))
    answer(node, 2, 9)
    assert node.core.status().signing == "signing"


def test_the_backup_marker_mutes_whatever_the_answers_say_and_goes_after_the_bound_is_logged() -> None:
    node = Solo(ready=False, marker=True)
    assert not only(node.effects, RemoveBackupMarker)
    node.receive(node.nullification(4, (1, 2, 3)))
    answer(node, 1, 5)
    effects = node.do(StartAnswerReceived(3, StartAnswer(NONCE, 3, ())))
    assert only(effects, Persist)[0].record == MutedUntil(0, 6)
    assert only(effects, RemoveBackupMarker)
    assert effects.index(Persist(MutedUntil(0, 6))) < effects.index(RemoveBackupMarker())


def test_a_liar_cannot_mute_a_node_for_ever() -> None:
    node = Solo(ready=False, marker=True)
    answer(node, 1, 1 << 60)
    answer(node, 2, 0)
    assert node.core.status().start_answers == (1, 2), "no certificate shows that such a view exists"
    answer(node, 3, 0)
    assert MutedUntil(0, 1) in node.log


def test_an_answer_counts_once_its_view_is_known_to_be_reachable() -> None:
    node = Solo(ready=False)
    answer(node, 1, 8)
    answer(node, 2, 0)
    assert node.core.status().signing == "starting"
    node.receive(node.nullification(7))
    assert node.core.status().signing == "signing"


def test_an_answer_with_a_forged_vote_costs_its_sender_and_does_not_count() -> None:
    node = Solo(ready=False)
    for forged in (replace(node.vote(X, 1, 0), signature=bytes(64)), node.vote(X, 1, 2)):
        effects = node.do(StartAnswerReceived(1, StartAnswer(NONCE, 0, (forged,))))
        assert [p.sender for p in only(effects, Penalise)] == [1]
    assert node.core.status().start_answers == (0, 2)


def test_a_certificate_with_a_vote_the_log_lacks_mutes_during_the_start() -> None:
    node = Solo(ready=False)
    node.receive(node.nullification(1, (0, 1, 2)))
    node.answer_start(highest=1)
    assert MutedUntil(0, 2) in node.log


def test_a_forgotten_vote_that_comes_back_later_mutes_too() -> None:
    node = Solo()
    node.receive(node.vote(X, 1, 0), sender=2)
    assert MutedUntil(0, 2) in node.log
    assert only(node.effects, Alarm)


def test_two_votes_of_mine_for_different_blocks_stop_me() -> None:
    node = Solo()
    a, b = node.proposal(1), node.proposal(1, payload=b"b")
    node.receive(a)
    node.valid(a.header)
    node.receive(node.vote(N, 1, 0, b.header), sender=2)
    assert node.core.status().signing == "stopped"
    assert [a.kind for a in only(node.effects, Alarm)] == ["forgotten-vote"]


def test_votes_already_signed_are_sent_again_before_the_answers() -> None:
    node = Solo()
    node.work()
    node.wait(CONFIG.leader_ms)
    again = node.restarted(ready=False)
    assert node.signed()[0] in sent(again.effects, Vote)


def test_one_validator_alone_needs_no_answers() -> None:
    node = Solo(n=1)
    assert node.core.status().signing == "signing"


def test_an_observer_asks_nobody_and_signs_nothing() -> None:
    node = Solo(index=None)
    assert not sent(node.effects, StartQuery)
    block = node.notarized_block(1)
    node.work()
    node.wait(5_000)
    assert node.core.view == 2
    assert node.core.status().signing == "observer"
    assert not node.signed()
    assert HeldCertificate(node.notarization(block)) in node.log
    assert not sent(node.wait(10_000), Vote)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_everybody_starting_at_once_at_genesis_is_no_deadlock(n: int) -> None:
    cluster = Cluster(n)
    cluster.run(50)
    assert {node.running.status().signing for node in cluster.nodes} == {"signing"}


def test_everybody_crashed_and_nobody_restored_is_no_deadlock() -> None:
    cluster = Cluster(4)
    cluster.submit()
    cluster.run(300)
    for node in cluster.nodes:
        node.crash()
    for node in cluster.nodes:
        node.start()
    transaction = cluster.submit()
    cluster.run_until(lambda: cluster.final_everywhere(transaction))
    assert not any(node.alarms for node in cluster.nodes)


@pytest.mark.parametrize("marker", [True, False])
def test_a_restored_backup_signs_nothing_twice_and_votes_again_past_its_bound(marker: bool) -> None:
    cluster = Cluster(4)
    first = cluster.submit()
    cluster.run_until(lambda: cluster.final_everywhere(first))
    node = cluster.nodes[2]
    backup, blocks, final = list(node.log), dict(node.store.proposals), list(node.store.final)
    for _ in range(3):
        transaction = cluster.submit()
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx))  # type: ignore[misc]
    node.crash()
    node.log, node.store.proposals, node.store.final, node.marker = backup, blocks, final, marker
    node.start()
    cluster.run(100)
    assert not node.marker
    assert any(alarm.kind == "muted" for alarm in node.alarms)
    bound = node.running.status().muted_until_view
    for _ in range(12):
        transaction = cluster.submit()
        cluster.run_until(lambda tx=transaction: cluster.final_everywhere(tx))  # type: ignore[misc]
    voted = [r.vote.view for r in node.log if isinstance(r, OwnVote) and r.vote.view > bound]
    assert voted, "it votes again"
    cluster.oracle.check_chain()  # and I6 was checked on everything it ever signed


def test_the_guides_of_an_answer_are_certificates() -> None:
    node = Solo()
    node.receive(node.nullification(1))
    effects = node.do(StartQueryReceived(3, StartQuery(0, b"n" * 32)))
    assert sent(effects, Certificate) == [node.nullification(1)]
