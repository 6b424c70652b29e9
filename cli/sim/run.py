"""``lossbook sim run`` and ``replay``: attack a whole network in one process, reproducibly."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from cli.base import EXIT_FAILED, Command, fail
from cli.options import json_option
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from simulator.campaign import Report
    from simulator.run import Outcome

SEEDS_MAX = 10_000_000


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
        if not found or len(found) > SEEDS_MAX:
            self.fail(f"{value!r} has {len(found)} seeds: ask for 1 to {SEEDS_MAX}, lowest first", param, ctx)
        return found


validators_option = click.option(
    "--validators", type=click.IntRange(1, 40), default=4, show_default=True, help="How many insurers take part."
)


@click.command(cls=Command, example="lossbook sim run --seeds 1..200 --validators 7 --json")
@click.option("--seeds", type=SeedRange(), default="1..100", show_default=True, help="Which seeds: first..last.")
@validators_option
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes to use.")
@click.option("--once", is_flag=True, help="Run each seed once, not twice (no check that runs repeat).")
@json_option
@click.pass_context
def run(context: click.Context, seeds: range, validators: int, jobs: int, once: bool, as_json: bool) -> None:
    """Run many seeds, each twice, and report; exit code 1 if one fails.

    A seed fails if an oracle finds an invariant broken, if a validator breaks, or if its two runs differ in any effect.
    """
    from simulator.campaign import Report, run_seeds

    report = Report(validators=validators)
    for outcomes in run_seeds(seeds, validators, jobs, 1 if once else 2):
        report.add(outcomes)
        _progress(report, len(seeds))
    if as_json:
        emit(document(report))
    else:
        show(report)
    if report.failures:
        context.exit(EXIT_FAILED)


def _progress(report: Report, total: int) -> None:
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        end = "\n" if report.seeds == total else ""
        click.echo(f"\r{report.seeds:,} of {total:,} seeds, {len(report.failures)} failed{end}", nl=False, err=True)


def document(report: Report) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "seeds": report.seeds,
        "validators": report.validators,
        "events": report.events,
        "simulated_s": round(report.simulated_s, 3),
        "cpu_s": round(report.cpu_s, 3),
        "finalized_blocks": report.finalized_blocks,
        "finalized_blocks_per_cpu_s": round(report.blocks_per_cpu_s, 1),
        "faults": report.faults,
        "liars": report.liars,
        "oracle_checks": report.oracle_checks,
        "failures": [
            {"seed": each.seed, "oracle": each.oracle, "replay": each.replay, "text": each.text, "at_ms": each.at_ms}
            for each in report.failures
        ],
        "coverage": report.coverage,
    }


def show(report: Report) -> None:
    """The report for people."""
    facts(
        [
            ("seeds", report.seeds),
            ("validators", report.validators),
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
    if report.liars:
        table(("liar", ">seeds"), report.liars.items())
    if report.coverage:
        table(("exercised", ">times"), report.coverage.items())
    for each in report.failures:
        say(f"seed {each.seed} breaks {each.oracle} after {each.at_ms} ms: {each.text}\n  {each.replay}")


@click.command(cls=Command, example="lossbook sim replay 17 --validators 4 --trace")
@click.argument("seed", type=click.IntRange(min=0))
@validators_option
@click.option("--trace", is_flag=True, help="Tell every turn, message and fault, a line each.")
@json_option
@click.pass_context
def replay(context: click.Context, seed: int, validators: int, trace: bool, as_json: bool) -> None:
    """Run one seed again, and tell what happened; exit code 1 if it fails."""
    from simulator.adversaries import LIARS
    from simulator.plan import draw
    from simulator.run import run_plan
    from simulator.trace import Trace

    if as_json and trace:
        fail("--trace is for people", "Leave out one of --trace and --json.")
    plan = draw(seed, validators, tuple(sorted(LIARS)))
    outcome = run_plan(plan, [Trace(click.echo)] if trace else [])
    if as_json:
        emit(one(outcome))
    else:
        tell(outcome)
    if outcome.failure is not None:
        context.exit(EXIT_FAILED)


def one(outcome: Outcome) -> dict[str, Any]:
    """One run as JSON."""
    failure = outcome.failure
    return {
        "seed": outcome.plan.seed,
        "validators": outcome.plan.n,
        "plan": {
            "liars": [{"node": each.node, "kind": each.kind} for each in outcome.plan.liars],
            "faults": [{"at_ms": each.at_ms, "kind": each.kind, "node": each.node} for each in outcome.plan.faults],
        },
        "failure": {"oracle": failure.oracle, "text": failure.text, "at_ms": failure.at_ms} if failure else None,
        "effects": outcome.effects,
        "events": outcome.events,
        "simulated_s": outcome.simulated_ms / 1000,
        "finalized_blocks": outcome.finalized_blocks,
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
