"""People govern a real network by the command alone, with one validator down all the while; clients follow by proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crypto import keyfile
from lossbook_sdk import profile
from lossbook_sdk.pins import DIRECTORY_VARIABLE
from lossbook_sdk.profile import Node
from replica.access import local_address
from replica.config import load_config
from tests.process.network import INSURERS, SUPERVISOR, Network, free_ports
from tests.support.commands import document, lossbook
from tests.support.replica_process import ReplicaProcess

RUNNING = INSURERS[:3]
DOWN = INSURERS[3]
JOINING = "echo"
COVER = ("--line", "home", "--limit", "1000 USD", "--deductible", "1 USD", "--from", "2025-01-01", "--to", "2025-12-31")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.create(tmp_path) as made:
        made.start_all(RUNNING)
        yield made
        for daemon in made.daemons.values():
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.said()


def profile_of(network: Network, name: str, *nodes: str, address: str = "") -> Path:
    """A profile with the admin's and underwriter's keys, that asks these nodes, or the organisation's own daemon."""
    path = network.path / f"{name}-client.toml"
    certificate, key = network.leaf(name, "client")
    (network.path / f"{name}-client.pem").write_bytes(certificate)
    (network.path / f"{name}-client.key").write_bytes(key)
    for desk in ("admin", "underwriter"):
        file = network.path / f"{name}-{desk}.key"
        if not file.exists():
            keyfile.save(file, network.organisations[name].desks[desk], "role", None, unsafe_plaintext=True)
    path.write_text(
        profile.render(
            organisation=name,
            genesis="genesis.json",
            chain_id=network.genesis.chain_id,
            certificate=f"{name}-client.pem",
            key=f"{name}-client.key",
            keys={desk: f"{name}-{desk}.key" for desk in ("admin", "underwriter")},
            nodes=[Node(name, address)] if address else [Node(node, network.public_address(node)) for node in nodes],
        )
    )
    return path


class People:
    """Each organisation's operator at a terminal of its own."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.profiles = {name: profile_of(network, name, name) for name in RUNNING}

    def of(self, name: str, *words: object) -> Any:
        return document(*words, "--profile", self.profiles[name])

    def decide(self, name: str, *change: object, by: tuple[str, ...]) -> Any:
        """Proposed by the first of these, voted for by the others; how it stands then."""
        shown = self.of(by[0], "governance", "propose", *change, "--id", name)
        assert (shown["state"], shown["receipt"]["code"]) == ("open", "OK")
        for voter in by[1:]:
            shown = self.of(voter, "governance", "vote", name, "yes")
        assert len(shown["votes"]["yes"]) == len(by), "a vote is seen at once by who cast it"
        return shown

    def reached(self, name: str, state: str) -> Any:
        """Until the proposal is in this state, as alpha sees it."""

        def shown() -> Any:
            return self.of("alpha", "governance", "show", name)

        self.network.wait_until(f"{name} is {state}", lambda: shown()["state"] == state)
        return shown()

    def issue(self, name: str, *words: object) -> Any:
        return self.of(name, "policy", "issue", *COVER, *words)


@pytest.fixture
def replica(network: Network) -> Iterator[ReplicaProcess]:
    with replica_running(made_replica(network, "supervision")) as running:
        yield running


def test_a_member_is_added_and_another_removed_by_commands_and_clients_follow(
    network: Network, replica: ReplicaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(network.path / "pins"))
    people = People(network)
    assert people.of("alpha", "governance", "list")["validators"] == sorted(INSURERS)

    # A parameter: three of four vote for it while the fourth is down.
    shown = people.decide("01" * 16, "parameter", "block_interval_ms=70", "--from-height", 5_000, by=RUNNING)
    assert (shown["state"], shown["votes"]["missing"]) == ("activation", [DOWN])

    # A newcomer: it is voted in, its node catches up and is ready, the epoch ends.
    network.newcomer(JOINING)
    network.start(JOINING)
    shown = people.decide("02" * 16, "add", network.path / f"{JOINING}-card.json", by=RUNNING)
    assert shown["state"] in ("readiness", "boundary", "in-force")
    people.reached("02" * 16, "in-force")
    listed = people.of("beta", "governance", "list")
    assert (listed["epoch"], listed["validators"]) == (1, sorted((*INSURERS, JOINING)))

    # Clients: the word of a later epoch, a node that the genesis does not know, that node's own organisation.
    assert people.issue("alpha", "--wait", "accepted")["stage"] in ("accepted", "final")
    people.profiles["alpha"] = profile_of(network, "alpha", JOINING, "alpha")
    people.of("alpha", "governance", "list")
    assert people.issue("alpha", "--wait", "proven")["node"] == JOINING
    people.profiles[JOINING] = profile_of(network, JOINING, JOINING, "alpha")
    assert people.issue(JOINING, "--wait", "proven")["stage"] == "proven"
    known = document("profile", "show", people.profiles["alpha"])
    assert (known["epoch"], JOINING in known["validators"]) == (1, True)

    # Who was down all the while is removed; now five vote, and four have to agree.
    shown = people.decide("03" * 16, "remove", DOWN, by=("beta", "alpha", "gamma", JOINING))
    assert shown["votes"]["needed"] == 4
    people.reached("03" * 16, "in-force")
    assert people.of("alpha", "governance", "list")["validators"] == sorted((*RUNNING, JOINING))

    # A new signing key proves itself where it lies, an admin submits what it signed, and it signs policies.
    new, add, tx = (network.path / name for name in ("new.key", "add.json", "add.tx"))
    lossbook("key", "create", new, "--unsafe-no-passphrase")
    people.of("alpha", "key", "possess", new, "--role", "underwriter", "--out", add)
    people.of("alpha", "tx", "build", add, "--key", "admin", "--out", tx)
    people.of("alpha", "tx", "sign", tx, "--key", "admin")
    people.of("alpha", "tx", "submit", tx)
    assert people.issue("alpha", "--key", new)["receipt"]["code"] == "OK"

    # The supervisor's replica has followed through both changes; its checkpoint leads another one there.
    assert_follows(network, replica)
    file = checkpoint(people, replica)
    fresh = made_replica(network, "fresh")
    with replica_running(fresh, file):
        assert_follows(network, fresh)
    shown = document("checkpoint", "verify", file, "--genesis", network.path / "genesis.json")
    assert (shown["epoch"], shown["confirmed_by"]) == (2, ["alpha", "beta", SUPERVISOR])


def made_replica(network: Network, name: str) -> ReplicaProcess:
    """A supervisor's replica that follows whoever validates."""
    public, http = free_ports(2)
    supervisor = network.organisations[SUPERVISOR]
    return ReplicaProcess.create(
        network.path / name, network.genesis, supervisor, public=public, http=http, settings={}
    )


@contextmanager
def replica_running(replica: ReplicaProcess, file: Path | None = None) -> Iterator[ReplicaProcess]:
    """Started, after it has accepted a checkpoint; stopped well."""
    if file is not None:
        shown = document("checkpoint", "accept", file, "--home", replica.home)
        assert SUPERVISOR in shown["confirmed_by"]
    replica.start()
    try:
        yield replica
        assert replica.stop() == 0
    finally:
        replica.kill()


def assert_follows(network: Network, replica: ReplicaProcess) -> None:
    """It comes to the height that alpha has now, with alpha's root, and blames nobody."""
    height = network.status("alpha").executed_height
    status = replica.wait_until(lambda status: status.height >= height)
    assert (status.failure, status.last_fault) == ("", None)
    theirs = {each.height: each.state_root.hex() for each in network.status("alpha").roots}
    own = dict(replica.status().roots)
    common = max(set(theirs) & set(own))
    assert own[common] == theirs[common]


def checkpoint(people: People, replica: ReplicaProcess) -> Path:
    """Made by the supervisor from its replica, compared and signed by two members at their own nodes."""
    network, file = people.network, people.network.path / "checkpoint.json"
    keys = {}
    for name in (SUPERVISOR, "alpha", "beta"):
        keys[name] = network.path / f"{name}-office.key"
        keyfile.save(keys[name], network.organisations[name].ledger_key, "ledger", None, unsafe_plaintext=True)
    address = local_address(load_config(replica.home, {}).settings.listen.public)
    people.profiles[SUPERVISOR] = profile_of(network, SUPERVISOR, address=address)
    people.of(SUPERVISOR, "checkpoint", "make", "--out", file, "--key", keys[SUPERVISOR])
    people.of("alpha", "checkpoint", "sign", file, "--key", keys["alpha"])
    shown = people.of("beta", "checkpoint", "sign", file, "--key", keys["beta"])
    assert shown["signed_by"] == ["alpha", "beta", SUPERVISOR]
    return file
