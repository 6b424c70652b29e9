"""Building, signing and submitting without a network: everything that can be refused before it is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lossbook_sdk.envelopes import Draft
from tests.support.commands import card, document, lossbook

CLOSE = {"kind": "claim_close", "claim_id": "00" * 16, "asserted_date_days": "2025-01-31"}
ISSUE = {
    "kind": "policy_issue",
    "policy_id": "01" * 16,
    "subject_id": "02" * 16,
    "line": "home",
    "currency": "USD",
    "limit_minor": 100,
    "deductible_minor": 1,
    "period_start_days": 20_000,
    "period_end_days": "2025-12-31",
    "asserted_date_days": "2025-01-01",
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A profile of an insurer whose nodes do not run."""
    cards = [card(tmp_path / "alpha", "alpha", port=1), card(tmp_path / "watch", "watch", "supervisor", 3)]
    lossbook("genesis", "assemble", *cards, "--name", "market", "--out", tmp_path / "genesis.json")
    found = {"LOSSBOOK_PROFILES_DIR": str(tmp_path / "profiles")}
    words = ("profile", "create", "alpha", "--office", tmp_path / "alpha", "--genesis", tmp_path / "genesis.json")
    lossbook(*words, env=found)
    return found


def build(folder: Path, env: dict[str, str], operations: Any, *words: object, code: int = 0) -> Any:
    (folder / "operations.json").write_text(json.dumps(operations))
    return lossbook("tx", "build", folder / "operations.json", "--out", folder / "x.tx", *words, env=env, code=code)


def test_two_people_sign_one_after_the_other(tmp_path: Path, env: dict[str, str]) -> None:
    build(tmp_path, env, [ISSUE, CLOSE], "--key", "handler-1", "--key", "handler-2")
    assert "2 of 2 signatures are missing" in lossbook("tx", "submit", tmp_path / "x.tx", env=env, code=2).output
    assert len(document("tx", "sign", tmp_path / "x.tx", "--key", "handler-2", env=env)["missing"]) == 1
    assert "1 of 2 signatures" in lossbook("tx", "submit", tmp_path / "x.tx", env=env, code=2).output
    done = document("tx", "sign", tmp_path / "x.tx", "--key", "handler-1", env=env)
    assert done["missing"] == []
    draft = Draft.decode((tmp_path / "x.tx").read_bytes())
    assert draft.signed().id.hex() == done["envelope_id"]
    assert [type(one).__name__ for one in draft.envelope.operations] == ["PolicyIssue", "ClaimClose"]


def test_a_signer_on_another_machine_needs_only_a_key_file(tmp_path: Path, env: dict[str, str]) -> None:
    public = document("key", "create", tmp_path / "far.key", "--unsafe-no-passphrase")["public_key"]
    build(tmp_path, env, [CLOSE], "--signer", public)
    nowhere = {"LOSSBOOK_PROFILES_DIR": str(tmp_path / "none")}
    assert document("tx", "sign", tmp_path / "x.tx", "--key", tmp_path / "far.key", env=nowhere)["missing"] == []


def test_a_key_that_is_not_listed_cannot_sign(tmp_path: Path, env: dict[str, str]) -> None:
    build(tmp_path, env, [CLOSE], "--key", "handler-1")
    shown = lossbook("tx", "sign", tmp_path / "x.tx", "--key", "finance-1", env=env, code=2).output
    assert "not among the signer keys" in shown


def test_altered_file_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    build(tmp_path, env, [CLOSE], "--key", "handler-1")
    lossbook("tx", "sign", tmp_path / "x.tx", "--key", "handler-1", env=env)
    path = tmp_path / "x.tx"
    path.write_text(path.read_text().replace("616c706861", "616c706862"))
    assert "not over this body" in lossbook("tx", "submit", path, env=env, code=2).output


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        ([CLOSE] * 1001, "not 1001"),
        ([], "not 0"),
        ([{"kind": "claim_vanish"}], "no known kind"),
        (["x"], "no known kind"),
        ([CLOSE | {"claim_id": "00"}], "no claim_id"),
        ([CLOSE | {"colour": 1}], "unknown field 'colour'"),
        ([{"kind": "claim_close", "claim_id": "00" * 16}], "no field 'asserted_date_days'"),
        ([ISSUE | {"limit_minor": 1.5}], "not an integer"),
        ([ISSUE | {"limit_minor": True}], "not an integer"),
        ([ISSUE | {"limit_minor": 1 << 70}], "not an integer"),
        ([ISSUE | {"line": "marine"}], "not a line of business"),
        ([ISSUE | {"period_end_days": "31.12.2025"}], "not a date"),
        ([ISSUE | {"currency": 5}], "not a text"),
    ],
)
def test_bad_operations_are_named(tmp_path: Path, env: dict[str, str], operations: Any, why: str) -> None:
    assert why in build(tmp_path, env, operations, "--key", "handler-1", code=2).output
    assert not (tmp_path / "x.tx").exists()


def test_what_is_no_json_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "operations.json").write_bytes(b"\xff{")
    words = ("tx", "build", tmp_path / "operations.json", "--out", tmp_path / "x.tx", "--key", "handler-1")
    assert "not JSON" in lossbook(*words, env=env, code=2).output


def test_at_least_one_signer(tmp_path: Path, env: dict[str, str]) -> None:
    assert "--signer" in build(tmp_path, env, [CLOSE], code=2).output
    assert "named twice" not in build(tmp_path, env, [CLOSE], "--key", "handler-1").output
    assert "different signer keys" in build(tmp_path, env, [CLOSE], *("--key", "handler-1") * 2, code=2).output


POLICY = ("policy", "issue", "--from", "2025-01-01", "--to", "2025-12-31")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--line", "home", "--limit", "-1 USD", "--deductible", "0 USD"), "negative"),
        (("--line", "home", "--limit", "1.005 USD", "--deductible", "0 USD"), "smallest unit"),
        (("--line", "home", "--limit", "1 XYZ", "--deductible", "0 USD"), "ISO 4217"),
        (("--line", "home", "--limit", "1", "--deductible", "0 USD"), "1234.56 USD"),
        (("--line", "home", "--limit", "1 EUR", "--deductible", "0 USD"), "different currencies"),
        (("--line", "marine", "--limit", "1 USD", "--deductible", "0 USD"), "line of business"),
        (("--line", "home", "--limit", "1 USD", "--deductible", "0 USD", "--id", "xy"), "policy id"),
        (("--line", "home", "--limit", "1 USD", "--deductible", "0 USD", "--date", "now"), "not a date"),
        (("--line", "home", "--limit", "1 USD", "--deductible", "0 USD", "--key", "nobody"), "neither a key"),
    ],
)
def test_bad_values_are_refused_before_anything_is_sent(env: dict[str, str], words: tuple[str, ...], why: str) -> None:
    assert why in lossbook(*POLICY, *words, env=env, code=2).output


def test_one_pair_of_eyes_twice_is_refused(env: dict[str, str]) -> None:
    words = ("claim", "register", "00" * 16, "--key", "handler-1", "--key", "handler-1")
    assert "named twice" in lossbook(*words, env=env, code=2).output


def test_missing_key_file_and_wrong_passphrase(tmp_path: Path, env: dict[str, str]) -> None:
    words = ("claim", "register", "00" * 16, "--key")
    (tmp_path / "pass").write_text("right")
    (tmp_path / "pass").chmod(0o600)
    locked = tmp_path / "locked.key"
    lossbook("key", "create", locked, env={"LOSSBOOK_PASSPHRASE_FILE": str(tmp_path / "pass")})
    assert "no way to ask" in lossbook(*words, locked, env=env, code=1).output
    (tmp_path / "pass").write_text("wrong")
    shown = lossbook(*words, locked, env=env | {"LOSSBOOK_PASSPHRASE_FILE": str(tmp_path / "pass")}, code=1).output
    assert "passphrase is wrong" in shown


def test_genesis_that_is_not_the_profiles_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_bytes(genesis.read_bytes() + b"\n")
    shown = lossbook("policy", "list", env=env, code=4).output
    assert "is of network" in shown


@pytest.mark.parametrize("name", ["policy/00", "nonsense", "key/zz", "claim/", ""])
def test_names_of_no_record_are_refused(env: dict[str, str], name: str) -> None:
    lossbook("record", "show", name, env=env, code=2)
