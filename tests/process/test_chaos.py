"""A short run of real daemons under faults from outside: every promise is kept, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos import namespaces
from chaos.history import parse
from chaos.judge import judge

RUNS = {
    # One is destroyed; as soon as it votes again it is killed, while others are cut off.
    "proxy": ("0.5", "9", ("kill", "destroyed", "partition")),
    "namespaces": ("0.4", "7", ("pause", "clock", "disk", "one-way", "loss", "delay")),
}
"""Minutes, seed, faults."""


def chaos(*words: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "chaos", *words]
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


NAMESPACES_REFUSED = namespaces.refused()
NETWORKS = [
    "proxy",
    pytest.param("namespaces", marks=pytest.mark.skipif(bool(NAMESPACES_REFUSED), reason=NAMESPACES_REFUSED or "-")),
]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_promise_is_kept_under_faults_and_the_kept_history_says_so_again(tmp_path: Path, network: str) -> None:
    keep = tmp_path / "network"
    minutes, seed, faults = RUNS[network]
    words = ["--minutes", minutes, "--seed", seed, "--network", network, "--keep", str(keep), "--json"]
    done = chaos("run", *words, "--faults", ",".join(faults))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["problems"] == []
    assert document["network"] == network
    assert set(document["faults"]) == set(faults)
    assert min(document["faults"].values()) >= 1
    assert document["acknowledged"] >= 50
    assert document["proven"] + document["expired"] == document["acknowledged"]
    assert document["lost"] == 0
    assert document["linearizable"] is document["state_roots_equal"] is True
    assert document["replica_height"] >= document["height"] > 0
    assert 0 < document["longest_stall_s"] < 30
    assert not daemons_below(keep)
    assert (keep / "delta" / "node" / "lossbook.toml").is_file()
    epoch = 0
    for epoch, newcomer in enumerate(document["newcomers"], 1):
        home = keep / newcomer["validator"] / "node"
        assert newcomer["epoch"] == epoch, "all have new consensus keys"
        assert (home / "keys" / f"consensus-{epoch}.key").is_file()
        assert not (home / "keys" / "consensus.key").exists(), "the one on its card went with the old home"
    assert epoch == document["faults"].get("destroyed", 0)

    assert document["complete"] is True
    assert_judged_again(keep / "history.jsonl", document["records"])


def assert_judged_again(kept: Path, records: int) -> None:
    """The file alone tells the same; and each of three forgeries of it is told."""
    again = chaos("judge", str(kept), "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads(again.stdout)["records"] == records
    lines = kept.read_bytes().splitlines()

    # One answer turned round: a step that took effect is said to have been refused.
    at, line = next((at, line) for at, line in enumerate(lines) if b'"final"' in line and b'"codes":[0]' in line)
    turned = [*lines[:at], line.replace(b'"codes":[0]', b'"codes":[307]'), *lines[at + 1 :]]
    assert "not linearizable" in problems_of(turned)

    # All that is told of one operation is dropped: one that changed nothing, which the others do not contradict.
    (probe, *_) = (json.loads(line)["op"] for line in lines if b'"kind":"probe"' in line)
    assert f"operation {probe} is missing" in problems_of([line for line in lines if b'"op":%d,' % probe not in line])

    # An acknowledged operation of which nothing more is told.
    acknowledged = json.loads(next(line for line in lines if b'"accepted"' in line))["op"]
    ends = (b'"final"', b'"proven"', b'"fail"')
    open_ = [line for line in lines if b'"op":%d,' % acknowledged not in line or not any(end in line for end in ends)]
    assert f"nobody knows what became of operation {acknowledged}, which was acknowledged" in problems_of(open_)


def problems_of(lines: list[bytes]) -> str:
    return "\n".join(judge(list(parse(lines))).problems)


@pytest.mark.parametrize(
    ("number", "once"),
    [(signal.SIGTERM, "daemons start"), (signal.SIGINT, "clients begin")],
    ids=["SIGTERM as they start", "SIGINT under load"],
)
def test_an_interrupted_run_ends_its_daemons_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals, once: str
) -> None:
    # A parent in the background may have left SIGINT ignored; a person's shell does not.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "cli", "chaos", "run", "--minutes", "5", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stderr is not None
        said = ""
        until_s = time.monotonic() + 60
        while once not in said:
            assert time.monotonic() < until_s, said
            said += run.stderr.readline()
        (base,) = tmp_path.glob("lossbook-chaos-*")
        assert daemons_below(base)
        run.send_signal(number)
        assert run.wait(30) == 130, run.stderr.read()
    assert not daemons_below(base)
    assert not list(tmp_path.iterdir())
