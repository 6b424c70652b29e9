"""What became of every operation: told apart with validators that remember, forget, lie or disagree."""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec

from chaos.claim_model import ABSENT, Claim, Kind
from chaos.clients import Readers
from chaos.history import Accepted, Event, Executed, Failed, History, Invoked, stories
from chaos.settlement import Settled, read_settled, settle
from ledger.codes import Code
from ledger.types import Receipt
from lossbook_sdk.errors import VerificationFailed

NAMES = ("alpha", "beta")
LATE, EARLY = dict.fromkeys(NAMES, 70_000), {"alpha": 70_000, "beta": 50_000}
"""Block times, ms; every envelope may execute until 60,000."""


def receipt(height: int = 7, *codes: int, code: int = 0) -> Receipt:
    return Receipt(b"", height, 0, 0, 0, code, codes or (() if code else (0,)), 0, f"{height}{codes}".encode())


class Node:
    """One validator's memory of receipts, by envelope."""

    def __init__(self, known: dict[str, Receipt], *, proves: bool = True, lies: bool = False) -> None:
        self.known = known
        self.proves = proves
        self.lies = lies

    async def receipt(self, envelope_id: bytes, *, prove: bool = False) -> tuple[Receipt, object | None] | None:
        if self.lies:
            raise VerificationFailed("the proof is of another receipt")
        found = self.known.get(envelope_id.hex())
        return None if found is None else (found, object() if prove and self.proves else None)


class Asked:
    """Stands in for ``Readers``."""

    names = NAMES

    def __init__(self, *nodes: Node) -> None:
        self.nodes = dict(zip(NAMES, nodes, strict=True))

    def query(self, name: str, give_up_s: float = 0.0) -> Node:
        return self.nodes[name]


def invoked(op: int = 1) -> Invoked:
    return Invoked(0, op, "alpha-1", "c1", Kind.NOTIFY, 0, f"{op:02x}", 60_000, 30_000)


def settled(*events: Event, alpha: Node, beta: Node, times: dict[str, int] = LATE) -> tuple[Settled, list[Event]]:
    history = History(lambda: 9)
    for event in events:
        history.record(event)
    found = asyncio.run(settle(history, cast("Readers", Asked(alpha, beta)), times))
    return found, history.events[len(events) :]


ACCEPTED = Accepted(1, 1, "alpha")
FINAL = Executed(2, 1, "alpha", 7, 0, (0,))
KNOWS = {"01": receipt()}


def test_an_acknowledged_operation_is_proved() -> None:
    found, _ = settled(invoked(), ACCEPTED, FINAL, alpha=Node(KNOWS), beta=Node(KNOWS))
    assert (found.acknowledged, found.final, found.proven, found.expired, found.lost) == (1, 1, 1, 0, 0)
    assert found.problems == []


def test_what_no_client_heard_of_is_learnt_from_the_receipt() -> None:
    found, events = settled(invoked(), ACCEPTED, alpha=Node(KNOWS), beta=Node(KNOWS))
    assert (found.proven, found.lost) == (1, 0)
    assert Executed(9, 1, "alpha", 7, 0, (0,)) in events


def test_an_acknowledged_operation_without_receipt_anywhere_has_expired_once_block_time_has_passed() -> None:
    found, events = settled(invoked(), ACCEPTED, alpha=Node({}), beta=Node({}))
    assert (found.expired, found.lost) == (1, 0)
    assert events == [Failed(9, 1, "all", "EXPIRED")]


def test_invalid_it_is_lost_while_one_validator_could_still_execute_it() -> None:
    found, _ = settled(invoked(), ACCEPTED, alpha=Node({}), beta=Node({}), times=EARLY)
    assert (found.expired, found.lost) == (0, 1)
    assert "neither proved nor expired" in found.problems[0]


def test_invalid_final_and_nobody_has_it() -> None:
    found, events = settled(invoked(), ACCEPTED, FINAL, alpha=Node({}), beta=Node({}))
    told = stories([invoked(), FINAL, *events])[1]
    assert told.final is not None
    assert (found.lost, told.failed is not None) == (1, False)


def test_invalid_executed_and_missing_at_one_validator() -> None:
    found, _ = settled(invoked(), FINAL, alpha=Node(KNOWS), beta=Node({}))
    assert "has no receipt at beta" in found.problems[0]


def test_invalid_another_receipt_at_one_validator_goes_into_the_history() -> None:
    _, events = settled(invoked(), FINAL, alpha=Node(KNOWS), beta=Node({"01": receipt(8)}))
    assert Executed(9, 1, "beta", 8, 0, (0,)) in events


def test_invalid_a_proof_that_does_not_verify_or_is_not_given() -> None:
    found, _ = settled(invoked(), FINAL, alpha=Node(KNOWS, lies=True), beta=Node(KNOWS))
    assert found.lost == 1
    assert any("another receipt" in problem for problem in found.problems)
    found, _ = settled(invoked(), FINAL, alpha=Node(KNOWS, proves=False), beta=Node(KNOWS, proves=False))
    assert found.lost == 1


def test_an_envelope_that_was_ordered_too_late_has_expired_as_its_receipt_proves() -> None:
    refused = {"01": receipt(7, code=Code.EXPIRED)}
    found, events = settled(invoked(), ACCEPTED, alpha=Node(refused), beta=Node(refused))
    assert (found.proven, found.expired, found.lost) == (0, 1, 0)
    assert events[0] == Failed(9, 1, "alpha", "EXPIRED")


def test_what_was_never_acknowledged_and_is_not_there_did_not_happen() -> None:
    found, events = settled(invoked(), alpha=Node({}), beta=Node({}))
    assert (found.acknowledged, found.lost) == (0, 0)
    assert events == [Failed(9, 1, "all", "EXPIRED")]
    _, events = settled(invoked(), alpha=Node({}), beta=Node({}), times=EARLY)
    assert events == []


class Shown(msgspec.Struct):
    """Validators that can or cannot prove a claim."""

    can: tuple[str, ...]
    names: tuple[str, ...] = NAMES
    asked: list[str] = msgspec.field(default_factory=list)

    async def read(self, client: str, node: str, claim_id: bytes, *, prove: bool) -> Claim | None:
        assert prove
        self.asked.append(node)
        return ABSENT if node in self.can else None


def test_claims_are_read_with_proof_at_validators_in_turn() -> None:
    shown = Shown(NAMES)
    assert asyncio.run(read_settled(cast("Readers", shown), ["c1", "c2", "c3"])) == []
    assert shown.asked == ["alpha", "beta", "alpha"]


def test_a_claim_one_cannot_prove_is_asked_of_the_next_and_named_if_nobody_can() -> None:
    assert asyncio.run(read_settled(cast("Readers", Shown(("beta",))), ["c1"])) == []
    problems = asyncio.run(read_settled(cast("Readers", Shown(())), ["c1"]))
    assert problems == ["claim c1 cannot be proved by any validator"]
