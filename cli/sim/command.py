"""``lossbook sim``."""

from __future__ import annotations

from cli.base import group
from cli.sim.mutants import mutants
from cli.sim.run import replay, run, soak
from cli.sim.twins import twins


@group(example="lossbook sim run --seeds 1..100 --validators 4")
def command() -> None:
    """Attack the consensus in virtual time: whole clusters in one thread, every run reproducible.

    The validators are the product's own code, down to the bytes on disk and wire; faults, liars and delays are drawn
    from a seed. Oracles watch everything that is ever signed.
    """


command.add_command(run)
command.add_command(soak)
command.add_command(replay)
command.add_command(twins)
command.add_command(mutants)
