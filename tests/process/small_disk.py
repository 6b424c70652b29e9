"""A daemon whose home, or one store of it, lies on a file system of a few megabytes of its own.

A process that only sleeps holds a mount namespace; daemons are started inside it by ``nsenter``. Two kinds:

* ``tmpfs``: full when it is full: a write fails.
* ``thin``: ext4 in a sparse file on such a tmpfs. The file system promises far more than there is, so writes succeed
  and the **sync** fails, as on a thinly provisioned volume.

It takes root, or the right to make mounts; ``why_not`` says what is missing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.process.network import Daemon, Network

TMPFS_BYTES = 3 << 20
THIN_BYTES = 9 << 20
THIN_PROMISED = "64M"
BLOCK = 4096


def why_not(kind: str = "tmpfs") -> str:
    """Why such a file system cannot be made here; empty if it can."""
    script = "mount -t tmpfs -o size=1m tmpfs /mnt"
    if kind == "thin":
        script = (
            "mount -t tmpfs -o size=3m tmpfs /mnt && truncate -s 8M /mnt/i && mkfs.ext4 -q /mnt/i && mkdir /mnt/d"
            " && mount -o loop /mnt/i /mnt/d"
        )
    try:
        done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


class SmallDisk:
    """Of one node of a network, from ``with`` to its end; what the files hold is kept beyond it."""

    def __init__(self, network: Network, name: str, part: str = ".", kind: str = "tmpfs") -> None:
        """``part``: a folder of the home; ``.``: all of it."""
        self._network = network
        self._name = name
        self.path = network.home(name) / part
        self._kind = kind

    def __enter__(self) -> Self:
        saved = self.path.with_name(f"{self.path.name}.saved")
        shutil.copytree(self.path, saved)
        mount = f'mount -t tmpfs -o size={TMPFS_BYTES} tmpfs "$0"'
        if self._kind == "thin":
            mount = (
                f'mkdir "$0.thin" && mount -t tmpfs -o size={THIN_BYTES} tmpfs "$0.thin"'
                f' && truncate -s {THIN_PROMISED} "$0.thin/image" && mkfs.ext4 -q -O ^has_journal "$0.thin/image"'
                ' && mount -o loop "$0.thin/image" "$0" && rmdir "$0/lost+found"'
            )
        script = f'{mount} && cp -a "$1"/. "$0" && echo there && exec sleep 1000000'
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, str(self.path), str(saved)], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "there\n"
        shutil.rmtree(saved)
        return self

    def __exit__(self, *_: object) -> None:
        """Keep what lies there now: a node must not go back to older votes."""
        self._network.daemons[self._name].kill()
        self.free()
        kept = self.path.with_name(f"{self.path.name}.kept")
        shutil.copytree(self.inside, kept)
        shutil.rmtree(self.path)
        kept.rename(self.path)
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()

    @property
    def inside(self) -> Path:
        """The small file system, as a path for this process."""
        return Path(f"/proc/{self._holder.pid}/root", *self.path.parts[1:])

    def start(self) -> Daemon:
        """The node, on this disk."""
        log = self._network.path / f"{self._name}.log"
        command = [sys.executable, "-m", "cli", "node", "start", "--home", str(self._network.home(self._name))]
        inside = ["nsenter", "-m", f"--wd={Path.cwd()}", "-t", str(self._holder.pid), "--", *command]
        daemon = self._network.daemons[self._name] = Daemon(self._name, inside, log, {})
        return daemon

    def fill(self) -> None:
        """Until nothing more fits; with ``thin`` until nothing more can be synced."""
        import os

        with (self.inside / "filler").open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(os.urandom(BLOCK if self._kind == "tmpfs" else 64 * BLOCK))
                    os.fsync(filler.fileno())
            except OSError:
                return

    def free(self) -> None:
        """Give the space back."""
        (self.inside / "filler").unlink(missing_ok=True)
        if self._kind == "thin":
            subprocess.run(["nsenter", "-m", "-t", str(self._holder.pid), "--", "fstrim", str(self.path)], check=True)


def wait_failed(network: Network, name: str, timeout_s: float = 30.0) -> dict[str, object]:
    """Until the node says that a store failed; its status."""
    until = time.monotonic() + timeout_s
    while not (detail := network.detail(name))["failure"]:
        assert time.monotonic() < until, detail
        time.sleep(0.05)
    return detail
