"""What is looked at in the end, each by a process or a connection of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cli.base import Stop
from cli.daemons import DaemonPlace
from cli.demo.data import LINES, Total
from cli.demo.operations import CURRENCY, Case
from cli.local import Network
from lossbook_sdk import profile as profiles
from lossbook_sdk.answers import Stage, Status
from lossbook_sdk.channel import Connector
from lossbook_sdk.envelopes import build_and_sign
from lossbook_sdk.gateway import Gateway
from lossbook_sdk.nodes import Nodes
from lossbook_sdk.passphrase import Passphrases
from lossbook_sdk.profile import Node
from lossbook_sdk.query import Query
from lossbook_sdk.wallet import Wallet

EQUAL_S_MAX: Final = 60.0
"""For all five to execute one height: the replica checks every signature and may be some seconds behind."""

COMMAND_S_MAX: Final = 60.0
"""One command of this machine."""


async def lossbook(*arguments: str) -> Any:
    """Run a ``lossbook`` command with ``--json`` in a process of its own; its document.

    Raises:
        Stop: it failed; with what it said.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        *arguments,
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(COMMAND_S_MAX):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Stop(f"`lossbook {' '.join(arguments)}` did not end within {COMMAND_S_MAX:.0f} s") from None
    if process.returncode != 0:
        said = err.decode(errors="replace").strip()
        raise Stop(f"`lossbook {' '.join(arguments)}` failed with exit code {process.returncode}: {said}")
    return json.loads(out)


def connector_of(network: Network, organisation: str) -> Connector:
    """A client of that organisation."""
    profile = profiles.load(network.profile(organisation))
    return Connector.from_files(profile.load_genesis_of(), profile.certificate, profile.key)


def query_of(network: Network, asker: str, place: DaemonPlace) -> tuple[Query, Nodes]:
    """Questions of one organisation to one daemon."""
    nodes = Nodes(connector_of(network, asker), [Node(place.organisation, place.address)])
    return Query(nodes), nodes


# ---------------------------------------------------------------- state roots


async def common_roots(network: Network, least_height: int) -> tuple[int, dict[str, str]]:
    """A height that every daemon has executed, at or above ``least_height``, and the state root each has there.

    Raises:
        Stop: there is none in time.
    """
    connector = connector_of(network, network.replicas[0].organisation)
    askers = [(place, Nodes(connector, [Node(place.organisation, place.address)])) for place in network.daemons]
    try:
        async with asyncio.timeout(EQUAL_S_MAX):
            while True:
                answers = await asyncio.gather(*(Query(nodes).status() for _, nodes in askers))
                roots = [{each.height: each.state_root.hex() for each in answer.roots} for answer in answers]
                shared = set.intersection(*(set(known) for known in roots))
                heights = [height for height in shared if height >= least_height]
                if heights:
                    height = max(heights)
                    return height, {
                        place.organisation: known[height] for (place, _), known in zip(askers, roots, strict=True)
                    }
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Stop(f"the five daemons did not reach one height within {EQUAL_S_MAX:.0f} s") from None
    finally:
        for _, nodes in askers:
            await nodes.close()


# ---------------------------------------------------------------- totals


def differences(rows: Sequence[dict[str, Any]], expected: dict[tuple[str, str], Total]) -> list[str]:
    """Where the replica's report and the source file disagree; empty: nowhere."""
    names = ("policies", "claims", "paid_claims", "paid_minor")
    found = {(row["line"], row["insurer"]): [row[name] for name in names] for row in rows}
    wanted = {key: [getattr(total, name) for name in names] for key, total in expected.items()}
    problems = [f"currency {row['currency']}" for row in rows if row["currency"] != CURRENCY]
    for line, insurer in sorted({*found, *wanted}):
        have, want = found.get((line, insurer)), wanted.get((line, insurer))
        if have != want:
            problems.append(f"{line} {insurer}: replica {have}, file {want}")
    return problems


def paid_by_line(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Minor units paid, by line."""
    return {line: sum(row["paid_minor"] for row in rows if row["line"] == line) for line in LINES}


# ---------------------------------------------------------------- proof


async def proof_holds(network: Network, case: Case, insurer: str, folder: Path) -> list[str]:
    """Export one policy's record with its proof, verify it in another process; what is wrong with it.

    Raises:
        Stop: one of the two commands failed.
    """
    file = folder / "policy.proof"
    name = f"policy/{case.policy_id.hex()}"
    await lossbook("record", "show", name, "--prove", str(file), "--profile", str(network.profile(insurer)))
    shown = await lossbook("proof", "verify", str(file), "--genesis", str(network.folder / "genesis.json"))
    fields = shown["fields"]
    wanted = {
        "policy_id": case.policy_id.hex(),
        "insurer": insurer,
        "limit_minor": case.row.limit_cents,
        "deductible_minor": case.row.deductible_cents,
        "currency": CURRENCY,
    }
    return [
        f"{name}: {fields.get(name)!r}, not {value!r}" for name, value in wanted.items() if fields.get(name) != value
    ]


# ---------------------------------------------------------------- receipts and the replica's refusal


async def lost_operations(network: Network, acknowledged: dict[bytes, int]) -> int:
    """Acknowledged operations whose envelope has no receipt at the replica."""
    replica = network.replicas[0]
    query, nodes = query_of(network, replica.organisation, replica)
    try:
        lost = 0
        for envelope_id, operations in acknowledged.items():
            if await query.receipt(envelope_id) is None:
                lost += operations
        return lost
    finally:
        await nodes.close()


async def replica_refuses(network: Network, insurer: str, case: Case) -> Status:
    """What the replica answers to a submission."""
    replica = network.replicas[0]
    profile = profiles.load(network.profile(insurer))
    genesis = profile.load_genesis_of()
    key = Wallet(profile.keys, Passphrases(environment={})).key("underwriter")
    signed = build_and_sign(chain_id=genesis.chain_id, organisation=insurer, keys=[key], operations=case.operations[:1])
    nodes = Nodes(connector_of(network, insurer), [Node(replica.organisation, replica.address)])
    try:
        return await Gateway(nodes).submit(signed, Stage.FINAL, give_up_s=10.0)
    finally:
        await nodes.close()
