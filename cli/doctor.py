"""``lossbook doctor``: look, and say what to mend. It changes nothing."""

from __future__ import annotations

import socket
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from cli.base import Command
from cli.options import FOLDER, json_option, profile_option
from cli.output import emit
from store.findings import Finding, Verdict

if TYPE_CHECKING:
    from store.home import Home

PYTHONS: Final = ((3, 11), (3, 12))
LEAF_WARNING: Final = timedelta(days=14)
"""A certificate that ends sooner is worth a warning; daemons renew theirs at 30 days, where the ledger key is there."""
CLOCK_WARNING_S: Final = 1.0
CLOCK_FAILURE_S: Final = 30.0
"""Blocks from a clock that far off are not voted for by honest nodes at their defaults."""
FREE_BYTES_WARNING: Final = 5 << 30
FREE_BYTES_FAILURE: Final = 256 << 20
"""A node stops voting when its disk is full."""


def good(what: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(what, Verdict.SUCCESS, text)


def warn(what: str, text: str, advice: str) -> Finding:
    """Works now; mend it in time."""
    return Finding(what, Verdict.WARNING, text, advice)


def bad(what: str, text: str, advice: str) -> Finding:
    """Does not work."""
    return Finding(what, Verdict.FAILURE, text, advice)


@click.command("doctor", cls=Command, example="lossbook doctor --home ./node")
@profile_option
@click.option("--home", type=FOLDER, help="Look at this daemon's home too.")
@json_option
@click.pass_context
def command(context: click.Context, profile_name: str | None, home: Path | None, as_json: bool) -> None:
    """Look at this machine, a home and a profile, and say what to mend. Exit code 1 if something does not work."""
    from cli.output import console

    findings: list[Finding] = []
    out = console()
    colours = {Verdict.SUCCESS: "green", Verdict.WARNING: "yellow", Verdict.FAILURE: "red"}
    for finding in examine(profile_name, home):
        findings.append(finding)
        if not as_json:
            out.print(f"[{colours[finding.verdict]}]{finding.verdict.value:<8}[/] {finding.what}: ", end="")
            out.print(finding.text, markup=False, soft_wrap=True)  # a command in it stays whole
            if finding.advice:
                out.print(f"         {finding.advice}", markup=False, soft_wrap=True)
    if as_json:
        emit({"findings": [msgspec.to_builtins(finding) for finding in findings]})
    if any(finding.verdict is Verdict.FAILURE for finding in findings):
        context.exit(1)


def examine(profile_name: str | None, home: Path | None) -> Iterator[Finding]:
    """All checks, one after another; a check that breaks is a finding, not the end."""
    yield from _guarded("python", check_python)
    yield from _guarded("libraries", check_libraries)
    if home is not None:
        yield from _home(home)
    if home is None or profile_name is not None:
        yield from _profile(profile_name)


def _guarded(what: str, check: Callable[[], Finding]) -> Iterator[Finding]:
    try:
        yield check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the doctor was asked for
        from cli.base import described

        yield bad(what, described(error)[0].replace("\n", " "), "")


# ---------------------------------------------------------------- machine


def check_python() -> Finding:
    """Version and platform."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] not in PYTHONS:
        return bad("python", f"this is Python {version}", "Use Python 3.11 or 3.12: `make setup PYTHON=python3.12`")
    return good("python", version)


def check_libraries() -> Finding:
    """Whether the compiled libraries load."""
    import cryptography
    import google.protobuf
    import grpc
    import nacl
    import plyvel

    versions = {
        "plyvel": plyvel.__version__,
        "grpcio": grpc.__version__,
        "cryptography": cryptography.__version__,
        "pynacl": nacl.__version__,
        "protobuf": google.protobuf.__version__,
    }
    return good("libraries", ", ".join(f"{name} {version}" for name, version in versions.items()))


# ---------------------------------------------------------------- home


def _home(path: Path) -> Iterator[Finding]:
    from store.errors import StoreError
    from store.home import HomeKind, open_home

    try:
        home = open_home(path, HomeKind.NODE)
    except StoreError:
        try:
            home = open_home(path, HomeKind.REPLICA)
        except StoreError as error:  # it says what to do
            yield bad("home", str(error), "")
            return
    yield good("home", f"{path}: a {home.kind.value} of {home.organisation}")
    yield from _guarded("permissions", lambda: check_permissions(path))
    for key in sorted(home.keys.glob("*.key")):
        yield from _guarded("key", lambda key=key: check_key(key))  # type: ignore[misc]
    yield from _guarded("genesis", lambda: check_genesis(home))
    yield from _guarded("certificate", lambda: check_certificate(home.tls / "leaf.pem", home))
    yield from _guarded("disk", lambda: check_disk(path))
    running = home.holder()
    if running is not None:
        yield from _guarded("daemon", lambda: check_daemon(home, str(running or "unknown")))
        return
    yield from _guarded("stores", lambda: check_stores(home))
    yield from check_ports(home)


def check_permissions(path: Path) -> Finding:
    """Nobody but the owner may look in."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return bad("permissions", f"{path} is open to others (mode {mode:o})", f"Run `chmod 700 {path}`")
    return good("permissions", f"mode {mode:o}")


def check_key(path: Path) -> Finding:
    """Mode, form, encryption; needs no passphrase."""
    from crypto import keyfile

    keyfile.public_key(path)
    if not keyfile.is_encrypted(path):
        return warn("key", f"{path.name} lies unencrypted on the disk", "Keep that to demonstrations")
    return good("key", f"{path.name}: mode 600, encrypted, whole")


def check_genesis(home: Home) -> Finding:
    """The file is the one the home was made for, and good."""
    from ledger.genesis import load_genesis

    genesis = load_genesis(home.genesis.read_bytes(), home.chain_id)
    return good("genesis", f"{genesis.name}, chain id {genesis.chain_id.hex()[:16]}, as at the making of the home")


def check_certificate(path: Path, home: Home) -> Finding:
    """Issued by the organisation's registered key, and for how long."""
    from crypto.keyfile import public_key
    from crypto.tls import check_leaf
    from ledger.cards import decode_card
    from ledger.genesis import load_genesis

    own = home.keys / "ledger.key"
    card = load_genesis(home.genesis.read_bytes()).organisation(home.organisation)
    card = decode_card(home.card.read_bytes()) if home.card.exists() else card
    if card is None:
        return bad("certificate", f"{home.organisation} is not in the genesis", "Make the home anew, with its card")
    if not path.exists():
        text = f"there is none yet ({path})"
        if own.exists():
            return warn("certificate", text, "The daemon issues itself one at its start")
        return bad("certificate", text, f"Put the ledger key into the home as {own}: the daemon issues itself one")
    ledger_key = public_key(own) if own.exists() else card.ledger_key
    return _leaf(check_leaf(path.read_bytes(), ledger_key).not_after)


def _leaf(ends: datetime) -> Finding:
    left = ends - datetime.now(UTC)
    if left < timedelta(0):
        return bad("certificate", f"it ended on {ends:%Y-%m-%d}", "Start the daemon with the ledger key at hand")
    if left < LEAF_WARNING:
        return warn(
            "certificate", f"it ends on {ends:%Y-%m-%d}", "The daemon renews it where the ledger key is at hand"
        )
    return good("certificate", f"good until {ends:%Y-%m-%d}")


def check_disk(path: Path) -> Finding:
    """Room to write."""
    import shutil

    free = shutil.disk_usage(path).free
    text = f"{free >> 20:,} MiB free"
    if free < FREE_BYTES_FAILURE:
        return bad("disk", text, "Make room: a node whose disk is full stops voting")
    return warn("disk", text, "Make room in time") if free < FREE_BYTES_WARNING else good("disk", text)


def check_stores(home: Home) -> Finding:
    """Read everything on disk and hash it again (``store.check``); only while the daemon does not run."""
    from store.check import check_home

    failures = [one for one in check_home(home.path) if one.verdict is Verdict.FAILURE]
    if failures:
        return bad("stores", "; ".join(f"{one.what}: {one.text}" for one in failures), failures[0].advice)
    return good("stores", "votes, blocks, state and receipts were read and hashed again: they agree")


def check_daemon(home: Home, process: str) -> Finding:
    """A daemon that runs is asked how it is doing; its stores and ports are in its hands."""
    import asyncio

    from cli.homes import HANGS
    from cli.reach import ask_status, failure_of, hindrance_of, is_ready, of_home

    connector, node = of_home(home.path, home.kind)
    answer = asyncio.run(ask_status(connector, node))
    if answer is None:
        return bad("daemon", f"process {process} runs here, but {node} does not answer", HANGS)
    failure = failure_of(answer)
    if failure:
        return bad("daemon", f"it runs (process {process}), but: {failure}", "Stop it, mend that, start it again")
    hindrance = hindrance_of(answer)
    if hindrance is not None:
        finding = warn if is_ready(answer) else bad
        return finding("daemon", f"it runs (process {process}). {hindrance['text']}", hindrance["next_step"])
    return good("daemon", f"it runs (process {process}) at height {answer.executed_height:,}")


def check_ports(home: Home) -> Iterator[Finding]:
    """Whether the addresses of the settings can be had."""
    import tomllib

    try:
        listen = tomllib.loads(home.config.read_text(encoding="utf-8")).get("listen", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        yield bad("settings", f"{home.config}: {error}", "Correct it; docs/operations.md lists the settings")
        return
    for name in ("peer", "public", "http"):
        address = str(listen.get(name, ""))
        host, _, port = address.rpartition(":")
        if not port.isdigit():
            continue
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host.strip("[]"), int(port)))
            yield good("port", f"{name} {address} is free")
        except OSError as error:
            yield bad("port", f"{name} {address}: {error.strerror}", "Stop what uses it, or change it in lossbook.toml")


# ---------------------------------------------------------------- profile


def _profile(name: str | None) -> Iterator[Finding]:
    from lossbook_sdk import profile as profiles
    from lossbook_sdk.errors import ProfileError

    try:
        path = profiles.chosen(name)
    except ProfileError as error:
        yield warn("profile", error.problem, error.advice)
        return
    yield from _guarded("profile", lambda: check_profile(path))
    yield from _guarded("client certificate", lambda: check_client(path))
    loaded = profiles.load(path)
    for label, file in loaded.keys.items():
        if file.exists():
            yield from _guarded(f"key {label}", lambda file=file: check_key(file))  # type: ignore[misc]
        else:
            yield warn(f"key {label}", f"{file} is not on this machine", "Nothing to do, unless you sign with it here")
    yield from _nodes(path)


def check_profile(path: Path) -> Finding:
    """It reads, and its genesis is the one it pins."""
    from lossbook_sdk import profile as profiles

    profile = profiles.load(path)
    genesis = profile.load_genesis_of()
    if genesis.organisation(profile.organisation) is None:
        return bad(
            "profile", f"{profile.organisation} is not in the genesis", "Make it anew: `lossbook profile create`"
        )
    return good("profile", f"{profile.name}: {profile.organisation} on {genesis.name}")


def check_client(path: Path) -> Finding:
    """The client's certificate is its organisation's, and for how long."""
    from crypto.tls import check_leaf
    from lossbook_sdk import profile as profiles

    profile = profiles.load(path)
    card = profile.load_genesis_of().organisation(profile.organisation)
    if card is None:
        return bad("client certificate", "its organisation is not in the genesis", "Make the profile anew")
    return _leaf(check_leaf(profile.certificate.read_bytes(), card.ledger_key).not_after)


def _nodes(path: Path) -> Iterator[Finding]:
    import asyncio
    import time

    from cli.reach import ask_status
    from lossbook_sdk import profile as profiles
    from lossbook_sdk.channel import Connector

    profile = profiles.load(path)
    connector = Connector.of_profile(profile)
    for node in profile.nodes_of(connector.genesis, connector.trust.cards_of_validators()):
        sent_s = time.time()
        answer = asyncio.run(ask_status(connector, node))
        if answer is None:
            yield warn("node", f"{node} does not answer", "If it is yours: `lossbook node start`")
            continue
        took_ms = (time.time() - sent_s) * 1000
        yield good("node", f"{node}: final height {answer.finalized_height:,}, {took_ms:.0f} ms")
        yield check_clock(answer.block_time_ms / 1000 - time.time(), str(node))


def check_clock(ahead_s: float, node: str) -> Finding:
    """Block time never runs ahead of honest clocks; if it is ahead of ours, ours is slow."""
    if ahead_s > CLOCK_FAILURE_S:
        return bad("clock", f"this machine is {ahead_s:,.0f} s behind the ledger ({node})", "Set it right: NTP")
    if ahead_s > CLOCK_WARNING_S:
        return warn("clock", f"this machine is {ahead_s:.1f} s behind the ledger ({node})", "Set it right: NTP")
    return good("clock", "not behind the ledger")
