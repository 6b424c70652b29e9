"""A network whose organisations all live on this machine: made by the ceremony, described in one file.

BASE/genesis.json
BASE/network.json               where each daemon lives
BASE/<org>/keys/, card.json     its office; private
BASE/<org>/node/ or replica/    home of its daemon, with <home>.log and <home>.pid beside it
BASE/profiles/<org>.toml        its client's profile
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from cli import ceremony
from cli.base import Stop
from cli.daemons import DaemonPlace
from ledger.genesis import Genesis, load_genesis
from ledger.genesis import assemble as put_together
from ledger.parameters import Parameters
from lossbook_sdk.profile import Node
from store.home import write_durably

INSURERS: Final = ("alpha", "beta", "gamma", "delta")
"""Four validators: the least number that survives the loss of one."""
SUPERVISOR: Final = "supervisor"

HOST: Final = "127.0.0.1"
PORTS_EACH: Final = 3
"""Peers, clients, http."""


class Network(msgspec.Struct, frozen=True):
    """What stands in network.json."""

    base: str
    daemons: tuple[DaemonPlace, ...]

    @property
    def folder(self) -> Path:
        """BASE."""
        return Path(self.base)

    @property
    def genesis(self) -> Genesis:
        """The genesis, checked."""
        return load_genesis((self.folder / "genesis.json").read_bytes())

    def profile(self, organisation: str) -> Path:
        """The profile of an organisation's client."""
        return self.folder / "profiles" / f"{organisation}.toml"

    def office(self, organisation: str) -> Path:
        """The folder with an organisation's keys."""
        return self.folder / organisation

    @property
    def nodes(self) -> tuple[DaemonPlace, ...]:
        """The validators' daemons."""
        return tuple(place for place in self.daemons if place.kind == "node")

    @property
    def replicas(self) -> tuple[DaemonPlace, ...]:
        """The supervisors' daemons."""
        return tuple(place for place in self.daemons if place.kind == "replica")


def create(
    base: Path,
    *,
    name: str,
    insurers: Sequence[str] = INSURERS,
    supervisor: str = SUPERVISOR,
    ports: Sequence[int],
    passphrase: str | None,
    parameters: Parameters | None = None,
    node_settings: Mapping[str, str] | None = None,
    replica_settings: Mapping[str, str] | None = None,
    hosts: Mapping[str, str] | None = None,
) -> Network:
    """Make offices, cards, genesis, homes and profiles.

    Args:
        ports: PORTS_EACH for every organisation.
        hosts: address of an organisation's machine; default: this one.

    Raises:
        Stop: there is something at ``base`` already.
        CardError, GenesisError, KeyFileError, StoreError: as the ceremony's steps.
    """
    if base.exists() and any(base.iterdir()):
        raise Stop(
            f"{base} is not empty",
            f"Give another folder with --home, or remove it: `rm -r {base}` (its keys are gone then)",
        )
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    base = base.absolute()
    organisations = (*insurers, supervisor)
    given = {
        organisation: ports[PORTS_EACH * at : PORTS_EACH * (at + 1)] for at, organisation in enumerate(organisations)
    }
    cards = [
        ceremony.make_card(
            base / organisation,
            organisation=organisation,
            kind="supervisor" if organisation == supervisor else "insurer",
            name=f"{organisation.capitalize()} {'Authority' if organisation == supervisor else 'Insurance'}",
            validator=organisation != supervisor,
            peer_address=f"{(hosts or {}).get(organisation, HOST)}:{given[organisation][0]}"
            if organisation != supervisor
            else "",
            public_address=f"{(hosts or {}).get(organisation, HOST)}:{given[organisation][1]}",
            role_keys=ceremony.default_keys("supervisor" if organisation == supervisor else "insurer"),
            passphrase=passphrase,
        )
        for organisation in organisations
    ]
    genesis_file = base / "genesis.json"
    raw = put_together(cards, name=name, time_ms=time.time_ns() // 1_000_000, parameters=parameters)
    write_durably(genesis_file, raw)
    genesis = load_genesis(raw)
    places = []
    for card in cards:
        settings = {"listen.http": f"{HOST}:{given[card.id][2]}"}
        settings |= dict((replica_settings if card.id == supervisor else node_settings) or {})
        places.append(_home(base, card.id, genesis_file, passphrase, settings, replica=card.id == supervisor))
        (base / "profiles").mkdir(mode=0o700, exist_ok=True)
        ceremony.issue_client(
            base / card.id,
            genesis=genesis_file,
            chain_id=genesis.chain_id,
            organisation=card.id,
            labels=[key.label for key in card.body.keys],
            passphrase=passphrase,
            target=base / "profiles" / f"{card.id}.toml",
            nodes=_nodes(genesis, card.id, supervisor),
        )
    network = Network(
        str(base),
        tuple(
            DaemonPlace(card.id, kind, str(home), card.body.public_address)
            for card, (kind, home) in zip(cards, places, strict=True)
        ),
    )
    write_durably(base / "network.json", msgspec.json.format(msgspec.json.encode(network), indent=2) + b"\n")
    return network


def load(base: Path) -> Network:
    """The network made at ``base``; Stop if there is none."""
    try:
        return msgspec.json.decode((base / "network.json").read_bytes(), type=Network)
    except FileNotFoundError:
        raise Stop(f"there is no network in {base}", f"Make one: `lossbook testnet init --home {base}`") from None
    except msgspec.DecodeError as error:
        raise Stop(f"{base / 'network.json'} is damaged: {error}", "Make the network anew in another folder") from error


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _home(
    base: Path, organisation: str, genesis: Path, passphrase: str | None, settings: Mapping[str, str], *, replica: bool
) -> tuple[str, Path]:
    office = base / organisation
    if replica:
        from replica.init import init_home as init_replica

        init_replica(
            office / "replica", genesis=genesis, keys=office / "keys", passphrase=passphrase, settings=settings
        )
        return "replica", office / "replica"
    from node.init import init_home as init_node

    init_node(office / "node", genesis=genesis, keys=office / "keys", passphrase=passphrase, settings=settings)
    return "node", office / "node"


def _nodes(genesis: Genesis, own: str, supervisor: str) -> list[Node]:
    """A client's nodes: its own daemon first; a supervisor's client asks its replica only."""
    found = [
        Node(card.id, card.body.public_address)
        for card in genesis.organisations
        if card.is_validator or card.id == supervisor == own
    ]
    ordered = sorted(found, key=lambda node: node.organisation != own)
    return ordered[:1] if own == supervisor else ordered
