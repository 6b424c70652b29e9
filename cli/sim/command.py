"""``lossbook sim``."""

from __future__ import annotations

from cli.base import group
from cli.sim.twins import twins


@group(example="lossbook sim twins --slice 2203")
def command() -> None:
    """Attack the consensus in virtual time: whole clusters in one thread, every run reproducible."""


command.add_command(twins)
