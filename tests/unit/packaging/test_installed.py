"""scripts/installed, which judges an installed wheel, notices whatever is wrong with one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SETTINGS = '[tool.hatch.build.targets.wheel]\npackages = ["shelf", "proto/lossbook"]\n'
FILES = {
    "shelf/__init__.py": b'"""A room."""\n',
    "shelf/book.py": b"import json\nimport click\n",
    "shelf/py.typed": b"",
    "lossbook/__init__.py": b"",
}
METADATA = "Metadata-Version: 2.4\nName: lossbook\nVersion: 0.1.0\nRequires-Dist: click>=8.1\n"


class Installed:
    """A source tree, and what an installer made of it in another place."""

    def __init__(self, folder: Path) -> None:
        self.source, self.site, self.away = folder / "source", folder / "site", folder / "away"
        self.away.mkdir()
        self.information = self.site / "lossbook-0.1.0.dist-info"
        self.information.mkdir(parents=True)
        (self.information / "METADATA").write_text(METADATA)
        for name, contents in FILES.items():
            write(self.site / name, contents)
            write(self.source / (f"proto/{name}" if name.startswith("lossbook") else name), contents)
        (self.source / "pyproject.toml").write_text(SETTINGS)
        self.listed = [*FILES, "../../../bin/lossbook", "lossbook-0.1.0.dist-info/METADATA"]

    def judged(self) -> tuple[int, str]:
        (self.information / "RECORD").write_text("".join(f"{name},,\n" for name in self.listed))
        done = subprocess.run(
            [sys.executable, "-P", "-c", RUN, str(self.site), str(ROOT / "scripts" / "installed"), str(self.source)],
            cwd=self.away,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


RUN = """
import runpy, sys
site, script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, site)
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
runpy.run_path(script, run_name="__main__")
"""
"""The script, in a Python whose first place to look for libraries is the given one."""


def write(path: Path, contents: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_what_is_installed_as_it_should_be_passes(installed: Installed) -> None:
    assert installed.judged() == (0, "installed: 4 files as in the source tree, every module can be imported\n")


def test_invalid_a_file_that_the_wheel_leaves_out(installed: Installed) -> None:
    write(installed.source / "shelf" / "rates.json", b"{}")
    status, told = installed.judged()
    assert status == 1
    assert "shelf/rates.json is in the source tree and not installed" in told


def test_invalid_a_file_that_is_in_no_source_tree(installed: Installed) -> None:
    write(installed.site / "shelf" / "left_over.py", b"")
    installed.listed.append("shelf/left_over.py")
    status, told = installed.judged()
    assert status == 1
    assert "shelf/left_over.py is installed and not in the source tree" in told


def test_invalid_other_contents(installed: Installed) -> None:
    write(installed.site / "shelf" / "book.py", b"import json\nimport click  # once more\n")
    status, told = installed.judged()
    assert status == 1
    assert "shelf/book.py is installed with other contents than in the source tree" in told


def test_invalid_a_file_that_the_wheel_does_not_list(installed: Installed) -> None:
    installed.listed.remove("shelf/py.typed")
    status, told = installed.judged()
    assert status == 1
    assert "shelf/py.typed is installed and not in the wheel's list" in told


def test_invalid_a_module_that_cannot_be_imported(installed: Installed) -> None:
    for place in (installed.source, installed.site):
        write(place / "shelf" / "book.py", b"raise LookupError('no such shelf')\n")
    status, told = installed.judged()
    assert status == 1
    assert "shelf.book cannot be imported: LookupError: no such shelf" in told


def test_invalid_a_library_that_the_wheel_does_not_require(installed: Installed) -> None:
    for place in (installed.source, installed.site):
        write(place / "shelf" / "book.py", b"def read():\n    import pytest\n")
    status, told = installed.judged()
    assert status == 1
    assert "shelf/book.py imports pytest (of pytest), which is not among the wheel's requirements" in told


def test_invalid_the_checkout_is_what_is_imported(installed: Installed) -> None:
    installed.site, installed.source = installed.source, installed.source
    write(installed.source / "lossbook-0.1.0.dist-info" / "METADATA", METADATA.encode())
    installed.information = installed.source / "lossbook-0.1.0.dist-info"
    status, told = installed.judged()
    assert status == 1
    assert "is on sys.path" in told
