"""Many seeds, each run twice, spread over processes: what ``lossbook sim run`` does and reports."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from simulator.adversaries import LIARS
from simulator.contested import draw_contested
from simulator.governance import SIZE_MIN
from simulator.plan import Plan, brief, draw, draw_governed, draw_mixed
from simulator.run import Failure, Outcome, run_plan
from simulator.shrink import shrink
from simulator.spread import spread

GOVERNED_EVERY = 8
GOVERNED_AT = 5
"""Which of so many seeds change the set."""

CONTESTED_AT = 2
"""Which of so many seeds change the set while somebody lies or forgets."""

MIXED_EVERY = 6
MIXED_AT = 1
"""Which of so many seeds have nodes of two minor versions; some of them change the set as well."""


CONTESTED_MIXED_EVERY = 3
"""Likewise, of the plans in which the set changes while somebody lies or forgets."""


class Finding(msgspec.Struct, frozen=True):
    """A seed that failed."""

    plan: Plan
    seed: int
    validators: int
    oracle: str
    replay: str
    """The command that runs it again."""
    text: str
    at_ms: int


class Report(msgspec.Struct):
    """Figures of many runs; names as in the command's JSON."""

    seeds: int = 0
    events: int = 0
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    finalized_blocks: int = 0
    faults: dict[str, int] = msgspec.field(default_factory=dict)
    liars: dict[str, int] = msgspec.field(default_factory=dict)
    oracle_checks: int = 0
    failures: list[Finding] = msgspec.field(default_factory=list)
    coverage: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Take in the runs of one seed; blocks, events and time of all of them count, as their CPU does."""
        self.seeds += 1
        for outcome in outcomes:
            self.events += outcome.events
            self.simulated_s += outcome.simulated_ms / 1000
            self.cpu_s += outcome.cpu_s
            self.finalized_blocks += outcome.finalized_blocks
            self.oracle_checks += outcome.checks
        first = outcomes[0]
        self.faults = dict(sorted((Counter(self.faults) + Counter(first.faults)).items()))
        self.liars = dict(sorted((Counter(self.liars) + Counter(each.kind for each in first.plan.liars)).items()))
        self.coverage = {
            name: self.coverage.get(name, 0) + first.coverage.get(name, 0)
            for name in sorted(self.coverage.keys() | first.coverage.keys())
        }
        failure = next((each.failure for each in outcomes if each.failure is not None), None)
        if failure is None and len({each.effects for each in outcomes}) > 1:
            failure = Failure("determinism", "two runs of one seed had different effects", first.simulated_ms)
        if failure is not None:
            self.failures.append(finding(first.plan, failure))

    @property
    def blocks_per_cpu_s(self) -> float:
        """Finalized blocks per second of CPU."""
        return self.finalized_blocks / self.cpu_s if self.cpu_s else 0.0


def finding(plan: Plan, failure: Failure) -> Finding:
    """What to tell of a failed run."""
    short = "" if plan == plan_of(plan.seed, plan.n) else " --brief"
    command = f"lossbook sim replay {plan.seed} --validators {plan.n}{short} --trace"
    return Finding(plan, plan.seed, plan.n, failure.oracle, command, failure.text, failure.at_ms)


def keep_shrunk(found: Finding, folder: Path) -> tuple[Path, Plan]:
    """Minimise a failed seed's plan and keep it as a file, which a test runs from then on (tests/regressions)."""
    plan = shrink(found.plan, found.oracle)
    path = folder / f"{found.oracle.lower()}-{found.validators}-{found.seed}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plan.to_json())
    return path, plan


def plan_of(seed: int, n: int, *, short: bool = False) -> Plan:
    """The plan that a campaign draws for a seed; in some the set of validators changes, in some versions are mixed.

    Args:
        short: with half the time under attack (``simulator.plan.brief``).
    """
    turn, at = divmod(seed, GOVERNED_EVERY)
    kinds = tuple(sorted(LIARS))
    if n >= SIZE_MIN and at == CONTESTED_AT:
        plan = draw_contested(seed, n, turn, kinds)
    else:
        plan = draw_governed(seed, n) if n >= SIZE_MIN and at == GOVERNED_AT else draw(seed, n, kinds)
    mixed = seed % MIXED_EVERY == MIXED_AT or (plan.contested and turn % CONTESTED_MIXED_EVERY == 0)
    if n >= SIZE_MIN and mixed:
        plan = draw_mixed(plan)
    return brief(plan) if short else plan


def run_seed(seed: int, n: int, runs: int = 2, *, short: bool = False) -> list[Outcome]:
    """One seed, so many times."""
    plan = plan_of(seed, n, short=short)
    outcomes: list[Outcome] = []
    gc.disable()  # a run is short and small; collecting between runs instead saves a tenth
    try:
        for _ in range(runs):
            outcomes.append(run_plan(plan))
            gc.collect()
            if outcomes[-1].failure is not None:
                break  # a violation needs no second run to count
    finally:
        gc.enable()
    return outcomes


def run_seeds(
    work: Iterable[tuple[int, int]], jobs: int = 1, runs: int = 2, *, short: bool = False
) -> Generator[tuple[int, list[Outcome]]]:
    """Seeds and sizes (seed, n), in order; over so many processes. Yields the seed and its runs.

    Work may be endless. WorkerLost where a process was killed.
    """
    if jobs == 1:
        for seed, n in work:
            yield seed, run_seed(seed, n, runs, short=short)
        return
    with closing(spread(_run_job, ((seed, n, runs, short) for seed, n in work), jobs)) as results:
        for (seed, *_), outcomes in results:
            yield seed, outcomes


def _run_job(job: tuple[int, int, int, bool]) -> list[Outcome]:
    seed, n, runs, short = job
    return run_seed(seed, n, runs, short=short)
