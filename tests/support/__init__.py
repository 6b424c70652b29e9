"""What several tests share: organisations, ledgers in memory, fakes."""
