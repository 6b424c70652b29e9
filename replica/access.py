"""Asking a running replica, from its own machine: own certificate, own address. No part of the daemon."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from ledger.cards import decode_card
from ledger.genesis import load_genesis
from lossbook_sdk.channel import Connector
from lossbook_sdk.nodes import Nodes
from lossbook_sdk.profile import Node
from lossbook_sdk.query import Query
from replica.config import load_config
from replica.errors import ReplicaConfigError
from services.server import split_address
from store.home import HomeKind, open_home

GIVE_UP_S = 5.0
"""A replica on the same machine answers at once, or it does not run."""

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def local_address(listen: str) -> str:
    """Where to dial a daemon that listens there: an address that means "all" becomes this machine's own.

    Raises:
        ReplicaConfigError: it takes a free port, which only its log tells.
    """
    host, port = split_address(listen)
    if port == 0:
        raise ReplicaConfigError("listen.public takes a free port: set the port, or ask it by a profile")
    host = _ANY.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def local_query(home: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Query]:
    """Questions to the replica of this home.

    Raises:
        HomeMissing, SettingError, GenesisError, ReplicaConfigError, ProfileError: its home cannot be read.
    """
    opened = open_home(home, HomeKind.REPLICA)
    config = load_config(home, os.environ if environment is None else environment)
    genesis = load_genesis(opened.genesis.read_bytes(), opened.chain_id)
    connector = Connector.of_daemon(genesis, opened.tls / "leaf.pem", opened.tls / "leaf.key")
    if opened.card.exists():
        connector.trust.believe(decode_card(opened.card.read_bytes()))
    nodes = Nodes(connector, [Node(opened.organisation, local_address(config.settings.listen.public))])
    try:
        yield Query(nodes, give_up_s=GIVE_UP_S)
    finally:
        await nodes.close()
