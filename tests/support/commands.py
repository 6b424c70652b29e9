"""Running ``lossbook`` inside the test process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cli.main import main


def lossbook(
    *words: object, code: int | None = 0, env: dict[str, str] | None = None, stdin: str | bytes | None = None
) -> Result:
    """Run a command; it must end with this exit code (None: with any) and without a traceback."""
    result = CliRunner().invoke(main, [str(word) for word in words], env=env, input=stdin)
    shown = f"lossbook {' '.join(map(str, words))} -> {result.exit_code}\n{result.output}"
    assert code is None or result.exit_code == code, shown
    assert "Traceback" not in result.output, shown
    return result


def document(*words: object, code: int = 0, env: dict[str, str] | None = None) -> Any:
    """Run a command with ``--json``; its document, which must be all of stdout."""
    return json.loads(lossbook(*words, "--json", code=code, env=env).stdout)


def card(office: Path, organisation: str, kind: str = "insurer", port: int = 7000) -> Path:
    """A card made by the command, in an office of its own; keys lie open, which is quick."""
    lossbook(
        *("genesis", "card", "--office", office, "--id", organisation, "--name", f"{organisation} Ltd"),
        *("--kind", kind, "--public-address", f"127.0.0.1:{port + 1}", "--unsafe-no-passphrase"),
        *(("--peer-address", f"127.0.0.1:{port}") if kind == "insurer" else ()),
    )
    return office / "card.json"
