"""Disks that are full, by either way, and have room again."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from chaos import namespaces
from chaos.disk import LimitedDisk

APPENDS = """
import signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open(sys.argv[1], "ab", buffering=0) as file:
    file.write(b"x")
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        file.write(bytes(1 << 16))
    except OSError as error:
        print(error.errno)
    else:
        print(0)
"""

SMALL = """
import sys
from pathlib import Path
from chaos import kernel
kernel.own_namespaces()
from chaos.disk import SmallDisk
folder = Path(sys.argv[1])
disk = SmallDisk(folder)
def append():
    try:
        with (folder / "log").open("ab", buffering=0) as file:
            return 0 if file.write(bytes(1 << 16)) == 1 << 16 else "short"
    except OSError as error:
        return error.errno
said = [append()]
disk.fill(0)
said += [append(), append(), (folder / "kept").read_text()]
disk.empty()
said.append(append())
disk.close()
said += [(folder / "kept").read_text(), (folder / "log").stat().st_size >= 2 << 16]
print(said)
"""


def test_a_limited_process_can_make_no_file_longer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPENDS, str(tmp_path / "log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "ready\n"
        LimitedDisk().fill(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        assert int(child.stdout.readline()) == errno.EFBIG
    assert (tmp_path / "log").read_bytes() == b"x"


@pytest.mark.skipif(bool(namespaces.refused()), reason="this machine permits no mounts; a run uses LimitedDisk there")
def test_a_small_file_system_fills_up_empties_and_leaves_its_content_behind(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "kept").write_text("as it was")
    done = subprocess.run([sys.executable, "-c", SMALL, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([0, errno.ENOSPC, errno.ENOSPC, "as it was", 0, "as it was", True])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]
