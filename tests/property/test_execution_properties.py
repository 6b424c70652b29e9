"""Whatever insurers send: money adds up, dates rise, limits hold, refusals leave nothing, nodes agree."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import hypothesis
import hypothesis.strategies as st
import msgspec

from contracts.records import CLAIMS, POLICIES, ClaimRecord, ClaimState, PolicyRecord
from contracts.transitions import CLAIM_TRANSITIONS
from ledger import operations as ops
from ledger.codes import Code
from ledger.execution import BlockResult
from tests.support.insurers import INSURERS, LOSS, ROLE_KEYS, TODAY_DAYS, Ledger, policy_issue

GOOD_IDS = [bytes([i]) * 16 for i in range(3)]
IDS = st.sampled_from([*GOOD_IDS, *GOOD_IDS, b"short"])
DATES = st.sampled_from([LOSS - 1, LOSS, LOSS + 1, LOSS + 2, TODAY_DAYS, TODAY_DAYS + 1, -(1 << 31)])
AMOUNTS = st.sampled_from([0, 1, 500, 999, 1000, 10_000_000, 10_000_001, -1, (1 << 63) - 1])
CURRENCIES = st.sampled_from(["USD", "EUR", "XXX"])

OPERATIONS = st.one_of(
    st.builds(
        policy_issue,
        policy_id=IDS,
        limit_minor=AMOUNTS,
        deductible_minor=AMOUNTS,
        premium_minor=st.none() | AMOUNTS,
        currency=CURRENCIES,
        asserted_date_days=DATES,
    ),
    st.builds(ops.ClaimNotify, IDS, IDS, DATES, DATES),
    st.builds(ops.ClaimRegister, IDS, DATES),
    st.builds(ops.ClaimAssess, IDS, DATES, AMOUNTS),
    st.builds(ops.ClaimApprove, IDS, DATES, AMOUNTS),
    st.builds(ops.ClaimDecline, IDS, DATES, st.integers(-1, 4)),
    st.builds(ops.ClaimPay, IDS, DATES, AMOUNTS, CURRENCIES),
    st.builds(ops.ClaimClose, IDS, DATES),
)


def likely_path(claim: bytes, policy: bytes, amount: int) -> list[ops.Operation]:
    """A path that leads deep into the machine, for the random steps to disturb."""
    return [
        policy_issue(policy_id=policy, limit_minor=20_000_000),
        ops.ClaimNotify(claim, policy, LOSS, LOSS),
        ops.ClaimRegister(claim, LOSS),
        ops.ClaimAssess(claim, LOSS, amount),
        ops.ClaimApprove(claim, LOSS, amount),
        ops.ClaimPay(claim, LOSS + 1, amount, "USD"),
        ops.ClaimClose(claim, LOSS + 1),
    ]


PATHS = st.builds(likely_path, st.sampled_from(GOOD_IDS), st.sampled_from(GOOD_IDS), AMOUNTS)
ALL_DESKS = st.just(list(ROLE_KEYS))
ENVELOPES = st.tuples(
    st.lists(st.one_of(PATHS, st.lists(OPERATIONS, min_size=1, max_size=4)), min_size=1, max_size=4),
    st.sampled_from([INSURERS[0], INSURERS[0], INSURERS[1]]),
    st.one_of(ALL_DESKS, ALL_DESKS, st.lists(st.sampled_from(list(ROLE_KEYS)), min_size=1, max_size=7, unique=True)),
    st.sampled_from([False, False, False, True]),
)
BLOCKS = st.lists(st.lists(ENVELOPES, max_size=4), min_size=1, max_size=4)


def execute(blocks: Sequence[Sequence[tuple]]) -> tuple[Ledger, list[BlockResult]]:  # type: ignore[type-arg]
    ledger = Ledger()
    results = []
    for block in blocks:
        envelopes = [
            ledger.envelope([operation for part in parts for operation in part], by=by, desks=desks, atomic=atomic)
            for parts, by, desks, atomic in block
        ]
        results.append(ledger.block(envelopes))
    return ledger, results


def check_claim(claim: ClaimRecord, ledger: Ledger) -> None:
    policy = ledger.state.get(POLICIES, claim.policy_id)
    assert policy is not None
    assert (policy.insurer, policy.currency) == (claim.insurer, claim.currency)
    assert 0 <= claim.paid_minor <= claim.approved_minor <= claim.assessed_minor <= policy.payable_max_minor
    assert claim.outstanding_minor >= 0
    assert policy.period_start_days <= claim.loss_date_days <= policy.period_end_days
    dates = [claim.loss_date_days] + [step.date_days for step in claim.history]
    assert dates == sorted(dates)
    assert dates[-1] <= TODAY_DAYS
    states = [ClaimState(step.state) for step in claim.history]
    assert states[0] is ClaimState.NOTIFIED
    assert states[-1] == claim.state
    for before, after in itertools.pairwise(states):
        within_one_approval = before in (ClaimState.APPROVED, ClaimState.PARTIALLY_APPROVED)
        by_table = any(after in targets for targets in CLAIM_TRANSITIONS[before].values())
        assert by_table or (within_one_approval and after is ClaimState.PAYMENT_DUE)


@hypothesis.given(BLOCKS)
@hypothesis.settings(max_examples=60)
def test_records_keep_their_promises_and_two_nodes_agree(blocks: list[list[tuple]]) -> None:  # type: ignore[type-arg]
    ledger, results = execute(blocks)
    for _, claim in ledger.state.iterate(CLAIMS):
        check_claim(claim, ledger)
    _, again = execute(blocks)
    assert [(r.state_root, r.receipts_root) for r in again] == [(r.state_root, r.receipts_root) for r in results]
    for block, result in zip(blocks, results, strict=True):
        assert len(result.receipts) == len(block)
        for outcome in result.outcomes:
            codes = outcome.receipt.operation_codes
            assert len(codes) == len(outcome.envelope.operations)
            assert Code.CONTRACT_FAULT not in codes
            assert (outcome.receipt.code == Code.OK) == (set(codes) == {Code.OK})
            assert len(outcome.events) == codes.count(Code.OK)


def without_steps(ledger: Ledger) -> list[msgspec.Struct]:
    """Policies and claims, but for which operation made each step."""
    records: list[PolicyRecord | ClaimRecord] = [record for _, record in ledger.state.iterate(POLICIES)]
    records += [record for _, record in ledger.state.iterate(CLAIMS)]
    return [
        msgspec.structs.replace(record, history=[(step.state, step.date_days) for step in record.history])
        for record in records
    ]


@hypothesis.given(BLOCKS)
@hypothesis.settings(max_examples=40)
def test_refused_operations_leave_nothing_behind(blocks: list[list[tuple]]) -> None:  # type: ignore[type-arg]
    """A ledger that was sent the accepted operations only ends with the same records."""
    ledger, results = execute(blocks)
    accepted = Ledger()
    for result in results:
        envelopes = []
        for outcome, (_, by, desks, _) in zip(result.outcomes, blocks[result.height - 1], strict=True):
            codes = outcome.receipt.operation_codes
            kept = [o for o, code in zip(outcome.envelope.operations, codes, strict=True) if code == Code.OK]
            envelopes += [accepted.envelope(kept, by=by, desks=desks)] if kept else []
        for receipt in accepted.block(envelopes).receipts:
            assert receipt.code == Code.OK
    assert without_steps(accepted) == without_steps(ledger)
