"""LevelDB stores for blocks and state, and the vote log."""
