"""Statements: their one form, when they are true, when they are due, what they leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.evidence import ConflictingVotes, EvidenceKind, FalseJustification, evidence_problem
from consensus.justification import HeaderRules
from consensus.types import Justification, Vote
from consensus.votes import VoteChecker
from ledger import statements, wire
from ledger.evidence import EVIDENCE, PER_CULPRIT_AND_KIND_MAX, EvidenceRecord
from ledger.execution import ExecutableBlock
from ledger.statement_types import Ed25519, Judge, Moment
from ledger.types import STATEMENT_BYTES_MAX, Statement, StatementContent
from lossbook.v1 import block_pb2
from tests.support.chain import Chain
from tests.support.evidence import F, N, X, forged_statement, market_vote, statement, two_notarize
from tests.support.insurers import INSURERS, Ledger, policy_issue

CHAIN = Chain()
RULES = HeaderRules(1, CHAIN.genesis.chain_id, CHAIN.validators, CHAIN.genesis_header)
JUDGE = Judge({0: RULES}.get, Ed25519())
MOMENT = Moment(1, 1_000, 0, 1)


def problem(content: StatementContent) -> str | None:
    return statements.problem(wire.encode_statement(content), JUDGE)


def false_justification(committed: Justification | None = None, **changes: object) -> FalseJustification:
    """Notarized by insurer 2: a header of view 3 on the genesis, without the nullifications of views 1 and 2."""
    chain = Chain()
    block = chain.block(finalized=False)
    justification = committed or wire.make_justification(None, ())
    header = wire.encode_header(
        **{
            name: getattr(block.header, name)
            for name in type(block.header).__dataclass_fields__
            if name not in ("digest", "raw", "view", "justification_digest")
        },
        view=3,
        justification_digest=justification.digest,
    )
    certificate = chain.certificate(N, 3, 0, header.digest, signers=(2,))
    return replace(FalseJustification(certificate.votes()[0], header, justification), **changes)  # type: ignore[arg-type]


def executed(ledger: Ledger, *listed: Statement) -> list[EvidenceRecord]:
    """The records after a block that lists these."""
    ledger.time_ms += 1000
    block = ExecutableBlock(ledger.state.height + 1, ledger.time_ms, bytes(32), [], statements=listed)
    ledger.store.commit(ledger.execution.run(block).writes)
    return [record for _, record in ledger.state.iterate(EVIDENCE)]


# ---------------------------------------------------------------- form


@pytest.mark.parametrize("content", [two_notarize(1), false_justification()], ids=["votes", "justification"])
def test_a_statement_comes_back_as_it_was_made(content: StatementContent) -> None:
    made = wire.encode_statement(content)
    assert wire.decode_statement(made.raw) == made
    assert statements.identity(made) == statements.identity(wire.decode_statement(made.raw))


def test_the_order_in_which_votes_were_met_does_not_matter() -> None:
    one, two = two_notarize(1).first, two_notarize(1).second
    assert wire.encode_statement(ConflictingVotes(one, two)) == wire.encode_statement(ConflictingVotes(two, one))


def test_invalid_two_votes_in_the_other_order() -> None:
    message = block_pb2.Statement.FromString(statement(1).raw)
    votes = message.conflicting_votes
    swapped = block_pb2.Statement(conflicting_votes=block_pb2.ConflictingVotes(first=votes.second, second=votes.first))
    twice = block_pb2.Statement(conflicting_votes=block_pb2.ConflictingVotes(first=votes.first, second=votes.first))
    for wrong in (swapped, twice):
        with pytest.raises(wire.WireError, match="order of their bytes"):
            wire.decode_statement(wrong.SerializeToString(deterministic=True))


def test_invalid_forms() -> None:
    raw = statement(1).raw
    for wrong, why in (
        (b"", "kind"),
        (b"\x7a\x00", "canonical"),
        (raw + b"\x12\x00", "canonical"),
        (raw[:-1], "parse"),
        (bytes(STATEMENT_BYTES_MAX + 1), "at most"),
    ):
        with pytest.raises(wire.WireError, match=why):
            wire.decode_statement(wrong)


# ---------------------------------------------------------------- truth


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (market_vote(N, 1, 3), market_vote(N, 1, 3, "b"), EvidenceKind.TWO_NOTARIZE),
        (market_vote(F, 1, 3), market_vote(F, 1, 3, "b"), EvidenceKind.TWO_FINALIZE),
        (market_vote(X, 1, 3), market_vote(F, 1, 3), EvidenceKind.NULLIFY_AND_FINALIZE),
        (market_vote(N, 1, 3), market_vote(F, 1, 3, "b"), EvidenceKind.NOTARIZE_AND_FINALIZE),
    ],
)
def test_two_votes_that_no_honest_validator_signs_are_true(first: Vote, second: Vote, kind: EvidenceKind) -> None:
    evidence = ConflictingVotes(first, second)
    assert problem(evidence) is None
    assert (evidence.kind, evidence.culprit) == (kind, 3)


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (market_vote(N, 1, 3), market_vote(X, 1, 3), "honest"),
        (market_vote(N, 1, 3), market_vote(F, 1, 3), "honest"),
        (market_vote(X, 1, 3), replace(market_vote(X, 1, 3), signature=bytes(64)), "honest"),
        (market_vote(N, 1, 3), replace(market_vote(N, 1, 3), signature=bytes(64)), "honest"),
        (market_vote(N, 1, 3), market_vote(N, 1, 2, "b"), "one validator"),
        (market_vote(N, 1, 3), market_vote(N, 2, 3, "b"), "one view"),
        (market_vote(N, 1, 3, epoch=1), market_vote(N, 1, 3, "b"), "one view"),
    ],
)
def test_invalid_two_votes_that_prove_nothing_are_no_statement(first: Vote, second: Vote, why: str) -> None:
    with pytest.raises(wire.WireError, match=why):
        wire.encode_statement(ConflictingVotes(first, second))
    checker = VoteChecker(RULES.chain_id, RULES.validators, JUDGE.signatures)
    assert evidence_problem(ConflictingVotes(first, second), RULES, checker) is not None


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (market_vote(N, 1, 3), market_vote(N, 1, 3, "b", signed_by=2), "bad signature"),
        (market_vote(N, 1, 3, signed_by=2), market_vote(N, 1, 3, "b"), "bad signature"),
        (replace(market_vote(N, 1, 3), signer=4), replace(market_vote(N, 1, 3, "b"), signer=4), "validator set"),
        (market_vote(N, 1, 3, epoch=1), market_vote(N, 1, 3, "b", epoch=1), "epoch"),
        (market_vote(N, 1, 3), market_vote(N, 1, 3, "b", parent_view=1), "out of range"),
    ],
)
def test_invalid_two_votes(first: Vote, second: Vote, why: str) -> None:
    assert why in (problem(ConflictingVotes(first, second)) or "")


def test_a_vote_over_a_justification_that_does_not_hold_is_true() -> None:
    assert problem(false_justification()) is None


def test_invalid_a_justification_that_holds() -> None:
    holds = wire.make_justification(None, [CHAIN.nullification(1), CHAIN.nullification(2)])
    assert "allows" in (problem(false_justification(holds)) or "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"justification": wire.make_justification(None, [CHAIN.nullification(1)])}, "commits to"),
        ({"header": CHAIN.block(finalized=False).header}, "another header"),
        ({"vote": market_vote(X, 3, 2)}, "not a notarize"),
        ({"vote": replace(false_justification().vote, signer=1)}, "bad signature"),
        ({"vote": replace(false_justification().vote, view=4)}, "another header"),
    ],
)
def test_invalid_false_justifications(changes: dict[str, Any], why: str) -> None:
    assert why in (problem(false_justification(**changes)) or "")


# ---------------------------------------------------------------- execution


def test_evidence_becomes_a_record() -> None:
    ledger, listed = Ledger(), statement(2, view=7)
    (record,) = executed(ledger, listed)
    assert record == EvidenceRecord(
        kind=EvidenceKind.TWO_NOTARIZE,
        organisation=INSURERS[2].id,
        epoch=0,
        view=7,
        height=1,
        time_ms=ledger.time_ms,
        statement=listed.digest,
    )


def test_the_same_act_is_recorded_once_whatever_proves_it() -> None:
    ledger = Ledger()
    first = executed(ledger, statement(2), statement(2, blocks="ac"))
    assert len(first) == 1
    before = ledger.state.head
    assert executed(ledger, statement(2, blocks="bc"), statement(2)) == first
    after = ledger.state.head
    assert before is not None
    assert after is not None
    assert before.state_root == after.state_root


def test_nothing_is_due_that_would_change_nothing() -> None:
    ledger = Ledger()
    assert statements.is_due(statement(2), ledger.state, MOMENT)
    executed(ledger, statement(2))
    assert not statements.is_due(statement(2), ledger.state, MOMENT)
    assert not statements.is_due(statement(2, blocks="ac"), ledger.state, MOMENT)
    assert statements.is_due(statement(2, view=2), ledger.state, MOMENT)
    assert statements.is_due(statement(1), ledger.state, MOMENT)


def test_one_culprit_fills_no_more_than_its_share_of_records() -> None:
    ledger = Ledger()
    listed = [statement(2, view) for view in range(1, PER_CULPRIT_AND_KIND_MAX + 3)]
    assert len(executed(ledger, *listed)) == PER_CULPRIT_AND_KIND_MAX
    assert not statements.is_due(statement(2, view=99), ledger.state, MOMENT)
    assert len(executed(ledger, statement(3))) == PER_CULPRIT_AND_KIND_MAX + 1


def test_statements_execute_before_envelopes_and_get_no_receipts() -> None:
    ledger = Ledger()
    block = ledger.executable([ledger.envelope([policy_issue()])])
    block = ExecutableBlock(block.height, block.timestamp_ms, block.digest, block.batches, statements=[statement(2)])
    ledger.execution.begin(block)
    assert ledger.state.get(EVIDENCE, statements.identity(statement(2)).removeprefix(b"evidence")) is not None
    while ledger.execution.advance():
        pass
    result = ledger.execution.finish()
    assert len(result.receipts) == 1


def test_a_forged_statement_is_found_out() -> None:
    assert statements.problem(forged_statement(2), JUDGE) == "bad signature"
