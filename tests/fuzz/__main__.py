"""Coverage-guided fuzzing, bounded by executions and repeatable: ``python -m tests.fuzz [--runs N] [TARGET ...]``.

    --runs N         executions of each target (scripts of a whole validator: a hundredth of it)
    --seed S         another seed searches elsewhere; the same one repeats
    --replay FILE    run one target on one input, in this process

An input on which a target fails is kept in tests/fuzz/found; once the fault is mended, move it to
tests/fuzz/regressions, where every test run takes it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).with_name("found")
COST = {"validator": 100, "core": 10, "proof": 5, "genesis": 5, "archive": 50}
"""How many runs of a cheap target one run of this one stands for."""


def fuzz(name: str, runs: int, seed: int) -> bool:
    """Fuzz one target and say how it went; False if it failed."""
    target, began = TARGETS[name], time.monotonic()
    with TemporaryDirectory() as corpus:
        for at, raw in enumerate(target.seeds()):
            Path(corpus, f"{at:04d}").write_bytes(raw)
        FOUND.mkdir(exist_ok=True)
        arguments = [f"-runs={runs}", f"-seed={seed}", f"-max_len={target.bytes_max}", "-timeout=60"]
        arguments += [f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1", corpus]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.child", name, *arguments], capture_output=True, text=True, check=False
        )
    states = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", done.stderr)
    executed = re.search(r"stat::number_of_executed_units: *(\d+)", done.stderr)
    if done.returncode or executed is None:
        print(done.stdout[-4_000:], done.stderr[-2_000:], sep="\n")
        print(f"{name}: FAILED. The input is in {FOUND}; `python -m tests.fuzz --replay FILE {name}` runs it again.")
        return False
    lines, _, corpus_size = states[-1]
    print(
        f"{name:<10} {int(executed[1]):>9,} runs  {int(lines):>5,} places reached ({states[0][0]} by the seeds)  "
        f"{int(corpus_size):>4} inputs kept  {time.monotonic() - began:5.1f} s",
        flush=True,
    )
    return True


def main() -> None:
    """See the module text; exit code 1 if a target failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, formatter_class=_AsIs)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path)
    given = parser.parse_args()
    chosen = given.targets or list(TARGETS)
    if given.replay is not None:
        TARGETS[chosen[0]].run(given.replay.read_bytes())
        print("It holds.")
        return
    held = [fuzz(name, max(1, given.runs // COST.get(name, 1)), given.seed) for name in chosen]
    sys.exit(0 if all(held) else 1)


class _AsIs(argparse.RawDescriptionHelpFormatter):
    pass


main()
