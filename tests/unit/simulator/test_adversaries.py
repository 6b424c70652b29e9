"""Each kind of liar alone among honest nodes: it lies, and every invariant holds."""

from __future__ import annotations

import msgspec
import pytest

from simulator.adversaries import LIARS
from simulator.network import FAIR
from simulator.plan import Fault, Liar, Plan, draw
from simulator.run import run_plan

AWAY = Fault(at_ms=500, kind="isolate", node=2, for_ms=1_500)
"""Somebody has to lack something, or nobody would ask a server."""


def attacked(n: int, *kinds: str) -> Plan:
    """These liars, fair weather, and one node away for a while."""
    liars = tuple(Liar(node, kind) for node, kind in enumerate(kinds))
    return msgspec.structs.replace(draw(1, n), liars=liars, faults=(AWAY,), weather=FAIR, safety_ms=2_500)


@pytest.mark.parametrize("kind", LIARS)
def test_one_liar_of_four_breaks_nothing_and_stops_nobody(kind: str) -> None:
    outcome = run_plan(attacked(4, kind))
    assert outcome.failure is None
    assert outcome.coverage.get(f"liar: {kind}", 0) > 0


def test_two_liars_of_seven_break_nothing() -> None:
    outcome = run_plan(attacked(7, "twins", "lying-leader"))
    assert outcome.failure is None
    assert outcome.coverage["case: skipped view without nullification"] > 0
