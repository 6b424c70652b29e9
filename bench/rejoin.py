"""How long a node that missed many operations takes to be level again, by a snapshot and by blocks, while load goes on.

    python -m bench.rejoin [--operations 100000] [--each 100] [--load 500] [--keep FOLDER]

Four validators and the clients on this machine; one is started only after the others have made ``--operations`` final,
``--each`` of an envelope. From then on the clients go on with ``--load`` operations a second. The late one rejoins
twice, from the same empty home: by blocks alone, then by a snapshot. Prints one JSON object, times in seconds from the
start of the process:

    missed          operations final before the first start
    blocks          by blocks: see below
    snapshot        by a snapshot
      height        the others' executed height at the start
      up_s          until it answers at all: Python, stores, TLS
      height_s      until it had executed that height
      level_s       until /readyz says yes: it votes, and executes what is final
      came_bytes    bytes of blocks, or of the snapshot's parts, that it fetched
      peak_rss_mb   largest resident memory of its process (VmHWM)
      base          height of the snapshot; 0: it executed every block
      meanwhile     operations that became final until it was level, and the longest time without any
      roots_equal   its roots at common heights are the others'
    ratio           of the snapshot's time from up_s to height_s to that of the blocks
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import secrets
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from cli import local
from cli.daemons import Daemon, DaemonPlace, spawn
from cli.reach import ask_status
from ledger import operations as ops
from lossbook.v1.query_pb2 import GetStatusResponse
from lossbook_sdk import profile as profiles
from lossbook_sdk.answers import Stage, Status
from lossbook_sdk.channel import Connector
from lossbook_sdk.envelopes import build_and_sign, now_ms
from lossbook_sdk.nodes import Backoff, Nodes
from lossbook_sdk.passphrase import Passphrases
from lossbook_sdk.profile import Node
from lossbook_sdk.stream import BulkSubmitter, Moment
from lossbook_sdk.wallet import Wallet

LATE: Final = "delta"
CLIENT: Final = "alpha"
LOAD_EACH: Final = 50
"""Of an envelope of the load that goes on."""
NOT_AFTER_MS: Final = 15 * 60_000
PATIENCE_S: Final = 600.0
SETTINGS: Final = {"log.format": "json"}
BLOCKS_ONLY: Final = [f"consensus.snapshot_{what}={1 << 40}" for what in ("blocks", "writes")]
TODAY: Final = int(time.time() // 86_400)


class Client:
    """One insurer that issues policies."""

    def __init__(self, network: local.Network) -> None:
        profile = profiles.load(network.profile(CLIENT))
        self.genesis = profile.load_genesis_of()
        self._organisation = profile.organisation
        self._keys = Wallet(profile.keys, Passphrases(environment={})).keys(["underwriter"])
        self.connector = Connector.from_files(self.genesis, profile.certificate, profile.key)
        self._nodes = profile.nodes_of(self.genesis)
        self._operations: dict[bytes, int] = {}
        self.final = 0
        self.answered_s: list[float] = []

    async def submit(self, count: int, each: int, per_second: float | None, stop: asyncio.Event) -> None:
        """So many operations, or until ``stop``; at most ``per_second``."""
        nodes = Nodes(self.connector, self._nodes, backoff=lambda: Backoff(0.2, 3.0))
        began, made = time.monotonic(), 0
        async with BulkSubmitter(nodes, on_answer=self._answered) as bulk:
            while made < count and not stop.is_set():
                signed = build_and_sign(
                    chain_id=self.genesis.chain_id,
                    organisation=self._organisation,
                    keys=self._keys,
                    operations=[_policy() for _ in range(each)],
                    not_after_ms=now_ms() + NOT_AFTER_MS,
                )
                self._operations[signed.id] = each
                _answer = await bulk.submit(signed)
                made += each
                if per_second is not None:
                    await asyncio.sleep(max(0.0, began + made / per_second - time.monotonic()))
            await bulk.drain()

    def _answered(self, status: Status, _: Moment) -> None:
        if status.stage >= Stage.FINAL and status.receipt is not None:
            self.final += self._operations.pop(status.envelope_id, 0)
            self.answered_s.append(time.monotonic())


def _policy() -> ops.PolicyIssue:
    policy_id = secrets.token_bytes(16)
    return ops.PolicyIssue(
        policy_id=policy_id,
        subject_id=sha256(policy_id).digest()[:16],
        line=ops.Line.AUTO,
        currency="USD",
        limit_minor=10_000_000,
        deductible_minor=0,
        period_start_days=TODAY - 10,
        period_end_days=TODAY + 355,
        asserted_date_days=TODAY - 10,
        premium_minor=50_000,
    )


async def measure(network: local.Network, operations: int, each: int, load: float) -> dict[str, Any]:
    """Both runs; daemons are ended on the way out."""
    places = {place.organisation: place for place in network.nodes}
    home = Path(places[LATE].home)
    empty = home.with_name(home.name + "-empty")
    shutil.copytree(home, empty)
    with running(place for name, place in places.items() if name != LATE) as others:
        for name in others:
            await _ready(places[name])
        client = Client(network)
        began = time.monotonic()
        await client.submit(operations, each, None, asyncio.Event())
        result: dict[str, Any] = {"missed": client.final, "loaded_s": round(time.monotonic() - began, 1)}
        stop = asyncio.Event()
        going_on = asyncio.create_task(client.submit(1 << 40, LOAD_EACH, load, stop))
        for by, settings in (("blocks", BLOCKS_ONLY), ("snapshot", [])):
            result[by] = await _rejoined(client, places, settings)
            shutil.rmtree(home)
            shutil.copytree(empty, home)
        stop.set()
        await going_on
    took = {by: result[by]["height_s"] - result[by]["up_s"] for by in ("blocks", "snapshot")}
    return result | {"ratio": round(took["snapshot"] / took["blocks"], 2)}


async def _rejoined(client: Client, places: dict[str, DaemonPlace], settings: list[str]) -> dict[str, Any]:
    """Start the late one on an empty home, and end it once it is level."""
    place = places[LATE]
    said_before = len(_said(place))
    before = await _status(client, places[CLIENT])
    started = time.monotonic()
    with running([place], settings) as late:
        await _until(lambda: _http(place, "metrics") is not None, place)
        up_s = time.monotonic() - started
        height_s = await _executed(place, before.executed_height, started)
        await _ready(place)
        level_s = time.monotonic() - started
        peak, page = _peak_mb(late[LATE].pid), _http(place, "metrics") or ""
        during = [at for at in client.answered_s if started <= at <= started + level_s]
        own, others = await _status(client, place), await _status(client, places[CLIENT])
    came = re.search(r'"came_bytes": (\d+)', _said(place)[said_before:]) or re.search(
        r'^lossbook_fetched_bytes_total{kind="FetchBlocks"} (\S+)$', page, re.MULTILINE
    )
    return {
        "height": before.executed_height,
        "up_s": round(up_s, 2),
        "height_s": round(height_s, 2),
        "level_s": round(level_s, 2),
        "came_bytes": int(float(came[1])) if came is not None else None,
        "peak_rss_mb": peak,
        "base": json.loads(own.detail_json)["blocks_from"] - 1,
        "meanwhile": {
            "operations": LOAD_EACH * len(during),
            "longest_stall_s": round(max((b - a for a, b in pairwise(during)), default=0.0), 2),
        },
        "roots_equal": _roots_equal(own, others),
    }


def _said(place: DaemonPlace) -> str:
    return place.log.read_text(encoding="utf-8") if place.log.exists() else ""


@contextlib.contextmanager
def running(places: Any, settings: list[str] | None = None) -> Iterator[dict[str, Daemon]]:
    """Daemons that are ended on the way out."""
    daemons: dict[str, Daemon] = {}
    try:
        for place in places:
            daemons[place.organisation] = spawn(place, settings=settings or [])
        yield daemons
    finally:
        for daemon in daemons.values():
            daemon.terminate()
        for daemon in daemons.values():
            daemon.join()


async def _status(client: Client, place: DaemonPlace) -> GetStatusResponse:
    answer = await ask_status(client.connector, Node(place.organisation, place.address), 10.0)
    if answer is None:
        sys.exit(f"{place.organisation} does not answer; its log: {place.log}")
    return answer


async def _ready(place: DaemonPlace) -> None:
    await _until(lambda: _http(place, "readyz") is not None, place)


async def _executed(place: DaemonPlace, height: int, started: float) -> float:
    """Seconds from ``started`` until this height is executed."""

    def executed() -> bool:
        found = re.search(r"^lossbook_executed_height (\S+)$", _http(place, "metrics") or "", re.MULTILINE)
        return found is not None and float(found[1]) >= height

    await _until(executed, place)
    return time.monotonic() - started


async def _until(holds: Any, place: DaemonPlace) -> None:
    until = time.monotonic() + PATIENCE_S
    while not await asyncio.to_thread(holds):
        if time.monotonic() > until:
            sys.exit(f"{place.organisation} did not get there in {PATIENCE_S:g} s; its log: {place.log}")
        await asyncio.sleep(0.05)


def _http(place: DaemonPlace, path: str) -> str | None:
    """The answer of a daemon's plain page; None if it is not there, or says no."""
    text = (Path(place.home) / "lossbook.toml").read_text(encoding="utf-8")
    address = re.search(r'^http = "(.*)"$', text, re.MULTILINE)
    try:
        with urllib.request.urlopen(f"http://{address[1] if address else ''}/{path}", timeout=2) as answer:
            body: bytes = answer.read()
    except (urllib.error.URLError, OSError):
        return None
    return body.decode()


def _peak_mb(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


def _roots_equal(one: GetStatusResponse, other: GetStatusResponse) -> bool:
    roots = {each.height: (each.state_root, each.receipts_root) for each in one.roots}
    common = [each for each in other.roots if each.height in roots]
    return bool(common) and all(roots[each.height] == (each.state_root, each.receipts_root) for each in common)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=100, help="operations of an envelope while the others get ahead")
    parser.add_argument("--load", type=float, default=500.0, help="operations a second while it catches up")
    parser.add_argument("--keep", type=Path, help="folder for the network; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lossbook-rejoin-") as folder:
        base = arguments.keep or Path(folder) / "network"
        ports = local.free_ports(local.PORTS_EACH * (len(local.INSURERS) + 1))
        network = local.create(base, name="rejoin", ports=ports, passphrase=None, node_settings=SETTINGS)
        result = asyncio.run(measure(network, arguments.operations, arguments.each, arguments.load))
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
