"""The import rules are the table of rooms: every violation is planted and the report compared with the table."""

import os
import re
import subprocess
import sys
from pathlib import Path

# room -> rooms it may import (docs/architecture.md); "lossbook" is the generated code of proto/.
TABLE: dict[str, set[str]] = {
    "lossbook": set(),
    "consensus": set(),
    "crypto": set(),
    "ledger": {"consensus", "crypto", "lossbook"},
    "contracts": {"ledger", "crypto"},
    "store": {"ledger", "consensus"},
    "services": {"consensus", "ledger", "crypto", "lossbook", "store"},
    "node": {"consensus", "crypto", "ledger", "contracts", "store", "services", "lossbook"},
    "replica": {"consensus", "crypto", "ledger", "contracts", "store", "services", "lossbook_sdk"},
    "lossbook_sdk": {"consensus", "crypto", "ledger", "lossbook"},
    "simulator": {"consensus", "crypto", "ledger", "contracts", "lossbook", "store", "node"},
    "chaos": {"crypto", "ledger", "contracts", "lossbook", "lossbook_sdk", "cli"},
}
EVERYTHING_ALLOWED = {"cli", "bench"}
ROOMS = sorted(TABLE.keys() | EVERYTHING_ALLOWED)
IMPURE = ("asyncio", "time", "random", "os", "socket", "threading", "grpc", "plyvel")


def lint(folder: Path, planted: dict[str, list[str]]) -> tuple[int, set[tuple[str, str]]]:
    """Run import-linter with the project's settings over rooms that hold nothing but the planted imports.

    Returns its exit status and the (importing room, imported package) pairs it reports.
    """
    settings = Path(__file__).parents[3] / "pyproject.toml"
    (folder / "pyproject.toml").write_text(settings.read_text())
    for room in ROOMS:
        (folder / room).mkdir()
        (folder / room / "__init__.py").write_text("")
        lines = "".join(f"import {name}\n" for name in planted.get(room, []))
        (folder / room / "planted.py").write_text(lines)
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Contracts:" in result.stdout, result.stdout + result.stderr
    return result.returncode, set(re.findall(r"(\w+)\.planted\s*->\s*(\w+)", result.stdout))


def test_clean_rooms_pass(tmp_path: Path) -> None:
    assert lint(tmp_path, {room: sorted(allowed) for room, allowed in TABLE.items()}) == (0, set())


def test_exactly_the_forbidden_imports_are_reported(tmp_path: Path) -> None:
    planted = {room: [other for other in ROOMS if other != room] for room in ROOMS}
    forbidden = {(room, other) for room in TABLE for other in ROOMS if other != room and other not in TABLE[room]}
    status, reported = lint(tmp_path, planted)
    assert status == 1
    assert reported == forbidden


def test_pure_rooms_may_not_reach_the_outside(tmp_path: Path) -> None:
    pure = ("consensus", "ledger", "contracts")
    status, reported = lint(tmp_path, {room: list(IMPURE) for room in pure})
    assert status == 1
    assert reported == {(room, name) for room in pure for name in IMPURE}


def test_consensus_uses_the_standard_library_only(tmp_path: Path) -> None:
    libraries = ["msgspec", "cryptography", "nacl", "google", "sortedcontainers"]
    status, reported = lint(tmp_path, {"consensus": [*libraries, "dataclasses", "hashlib"]})
    assert status == 1
    assert reported == {("consensus", name) for name in libraries}
