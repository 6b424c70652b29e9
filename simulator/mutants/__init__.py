"""Planted faults: one rule taken out each, that the simulator has to find (docs/testing.md)."""
