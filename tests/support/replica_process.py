"""A real replica process, and questions to it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from crypto import keyfile
from ledger.genesis import Genesis
from lossbook_sdk.errors import ClientError
from replica.access import local_query
from replica.init import init_home
from replica.report import fetch_report
from replica.status import ReplicaStatus, fetch_status
from services.reader import Report
from tests.support.insurers import Organisation

START_REPLICA = (
    "import os, sys; from pathlib import Path; from replica.config import load_config; from replica.daemon import run;"
    "sys.exit(run(load_config(Path(sys.argv[1]), os.environ, trust_again=sys.argv[2:])))"
)


class ReplicaProcess:
    """A replica's home, and the daemon on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        genesis: Genesis,
        organisation: Organisation,
        *,
        public: int,
        http: int,
        settings: Mapping[str, str],
    ) -> Self:
        """Make the home under ``path``; its keys lie unencrypted."""
        keys = path / f"ceremony-{organisation.id}"
        keys.mkdir(parents=True, exist_ok=True)
        if not (keys / "ledger.key").exists():
            keyfile.save(keys / "ledger.key", organisation.ledger_key, "ledger", None, unsafe_plaintext=True)
        (path / "genesis.json").write_bytes(genesis.raw)
        home = path / f"replica-{public}"
        init_home(
            home,
            genesis=path / "genesis.json",
            keys=keys,
            passphrase=None,
            settings={
                "listen.public": f"127.0.0.1:{public}",
                "listen.http": f"127.0.0.1:{http}",
                "log.format": "json",
                **settings,
            },
        )
        made = cls(home)
        made.http = http
        return made

    http: int

    def start(self, *trust_again: str, environment: Mapping[str, str] | None = None) -> None:
        """In the background."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START_REPLICA, str(self.home), *trust_again],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )

    def wait(self, timeout_s: float = 15.0) -> int:
        """Until it ends by itself; the exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(15)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def status(self) -> ReplicaStatus:
        """What it says of itself."""

        async def ask() -> ReplicaStatus:
            async with local_query(self.home, {}) as query:
                return await fetch_status(query)

        return asyncio.run(ask())

    def report(self, height: int = 0) -> Report:
        """Its totals."""

        async def ask() -> Report:
            async with local_query(self.home, {}) as query:
                return await fetch_report(query, height)

        return asyncio.run(ask())

    def wait_until(self, done: Callable[[ReplicaStatus], bool], timeout_s: float = 30.0) -> ReplicaStatus:
        """Until its status satisfies; fails with what it said."""
        until = time.monotonic() + timeout_s
        last: object = "no answer"
        while time.monotonic() < until:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            try:
                status = self.status()
            except ClientError as error:
                last = error
            else:
                last = status
                if done(status):
                    return status
            time.sleep(0.05)
        raise AssertionError(f"the replica did not get there: {last}\n{self.said()}")

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of a page of its HTTP port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
