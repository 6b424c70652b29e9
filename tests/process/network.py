"""A network of real daemons in a temporary directory: homes by ``init_home``, processes by the entry of the command.

    with Network.create(tmp_path) as network:
        network.start_all()
        ...

Keys are those of ``tests.support.insurers`` and lie unencrypted unless a test wants them protected; ports are free ones
of this machine. Whatever a test does to a daemon, leaving the ``with`` block ends every process it started.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import grpc

from crypto import keyfile, tls
from crypto.hashing import TAG_ENVELOPE_SIGNATURE
from crypto.keys import SigningKey
from ledger.cards import Card, encode_card, sign_card
from ledger.codes import Code
from ledger.genesis import Genesis, assemble, load_genesis
from ledger.operations import Operation
from ledger.parameters import Parameters
from ledger.wire import encode_envelope, encode_envelope_body
from lossbook.v1 import gateway_pb2, gateway_pb2_grpc, query_pb2, query_pb2_grpc
from node.init import init_home
from services.limits import CHANNEL_OPTIONS
from services.members import Member, Members
from tests.support.insurers import ALL_DESKS, Organisation, key_of

INSURERS = ("alpha", "beta", "gamma", "delta")
SUPERVISOR = "watch"
PASSPHRASE = "entered by quill"

FAST = {
    "consensus.delay_ms": "100",
    "consensus.retry_ms": "200",
    "consensus.skip_ms": "1500",
    "consensus.timeout_ms_max": "2000",
    "consensus.heartbeat_ms": "2000",
    "log.format": "json",
    "log.level": "info",
}
"""Settings for one machine: a message takes a millisecond there."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Daemon:
    """One process and what it said."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                arguments, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """As a power cut for the process."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s: float = 15.0) -> int:
        """Ask it to end; its exit status."""
        self.process.terminate()
        return self.process.wait(timeout_s)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Network:
    """Homes and daemons of one network."""

    def __init__(self, path: Path, genesis: Genesis, organisations: Mapping[str, Organisation]) -> None:
        self.path = path
        self.genesis = genesis
        self.organisations = dict(organisations)
        self.daemons: dict[str, Daemon] = {}
        self.members = Members.from_genesis(genesis)
        self._settings: dict[str, str] = {}  #: of every home
        self._protected: frozenset[str] = frozenset()  #: whose key files are encrypted

    @classmethod
    def create(
        cls,
        path: Path,
        insurers: Sequence[str] = INSURERS,
        settings: Mapping[str, str] | None = None,
        parameters: Parameters | None = None,
        protected: Collection[str] = (),
    ) -> Network:
        """Genesis and one home an insurer, under ``path``; ``protected``: whose key files are encrypted."""
        organisations = {name: Organisation(name, "insurer") for name in insurers}
        organisations[SUPERVISOR] = Organisation(SUPERVISOR, "supervisor")
        ports = iter(free_ports(3 * len(organisations)))
        http: dict[str, int] = {}
        cards = []
        for name, organisation in organisations.items():
            peer, public, http[name] = next(ports), next(ports), next(ports)
            addresses = {"public_address": f"127.0.0.1:{public}"}
            if organisation.consensus_key is not None:
                addresses["peer_address"] = f"127.0.0.1:{peer}"
            cards.append(organisation.card(**addresses))
        raw = assemble(cards, name="process-test", time_ms=time.time_ns() // 1_000_000, parameters=parameters)
        path.mkdir(parents=True, exist_ok=True)
        (path / "genesis.json").write_bytes(raw)
        network = cls(path, load_genesis(raw), organisations)
        network._settings = {**FAST, **(settings or {})}
        network._protected = frozenset(protected)
        network._passphrase_file.write_text(PASSPHRASE)
        network._passphrase_file.chmod(0o600)
        for name in insurers:
            network._init_home(name, {**network._settings, "listen.http": f"127.0.0.1:{http[name]}"})
        return network

    def newcomer(self, name: str) -> bytes:
        """An insurer outside the genesis, with a home made from its card; the card file, to be voted for."""
        organisation = self.organisations[name] = Organisation(name, "insurer")
        peer, public, http = free_ports(3)
        card = organisation.card(peer_address=f"127.0.0.1:{peer}", public_address=f"127.0.0.1:{public}")
        file = self.path / f"{name}-card.json"
        file.write_bytes(encode_card(card))
        self._init_home(name, {**self._settings, "listen.http": f"127.0.0.1:{http}"}, file)
        self._know(card)
        return file.read_bytes()

    def renewed(self, name: str) -> bytes:
        """The card of an insurer with another ledger key, to be voted for."""
        organisation, before = self.organisations[name], self.members.get(name)
        assert before is not None
        organisation.ledger_key = key_of(name, "ledger", "renewed")
        addresses = {"peer_address": before.peer_address, "public_address": before.public_address}
        card = sign_card(organisation.body(consensus_key="", **addresses), organisation.ledger_key)
        self._know(card)
        return encode_card(card)

    def put_ledger_key(self, name: str) -> None:
        """What the operator does once that card is voted for."""
        file = self.home(name) / "keys" / "ledger.key"
        file.unlink()
        self._save(file, self.organisations[name].ledger_key, name)

    @property
    def _passphrase_file(self) -> Path:
        return self.path / "passphrase"

    def _save(self, file: Path, key: SigningKey, name: str) -> None:
        words = PASSPHRASE if name in self._protected else None
        keyfile.save(file, key, file.stem, words, unsafe_plaintext=words is None)

    def _know(self, card: Card) -> None:
        known = Member(
            id=card.id,
            kind=card.kind,
            ledger_key=card.ledger_key,
            ca_pem=card.body.ca_certificate.encode(),
            is_validator=True,
            may_read=True,
            may_subscribe=True,
            peer_address=card.body.peer_address,
            public_address=card.body.public_address,
        )
        self.members.update([*(member for member in self.members if member.id != card.id), known])

    def _init_home(self, name: str, settings: Mapping[str, str], card: Path | None = None) -> None:
        organisation = self.organisations[name]
        keys = self.path / "ceremony" / name
        keys.mkdir(parents=True)
        self._save(keys / "ledger.key", organisation.ledger_key, name)
        if organisation.consensus_key is not None:
            self._save(keys / "consensus.key", organisation.consensus_key, name)
        genesis, words = self.path / "genesis.json", PASSPHRASE if name in self._protected else None
        init_home(self.home(name), genesis=genesis, keys=keys, passphrase=words, settings=settings, card=card)

    def home(self, name: str) -> Path:
        return self.path / name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self.daemons.values():
            if daemon.running:
                daemon.kill()

    # -- daemons -----------------------------------------------------------------------------

    def start(
        self, name: str, environment: Mapping[str, str] | None = None, program: Sequence[str] = ("-m", "cli")
    ) -> Daemon:
        """Start an insurer's node in the background; ``program``: another than ``lossbook``."""
        log = self.path / f"{name}.log"
        arguments = [sys.executable, *program, "node", "start", "--home", str(self.home(name))]
        secret = {"LOSSBOOK_PASSPHRASE_FILE": str(self._passphrase_file)} if name in self._protected else {}
        daemon = self.daemons[name] = Daemon(name, arguments, log, {**secret, **(environment or {})})
        return daemon

    def start_all(self, names: Sequence[str] | None = None) -> None:
        """Start nodes and wait until each is ready."""
        chosen = list(names or [name for name, each in self.organisations.items() if each.consensus_key is not None])
        for name in chosen:
            self.start(name)
        for name in chosen:
            self.wait_ready(name)

    def wait_ready(self, name: str, timeout_s: float = 30.0) -> None:
        """Until /readyz says so; fails with what the daemon said."""
        url = f"http://{self._http_address(name)}/readyz?verbose"
        until = time.monotonic() + timeout_s
        answer = "no answer"
        while time.monotonic() < until:
            if not self.daemons[name].running:
                break
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    response.read()
                    return
            except urllib.error.HTTPError as error:
                answer = error.read().decode()
            except (urllib.error.URLError, OSError) as error:
                answer = str(error)
            time.sleep(0.05)
        raise AssertionError(f"{name} is not ready:\n{answer}\n{self.daemons[name].said()}")

    def metrics(self, name: str) -> str:
        with urllib.request.urlopen(f"http://{self._http_address(name)}/metrics", timeout=5) as response:
            body: bytes = response.read()
            return body.decode()

    def readyz(self, name: str) -> str:
        """The page with every condition of being ready."""
        try:
            with urllib.request.urlopen(f"http://{self._http_address(name)}/readyz?verbose", timeout=5) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def _http_address(self, name: str) -> str:
        from node.config import NodeSettings
        from services.settings import load

        return load(NodeSettings, file=self.home(name) / "lossbook.toml", environment={}).listen.http

    # -- clients -----------------------------------------------------------------------------

    def public_address(self, name: str) -> str:
        member = self.members.get(name)
        assert member is not None
        return member.public_address

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("lossbook-chain", self.genesis.chain_id.hex()), ("lossbook-protocol", "1"))

    def leaf(self, caller: str, role: str) -> tuple[bytes, bytes]:
        """A member's certificate and its private key, PEM."""
        return tls.issue_leaf(self.organisations[caller].ledger_key, caller, role, datetime.now(UTC), timedelta(days=1))

    def channel(self, to: str, caller: str = "alpha", role: str = "client") -> grpc.Channel:
        """A blocking channel to a node's public address, as a member's client."""
        leaf, key = self.leaf(caller, role)
        member = self.members.get(to)
        assert member is not None
        credentials = grpc.ssl_channel_credentials(member.ca_pem, key, leaf)
        options = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", f"{to}.lossbook")]
        return grpc.secure_channel(member.public_address, credentials, options=options)

    def envelope(
        self,
        name: str,
        *operations: Operation,
        desks: Sequence[str] = ALL_DESKS,
        not_after_ms: int | None = None,
        chain_id: bytes | None = None,
        keys: Sequence[SigningKey] | None = None,
    ) -> bytes:
        """An envelope of the insurer, signed by its desks."""
        signers = [self.organisations[name].desks[desk] for desk in desks] if keys is None else list(keys)
        body = encode_envelope_body(
            chain_id=self.genesis.chain_id if chain_id is None else chain_id,
            organisation=name,
            signer_keys=[key.public for key in signers],
            not_after_ms=time.time_ns() // 1_000_000 + 600_000 if not_after_ms is None else not_after_ms,
            salt=secrets.token_bytes(16),
            operations=operations,
        )
        return encode_envelope(body, [key.sign(TAG_ENVELOPE_SIGNATURE + body) for key in signers])

    def submit(
        self,
        to: str,
        envelope: bytes,
        wait: gateway_pb2.Stage.ValueType = gateway_pb2.STAGE_FINAL,
        timeout_s: float = 30.0,
    ) -> gateway_pb2.EnvelopeStatus:
        """Submit to a node and wait for the stage; the answer, whatever it is.

        A node that is not ready, for it fell behind, says when to send the envelope again: that is done, as clients do.
        """
        until = time.monotonic() + timeout_s
        with self.channel(to) as channel:
            stub = gateway_pb2_grpc.GatewayServiceStub(channel)
            request = gateway_pb2.SubmitRequest(envelope=envelope, wait=wait)
            while True:
                status = stub.Submit(request, metadata=self.metadata(), timeout=timeout_s).status
                if status.rejection.code != Code.NOT_READY or time.monotonic() > until:
                    return status
                time.sleep(status.rejection.retry_after_ms / 1000)

    def wait_until(self, what: str, holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Until the condition holds; fails naming it."""
        until = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
            time.sleep(0.05)

    def status(self, name: str) -> query_pb2.GetStatusResponse:
        with self.channel(name) as channel:
            stub = query_pb2_grpc.QueryServiceStub(channel)
            return stub.GetStatus(query_pb2.GetStatusRequest(), metadata=self.metadata(), timeout=10)

    def detail(self, name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.status(name).detail_json)
        return found
