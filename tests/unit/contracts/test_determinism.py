"""Contracts are integers and bytes: what they may not use, and equal roots under every hash seed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import contracts
from contracts.dispatch import CONTRACTS
from contracts.records import ClaimState
from contracts.transitions import CLAIM_TRANSITIONS
from ledger import operations as ops
from tests.support import contract_run

SOURCES = sorted(Path(contracts.__file__).parent.rglob("*.py"))
ALLOWED = {
    "__future__",
    "collections.abc",
    "crypto.keys",
    "enum",
    "msgspec",
    "typing",
    "ledger",
    "ledger.cards",
    "ledger.codes",
    "ledger.contract",
    "ledger.epochs",
    "ledger.evidence",
    "ledger.execution",
    "ledger.invariant",
    "ledger.money",
    "ledger.operations",
    "ledger.organisations",
    "ledger.parameters",
    "ledger.readiness",
    "ledger.registrations",
    "ledger.state",
    "ledger.succession",
    "ledger.view_marks",
}
FORBIDDEN_NAMES = {"float", "complex", "hash", "id", "open", "print", "input", "eval", "exec", "globals", "set", "vars"}


def faults_of(source: str) -> list[str]:
    """What in this source could make two nodes differ."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            faults += [f"import {alias.name}" for alias in node.names if not _allowed(alias.name)]
        elif isinstance(node, ast.ImportFrom) and not _allowed(node.module or "."):
            faults.append(f"from {node.module} import")
        elif isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            faults.append(f"{node.value!r}")
        elif isinstance(node, ast.Div):
            faults.append("/ makes floats")
        elif isinstance(node, ast.For | ast.comprehension) and _is_set(node.iter):
            faults.append("iteration in hash order")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in FORBIDDEN_NAMES:
            faults.append(node.id)
    return faults


def _allowed(module: str) -> bool:
    return module in ALLOWED or module == "contracts" or module.startswith("contracts.")


def _is_set(node: ast.expr) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"set", "frozenset"}
    return called or isinstance(node, ast.Set | ast.SetComp)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_contracts_use_nothing_that_differs_between_nodes(path: Path) -> None:
    assert faults_of(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import random",
        "from os import environ",
        "from datetime import datetime",
        "import ledger.wire",
        "rate = 0.5",
        "half = total / 2",
        "share = float(total)",
        "key = hash(name)",
        "for x in {1, 2}: pass",
        "all(x for x in set(y))",
    ],
)
def test_the_lint_finds_what_is_forbidden(source: str) -> None:
    assert faults_of(source)


def test_every_contract_comes_to_the_same_roots_under_every_hash_seed() -> None:
    root = Path(contract_run.__file__).parents[2]
    roots = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.contract_run"],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        roots.add(done.stdout)
    assert roots == {contract_run.roots()}


def test_the_run_reaches_every_contract_and_refusals_too() -> None:
    done, codes = contract_run.reached()
    assert done == set(CONTRACTS)
    assert len(codes) > 10


def test_every_operation_has_a_contract() -> None:
    kinds = set(ops.Operation.__args__)
    assert set(CONTRACTS) == kinds - {ops.UnknownOperation}


def test_every_state_of_the_table_can_be_reached_and_left_to_close() -> None:
    assert set(CLAIM_TRANSITIONS) == set(ClaimState)
    reached = {ClaimState.NOTIFIED}
    while True:
        further = {target for state in reached for targets in CLAIM_TRANSITIONS[state].values() for target in targets}
        if further <= reached:
            break
        reached |= further
    assert reached == set(ClaimState)
    assert [state for state in ClaimState if not CLAIM_TRANSITIONS[state]] == [ClaimState.CLOSED]
