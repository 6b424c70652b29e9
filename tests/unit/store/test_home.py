"""A home directory is made whole, used by one process, and never mistaken for another."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.block_port import BatchWrite
from ledger.genesis import WrongNetwork
from store.backup import (
    MARKER_NAME,
    backup,
    clear_backup_marker,
    has_backup_marker,
    set_aside,
    write_backup_marker,
)
from store.errors import (
    CorruptStore,
    HomeExists,
    HomeInUse,
    HomeMissing,
    HomeUnnamed,
    StoreFailed,
    VoteLogDamaged,
    VoteLogMissing,
    WrongSchema,
)
from store.faulty_files import SimulatedCrash
from store.home import Home, HomeKind, create_home, open_all, open_home
from store.votelog import VoteLog
from tests.support.insurers import market_genesis

CHAIN = bytes(range(32))


def node(path: Path) -> Home:
    return create_home(path, HomeKind.NODE, b'{"genesis": true}', CHAIN, "alpha")


def test_a_new_home_says_whose_it_is_and_opens(tmp_path: Path) -> None:
    made = node(tmp_path / "deep" / "home")
    home = open_home(made.path, HomeKind.NODE)
    assert home == made
    assert (home.kind, home.chain_id, home.organisation) == (HomeKind.NODE, CHAIN, "alpha")
    assert home.genesis.read_bytes() == b'{"genesis": true}'
    assert {path.name for path in home.path.parent.iterdir()} == {"home"}, "nothing temporary is left"
    stores = open_all(home)
    assert stores.votes is not None
    stores.votes.append([b"vote"])
    stores.blocks.commit([BatchWrite(CHAIN, b"batch")])
    stores.close()
    stores.close()
    stores = open_all(home)
    assert stores.votes is not None
    assert stores.votes.records() == [b"vote"]
    assert stores.blocks.batch(CHAIN) == b"batch"
    stores.close()


def test_only_the_owner_can_read_a_home(tmp_path: Path) -> None:
    home = node(tmp_path / "home")
    for path in [home.path, *home.path.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_replica_has_no_votes(tmp_path: Path) -> None:
    home = create_home(tmp_path / "replica", HomeKind.REPLICA, b"{}", CHAIN, "supervisor")
    assert not home.votes.exists()
    stores = open_all(home)
    assert stores.votes is None
    stores.close()
    with pytest.raises(HomeMissing, match="replica's, not a node's"):
        open_home(home.path, HomeKind.NODE)


def test_a_home_is_not_made_over_anything(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    node(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("keep me")
    (tmp_path / "file").write_text("keep me")
    for name in ("full", "file", "empty"):
        with pytest.raises(HomeExists, match="nothing was changed"):
            node(tmp_path / name)
    assert (tmp_path / "full" / "letter.txt").read_text() == "keep me"


def test_a_home_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed):
        node(tmp_path / "file" / "home")


STEPS = ("open", "mkdir", "rename", "fsync", "fdatasync", "pwrite", "ftruncate")
"""System calls by which a home is made; a crash may come before any of them."""


def crash_before_step(patch: pytest.MonkeyPatch, step: int) -> None:
    """Let the process end before the system call of this number; what it would tidy up stays."""
    left = iter(range(step, -1, -1))

    def stopping(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(left, 0) == 0:
                raise SimulatedCrash
            return real(*args, **kwargs)

        return call

    for name in STEPS:
        patch.setattr(os, name, stopping(getattr(os, name)))
    patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)


def test_a_crash_while_a_home_is_made_leaves_none_or_all_of_it(tmp_path: Path) -> None:
    outcomes = []
    for step in range(1000):
        path = tmp_path / str(step) / "home"
        path.parent.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            crash_before_step(patch, step)
            try:
                node(path)
                break
            except SimulatedCrash:
                pass
        outcomes.append(path.exists())
        if not path.exists():
            with pytest.raises(HomeMissing):
                open_home(path, HomeKind.NODE)
            node(path)
        open_all(open_home(path, HomeKind.NODE)).close()
        assert {each.name for each in path.parent.iterdir()} == {"home"}, "what the crash left is gone"
    assert len(outcomes) > 30
    assert outcomes == sorted(outcomes), "there is one step before which there is no home, and after which there is"
    assert True in outcomes


def test_what_is_no_home_is_named(tmp_path: Path) -> None:
    with pytest.raises(HomeMissing, match="lossbook node init"):
        open_home(tmp_path / "nowhere", HomeKind.NODE)
    home = node(tmp_path / "home")
    schema = home.path / "SCHEMA"
    facts = json.loads(schema.read_bytes())
    for broken in (b"", b"[]", b'{"schema": 1}', schema.read_bytes().replace(b'"node"', b'"nude"')):
        schema.write_bytes(broken)
        with pytest.raises(HomeMissing, match="damaged"):
            open_home(home.path, HomeKind.NODE)
    schema.write_text(json.dumps(facts | {"schema": 7}))
    with pytest.raises(WrongSchema, match="7"):
        open_home(home.path, HomeKind.NODE)


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("kind", HomeKind)
def test_a_home_whose_schema_file_is_spoilt_or_gone_opens_again_with_the_line_that_the_refusal_shows(
    tmp_path: Path, kind: HomeKind, readable: bool
) -> None:
    genesis = market_genesis()
    raw, chain_id = (genesis.raw, genesis.chain_id) if readable else (b"garbled", CHAIN)
    home = create_home(tmp_path / "home", kind, raw, chain_id, "alpha")
    schema = home.path / "SCHEMA"
    for spoil in (lambda: schema.write_bytes(b"garbled"), schema.unlink):
        spoil()
        with pytest.raises(HomeUnnamed, match="Nothing else is wrong with it for that: write the file anew") as caught:
            open_home(home.path, kind)
        line = str(caught.value).partition("as one line: ")[2].partition("}")[0] + "}"
        schema.write_text(line.replace("64 HEX DIGITS", CHAIN.hex()).replace('"ID"', '"alpha"'))
        assert open_home(home.path, kind) == home


def test_a_home_of_another_network_is_refused(tmp_path: Path) -> None:
    home = node(tmp_path / "home")
    home.check_network(CHAIN)
    with pytest.raises(WrongNetwork):
        home.check_network(bytes(32))


def test_two_users_in_one_process_are_refused(tmp_path: Path) -> None:
    home = node(tmp_path / "home")
    with home.lock(), pytest.raises(HomeInUse, match=str(os.getpid())):
        open_all(home)
    open_all(home).close()


def test_to_ask_who_works_in_a_home_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = node(tmp_path / "home")
    assert home.holder() is None
    assert not (home.path / "LOCK").exists()
    claimed: list[int] = []
    claim = fcntl.lockf

    def told(descriptor: int, how: int) -> None:
        claimed.append(how)
        claim(descriptor, how)

    monkeypatch.setattr(fcntl, "lockf", told)
    with home.lock():
        assert claimed
        claimed.clear()
        assert home.holder() == os.getpid()
        held = "import sys; from pathlib import Path; from store.home import HomeLock; HomeLock(Path(sys.argv[1]))"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        second = [sys.executable, "-c", held, str(home.path)]
        assert subprocess.run(second, env=environment, capture_output=True, check=False).returncode == 1  # still held
    assert home.holder() is None
    assert claimed == []


def test_a_second_process_learns_the_pid_of_the_first_and_a_kill_frees_the_home(tmp_path: Path) -> None:
    home = node(tmp_path / "home")
    script = """
import sys
from pathlib import Path
from store.home import HomeKind, open_all, open_home
stores = open_all(open_home(Path(sys.argv[1]), HomeKind.NODE))
stores.votes.append([b"vote"]); stores.votes.sync()
print("open", flush=True)
sys.stdin.read()
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", script, str(home.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(HomeInUse) as refused:
            open_all(home)
        assert refused.value.pid == process.pid
        assert home.holder() == process.pid
        with pytest.raises(HomeInUse):
            backup(home, tmp_path / "backup")
        process.send_signal(signal.SIGKILL)
    assert home.holder() is None
    stores = open_all(home)
    assert stores.votes is not None
    assert stores.votes.records() == [b"vote"]
    stores.close()


def test_a_failed_opening_leaves_nothing_open(tmp_path: Path) -> None:
    home = node(tmp_path / "home")
    (home.votes / "HEAD").write_bytes(bytes(1024))
    for _ in range(2):
        with pytest.raises(VoteLogDamaged):
            open_all(home)
    observing = open_all(home, vote=False)
    assert observing.votes is None
    observing.close()
    open_all(home, vote=False).close()
    (home.blocks / "CURRENT").write_bytes(b"nonsense\n")
    for _ in range(2):
        with pytest.raises((CorruptStore, StoreFailed)):
            open_all(home)


# -- backup, marker, resync ----------------------------------------------------------------


def vote(home: Home, record: bytes) -> None:
    log = VoteLog.open(home.votes, CHAIN, "alpha")
    log.append([record])
    log.close()


def test_a_backup_opens_with_everything_but_keys_and_has_the_marker(tmp_path: Path) -> None:
    home = node(tmp_path / "home")
    (home.keys / "consensus.key").write_bytes(b"secret")
    vote(home, b"vote")
    backup(home, tmp_path / "backup")
    assert not has_backup_marker(home.path)
    copy = open_home(tmp_path / "backup", HomeKind.NODE)
    assert has_backup_marker(copy.path)
    assert not copy.keys.exists()
    assert not copy.tls.exists()
    stores = open_all(copy)
    assert stores.votes is not None
    assert stores.votes.records() == [b"vote"]
    stores.close()
    with pytest.raises(HomeExists):
        backup(home, tmp_path / "backup")
    assert {path.name for path in tmp_path.iterdir()} == {"home", "backup"}


def test_a_backup_that_does_not_fit_is_named_so_and_leaves_nothing(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk."""
    home = node(tmp_path / "home")
    home.genesis.write_bytes(bytes(200_000))
    script = """
import resource, signal, sys
from pathlib import Path
from store.backup import backup
from store.errors import StoreFailed
from store.home import HomeKind, open_home
home = open_home(Path(sys.argv[1]), HomeKind.NODE)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    backup(home, Path(sys.argv[2]))
except StoreFailed as failed:
    print(failed.kind.name)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", script, str(home.path), str(tmp_path / "backup")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.stdout == "DISK_FULL\n", done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


def test_the_marker_is_written_and_cleared(tmp_path: Path) -> None:
    home = node(tmp_path / "home")
    assert not has_backup_marker(home.path)
    write_backup_marker(home.path, "restored by hand")
    write_backup_marker(home.path, "twice")
    assert has_backup_marker(home.path)
    clear_backup_marker(home.path)
    clear_backup_marker(home.path)
    assert not has_backup_marker(home.path)


def test_setting_a_damaged_log_aside_keeps_it_and_leaves_the_marker(tmp_path: Path) -> None:
    home = node(tmp_path / "home")
    for round_ in (1, 2):
        vote(home, b"a vote that will be damaged")
        log = home.votes / "00000001.log"
        data = bytearray(log.read_bytes())
        data[-40] ^= 1
        log.write_bytes(data)
        with pytest.raises(VoteLogDamaged):
            open_all(home)
        kept = set_aside(home, "flipped bit")
        assert kept == home.path / f"votes.damaged-{round_}"
        assert (kept / "00000001.log").read_bytes() == data
        assert (kept / "REASON").read_text() == "flipped bit\n"
        assert has_backup_marker(home.path)
        stores = open_all(home)
        assert stores.votes is not None
        assert stores.votes.records() == []
        stores.close()
        clear_backup_marker(home.path)


def test_setting_aside_that_was_interrupted_is_finished_by_doing_it_again(tmp_path: Path) -> None:
    home = node(tmp_path / "home")
    home.votes.rename(home.path / "votes.damaged-1")
    write_backup_marker(home.path, "interrupted")
    with pytest.raises(VoteLogMissing):
        open_all(home)
    assert set_aside(home, "again") is None
    open_all(home).close()
    assert (home.path / MARKER_NAME).exists()


def test_a_replica_has_nothing_to_set_aside(tmp_path: Path) -> None:
    home = create_home(tmp_path / "replica", HomeKind.REPLICA, b"{}", CHAIN, "supervisor")
    with pytest.raises(HomeMissing, match="never votes"):
        set_aside(home, "mistake")
    assert not has_backup_marker(home.path)
