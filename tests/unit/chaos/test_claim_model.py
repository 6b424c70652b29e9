"""The sequential claim and the contract answer alike, whatever is asked in whatever order."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.casework import claim_of, operations_of, policy_of
from chaos.claim_model import ABSENT, Claim, Kind, Request, Stage, apply
from contracts.records import CLAIMS, ClaimState
from ledger.codes import Code
from tests.support.insurers import Ledger

ASKED = [kind for kind in Kind if kind is not Kind.READ]
AMOUNTS = st.integers(0, 4)
DESKS = ("handler", "finance")


@given(st.lists(st.builds(Request, st.sampled_from(ASKED), AMOUNTS), max_size=25))
@settings(max_examples=60, deadline=None)
def test_the_model_answers_as_the_contract_does(requests: list[Request]) -> None:
    ledger = Ledger()
    policy, claim = secrets.token_bytes(16), secrets.token_bytes(16)
    assert ledger.submit(policy_of(policy)).code == Code.OK
    state = ABSENT
    for request in requests:
        receipt = ledger.submit(*operations_of(request, claim, policy), desks=DESKS)
        if request.kind is Kind.PAY and request.amount == 0 and state.stage is Stage.PAYMENT_DUE:
            assert receipt.operation_codes == (Code.ZERO_AMOUNT,)  # no client asks for this
            continue
        state, answer = apply(state, request)
        assert receipt.operation_codes == answer, request
        record = ledger.state.get(CLAIMS, claim)
        shown = ABSENT if record is None else claim_of(record)[0]
        assert shown == state


def test_stages_have_the_numbers_of_the_record() -> None:
    assert {stage.name: stage.value for stage in Stage if stage} == {state.name: state.value for state in ClaimState}


@pytest.mark.parametrize("stage", list(Stage))
def test_a_probe_tells_stages_apart_and_changes_nothing(stage: Stage) -> None:
    claim = Claim(stage, 5, 5, 5 if stage in (Stage.PAID, Stage.CLOSED) else 0)
    after, answer = apply(claim, Request(Kind.PROBE))
    assert after == claim
    same = [other for other in Stage if apply(claim._replace(stage=other), Request(Kind.PROBE))[1] == answer]
    closable = {Stage.APPROVED, Stage.PARTIALLY_APPROVED, Stage.PAID, Stage.DECLINED}
    assert set(same) == (closable if stage in closable else {stage})
