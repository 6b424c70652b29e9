"""The main job from beginning to end.

    1  ceremony, five daemons, a gateway that will lie, a replica that follows it first
    2  four clients load the claims; at 30 % a validator is killed, later started again; half-way the gateway lies
    3  the replica is asked for its tables, the five for their roots, one record is proved, one submission refused

Every figure goes into the document as soon as it is determined, so that whatever ends the run, what is there is true.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cli import daemons, local
from cli.base import Stop
from cli.daemons import Daemon, DaemonPlace
from cli.demo import report
from cli.demo.data import Row, totals
from cli.demo.forgery import ForgingGateway
from cli.demo.loader import Loader, percentile
from cli.demo.outage import Conductor, keep_busy
from cli.demo.show import Screen
from cli.local import Network
from cli.reach import ask_status, is_ready
from ledger.codes import Code
from lossbook_sdk.profile import Node
from services.reader import Report

READY_S: Final = 60.0
FORGE_AT: Final = 0.5
FORGERY_SEEN_S: Final = 60.0
"""The replica may be some seconds behind when the altered block is sent."""

LIAR: Final = "alpha"
"""Whose gateway lies to the replica."""
VICTIM: Final = "gamma"
"""Who is killed."""
WITNESS: Final = "beta"
"""Whose node is asked about the victim's votes."""


class Demo:
    """One run. ``document`` holds what was determined, ``problems`` what does not hold."""

    def __init__(self, rows: Sequence[Row], base: Path, screen: Screen) -> None:
        self.document: dict[str, Any] = {}
        self.problems: list[str] = []
        self.report: Report | None = None
        self._rows = rows
        self._base = base
        self._screen = screen
        self._began_s = time.monotonic()
        self._daemons: dict[str, Daemon] = {}
        self._forger: ForgingGateway | None = None

    async def run(self) -> None:
        """All of it; stops every daemon it started, whatever happens.

        Raises:
            Stop, ClientError, StoreError and others: what ended it early.
        """
        try:
            network = await self._found()
            loader = await self._load(network)
            await self._look(network, loader)
        finally:
            self._screen.stop_bar()
            await self._end()
            self.document["wall_s"] = round(time.monotonic() - self._began_s, 1)

    # -- 1 -----------------------------------------------------------------------------------

    async def _found(self) -> Network:
        count = (len(local.INSURERS) + 1) * local.PORTS_EACH
        *ports, forged = local.free_ports(count + 1)
        others = [insurer for insurer in local.INSURERS if insurer != LIAR]
        network = local.create(
            self._base,
            name="demo",
            ports=ports,
            passphrase=None,
            replica_settings={"follow.sources": ",".join([f"{LIAR}={local.HOST}:{forged}", *others])},
        )
        self._screen.say(f"ceremony held: 4 insurers, 1 supervisor, chain id {network.genesis.chain_id.hex()[:16]}")
        upstream = next(place.address for place in network.nodes if place.organisation == LIAR)
        self._forger = ForgingGateway(network.genesis, network.office(LIAR), LIAR, upstream)
        await self._forger.start(f"{local.HOST}:{forged}")
        for places in (network.nodes, network.replicas):  # a replica that finds its first source down takes the next
            for place in places:
                self._daemons[place.organisation] = daemons.spawn(place)
            await self._until_ready(network, places)
        self._screen.say("five daemons run, each in its own process and home")
        return network

    async def _until_ready(self, network: Network, places: Sequence[DaemonPlace]) -> None:
        connector = report.connector_of(network, network.replicas[0].organisation)
        until_s = time.monotonic() + READY_S
        for place in places:
            daemon = self._daemons[place.organisation]
            while not is_ready(await ask_status(connector, Node(place.organisation, place.address))):
                if daemon.exit_code is not None:
                    raise daemons.not_up(place, f"ended with exit code {daemon.exit_code}")
                if time.monotonic() > until_s:
                    raise daemons.not_up(place, f"was not ready within {READY_S:.0f} s")
                await asyncio.sleep(0.05)

    # -- 2 -----------------------------------------------------------------------------------

    async def _load(self, network: Network) -> Loader:
        loader = Loader(self._rows, local.INSURERS, network.profile, on_progress=self._screen.show)
        members = [member.id for member in network.genesis.validator_set().members]
        witness = next(place for place in network.nodes if place.organisation == WITNESS)
        query, nodes = report.query_of(network, network.replicas[0].organisation, witness)
        conductor = Conductor(self._daemons[VICTIM], members.index(VICTIM), query, loader.progress, self._screen.say)
        self._screen.say(f"loading {len(self._rows):,} claims, {loader.progress.total:,} operations")
        self._screen.start_bar(loader.progress.total)
        outage = asyncio.create_task(conductor.run())
        forging = asyncio.create_task(self._forge(network, loader))
        try:
            await _first_failure(asyncio.create_task(loader.run()), outage, forging)
            self._loaded(loader)
            await keep_busy((outage, forging), loader.one_refused)
            await asyncio.gather(outage, forging)
        finally:
            for task in (outage, forging):
                task.cancel()
            with contextlib.suppress(BaseException):
                await asyncio.gather(outage, forging, return_exceptions=True)
            self._daemons[VICTIM] = conductor.daemon
            self._outage(conductor)
            await nodes.close()
        return loader

    def _loaded(self, loader: Loader) -> None:
        progress = loader.progress
        self._screen.stop_bar()
        took_s = progress.last_answer_s - progress.first_sent_s
        self._screen.say(f"all receipts are there after {took_s:.1f} s")
        self.document |= {
            "operations": progress.final,
            "ops_per_s": round(progress.final / took_s, 1),
            "finality_ms": {
                "p50": round(percentile(progress.finality_ms, 0.50), 1),
                "p99": round(percentile(progress.finality_ms, 0.99), 1),
            },
            "longest_stall_s": round(progress.longest_stall_s, 2),
            "acknowledged": sum(loader.acknowledged.values()),
        }
        for move in progress.moves:
            self._screen.say(f"a client moved, same envelope ids: {move}")
        self.problems += [f"a receipt is not OK: {refused}" for refused in progress.refused[:5]]
        if progress.final != progress.total:
            self.problems.append(f"{progress.final:,} of {progress.total:,} operations are final")

    def _outage(self, conductor: Conductor) -> None:
        seen = conductor.outage
        if seen.outage_s is not None:
            self.document["outage_s"] = round(seen.outage_s, 2)
        if seen.operations is not None:
            self.document["ops_during_outage"] = seen.operations
        if seen.caught_up is not None:
            self.document["restarted_node_caught_up"] = seen.caught_up
        if not seen.caught_up:
            self.problems.append(f"{VICTIM} was not seen to vote again")

    async def _forge(self, network: Network, loader: Loader) -> None:
        """Half-way the gateway lies once; the replica must say where and who, and go on elsewhere."""
        forger = self._forger
        if forger is None:
            raise Stop("the forging gateway was not started")
        await loader.progress.reached(FORGE_AT)
        forger.arm()
        replica = network.replicas[0]
        query, nodes = report.query_of(network, replica.organisation, replica)
        until_s = time.monotonic() + FORGERY_SEEN_S
        try:
            while time.monotonic() < until_s:
                detail = json.loads((await query.status()).detail_json or "{}")
                fault = detail.get("last_fault")
                if fault and forger.altered_height:
                    self._judge_forgery(fault, forger, detail)
                    return
                await asyncio.sleep(0.1)
        finally:
            await nodes.close()
        altered = forger.altered_height or "none"
        self.problems.append(f"the replica named no forged block within {FORGERY_SEEN_S:.0f} s (altered: {altered})")

    def _judge_forgery(self, fault: dict[str, Any], forger: ForgingGateway, detail: dict[str, Any]) -> None:
        named = fault["height"] == forger.altered_height and fault["source"] == forger.organisation
        self.document["forged_block_named"] = named
        following = [source["organisation"] for source in detail["sources"] if source["state"] == "following"]
        self._screen.say(
            f"the replica refused block {fault['height']:,} served by {fault['source']}: {fault['reason']}; "
            f"it now follows {following[0] if following else 'nobody yet'}"
        )
        if not named:
            self.problems.append(
                f"block {forger.altered_height} of {forger.organisation} was altered, the replica names {fault}"
            )

    # -- 3 -----------------------------------------------------------------------------------

    async def _look(self, network: Network, loader: Loader) -> None:
        await self._compare_roots(network)
        await self._compare_totals(network)
        self.document["lost"] = await report.lost_operations(network, loader.acknowledged)
        if self.document["lost"]:
            self.problems.append(f"{self.document['lost']:,} acknowledged operations have no receipt at the replica")
        case = loader.example
        if case is None:
            self.problems.append("no claim is final, so nothing was proved")
            return
        await self._prove(network, loader)
        status = await report.replica_refuses(network, loader.example_insurer, case)
        if status.rejection_code == Code.READ_ONLY and status.rejection_text:
            self._screen.say(f"a submission to the replica was refused: {status.rejection_text}")
        else:
            self.problems.append(f"the replica answered a submission with {status.stage.name}")

    async def _compare_roots(self, network: Network) -> None:
        height = max([await self._height(network, place.organisation) for place in network.nodes])
        height, roots = await report.common_roots(network, height)
        equal = len(set(roots.values())) == 1
        self.document |= {"height": height, "state_roots_equal": equal}
        if equal:
            self._screen.say(f"all five state roots at height {height:,} are equal: {next(iter(roots.values()))[:16]}")
        else:
            self.problems.append(f"state roots at height {height} differ: {roots}")

    async def _height(self, network: Network, organisation: str) -> int:
        place = next(place for place in network.daemons if place.organisation == organisation)
        query, nodes = report.query_of(network, network.replicas[0].organisation, place)
        try:
            return (await query.status()).executed_height
        finally:
            await nodes.close()

    async def _compare_totals(self, network: Network) -> None:
        supervisor = network.profile(network.replicas[0].organisation)
        shown = await report.lossbook("replica", "report", "--profile", str(supervisor))
        rows = shown["rows"]
        self.report = msgspec.convert(shown, Report)
        differences = report.differences(rows, totals(self._rows, local.INSURERS))
        self.document |= {
            "claims": sum(row["claims"] for row in rows),
            "policies": sum(row["policies"] for row in rows),
            "paid_minor": report.paid_by_line(rows),
            "paid_claims": sum(row["paid_claims"] for row in rows),
            "source_file_equal": not differences,
        }
        self.problems += [f"the replica's tables differ from the file: {each}" for each in differences[:5]]

    async def _prove(self, network: Network, loader: Loader) -> None:
        if loader.example is None:
            return
        wrong = await report.proof_holds(network, loader.example, loader.example_insurer, self._base)
        self.document["proof_verified"] = not wrong
        self.problems += [f"the proved record is not the row's: {each}" for each in wrong]
        if not wrong:
            self._screen.say("one policy's record was exported with its proof and verified offline, by another process")

    # -- the end -----------------------------------------------------------------------------

    async def _end(self) -> None:
        if self._forger is not None:
            await self._forger.stop()
        for daemon in self._daemons.values():
            daemon.terminate()
        for daemon in self._daemons.values():
            code = await asyncio.to_thread(daemon.join)
            if code not in (0, -15):
                self.problems.append(f"the {daemon.place.kind} of {daemon.place.organisation} ended with {code}")


async def _first_failure(load: asyncio.Task[None], *others: asyncio.Task[None]) -> None:
    """Wait for the load; where one of the others fails before, end with its error at once."""
    waiting: set[asyncio.Task[None]] = {load, *others}
    try:
        while not load.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        load.result()
    finally:
        load.cancel()
