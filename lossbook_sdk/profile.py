"""Profiles: who a client is and where its commands go. One TOML file each.

    organisation = "alpha"
    genesis = "genesis.json"            # paths are relative to the profile file
    chain_id = "<hex>"                  # the genesis must be of this network

    trusting_period_days = 30           # how old what was proved last may be before a checkpoint is asked for

    [tls]
    certificate = "tls/client.pem"
    key = "tls/client.key"

    [keys]                              # label -> key file
    underwriter = "keys/underwriter.key"

    [[nodes]]                           # in order of preference; without any: the genesis' own addresses
    organisation = "alpha"
    address = "127.0.0.1:7101"

Which one: ``--profile`` > LOSSBOOK_PROFILE > the one `lossbook profile use` chose > the only one there is. A name is
looked up in the folder LOSSBOOK_PROFILES_DIR, else ``~/.config/lossbook/profiles``, then beside the profile in use;
anything with a slash or ending in .toml is a path.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ledger.cards import Card
from ledger.checkpoints import TRUSTING_PERIOD_DAYS
from ledger.genesis import Genesis, load_genesis
from lossbook_sdk.errors import ProfileError

VARIABLE: Final = "LOSSBOOK_PROFILE"
DIRECTORY_VARIABLE: Final = "LOSSBOOK_PROFILES_DIR"
CHOSEN: Final = "current"
NODES_MAX: Final = 256
"""As many as a network may have validators."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A daemon a client talks to."""

    organisation: str
    """Whose certificate it must present."""
    address: str
    """host:port."""

    def __str__(self) -> str:
        return f"{self.organisation} ({self.address})"


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The client's own certificate, issued by its organisation's ledger key."""

    certificate: str
    key: str


class _ProfileFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    organisation: str
    genesis: str
    tls: Tls
    chain_id: str = ""
    keys: dict[str, str] = {}
    nodes: tuple[Node, ...] = ()
    trusting_period_days: Annotated[int, Meta(ge=1, le=3650)] = TRUSTING_PERIOD_DAYS


class Profile(msgspec.Struct, frozen=True):
    """A profile, its paths made absolute; the genesis is read by ``load_genesis_of``."""

    name: str
    path: Path
    organisation: str
    genesis: Path
    chain_id: bytes
    """32 bytes; empty: not pinned."""
    certificate: Path
    key: Path
    keys: Mapping[str, Path]
    """Label -> key file."""
    nodes: tuple[Node, ...]
    trusting_period_days: int = TRUSTING_PERIOD_DAYS

    def load_genesis_of(self) -> Genesis:
        """The genesis, checked.

        Raises:
            ProfileError: the file cannot be read.
            GenesisError: it is not a good genesis, or of another network than the profile pins.
        """
        return load_genesis(_read(self.genesis, "genesis file"), self.chain_id or None)

    def nodes_of(self, genesis: Genesis, validators: Sequence[Card] = ()) -> tuple[Node, ...]:
        """Nodes to talk to, in order: those of the profile, else the public addresses of the validators, own first.

        Args:
            validators: of the present epoch, as far as their cards are known; default: those of the genesis.
        """
        if self.nodes:
            return self.nodes
        cards = validators or genesis.validators
        found = [Node(card.id, card.body.public_address) for card in cards if card.body.public_address]
        return tuple(sorted(found, key=lambda node: node.organisation != self.organisation))


def directory(environment: Mapping[str, str] | None = None) -> Path:
    """Where profiles lie that are named without a path."""
    environment = os.environ if environment is None else environment
    named = environment.get(DIRECTORY_VARIABLE)
    if named:
        return Path(named)
    base = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".config")
    return Path(base) / "lossbook" / "profiles"


def names(environment: Mapping[str, str] | None = None) -> list[str]:
    """Names of the profiles in the folder, in order."""
    return sorted(path.stem for path in directory(environment).glob("*.toml"))


def chosen(name: str | None, environment: Mapping[str, str] | None = None) -> Path:
    """The file of the profile to use; see the module text for the order.

    Raises:
        ProfileError: none is chosen, or there is no such one.
    """
    environment = os.environ if environment is None else environment
    folder = directory(environment)
    wanted = name or environment.get(VARIABLE) or _current(folder)
    if not wanted:
        known = names(environment)
        if len(known) != 1:
            raise ProfileError(
                "no profile is chosen" if known else "there is no profile yet",
                advice=f"Choose one with `lossbook profile use NAME` ({', '.join(known)})"
                if known
                else "Make one with `lossbook profile create`, or a whole network with `lossbook testnet init`",
            )
        wanted = known[0]
    path = path_of(wanted, environment)
    if not path.is_file():
        path = _sibling(folder, wanted) or path
    if not path.is_file():
        raise ProfileError(f"there is no profile {wanted!r} ({path})", advice=_where_to_look(folder))
    return path


def path_of(name: str, environment: Mapping[str, str] | None = None) -> Path:
    """The file of a profile's name, whether it exists or not; ProfileError for an unusable name."""
    if "/" in name or name.endswith(".toml"):
        return Path(name)
    if not _NAME.fullmatch(name):
        raise ProfileError(f"{name!r} is no name for a profile", advice="Use letters, digits, dot, dash, underscore")
    return directory(environment) / f"{name}.toml"


def load(path: Path) -> Profile:
    """Read a profile.

    Raises:
        ProfileError: it cannot be read or lacks something; says what.
    """
    try:
        text = _read(path, "profile").decode()
        file = msgspec.convert(tomllib.loads(text), _ProfileFile)
        chain_id = bytes.fromhex(file.chain_id)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise ProfileError(
            f"profile {path} cannot be read: {error}", advice="Correct it, or make it anew: `lossbook profile create`"
        ) from error
    if len(chain_id) not in (0, 32) or len(file.nodes) > NODES_MAX:
        raise ProfileError(f"profile {path}: chain_id has not 64 hex digits, or there are more than {NODES_MAX} nodes")
    base = path.absolute().parent
    return Profile(
        name=path.stem,
        path=path.absolute(),
        organisation=file.organisation,
        genesis=base / file.genesis,
        chain_id=chain_id,
        certificate=base / file.tls.certificate,
        key=base / file.tls.key,
        keys={label: base / key for label, key in file.keys.items()},
        nodes=file.nodes,
        trusting_period_days=file.trusting_period_days,
    )


def render(
    *,
    organisation: str,
    genesis: str,
    chain_id: bytes,
    certificate: str,
    key: str,
    keys: Mapping[str, str],
    nodes: Sequence[Node] = (),
) -> str:
    """The text of a profile file."""
    lines = [
        f"organisation = {_quoted(organisation)}",
        f"genesis = {_quoted(genesis)}",
        f"chain_id = {_quoted(chain_id.hex())}",
        "",
        "[tls]",
        f"certificate = {_quoted(certificate)}",
        f"key = {_quoted(key)}",
        "",
        "[keys]",
        *(f"{_quoted(label)} = {_quoted(file)}" for label, file in keys.items()),
    ]
    for node in nodes:
        lines += [
            "",
            "[[nodes]]",
            f"organisation = {_quoted(node.organisation)}",
            f"address = {_quoted(node.address)}",
        ]
    return "\n".join(lines) + "\n"


def choose(name: str, environment: Mapping[str, str] | None = None) -> Path:
    """Make this the profile that is used where none is named; ProfileError if there is no such one."""
    path = chosen(name, environment)
    folder = directory(environment)
    folder.mkdir(parents=True, exist_ok=True)
    value = name if path.parent == folder else str(path.absolute())
    (folder / CHOSEN).write_text(value + "\n", encoding="utf-8")
    return path


def _where_to_look(folder: Path) -> str:
    """What profiles there are, where they were looked for, and how one is made."""
    current = Path(_current(folder))
    found = {folder: sorted(path.stem for path in folder.glob("*.toml"))}
    if current.suffix == ".toml":
        found[current.parent] = sorted(path.stem for path in current.parent.glob("*.toml"))
    there = "; ".join(f"{', '.join(known) or 'none'} in {place}" for place, known in found.items())
    return (
        f"There are: {there}. `lossbook profile create NAME --office OFFICE --genesis genesis.json` makes one; "
        f"a path (with a slash) names a file anywhere, {DIRECTORY_VARIABLE} another folder"
    )


def _sibling(folder: Path, name: str) -> Path | None:
    """The profile of that name beside the one in use: a testnet keeps the profiles of its members together."""
    current = Path(_current(folder))
    beside = current.with_name(f"{name}.toml") if current.suffix == ".toml" and "/" not in name else None
    return beside if beside is not None and beside.is_file() else None


def _current(folder: Path) -> str:
    try:
        return (folder / CHOSEN).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProfileError(
            f"the {what} {path} cannot be read: {error.strerror}", advice="Check the path in the profile"
        ) from error


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
