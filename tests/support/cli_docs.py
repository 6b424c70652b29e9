"""Write the help of every command into docs/cli.md: ``python -m tests.support.cli_docs``."""

from __future__ import annotations

from tests.unit.cli.test_help import ALL, DOCS, help_of

MARK = "<!-- what follows is made by `python -m tests.support.cli_docs`; tests/unit/cli/test_help.py compares it -->\n"


def main() -> None:
    """Keep what stands above the mark, make the rest anew."""
    above, _, _ = DOCS.read_text(encoding="utf-8").partition(MARK)
    parts = []
    for path in [(), *ALL]:
        level = "###" if len(path) > 1 else "##"
        parts.append(f"{level} `{' '.join(('lossbook', *path))}`\n\n```text\n{help_of(path)}```\n")
    DOCS.write_text(above + MARK + "\n" + "\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
