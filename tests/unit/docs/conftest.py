"""These tests hold the documentation against the code; a copy of the tests alone has no documentation."""

from pathlib import Path

if not (Path(__file__).parents[3] / "docs").is_dir():
    collect_ignore_glob = ["test_*.py"]
