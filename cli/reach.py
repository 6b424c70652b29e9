"""Asking one particular daemon, by the credentials that lie on this machine."""

from __future__ import annotations

import asyncio
import http.client
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli.base import Stop

if TYPE_CHECKING:
    from cli.daemons import DaemonPlace
    from cli.local import Network
    from lossbook.v1.query_pb2 import GetStatusResponse
    from lossbook_sdk.channel import Connector
    from lossbook_sdk.profile import Node

PAGE_BYTES_MAX: Final = 64 << 10
"""Of /readyz: some lines."""

ANSWER_S: Final = 2.0
"""A daemon on this machine answers at once, or is busy starting."""


def daemon_status(network: Network, place: DaemonPlace) -> GetStatusResponse | None:
    """How a daemon of a local network is doing; None if it does not answer."""
    from lossbook_sdk import profile as profiles
    from lossbook_sdk.channel import Connector
    from lossbook_sdk.profile import Node

    profile = profiles.load(network.profile(place.organisation))
    connector = Connector.of_profile(profile)
    return asyncio.run(ask_status(connector, Node(place.organisation, place.address)))


async def ask_status(connector: Connector, node: Node, timeout_s: float = ANSWER_S) -> GetStatusResponse | None:
    """One GetStatus, no retries; None if it does not answer."""
    import grpc

    from ledger.printable import one_line
    from lossbook.v1 import query_pb2, query_pb2_grpc

    channel = connector.channel(node)
    try:
        stub = query_pb2_grpc.QueryServiceStub(channel)
        answer: GetStatusResponse = await stub.GetStatus(
            query_pb2.GetStatusRequest(), timeout=timeout_s, metadata=connector.metadata
        )
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return None
        raise Stop(
            f"{node} refused the question: {one_line(error.details() or '')}",
            "Check that its home and this one are of one network",
        ) from error
    finally:
        await channel.close()
    return answer


def is_ready(answer: GetStatusResponse | None) -> bool:
    """Whether a daemon answered and does all of its work; a replica that answers does, and a node without a seat."""
    if answer is None:
        return False
    detail: dict[str, Any] = json.loads(answer.detail_json or "{}")
    seatless = any(reason.get("kind") == "no-seat" for reason in detail.get("reasons", ()))
    return seatless or bool(detail.get("ready", True))


def failure_of(answer: GetStatusResponse | None) -> str:
    """Why a daemon that answers does not do its work; empty if it does, or will as soon as it is level."""
    return str(json.loads(answer.detail_json or "{}").get("failure") or "") if answer is not None else ""


def hindrance_of(answer: GetStatusResponse) -> dict[str, str] | None:
    """What to look at first of the reasons why a node makes no progress; None where nothing stands in its way."""
    detail: dict[str, Any] = json.loads(answer.detail_json or "{}")
    reasons: list[dict[str, str]] = detail.get("reasons", [])
    return next((reason for reason in reasons if reason["kind"] not in ("well", "idle", "no-seat")), None)


def of_home(home: Path, kind: Any) -> tuple[Connector, Node]:
    """How to reach the daemon of a home: its own certificate, and the address its settings say.

    Raises:
        StoreError, SettingError, GenesisError: the home cannot be read, or the card in it is none.
    """
    from ledger.cards import decode_card
    from ledger.genesis import load_genesis
    from lossbook_sdk.channel import Connector
    from lossbook_sdk.profile import Node
    from store.home import open_home

    found = open_home(home, kind)
    listen = _listen(found.config)
    genesis = load_genesis(found.genesis.read_bytes(), found.chain_id)
    connector = Connector.of_daemon(genesis, found.tls / "leaf.pem", found.tls / "leaf.key")
    if found.card.exists():  # of an organisation that was voted in, or changed its ledger key
        connector.trust.believe(decode_card(found.card.read_bytes()))
    card = connector.trust.card(found.organisation)
    address = str(listen.get("public") or (card.body.public_address if card else ""))
    host, _, port = address.rpartition(":")
    if host in ("0.0.0.0", "[::]", ""):  # listening everywhere: here it is reached on this machine
        address = f"127.0.0.1:{port}"
    return connector, Node(found.organisation, address)


def readyz_of(home: Path) -> tuple[str, str]:
    """The address of the readiness page of the daemon of a home, and what it says is missing; empty if nothing does.

    It is plain HTTP: it answers also where TLS does not, for example because the daemon's certificate has ended.
    """
    import urllib.error
    import urllib.request

    address = str(_listen(home / "lossbook.toml").get("http") or "")
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return "", ""
    url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{port}/readyz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_S):
            return url, ""
    except urllib.error.HTTPError as error:
        return url, error.read(PAGE_BYTES_MAX).decode(errors="replace").removesuffix("not ready\n").strip()
    except (OSError, ValueError, http.client.HTTPException):
        return "", ""


def _listen(config: Path) -> dict[str, Any]:
    """The addresses in a home's settings."""
    import tomllib

    try:
        found: dict[str, Any] = tomllib.loads(config.read_text(encoding="utf-8")).get("listen", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Stop(f"{config} cannot be read: {error}", "Correct it; docs/operations.md lists the settings") from error
    return found
