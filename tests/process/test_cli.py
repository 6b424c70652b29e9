"""What people type, against a running network with encrypted keys: made, started, used and stopped by the command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import daemons, local
from tests.support.commands import document, lossbook

ROOT = Path(__file__).parents[2]
TERMS = ("--line", "home", "--limit", "300000.00 USD", "--deductible", "500.00 USD")
DATE = "asserted_date_days"
COVER = ("--from", "2025-01-01", "--to", "2025-12-31", "--date", "2025-01-01")


def free_block(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for base in range(21_000, 32_000, count + 3):
        sockets: list[socket.socket] = []
        try:
            for port in range(base, base + count):
                sockets.append(socket.socket())
                sockets[-1].bind((local.HOST, port))
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
        return base
    pytest.fail("no free ports on this machine")


class Testnet:
    """A network under one folder, and the commands against it."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.base = folder / "net"
        secret = folder / "passphrase"
        secret.write_text("a long and quiet passphrase\n")
        secret.chmod(0o600)
        self.env = {
            "LOSSBOOK_TESTNET": str(self.base),
            "LOSSBOOK_PROFILES_DIR": str(folder / "profiles"),
            "LOSSBOOK_PASSPHRASE_FILE": str(secret),
        }
        ports = free_block(15)
        lossbook("testnet", "init", "--base-port", ports, env=self.env)

    @property
    def network(self) -> local.Network:
        return local.load(self.base)

    @property
    def genesis(self) -> Path:
        return self.base / "genesis.json"

    def run(self, *words: object, code: int = 0) -> str:
        return lossbook(*words, code=code, env=self.env).output

    def ask(self, *words: object, code: int = 0) -> Any:
        return document(*words, code=code, env=self.env)

    def start(self) -> list[str]:
        """In a process of its own, as from a shell: the daemons outlive it."""
        words = [sys.executable, "-m", "cli", "testnet", "start", "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **self.env})
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["started"])

    def policy(self, *words: object) -> str:
        return str(self.ask("policy", "issue", *TERMS, *COVER, *words)["policy"])

    def claim(self, policy: str, amount: str | None = None) -> str:
        """Notified and registered; assessed where an amount is given."""
        found = str(self.ask("claim", "notify", policy, "--loss", "2025-03-01", "--date", "2025-03-02")["claim"])
        self.run("claim", "register", found, "--date", "2025-03-03")
        if amount is not None:
            self.run("claim", "assess", found, "--amount", amount, "--date", "2025-03-04")
        return found


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testnet]:
    made = Testnet(tmp_path_factory.mktemp("testnet"))
    try:
        made.start()
        yield made
    finally:
        daemons.stop(made.network.daemons)


def test_keys_of_the_network_are_encrypted(net: Testnet) -> None:
    shown = net.ask("key", "show", net.base / "alpha" / "keys" / "underwriter.key")
    assert shown["encrypted"]


@pytest.mark.parametrize("wait", ["accepted", "final", "proven"])
def test_a_policy_is_issued_up_to_each_stage(net: Testnet, wait: str) -> None:
    done = net.ask("policy", "issue", *TERMS, *COVER, "--wait", wait)
    assert done["stage"] == wait
    assert ("receipt" in done) is (wait != "accepted")


def test_a_claim_from_notice_to_close(net: Testnet) -> None:
    claim = net.claim(net.policy(), "1,234.56 USD")
    net.run("claim", "approve", claim, "--amount", "1000.00 USD", "--date", "2025-03-05")
    assert net.ask("claim", "show", claim)["state"] == "PAYMENT_DUE"
    assert claim in net.run("claim", "list", "--state", "payment-due")
    net.run("claim", "pay", claim, "--amount", "1000.00 USD", "--date", "2025-03-06")
    net.run("claim", "close", claim, "--date", "2025-03-07")
    shown = net.ask("claim", "show", claim)
    assert (shown["state"], shown["paid_minor"], shown["outstanding_minor"]) == ("CLOSED", 100_000, 0)
    assert [step["state"] for step in shown["history"]][3:] == ["PARTIALLY_APPROVED", "PAYMENT_DUE", "PAID", "CLOSED"]


def test_a_decline_names_its_reason(net: Testnet) -> None:
    claim = net.claim(net.policy(), "0 USD")
    net.run("claim", "decline", claim, "--reason", "below-deductible", "--date", "2025-03-05")
    assert net.ask("claim", "show", claim)["declined"] == "below-deductible"


def test_above_the_four_eyes_amount_two_people_sign(net: Testnet) -> None:
    claim = net.claim(net.policy(), "150000.00 USD")
    words = ("claim", "approve", claim, "--amount", "150000.00 USD", "--date", "2025-03-05")
    refused = net.run(*words, code=1)
    assert "FOUR_EYES" not in refused or "two different keys" in refused
    assert "two different keys with the role must sign" in refused
    net.run(*words, "--key", "handler-1", "--key", "handler-2")
    pay = ("claim", "pay", claim, "--amount", "150000.00 USD", "--date", "2025-03-06")
    assert "none of the signer keys has the role" in net.run(*pay, "--key", "handler-1", "--key", "handler-2", code=1)
    net.run(*pay, "--key", "finance-1", "--key", "finance-2")
    assert net.ask("claim", "show", claim)["state"] == "PAID"


def test_an_envelope_signed_by_two_people_apart(net: Testnet, tmp_path: Path) -> None:
    claim = net.claim(net.policy(), "150000.00 USD")
    approval = {"kind": "claim_approve", "claim_id": claim, DATE: "2025-03-05", "approved_minor": 15_000_000}
    (tmp_path / "ops.json").write_text(json.dumps([approval]))
    file = tmp_path / "approve.tx"
    net.run("tx", "build", tmp_path / "ops.json", "--key", "handler-1", "--key", "handler-2", "--out", file)
    net.run("tx", "sign", file, "--key", "handler-1")
    assert "signatures are missing" in net.run("tx", "submit", file, code=2)
    net.run("tx", "sign", file, "--key", "handler-2")
    first = net.ask("tx", "submit", file)
    again = net.ask("tx", "submit", file, "--profile", "beta")  # a replay, at another insurer's node
    assert again["receipt"] == first["receipt"]
    shown = net.ask("tx", "show", first["envelope_id"], "--prove", tmp_path / "receipt.proof")
    assert (shown["code"], shown["height"]) == ("OK", first["receipt"]["height"])
    proven = net.ask("proof", "verify", tmp_path / "receipt.proof", "--genesis", net.genesis)
    assert (proven["subject"], proven["envelope_id"]) == ("receipt", first["envelope_id"])


REFUSALS = [
    (("claim", "notify", "ab" * 16, "--loss", "2025-03-01", "--date", "2025-03-02"), "no policy with this id"),
    (("claim", "notify", "{policy}", "--loss", "2024-12-31", "--date", "2025-03-02"), "outside the policy period"),
    (("claim", "notify", "{policy}", "--loss", "2025-03-01", "--date", "2025-02-01"), "before"),
    (("claim", "notify", "{policy}", "--loss", "2025-03-01", "--key", "underwriter"), "has the role"),
    (("claim", "notify", "{policy}", "--loss", "2025-03-01", "--profile", "beta"), "another insurer"),
    (("claim", "register", "cd" * 16), "no claim with this id"),
    (("claim", "register", "{claim}"), "does not allow this step"),
    (("claim", "close", "{claim}"), "does not allow this step"),
    (("claim", "assess", "{claim}", "--amount", "299500.01 USD"), "limit less deductible"),
    (("claim", "assess", "{claim}", "--amount", "1.00 EUR"), "claim is in USD"),
    (("claim", "assess", "{claim}", "--amount", "1.00 USD", "--date", "2025-01-01"), "before"),
    (("claim", "assess", "{claim}", "--amount", "1.00 USD", "--date", "2099-01-01"), "after the date of the block"),
    (
        ("policy", "issue", *COVER, "--line", "auto", "--limit", "5 JPY", "--deductible", "0 JPY"),
        "not one this network",
    ),
    (("policy", "issue", *COVER, "--line", "auto", "--limit", "5 USD", "--deductible", "5 USD"), "deductible"),
    (("policy", "issue", *TERMS, *COVER, "--id", "{policy}"), "taken by an earlier record"),
]


@pytest.fixture(scope="module")
def registered(net: Testnet) -> dict[str, str]:
    policy = net.policy()
    return {"policy": policy, "claim": net.claim(policy)}


@pytest.mark.parametrize(("words", "why"), REFUSALS, ids=[" ".join(words[:2]) + " " + why for words, why in REFUSALS])
def test_what_the_contract_refuses_is_explained(
    net: Testnet, registered: dict[str, str], words: tuple[str, ...], why: str
) -> None:
    shown = net.run(*(word.format(**registered) for word in words), code=1)
    assert why in shown
    assert "Nothing was changed on the ledger" in shown or "nothing was sent" in shown
    assert net.ask("claim", "show", registered["claim"])["state"] == "REGISTERED"


def test_an_envelope_past_its_time_is_expired(net: Testnet, tmp_path: Path) -> None:
    (tmp_path / "ops.json").write_text(
        '[{"kind": "claim_close", "claim_id": "%s", "asserted_date_days": 1}]' % ("00" * 16)
    )
    file = tmp_path / "late.tx"
    net.run("tx", "build", tmp_path / "ops.json", "--key", "handler-1", "--not-after", "1", "--out", file)
    net.run("tx", "sign", file, "--key", "handler-1")
    subprocess.run(["sleep", "1.5"], check=True)
    net.policy()  # block time moves on
    assert "expired" in net.run("tx", "submit", file, code=1)


def test_a_record_is_proved_and_verified_by_another_process(net: Testnet, tmp_path: Path) -> None:
    policy = net.policy("--wait", "proven")
    file = tmp_path / "policy.proof"
    shown = net.ask("record", "show", f"policy/{policy}", "--prove", file)
    assert shown["fields"]["policy_id"] == policy
    words = [sys.executable, "-m", "cli", "proof", "verify", str(file), "--genesis", str(net.genesis)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    assert policy in done.stdout
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert "proof refused" in net.run("proof", "verify", file, "--genesis", net.genesis, code=4).lower()


def test_other_records_and_what_is_not_there(net: Testnet) -> None:
    assert net.ask("record", "show", "organisation/alpha")["fields"]["name"] == "Alpha Insurance"
    assert net.ask("record", "show", "parameters")["fields"]["k_max"] > 0
    assert "no record" in net.run("record", "show", "policy/" + "ee" * 16, code=1)
    assert "no policy" in net.run("policy", "show", "ee" * 16, code=1)
    assert "no claim" in net.run("claim", "show", "ee" * 16, code=1)
    assert "no receipt" in net.run("tx", "show", "ee" * 32, code=1).lower()
    assert "no block" in net.run("block", "show", 10**9, code=1)


def test_blocks_are_shown_and_followed(net: Testnet) -> None:
    net.policy()
    shown = net.run("block", "tail", "--from", 1, "--count", 3).splitlines()
    assert [line.split()[0] for line in shown] == ["1", "2", "3"]
    block = net.ask("block", "show", 1)
    assert block["height"] == 1
    assert set(block["finalized_by"]) <= {"alpha", "beta", "delta", "gamma"}


def test_the_supervisor_sees_reports(net: Testnet) -> None:
    policy = net.policy("--wait", "proven")
    replica = net.network.replicas[0]
    for words in (("--profile", "supervisor"), ("--home", replica.home)):
        report = net.ask("replica", "report", *words)
        assert sum(row["policies"] for row in report["rows"]) > 0
    assert "| root " in net.run("replica", "watch", "--profile", "supervisor", "--once")
    assert net.ask("replica", "status", "--home", replica.home)["organisation"] == "supervisor"
    assert policy in net.run("policy", "list", "--profile", "supervisor", "--limit", 10_000)
    assert "made by replicas" in net.run("replica", "report", "--profile", "alpha", code=1)


def test_a_submission_to_the_replica_is_refused_with_an_explanation(net: Testnet) -> None:
    replica = net.network.replicas[0]
    words = ("profile", "create", "astray", "--office", net.base / "alpha", "--genesis", net.genesis)
    net.run(*words, "--node", f"{replica.organisation}={replica.address}")
    shown = net.run("policy", "issue", *TERMS, *COVER, "--profile", "astray", code=1)
    assert "supervisor's replica" in shown
    assert "Submit to an insurer's node" in shown


def test_node_status_and_doctor(net: Testnet) -> None:
    home = net.network.nodes[0].home
    assert net.ask("node", "status", "--home", home)["detail"]["voting"]
    assert "signing" in net.run("node", "status", "--home", home)
    verdicts = {each["what"]: each["verdict"] for each in net.ask("doctor", "--home", home)["findings"]}
    assert verdicts["daemon"] == verdicts["key"] == "success"
    assert {each["verdict"] for each in net.ask("doctor")["findings"]} == {"success"}


def test_the_example_of_the_sdk_runs(net: Testnet) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "issue_policy.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **net.env, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
    )
    assert done.returncode == 0, done.stderr
    assert "issued in block" in done.stdout
    assert "proved: it stands in the state" in done.stdout


def test_when_the_own_node_dies_another_insurers_takes_over(net: Testnet) -> None:
    alpha = net.network.nodes[0]
    pid = daemons.running_pid(alpha)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    try:
        done = net.ask("policy", "issue", *TERMS, *COVER)
        assert done["node"] != "alpha"
        down = {row["organisation"]: row["pid"] for row in net.ask("testnet", "status")["daemons"]}
        assert down["alpha"] is None
    finally:
        assert net.start() == ["alpha"]
    assert net.ask("policy", "show", done["policy"])["insurer"] == "alpha"


def test_starting_twice_starts_nothing(net: Testnet) -> None:
    assert net.start() == []
    assert "not empty" in net.run("testnet", "init", code=1)


def test_stop_and_start_keep_what_was_recorded(net: Testnet) -> None:
    policy = net.policy()
    assert sorted(net.ask("testnet", "stop")["stopped"]) == ["alpha", "beta", "delta", "gamma", "supervisor"]
    assert "none of its daemons runs" in net.run("testnet", "status", code=1).lower()
    assert "does not answer" in net.run("node", "status", "--home", net.network.nodes[0].home, code=3)
    assert "could be reached" in net.run("policy", "show", policy, code=3)
    net.start()
    assert net.ask("policy", "show", policy)["state"] == "ISSUED"
    net.policy()
