"""``lossbook sim``: the simulator's commands."""
