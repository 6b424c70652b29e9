"""What a client decides, and what it writes down of the answers."""

from __future__ import annotations

import random
from collections import Counter

from chaos.claim_model import ABSENT, Claim, Kind, Request, Stage, apply
from chaos.clients import decide, told
from chaos.history import Executed, Failed
from ledger.codes import Code
from ledger.types import Receipt


def decisions(claim: Claim) -> Counter[Kind]:
    rng = random.Random(1)
    return Counter(decide(rng, claim).kind for _ in range(2_000))


def test_the_next_step_is_asked_for_most_of_the_time_at_every_stage() -> None:
    for stage in Stage:
        claim = Claim(stage, 2_000, 2_000 if stage >= Stage.APPROVED else 0)
        found = decisions(claim)
        effective = sum(count for kind, count in found.items() if _can_take_effect(claim, kind))
        assert effective > 1_000 or stage is Stage.CLOSED, stage


def _can_take_effect(claim: Claim, kind: Kind) -> bool:
    return any(apply(claim, Request(kind, amount))[0] != claim for amount in (0, 1_000, 2_000, 3_000))


def test_probes_and_steps_that_cannot_be_are_asked_for_at_every_stage() -> None:
    for stage in Stage:
        found = decisions(Claim(stage))
        assert found[Kind.PROBE] > 200
        assert set(found) == set(Kind) - {Kind.READ}


def test_clients_pay_what_is_due_and_what_is_not_and_never_nothing() -> None:
    rng = random.Random(2)
    claim = Claim(Stage.PAYMENT_DUE, 2_000, 2_000)
    amounts = Counter(each.amount for each in (decide(rng, claim) for _ in range(2_000)) if each.kind is Kind.PAY)
    assert amounts[2_000] > amounts[1_000] > 0
    assert amounts[0] == 0


def test_a_claim_is_led_from_notice_to_close_by_decisions_alone() -> None:
    rng, claim, seen = random.Random(3), ABSENT, set[Stage]()
    for _ in range(200):
        claim, _ = apply(claim, decide(rng, claim))
        seen.add(claim.stage)
        claim = ABSENT if claim.stage is Stage.CLOSED else claim
    assert seen >= set(Stage) - {Stage.ABSENT, Stage.APPROVED, Stage.PARTIALLY_APPROVED}


def test_receipts_become_events() -> None:
    done = Receipt(b"", 7, 2, 0, 0, Code.OK, (0,), 0, b"")
    assert told(4, "beta", done, 9) == Executed(9, 4, "beta", 7, 2, (0,))
    refused = Receipt(b"", 7, 2, 0, 0, Code.EXPIRED, (), 0, b"")
    assert told(4, "beta", refused, 9) == Failed(9, 4, "beta", "EXPIRED")
