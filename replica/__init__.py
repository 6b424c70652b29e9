"""The supervisor's read-only daemon: follow, verify, re-execute, report."""
