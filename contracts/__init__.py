"""Insurance contracts: pure, deterministic operations on the state view."""
