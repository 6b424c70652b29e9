"""Identities of the test market's members, and a server with real TLS on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from crypto import tls
from services.auth import Authenticator
from services.health import Health
from services.identity import Identity
from services.members import Members
from services.server import Server
from tests.support.insurers import Organisation, market_genesis

LEAF_TIME = datetime.now(UTC)


def market_members() -> Members:
    """Everybody of ``tests.support.insurers.MARKET``."""
    return Members.from_genesis(market_genesis())


def identity(organisation: Organisation, role: str = "node", members: Members | None = None) -> Identity:
    """A member's own leaf, made by its ledger key."""
    leaf, key = tls.issue_leaf(organisation.ledger_key, organisation.id, role, LEAF_TIME, timedelta(days=1))
    return Identity(organisation.id, leaf, key, members or market_members())


Registration = tuple[str, Callable[[Any, grpc.aio.Server], None], object]


@asynccontextmanager
async def serving(
    organisation: Organisation,
    *services: Registration,
    members: Members | None = None,
    reflection_on: bool = False,
    of: Identity | None = None,
) -> AsyncIterator[tuple[str, list[tuple[str, str]]]]:
    """A server of this organisation's node; its address, and what it refused (reason, text)."""
    refused: list[tuple[str, str]] = []
    own = of or identity(organisation, members=members)
    server = Server(
        own,
        Authenticator(own.members, own=own),
        Health(),
        reflection_on=reflection_on,
        on_refused=lambda reason, _, text: refused.append((reason, text)),
    )
    for name, register, servicer in services:
        server.add(name, register, servicer)
    await server.start(["127.0.0.1:0"])
    try:
        yield f"127.0.0.1:{server.ports['127.0.0.1:0']}", refused
    finally:
        await server.stop(0)
