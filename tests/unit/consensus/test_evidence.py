"""Evidence: all five kinds, each once, never against an honest node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.effects import Penalise, Persist, Report
from consensus.events import BlockFetched, VoteReceived, Witnessed, Work
from consensus.evidence import ConflictingVotes, EvidenceKind, FalseJustification, evidence_problem
from consensus.forks import FinalChain, conflicting
from consensus.forks import culprits as culprits_of
from consensus.justification import HeaderRules
from consensus.types import Certificate, VoteKind
from consensus.votes import VoteChecker
from tests.unit.consensus.solo import Solo, only
from tests.unit.consensus.support import CHAIN_ID, F, N, X, certificate, child, justify, propose, vote_for


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


def false_justifications(node: Solo) -> list[FalseJustification]:
    found = [report.evidence for report in only(node.effects, Report)]
    return [evidence for evidence in found if isinstance(evidence, FalseJustification)]


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
    node.receive(lie)
    (evidence,) = false_justifications(node)
    assert evidence.culprit == 3
    assert (evidence.header, evidence.justification) == (lie.header, justification)
    node.votes(N, 3, [1, 2], lie.header)
    assert [each.culprit for each in false_justifications(node)] == [3, 1, 2]
    # Two notarized parents in one view show more than f liars: then this node stops instead.
    assert bool(node.signed(X, 3)) == (wrong != "parent of another")
    assert not node.signed(N, 3)


def test_votes_that_came_before_the_false_justification_convict_too() -> None:
    node = Solo()
    node.receive(node.nullification(1))
    justification = justify(None)
    lie = propose(child(node.genesis, 2, justification), justification, node.validators)
    node.votes(N, 2, [1, 3], lie.header)
    node.receive(lie)
    assert {r.evidence.culprit for r in only(node.effects, Report)} == {1, 2, 3}


def culprits(node: Solo) -> set[tuple[EvidenceKind, int]]:
    return {(report.evidence.kind, report.evidence.culprit) for report in only(node.effects, Report)}


def test_a_second_certificate_of_the_same_block_is_looked_at_too() -> None:
    node = Solo()
    one, two = node.proposal(1).header, node.proposal(1, payload=b"b").header
    node.votes(N, 1, [3], two)
    node.receive(certificate(N, 1, one, (0, 1, 2)))
    assert not only(node.effects, Report)
    node.receive(certificate(N, 1, one, (1, 2, 3)))
    assert culprits(node) == {(EvidenceKind.TWO_NOTARIZE, 3)}


def test_what_only_a_second_certificate_shows_convicts_later() -> None:
    node = Solo(index=None)
    node.receive(certificate(X, 1, None, (0, 1, 2)), certificate(X, 1, None, (1, 2, 3)))
    node.votes(F, 1, [3], node.proposal(1).header)
    assert culprits(node) == {(EvidenceKind.NULLIFY_AND_FINALIZE, 3)}


def test_invalid_a_second_certificate_with_a_bad_vote_costs_its_sender() -> None:
    genuine = certificate(X, 1, None, (0, 1, 2))
    node = Solo(index=None)
    node.receive(genuine)
    forged = replace(genuine, signers=(0, 1, 3))
    assert only(node.receive(forged), Penalise)
    assert not only(node.effects, Report)
    cut = replace(genuine, signers=(0, 1, 2, 3))
    assert only(node.receive(cut), Penalise)


def test_certificates_inside_a_false_justification_are_looked_at_too() -> None:
    node = Solo()
    first, other = node.proposal(1).header, node.proposal(1, payload=b"b").header
    node.votes(N, 1, [1, 2], other)
    justification = justify(certificate(N, 1, first, (1, 2, 3)))  # no nullification of view 2
    node.receive(node.nullification(2))
    node.receive(propose(child(first, 3, justification), justification, node.validators))
    assert culprits(node) == {
        (EvidenceKind.TWO_NOTARIZE, 1),
        (EvidenceKind.TWO_NOTARIZE, 2),
        (EvidenceKind.FALSE_JUSTIFICATION, 3),
    }


def test_certificates_in_the_justification_of_a_fetched_block_are_looked_at_too() -> None:
    node = Solo()
    first, other = node.proposal(1).header, node.proposal(1, payload=b"b").header
    node.votes(N, 1, [2], other)
    second = propose(*node.header(2, parent=first), node.validators)
    node.receive(node.notarization(second.header))
    node.do(BlockFetched(1, second))
    assert culprits(node) == {(EvidenceKind.TWO_NOTARIZE, 2)}


def test_certificates_in_blocks_that_catching_up_brought_are_looked_at_too() -> None:
    node = Solo()
    first, other = node.proposal(1).header, node.proposal(1, payload=b"b").header
    node.votes(N, 1, [2, 3], other)
    node.do(Witnessed((node.notarization(first), node.nullification(2))))
    assert culprits(node) == {(EvidenceKind.TWO_NOTARIZE, 2), (EvidenceKind.TWO_NOTARIZE, 3)}
    assert node.core.view == 1
    assert not [effect for effect in node.effects if isinstance(effect, Persist)]
    node.votes(F, 2, [1], node.proposal(2, parent=first).header)
    assert (EvidenceKind.NULLIFY_AND_FINALIZE, 1) in culprits(node)


@pytest.mark.parametrize("ready", [True, False], ids=["afterwards", "while it starts"])
def test_a_vote_in_a_start_answer_that_contradicts_an_own_one_is_evidence_and_stops_the_node(ready: bool) -> None:
    node = Solo()
    node.do(Work(True))
    node.wait(2_000)
    assert node.signed(X, 1)
    again = node.restarted(ready=False)
    lost = vote_for(F, 1, 0, 0, node.proposal(1).header.digest, node.validators)
    if ready:
        again.answer_start()
        again.do(VoteReceived(2, lost))
    else:
        again.answer_start(1, (lost,))
    assert culprits(again) == {(EvidenceKind.NULLIFY_AND_FINALIZE, 0)}
    assert again.core.status().signing == "stopped"


# ---------------------------------------------------------------- two final chains


class Skipping:
    """Blocks on the genesis: view 1 final on one chain; views 2 and 3 on another, that skips view 1."""

    def __init__(self, nullification: tuple[Certificate, ...]) -> None:
        node = Solo()
        self.rules = HeaderRules(1, CHAIN_ID, node.validators, node.genesis)
        self.checker = VoteChecker(CHAIN_ID, node.validators, node.signatures)
        first, holds = node.header(1)
        self.one = FinalChain(((first, holds),), (certificate(F, 1, first, (1, 2, 3)),))
        justification = justify(None, nullification)
        second = child(node.genesis, 2, justification)
        above = justify(certificate(N, 2, second, (1, 2, 3)))
        third = child(second, 3, above)
        self.other = FinalChain(((second, justification), (third, above)), (certificate(F, 3, third, (1, 2, 3)),))

    def culprits(self) -> list[tuple[EvidenceKind, int]]:
        found = culprits_of(self.one, self.other, self.rules, self.checker)
        assert all(evidence_problem(evidence, self.rules, self.checker) is None for evidence in found)
        assert found == culprits_of(self.other, self.one, self.rules, self.checker)
        return [(evidence.kind, evidence.culprit) for evidence in found]


def test_a_chain_that_nullifies_what_the_other_finalizes_convicts_who_signed_both() -> None:
    made = Skipping((certificate(X, 1, None, (0, 1, 2)),))
    assert conflicting(made.one, made.other)
    assert made.culprits() == [(EvidenceKind.NULLIFY_AND_FINALIZE, 1), (EvidenceKind.NULLIFY_AND_FINALIZE, 2)]


def test_a_chain_that_skips_without_a_nullification_convicts_who_notarized_it() -> None:
    assert Skipping(()).culprits() == [(EvidenceKind.FALSE_JUSTIFICATION, signer) for signer in (1, 2, 3)]


def test_a_forged_chain_convicts_nobody() -> None:
    made = Skipping((certificate(X, 1, None, (0, 1, 2)),))
    forged = replace(made.one.certificates[0], signatures=(bytes(64),) * 3)
    made.one = replace(made.one, certificates=(forged,))
    assert made.culprits() == []


def test_one_chain_beside_itself_convicts_nobody() -> None:
    made = Skipping((certificate(X, 1, None, (0, 1, 2)),))
    made.one = replace(made.other, blocks=made.other.blocks[:1], certificates=())
    assert not conflicting(made.one, made.other)
    assert made.culprits() == []
