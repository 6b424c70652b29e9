"""Bad input at home: what an operator meets with keys, ports, files and copies, by the commands an operator types.

One network with encrypted keys. ``delta`` is the victim of every test, and runs and votes again after it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli import daemons
from cli.daemons import DaemonPlace
from consensus.records import MutedUntil, OwnVote, Record
from ledger.wire import decode_record
from store.votelog import VoteLog
from tests.process.test_cli import COVER, TERMS, Testnet
from tests.support.commands import lossbook

VICTIM = "delta"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testnet]:
    made = Testnet(tmp_path_factory.mktemp("homes"))
    try:
        made.start()
        yield made
    finally:
        daemons.stop(made.network.daemons)


@pytest.fixture
def victim(net: Testnet) -> Iterator[DaemonPlace]:
    """Delta's place; whatever a test does, at its end delta runs and takes its own insurer's business."""
    place = next(place for place in net.network.daemons if place.organisation == VICTIM)
    yield place
    net.start()
    assert net.ask("policy", "issue", *TERMS, *COVER, "--profile", net.network.profile(VICTIM))["node"] == VICTIM
    wait_signing(net, place)


def end(place: DaemonPlace, number: signal.Signals = signal.SIGTERM) -> None:
    pid = daemons.running_pid(place)
    if pid is None:
        return
    os.kill(pid, number)
    until = time.monotonic() + 15
    while daemons.running_pid(place) is not None:
        assert time.monotonic() < until, f"{place.organisation} does not end"
        time.sleep(0.02)


def refused(net: Testnet, *words: object, env: dict[str, str] | None = None) -> str:
    """What a command says in a process of its own; its exit code is 1 and there is no traceback."""
    line = [sys.executable, "-m", "cli", *map(str, words)]
    chosen = {**os.environ, **net.env, **(env or {})}
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=chosen)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr + done.stdout


def status(net: Testnet, place: DaemonPlace) -> dict[str, object]:
    found: dict[str, object] = net.ask("node", "status", "--home", place.home)["detail"]
    return found


def wait_signing(net: Testnet, place: DaemonPlace) -> None:
    """Views pass only when there is something to agree on."""
    until = time.monotonic() + 30
    while status(net, place)["signing"] != "signing":
        assert time.monotonic() < until, status(net, place)
        net.policy()


def findings(net: Testnet, place: DaemonPlace) -> str:
    return lossbook("doctor", "--home", place.home, code=1, env=net.env).stdout


@contextmanager
def somebody_else_at(place: DaemonPlace) -> Iterator[socket.socket]:
    """Listens at the address of a node that is down."""
    host, _, port = place.address.rpartition(":")
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((host, int(port)))
        squatter.listen()
        squatter.settimeout(30)
        yield squatter


# -- passphrases ----------------------------------------------------------------------------------


def test_a_wrong_or_missing_passphrase_starts_nothing_and_says_what_to_set(
    net: Testnet, victim: DaemonPlace, tmp_path: Path
) -> None:
    end(victim)
    wrong = tmp_path / "wrong"
    wrong.write_text("not this one\n")
    wrong.chmod(0o600)
    start = ("node", "start", "--home", victim.home)
    assert "passphrase is wrong" in refused(net, *start, env={"LOSSBOOK_PASSPHRASE_FILE": str(wrong)})
    assert "Set LOSSBOOK_PASSPHRASE_FILE" in refused(net, *start, env={"LOSSBOOK_PASSPHRASE_FILE": ""})
    gone = refused(net, *start, env={"LOSSBOOK_PASSPHRASE_FILE": str(tmp_path / "gone")})
    assert str(tmp_path / "gone") in gone
    wrong.chmod(0o644)
    assert "chmod 600" in refused(net, *start, env={"LOSSBOOK_PASSPHRASE_FILE": str(wrong)})


# -- in use ---------------------------------------------------------------------------------------


def test_a_home_in_use_is_left_alone_by_every_command(net: Testnet, victim: DaemonPlace, tmp_path: Path) -> None:
    pid = daemons.running_pid(victim)
    for words in (
        ("node", "start", "--home", victim.home),
        ("node", "resync", "--home", victim.home, "--yes"),
        ("node", "backup", tmp_path / "copy", "--home", victim.home),
    ):
        assert f"{victim.home} is in use by process {pid}" in refused(net, *words)
    assert not (tmp_path / "copy").exists()
    assert daemons.running_pid(victim) == pid


def test_a_port_that_is_taken_is_named_with_the_log_and_the_next_command(net: Testnet, victim: DaemonPlace) -> None:
    end(victim)
    with somebody_else_at(victim):
        said = refused(net, "testnet", "start")
        assert f"cannot listen on {victim.address}: the port is taken" in said
        assert str(victim.log) in said
        assert f"public {victim.address}" in findings(net, victim)


# -- files that are missing, foreign or unreadable --------------------------------------------------


def other_genesis(home: Path) -> None:
    raw = (home / "genesis.json").read_text()
    (home / "genesis.json").write_text(raw.replace('"testnet"', '"another"'))


def garbled(name: str) -> Callable[[Path], None]:
    def overwrite(home: Path) -> None:
        (home / name).write_bytes(b"\x00\xff garbage")

    return overwrite


def gone(name: str) -> Callable[[Path], None]:
    def remove(home: Path) -> None:
        shutil.rmtree(home / name) if (home / name).is_dir() else (home / name).unlink()

    return remove


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "genesis of another network": (other_genesis, "genesis"),
    "no genesis": (gone("genesis.json"), "genesis.json: No such file or directory. Nothing was changed"),
    "genesis garbled": (garbled("genesis.json"), "genesis"),
    "no keys": (gone("keys"), "consensus.key"),
    "consensus key garbled": (garbled("keys/consensus.key"), "consensus.key"),
    "settings garbled": (garbled("lossbook.toml"), "lossbook.toml"),
    "no schema": (gone("SCHEMA"), "SCHEMA is gone. Nothing else is wrong with it for that: write the file anew"),
    "schema garbled": (garbled("SCHEMA"), '{"schema": 1, "kind": "node", "chain_id": "'),
    "no state's CURRENT": (gone("state/CURRENT"), "resync --home"),
    "no blocks": (gone("blocks"), "is corrupt: the executed block"),
    "no blocks' CURRENT": (gone("blocks/CURRENT"), "resync --home"),
}


@pytest.fixture(scope="module")
def whole(net: Testnet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of delta's home, keys and all."""
    place = next(place for place in net.network.daemons if place.organisation == VICTIM)
    end(place)
    copy = tmp_path_factory.mktemp("whole") / "node"
    shutil.copytree(place.home, copy)
    net.start()
    return copy


@pytest.mark.parametrize("case", FILES)
def test_a_home_with_a_bad_file_does_not_start_and_the_file_is_named(
    net: Testnet, whole: Path, tmp_path: Path, case: str
) -> None:
    spoil, named = FILES[case]
    home = tmp_path / "node"
    shutil.copytree(whole, home)
    spoil(home)
    assert named in refused(net, "node", "start", "--home", home)


# -- flipped bits -----------------------------------------------------------------------------------


def flip(directory: Path) -> None:
    """Every 300th byte of what a store keeps."""
    files = [file for file in directory.iterdir() if file.suffix in (".log", ".ldb")]
    assert files
    for file in files:
        raw = bytearray(file.read_bytes())
        for at in range(100, len(raw), 300):
            raw[at] ^= 1
        file.write_bytes(raw)


@pytest.mark.parametrize("store", ["blocks", "state"])
def test_flipped_bits_in_a_store_are_named_and_resync_makes_it_again(
    net: Testnet, victim: DaemonPlace, store: str
) -> None:
    policy = net.policy()
    end(victim, signal.SIGKILL)
    flip(Path(victim.home) / store)
    said = refused(net, "node", "start", "--home", victim.home)
    assert f"lossbook node resync --home {victim.home}" in said
    assert "b'" not in said
    kept = net.ask("node", "resync", "--home", victim.home, "--yes")["set_aside"]
    assert {Path(path).name.partition(".")[0] for path in kept} <= {"blocks", "state", "index"}
    net.start()
    assert status(net, victim)["muted_until_view"] == 0  # its votes are whole
    own = ("--profile", net.network.profile(VICTIM))
    assert net.ask("policy", "show", policy, *own)["state"] == "ISSUED"


def test_flipped_bits_in_the_index_are_noticed_and_it_is_made_again_at_the_start(
    net: Testnet, victim: DaemonPlace
) -> None:
    done = net.ask("policy", "issue", *TERMS, *COVER)
    end(victim, signal.SIGKILL)
    flip(Path(victim.home) / "index")
    net.start()
    shown = net.ask("tx", "show", done["envelope_id"], "--profile", net.network.profile(VICTIM))
    assert shown["height"] == done["receipt"]["height"]


def cut(log: Path) -> None:
    os.truncate(log, log.stat().st_size // 2)


def flip_one(log: Path) -> None:
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 1
    log.write_bytes(raw)


@pytest.mark.parametrize("spoil", [flip_one, cut, Path.unlink], ids=["a flipped bit", "cut in half", "deleted"])
def test_a_damaged_vote_log_lets_the_node_observe_until_resync(
    net: Testnet, victim: DaemonPlace, spoil: Callable[[Path], None]
) -> None:
    end(victim, signal.SIGKILL)
    (log,) = (Path(victim.home) / "votes").glob("*.log")
    spoil(log)
    advice = f"lossbook node resync --home {victim.home}"
    said = refused(net, "testnet", "start")
    assert f"the node of {VICTIM} runs, but does not vote" in said
    assert advice in said
    assert status(net, victim)["voting"] is False
    assert advice in str(status(net, victim)["failure"])
    assert advice in findings(net, victim)
    ready = {each["organisation"]: each["ready"] for each in net.ask("testnet", "status")["daemons"]}
    assert [name for name, each in ready.items() if not each] == [VICTIM]

    end(victim)
    (kept,) = net.ask("node", "resync", "--home", victim.home, "--yes")["set_aside"]
    assert Path(kept).name.startswith("votes.damaged-")
    net.start()
    assert status(net, victim)["voting"] is True


# -- copies from before -------------------------------------------------------------------------------


def votes_of(home: Path) -> list[Record]:
    """The vote log of a stopped node."""
    head = json.loads((home / "SCHEMA").read_text())
    log = VoteLog.open(home / "votes", bytes.fromhex(head["chain_id"]), head["organisation"])
    try:
        return [record for raw in log.records() if isinstance(record := decode_record(raw), Record)]
    finally:
        log.close()


def test_a_restored_backup_signs_nothing_it_could_have_signed_before(
    net: Testnet, victim: DaemonPlace, tmp_path: Path
) -> None:
    end(victim)
    home, copy, lost = Path(victim.home), tmp_path / "backup", tmp_path / "lost"
    net.run("node", "backup", copy, "--home", home)
    assert "not empty" in refused(net, "node", "backup", copy, "--home", home)
    assert not (copy / "keys").exists()
    net.start()
    for _ in range(5):
        net.policy()
    end(victim, signal.SIGKILL)
    home.rename(lost)
    forgotten = {record.vote for record in votes_of(lost) if isinstance(record, OwnVote)}
    signed_before = max(vote.view for vote in forgotten)

    shutil.copytree(copy, home)
    assert "consensus.key" in refused(net, "node", "start", "--home", home)
    for name in ("keys", "tls"):
        (home / name).mkdir(mode=0o700)
    for key in ("ledger.key", "consensus.key"):
        shutil.copy(net.base / VICTIM / "keys" / key, home / "keys" / key)
    net.start()
    wait_signing(net, victim)
    for _ in range(5):
        net.policy()
    end(victim)
    records = votes_of(home)
    bound = max(record.view for record in records if isinstance(record, MutedUntil))
    own = {record.vote for record in records if isinstance(record, OwnVote)}
    signed_after = own - forgotten  # others may have shown it some of those: they are in the log again, as they were
    assert bound > signed_before
    assert signed_after
    assert min(vote.view for vote in signed_after) > bound
    assert not (home / "RESTORED").exists()


# -- nobody there -------------------------------------------------------------------------------------


def test_a_client_tries_again_until_its_node_is_back(net: Testnet, victim: DaemonPlace, tmp_path: Path) -> None:
    words = ("profile", "create", "alone", "--office", net.base / VICTIM, "--genesis", net.genesis)
    net.run(*words, "--node", f"{VICTIM}={victim.address}")
    end(victim)
    line = [sys.executable, "-m", "cli", "policy", "issue", *TERMS, *COVER, "--profile", "alone", "--json"]
    with (
        somebody_else_at(victim) as door,
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **net.env}) as tries,
    ):
        for _ in range(2):  # it tried, was turned away, and tried again
            door.accept()[0].close()
        door.close()
        net.start()
        out, error = tries.communicate(timeout=60)
    assert tries.returncode == 0, error
    assert json.loads(out)["stage"] == "final"
