"""Evidence: all five kinds, each once, never against an honest node."""

from __future__ import annotations

import pytest

from consensus.effects import Report
from consensus.evidence import ConflictingVotes, FalseJustification
from consensus.types import VoteKind
from tests.unit.consensus.solo import Solo, only
from tests.unit.consensus.support import F, N, X, certificate, child, justify, propose


@pytest.mark.parametrize(("first", "second"), [(N, N), (F, F), (N, F), (F, N)])
def test_votes_for_different_blocks_are_evidence(first: VoteKind, second: VoteKind) -> None:
    node = Solo()
    a, b = node.proposal(1), node.proposal(1, payload=b"b")
    one, two = node.vote(first, 1, 3, a.header), node.vote(second, 1, 3, b.header)
    reports = only(node.receive(one, two), Report)
    assert [r.evidence for r in reports] == [ConflictingVotes(one, two)]
    assert reports[0].evidence.culprit == 3


@pytest.mark.parametrize(("first", "second"), [(X, F), (F, X)])
def test_x_with_f_is_evidence(first: VoteKind, second: VoteKind) -> None:
    node = Solo()
    header = node.proposal(1).header
    votes = [node.vote(kind, 1, 3, None if kind is X else header) for kind in (first, second)]
    assert [r.evidence for r in only(node.receive(*votes), Report)] == [ConflictingVotes(votes[0], votes[1])]


@pytest.mark.parametrize("kinds", [(N, X), (N, F), (X, N), (F, N)])
def test_legal_pairs_of_votes_are_no_evidence(kinds: tuple[VoteKind, VoteKind]) -> None:
    node = Solo()
    header = node.proposal(1).header
    node.receive(*[node.vote(kind, 1, 3, None if kind is X else header) for kind in kinds])
    assert not only(node.effects, Report)


def test_evidence_is_reported_once() -> None:
    node = Solo()
    blocks = [node.proposal(1, payload=b"%d" % i).header for i in range(5)]
    for header in blocks + blocks:
        node.votes(N, 1, [3], header)
    assert len(only(node.effects, Report)) == 1
    assert node.core.status().evidence_count == 1


def test_votes_inside_certificates_are_looked_at_too() -> None:
    node = Solo()
    block = node.notarized_block(1)
    node.votes(F, 1, [2, 3], block)
    node.receive(node.nullification(1, (1, 2, 3)))
    culprits = {r.evidence.culprit for r in only(node.effects, Report)}
    assert culprits == {2, 3}


def test_two_final_blocks_in_one_view_name_more_than_f_and_stop_the_node() -> None:
    node = Solo()
    a, b = node.proposal(1).header, node.proposal(1, payload=b"b").header
    node.receive(certificate(F, 1, a, (1, 2, 3)), certificate(F, 1, b, (1, 2, 3)))
    assert {r.evidence.culprit for r in only(node.effects, Report)} == {1, 2, 3}
    assert node.core.status().signing == "stopped"


def test_a_fork_over_a_skipped_view_names_more_than_f_and_stops_the_node() -> None:
    node = Solo()
    final = node.notarized_block(1)
    node.receive(certificate(F, 1, final, (1, 2, 3)))
    other = node.proposal(2, nullified=[1])
    node.receive(other, certificate(F, 2, other.header, (1, 2, 3)))
    assert {r.evidence.culprit for r in only(node.effects, Report)} == {1, 2, 3}
    assert node.core.status().signing == "stopped"
    assert node.core.floor_view == 1


@pytest.mark.parametrize(
    "wrong",
    ["missing", "another view", "no quorum", "without the parent", "parent of another", "parent without a quorum"],
)
def test_a_false_justification_convicts_everybody_who_notarizes_it(wrong: str) -> None:
    node = Solo()
    first = node.notarized_block(1)
    parent = node.notarization(first)
    node.receive(node.nullification(2))
    justification = {
        "missing": justify(parent),
        "another view": justify(parent, [node.nullification(1)]),
        "no quorum": justify(parent, [certificate(X, 2, None, (1, 2))]),
        "without the parent": justify(None, [node.nullification(2)]),
        "parent without a quorum": justify(certificate(N, 1, first, (1, 2)), [node.nullification(2)]),
        "parent of another": justify(node.notarization(node.proposal(1, payload=b"b").header), [node.nullification(2)]),
    }[wrong]
    lie = propose(child(first, 3, justification), justification, node.validators)
    reports = only(node.receive(lie), Report)
    assert [r.evidence.culprit for r in reports] == [3]
    evidence = reports[0].evidence
    assert isinstance(evidence, FalseJustification)
    assert (evidence.header, evidence.justification) == (lie.header, justification)
    node.votes(N, 3, [1, 2], lie.header)
    assert [r.evidence.culprit for r in only(node.effects, Report)] == [3, 1, 2]
    assert node.signed(X, 3)
    assert not node.signed(N, 3)


def test_votes_that_came_before_the_false_justification_convict_too() -> None:
    node = Solo()
    node.receive(node.nullification(1))
    justification = justify(None)
    lie = propose(child(node.genesis, 2, justification), justification, node.validators)
    node.votes(N, 2, [1, 3], lie.header)
    node.receive(lie)
    assert {r.evidence.culprit for r in only(node.effects, Report)} == {1, 2, 3}
