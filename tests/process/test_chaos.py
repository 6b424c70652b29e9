"""A short run of real daemons under faults from outside: every promise is kept, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from chaos.history import parse, stories
from chaos.judge import judge

FAULTS = ("kill", "pause", "partition", "loss")


def chaos(*words: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "chaos", "run", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)


def daemons_below(folder: Path) -> list[str]:
    """Command lines of processes whose home lies there."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"--home {folder}" in line:
                found.append(line)
    return found


def test_every_promise_is_kept_under_faults_and_the_kept_history_says_so_again(tmp_path: Path) -> None:
    keep = tmp_path / "network"
    done = chaos("--minutes", "0.5", "--seed", "4", "--faults", ",".join(FAULTS), "--keep", str(keep), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["problems"] == []
    assert set(document["faults"]) == set(FAULTS)
    assert min(document["faults"].values()) >= 1
    assert document["acknowledged"] >= 100
    assert document["proven"] + document["expired"] == document["acknowledged"]
    assert document["lost"] == 0
    assert document["linearizable"] is document["state_roots_equal"] is True
    assert 0 < document["longest_stall_s"] < 60
    assert document["network"] in ("proxy", "namespaces")
    assert not daemons_below(keep)
    with (keep / "history.jsonl").open("rb") as file:
        events = list(parse(file))
    assert len(stories(events)) == document["operations"]
    assert judge(events).problems == ()


def test_an_interrupted_run_ends_its_daemons_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli", "chaos", "run", "--minutes", "5", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stderr is not None
        said = ""
        until_s = time.monotonic() + 60
        while "clients begin" not in said:
            assert time.monotonic() < until_s, said
            said += run.stderr.readline()
        (base,) = tmp_path.glob("lossbook-chaos-*")
        assert daemons_below(base)
        run.send_signal(signal.SIGINT)
        assert run.wait(30) == 130, run.stderr.read()
    assert not daemons_below(base)
    assert not list(tmp_path.iterdir())
