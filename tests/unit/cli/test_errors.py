"""No traceback for anything a person can cause; documented exit codes; quiet pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli import base
from ledger import codes
from ledger.archive import ArchiveError
from ledger.cards import UnreadableCard
from ledger.genesis import DuplicateInGenesis, UnreadableGenesis
from ledger.invariant import InvariantViolated
from ledger.proof_errors import BadSignature
from ledger.wire import encode_receipt
from lossbook_sdk.errors import Failed, NothingReachable, Rejected
from services.settings import OverrideError, SettingError
from store.errors import HomeMissing
from tests.support.commands import lossbook
from tests.support.insurers import market_genesis


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BadSignature("certificate", "the signature is bad"), 4, "keep this file as evidence"),
        (NothingReachable([("alpha", "down")], unchanged="Nothing was changed", advice="Look"), 3, "alpha: down"),
        (ArchiveError("file", "it was cut off"), 4, "get the archive again"),
        (UnreadableGenesis("this is not a genesis file", "Get another"), 4, "Get another"),
        (UnreadableCard("", "not a card file", "Ask for it"), 4, "Ask for it"),
        (DuplicateInGenesis("key 00", ("alpha", "beta")), 1, "ask them for new cards"),
        (OverrideError("listen.nosuch", "command line", "there is no such setting"), 2, "no such setting"),
        (SettingError("listen.nosuch", "/home/lossbook.toml", "there is no such setting"), 1, "no such setting"),
        (Rejected(codes.Code.OVERLOADED, "", "alpha"), 1, "or to another insurer's node"),
        (FileNotFoundError(2, "No such file or directory", "x.json"), 1, "x.json: No such file or directory"),
        (PermissionError(13, "Permission denied", "x.json"), 1, "x.json: Permission denied"),
        (InvariantViolated("impossible"), 1, "defect"),
        (ZeroDivisionError("division by zero"), 1, "--debug"),
    ],
)
def test_every_error_has_a_text_and_an_exit_code(error: Exception, code: int, said: str) -> None:
    text, found = base.described(error)
    assert found == code
    assert said in text


@pytest.mark.parametrize("code", [code for code in codes.Code if code])
def test_every_code_of_the_ledger_says_what_to_do(code: codes.Code) -> None:
    rejected = base.described(Rejected(code, "", "alpha"))[0]
    receipt = encode_receipt(
        envelope_id=bytes(32), height=1, index=0, position=0, block_time_ms=0, code=8, operation_codes=(code,)
    )
    failed = base.described(Failed(receipt))[0]
    for text in (rejected, failed):
        assert codes.text(code) in text
        assert codes.advice(code).rstrip(".") in text
        assert "Nothing was changed on the ledger" in text


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "genesis.json").write_bytes(market_genesis().raw)
    genesis = ("--genesis", tmp_path / "genesis.json")
    assert "No such file" in lossbook("proof", "verify", tmp_path / "none", *genesis, code=1).output
    (tmp_path / "bad.proof").write_bytes(b"\x00" * 100)
    assert "proof refused" in lossbook("proof", "verify", tmp_path / "bad.proof", *genesis, code=4).output.lower()
    (tmp_path / "big.proof").write_bytes(bytes((8 << 20) + 1))
    assert "no proof" in lossbook("proof", "verify", tmp_path / "big.proof", *genesis, code=4).output


def test_with_json_an_error_is_a_document_too(tmp_path: Path) -> None:
    result = lossbook("profile", "show", "--json", env={"LOSSBOOK_PROFILES_DIR": str(tmp_path)}, code=1)
    document = json.loads(result.stdout)
    assert document["exit_code"] == 1
    assert "lossbook testnet init" in document["error"]


def test_debug_shows_where(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "--debug", "key", "show", str(tmp_path / "none.key")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") is False or "does not exist" in done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "genesis.json").write_bytes(market_genesis().raw)
    command = f"{sys.executable} -m cli genesis show {tmp_path / 'genesis.json'} | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("0\n")
    assert done.stderr == ""


def test_no_colour_in_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "genesis.json").write_bytes(market_genesis().raw)
    for words in (("genesis", "show", tmp_path / "genesis.json"), ("doctor", "--home", tmp_path)):
        done = subprocess.run([sys.executable, "-m", "cli", *map(str, words)], capture_output=True, check=False)
        assert b"\x1b[" not in done.stdout + done.stderr


def test_completion_and_version() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_LOSSBOOK_COMPLETE" in lossbook("completion", shell).stdout
    lossbook("completion", "csh", code=2)
    assert "protocol 1" in lossbook("version").stdout
    assert json.loads(lossbook("version", "--json").stdout)["protocol"] == 1


def test_completion_completes_lazily_loaded_nouns() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()"],
        env={"_LOSSBOOK_COMPLETE": "bash_complete", "COMP_WORDS": "lossbook pol", "COMP_CWORD": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "policy" in done.stdout


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (HomeMissing(Path("net/home"), "it has no file SCHEMA"), "net/home is not"),
        (Rejected(codes.Code.OVERLOADED, "", "alpha"), "alpha refused"),
        (base.Stop("net is not empty", "docs/cli.md says more"), "net is not empty.\ndocs/cli.md says more."),
        (base.Stop("it is so", "give another"), "it is so.\nGive another."),
    ],
)
def test_paths_and_names_keep_their_letters(error: Exception, begins: str) -> None:
    assert base.described(error)[0].startswith(begins)


def test_a_refusal_says_each_thing_once() -> None:
    code = codes.Code.WRONG_CHAIN
    said_by_node = f"{codes.text(code)}. {codes.advice(code)}"
    text = base.described(Rejected(code, said_by_node, "alpha"))[0]
    assert text.count(codes.text(code)) == text.count(codes.advice(code).rstrip(".")) == 1
    assert "(position 7)" in str(Rejected(code, f"{said_by_node}; position 7", "alpha"))


def test_commands_are_named_with_the_home_they_are_for(tmp_path: Path) -> None:
    shown = lossbook("testnet", "start", "--home", tmp_path, code=1).output
    assert f"lossbook testnet init --home {tmp_path}" in shown
    base_port = ("--base-port", 21_900, "--unsafe-no-passphrase", "--no-use")
    assert (
        f"lossbook testnet start --home {tmp_path}"
        in lossbook(*("testnet", "init", "--home", tmp_path, *base_port)).output
    )
    assert (
        f"lossbook testnet start --home {tmp_path}" in lossbook("testnet", "status", "--home", tmp_path, code=1).output
    )
