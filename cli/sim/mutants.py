"""``lossbook sim mutants``."""

from __future__ import annotations

import sys

import click

from cli.base import EXIT_FAILED, Command
from cli.options import json_option
from cli.output import emit, say, table


@click.command(cls=Command, example="lossbook sim mutants --only f-after-x")
@click.option("--only", "names", multiple=True, metavar="NAME", help="This mutant only; may be repeated.")
@click.option(
    "--list", "only_list", is_flag=True, help="Name the mutants and the rules they take out, and run nothing."
)
@json_option
@click.pass_context
def mutants(context: click.Context, names: tuple[str, ...], only_list: bool, as_json: bool) -> None:
    """Take one rule out of the product at a time, and see whether the simulator notices.

    Every mutant has seeds that have to find it; without it the same seeds have to find nothing. Exit code 1 if a
    mutant survives, or if the product as it is fails.
    """
    from msgspec import to_builtins

    from simulator.mutants.gate import honest, hunt, named

    chosen = named(names)
    if only_list:
        if as_json:
            emit([{"name": each.name, "rule": each.rule, "liars": each.liars} for each in chosen])
        else:
            table(("mutant", "rule", "liars"), [(each.name, each.rule, ", ".join(each.liars)) for each in chosen])
        return
    verdicts, failures = [], []
    for at, mutant in enumerate(chosen, 1):
        verdicts.append(hunt(mutant))
        failures += honest(mutant, verdicts[-1])
        if sys.stderr.isatty():
            click.echo(f"\r{at} of {len(chosen)} mutants", nl=at == len(chosen), err=True)
    killed = sum(each.killed for each in verdicts)
    if as_json:
        emit(
            {
                "mutants": to_builtins(verdicts),
                "killed": killed,
                "total": len(verdicts),
                "honest_failures": to_builtins(failures),
            }
        )
    else:
        rows = [(v.name, v.rule, "killed" if v.killed else "SURVIVES", v.seed or "", v.oracle or "") for v in verdicts]
        table(("mutant", "rule", "", ">seed", "oracle"), rows)
        say(f"{killed} of {len(verdicts)} killed.")
        for failure in failures:
            say(f"without any mutant, seed {failure.seed} of {failure.name}: {failure.oracle}: {failure.text}")
    context.exit(0 if killed == len(verdicts) and not failures else EXIT_FAILED)
