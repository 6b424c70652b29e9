"""The main job on a hundred made-up claims: five real daemons, an outage, a forgery; its document holds throughout."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from cli.demo.data import COLUMNS

ROWS = 100


@pytest.fixture
def claims_file(tmp_path: Path) -> Path:
    """Claims of every kind, with halves of cents and both forms of dates; more rows than are asked for."""
    path = tmp_path / "claims.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for at in range(ROWS + 20):
            paid = at % 5 != 0
            payment = f"{150_000 if at % 17 == 1 else 1_000 + at}.{at % 10}25" if paid else "0.0"
            writer.writerow(
                {
                    "ClaimNo": at,
                    "AccidentDate": f"{2008 + at % 9}-02-{1 + at % 28:02}",
                    "ReportDate": f"3/{1 + at % 28}/{2008 + at % 9}",
                    "Line": "Auto" if at % 3 else "Home",
                    "ClaimLiability": str(paid or at % 10 == 0),
                    "Limit": "300000.0",
                    "Deductible": "20000",
                    "TotalPayment": payment,
                    "PaymentDate": f"{2008 + at % 9}-04-01",
                    "CloseDate": f"4/{1 + at % 28}/{2008 + at % 9}",
                }
            )
    return path


def expected_cents(path: Path) -> dict[str, int]:
    """By line, from the text of the file: round half-even each row, then sum."""
    found = {"Auto": 0, "Home": 0}
    with path.open(newline="") as file:
        for row in list(csv.DictReader(file))[:ROWS]:
            found[row["Line"]] += int(round(Decimal(row["TotalPayment"]), 2) * 100)
    return found


def test_the_main_job_holds(claims_file: Path, tmp_path: Path) -> None:
    keep = tmp_path / "network"
    words = ["demo", "claims", "--claims", str(ROWS), "--claims-file", str(claims_file), "--keep", str(keep), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {
        *("claims", "policies", "operations", "paid_minor", "paid_claims", "ops_per_s", "finality_ms", "height"),
        *("state_roots_equal", "proof_verified", "source_file_equal", "outage_s", "ops_during_outage"),
        *("restarted_node_caught_up", "longest_stall_s", "forged_block_named", "acknowledged", "lost", "wall_s"),
    }
    for name in ("state_roots_equal", "proof_verified", "source_file_equal"):
        assert document[name] is True
    assert document["restarted_node_caught_up"] is document["forged_block_named"] is True
    assert (document["claims"], document["policies"], document["lost"]) == (ROWS, ROWS, 0)
    assert document["operations"] == document["acknowledged"] == ROWS * 6 + document["paid_claims"]
    assert document["paid_minor"] == expected_cents(claims_file)
    assert document["outage_s"] >= 20
    assert 0 < document["ops_during_outage"] < document["operations"]
    assert document["finality_ms"]["p50"] <= document["finality_ms"]["p99"]
    assert "killed gamma" in done.stderr
    assert "served by alpha" in done.stderr
    assert "takes no submissions" in done.stderr
    assert not list(keep.glob("*/*.pid")), "a daemon was left running"
    verify = [sys.executable, "-m", "cli", "proof", "verify", str(keep / "policy.proof")]
    subprocess.run([*verify, "--genesis", str(keep / "genesis.json")], check=True, capture_output=True)
