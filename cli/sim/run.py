"""``lossbook sim run``, ``soak`` and ``replay``: attack whole networks in one process, reproducibly."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.base import EXIT_FAILED, Command, fail
from cli.options import FILE, FOLDER, json_option
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from simulator.campaign import Finding, Report
    from simulator.plan import Plan
    from simulator.run import Outcome

SEEDS_MAX: Final = 10_000_000
SOAK_SIZES: Final = (4, 4, 4, 7, 4, 4, 10)
"""Validators of one seed after another: f = 1 is searched most, as it costs least."""

TELL_EVERY: Final = 100
KEPT_MAX: Final = 3
"""Failures of one command that are minimised: each may take minutes, and many at once have mostly one cause."""


class SeedRange(click.ParamType[range]):
    """``A..B``, both included; or one seed."""

    name = "A..B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        """See the class."""
        if isinstance(value, range):
            return value
        first, dots, last = str(value).partition("..")
        if not first.isdecimal() or (dots and not last.isdecimal()):
            self.fail(f"{value!r} is no range of seeds: write 1..200, or one number", param, ctx)
        found = range(int(first), int(last or first) + 1)
        if not 0 < len(found) <= SEEDS_MAX:
            self.fail(f"{value!r} has {len(found)} seeds: ask for 1 to {SEEDS_MAX}, lowest first", param, ctx)
        return found


validators_option = click.option(
    "--validators", type=click.IntRange(2, 40), default=4, show_default=True, help="How many insurers take part."
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes to use."
)
brief_option = click.option(
    "--brief", is_flag=True, help="Half the time under attack, as many faults; where the set changes, all."
)
keep_option = click.option(
    "--keep", type=FOLDER, help="Minimise what fails (the first three), and keep the plans here."
)


@click.command(cls=Command, example="lossbook sim run --seeds 1..200 --validators 7 --json")
@click.option("--seeds", type=SeedRange(), default="1..100", show_default=True, help="Which seeds: first..last.")
@validators_option
@jobs_option
@click.option("--once", is_flag=True, help="Run each seed once, not twice (no check that runs repeat).")
@click.option("--coverage-required", is_flag=True, help="Fail, too, if a rule, corner case or liar was never met.")
@brief_option
@keep_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    seeds: range,
    validators: int,
    jobs: int,
    once: bool,
    coverage_required: bool,
    brief: bool,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Run many seeds, each twice, and report; exit code 1 if one fails.

    A seed fails if an oracle finds an invariant broken, if a validator breaks, or if its two runs differ in any effect.
    """
    from simulator.campaign import Report, run_seeds

    report, work = Report(), ((seed, validators) for seed in seeds)
    for _, outcomes in run_seeds(work, jobs, 1 if once else 2, short=brief):
        _take(report, outcomes, keep)
        _progress(report, len(seeds))
    _end(context, report, coverage_required, as_json)


@click.command(cls=Command, example="lossbook sim soak --from 100000 --jobs 2")
@click.option("--from", "first", type=click.IntRange(min=0), default=1, show_default=True, help="The first seed.")
@click.option("--seeds", "total", type=click.IntRange(1), help="End after so many seeds. Default: run until stopped.")
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, help="Processes. Default: one a core."
)
@click.option("--coverage-required", is_flag=True, help="Fail, too, if a rule, corner case or liar was never met.")
@brief_option
@keep_option
@json_option
@click.pass_context
def soak(
    context: click.Context,
    first: int,
    total: int | None,
    jobs: int,
    coverage_required: bool,
    brief: bool,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Run seed after seed on networks of 4, 7 and 10, until stopped (Ctrl-C) or to the end; then report.

    Every hundred seeds it says how far it is, and with which seed to go on; what fails is said at once.
    """
    from simulator.campaign import Report, run_seeds
    from simulator.spread import WorkerLost

    report, lost = Report(), False
    try:
        for seed, outcomes in run_seeds(_sizes(first, total), jobs, short=brief):
            _take(report, outcomes, keep)
            if report.seeds % TELL_EVERY == 0:
                say(
                    f"{report.seeds:,} seeds, {report.simulated_s / 3600:.1f} hours simulated, "
                    f"{len(report.failures)} failed; go on with --from {seed + 1}"
                )
    except KeyboardInterrupt:
        say(f"stopped; go on with --from {first + report.seeds}")
    except WorkerLost as error:
        lost = True
        say(f"{error}; go on with --from {first + report.seeds}")
    _end(context, report, coverage_required, as_json, failed=lost)


def _sizes(first: int, total: int | None) -> Iterable[tuple[int, int]]:
    """Seeds with the number of validators of each."""
    seeds = count(first) if total is None else range(first, first + total)
    return ((seed, SOAK_SIZES[seed % len(SOAK_SIZES)]) for seed in seeds)


def _take(report: Report, outcomes: list[Outcome], keep: Path | None) -> None:
    before = len(report.failures)
    report.add(outcomes)
    for found in report.failures[before:]:
        _tell_failure(found)
        if keep is not None and found.oracle != "determinism" and len(report.failures) <= KEPT_MAX:
            _keep(found, keep)


def _keep(found: Finding, folder: Path) -> None:
    """The plan is in a file, and on one line for whoever has nothing but this log."""
    import msgspec

    from simulator.campaign import keep_shrunk

    path, plan = keep_shrunk(found, folder)
    say(f"  minimised: lossbook sim replay --plan {path} --trace\n  {msgspec.json.encode(plan).decode()}")


def _tell_failure(found: Finding) -> None:
    say(f"seed {found.seed} breaks {found.oracle} after {found.at_ms} ms: {found.text}\n  {found.replay}")


def _progress(report: Report, total: int) -> None:
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        end = "\n" if report.seeds == total else ""
        click.echo(f"\r{report.seeds:,} of {total:,} seeds, {len(report.failures)} failed{end}", nl=False, err=True)


def _end(
    context: click.Context, report: Report, coverage_required: bool, as_json: bool, *, failed: bool = False
) -> None:
    from simulator.coverage import REQUIRED, missing

    coverage = {name: report.coverage.get(name, 0) for name in REQUIRED}
    if as_json:
        emit(document(report, coverage))
    else:
        show(report, coverage)
    never = missing(report.coverage) if coverage_required else []
    if never:
        say(f"never exercised: {', '.join(never)}\nRun more seeds: what was never met is not shown.")
    if report.failures or never or failed:
        context.exit(EXIT_FAILED)


def document(report: Report, coverage: dict[str, int]) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "seeds": report.seeds,
        "events": report.events,
        "simulated_s": round(report.simulated_s, 3),
        "cpu_s": round(report.cpu_s, 3),
        "finalized_blocks": report.finalized_blocks,
        "finalized_blocks_per_cpu_s": round(report.blocks_per_cpu_s, 1),
        "faults": report.faults,
        "liars": report.liars,
        "oracle_checks": report.oracle_checks,
        "failures": [
            {
                "seed": each.seed,
                "validators": each.validators,
                "oracle": each.oracle,
                "replay": each.replay,
                "text": each.text,
                "at_ms": each.at_ms,
            }
            for each in report.failures
        ],
        "coverage": coverage,
    }


def show(report: Report, coverage: dict[str, int]) -> None:
    """The report for people."""
    facts(
        [
            ("seeds", report.seeds),
            ("simulated", f"{report.simulated_s / 3600:.2f} hours"),
            ("CPU", f"{report.cpu_s:.1f} s"),
            ("final blocks", f"{report.finalized_blocks:,} ({report.blocks_per_cpu_s:.0f} per CPU second)"),
            ("events", report.events),
            ("oracle checks", report.oracle_checks),
            ("failures", len(report.failures)),
        ]
    )
    click.echo()
    table(("fault", ">times"), report.faults.items())
    click.echo()
    table(("exercised", ">times"), coverage.items())


@click.command(cls=Command, example="lossbook sim replay 17 --validators 4 --trace")
@click.argument("seed", type=click.IntRange(min=0), required=False)
@validators_option
@brief_option
@click.option("--plan", "path", type=FILE, help="A plan that was kept, instead of a seed.")
@click.option("--trace", is_flag=True, help="Tell every turn, message and fault, a line each.")
@json_option
@click.pass_context
def replay(
    context: click.Context,
    seed: int | None,
    validators: int,
    brief: bool,
    path: Path | None,
    trace: bool,
    as_json: bool,
) -> None:
    """Run one seed, or a plan that was kept, again and tell what happened; exit code 1 if it fails."""
    from simulator.run import run_plan
    from simulator.trace import Trace

    if as_json and trace:
        raise click.UsageError("--trace is for people: leave out one of --trace and --json.")
    outcome = run_plan(_plan(seed, validators, path, brief=brief), [Trace(click.echo)] if trace else [])
    if as_json:
        emit(one(outcome))
    else:
        tell(outcome)
    if outcome.failure is not None:
        context.exit(EXIT_FAILED)


def _plan(seed: int | None, validators: int, path: Path | None, *, brief: bool) -> Plan:
    from msgspec import ValidationError

    from simulator.campaign import plan_of
    from simulator.plan import Plan

    if (seed is None) == (path is None):
        raise click.UsageError("Give a seed, or a plan with --plan.")
    if brief and path is not None:
        raise click.UsageError("A plan says how long it is: leave out one of --plan and --brief.")
    if path is None:
        return plan_of(seed or 0, validators, short=brief)
    try:
        return Plan.from_json(path.read_bytes())
    except (OSError, ValueError, ValidationError) as error:
        fail(f"{path} is no plan of the simulator: {error}", "Give a file that `lossbook sim run --keep` wrote.")


def one(outcome: Outcome) -> dict[str, Any]:
    """One run as JSON."""
    import msgspec

    failure = outcome.failure
    return {
        "seed": outcome.plan.seed,
        "plan": msgspec.to_builtins(outcome.plan),
        "failure": {"oracle": failure.oracle, "text": failure.text, "at_ms": failure.at_ms} if failure else None,
        "effects": outcome.effects,
        "events": outcome.events,
        "simulated_s": outcome.simulated_ms / 1000,
        "finalized_blocks": outcome.finalized_blocks,
        "oracle_checks": outcome.checks,
        "faults": outcome.faults,
        "coverage": outcome.coverage,
    }


def tell(outcome: Outcome) -> None:
    """One run for people."""
    plan = outcome.plan
    facts(
        [
            ("seed", plan.seed),
            ("validators", plan.n),
            ("liars", ", ".join(f"{each.node} {each.kind}" for each in plan.liars) or "none"),
            ("simulated", f"{outcome.simulated_ms / 1000:.1f} s"),
            ("final blocks", outcome.finalized_blocks),
            ("oracle checks", outcome.checks),
            ("effects", outcome.effects),
        ]
    )
    click.echo()
    table((">at ms", "fault", ">node"), ((each.at_ms, each.kind, each.node) for each in plan.faults))
    if outcome.failure is None:
        click.echo("No oracle objects.")
    else:
        failure = outcome.failure
        say(f"{failure.oracle} is broken after {failure.at_ms} ms: {failure.text}")
