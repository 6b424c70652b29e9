"""Settings of a replica; docs/operations.md explains them, ``replica init`` writes them with their defaults.

Precedence, files and environment: ``services.settings``. What every member must agree on stands in the genesis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ledger.checkpoints import TRUSTING_PERIOD_DAYS
from replica.errors import ReplicaConfigError
from replica.sources import Source
from services.members import Members
from services.settings import FILE_NAME, load
from services.verification import WORKERS_MAX

ADDRESS: Final = r"^.+:[0-9]{1,5}$"


class Listen(msgspec.Struct, frozen=True):
    """Where the replica is reached."""

    public: Annotated[
        str,
        Meta(
            pattern=ADDRESS,
            description="host:port of Query, Blocks and health, over mutual TLS; port 0 takes a free one.",
        ),
    ] = "127.0.0.1:7200"
    http: Annotated[
        str,
        Meta(description="host:port of /livez, /readyz and /metrics, plain HTTP: keep it private; empty: none."),
    ] = "127.0.0.1:7201"
    reflection: Annotated[bool, Meta(description="Whether members may list the gRPC services (for tools).")] = False


class Follow(msgspec.Struct, frozen=True):
    """Whom the replica follows."""

    sources: Annotated[
        str,
        Meta(
            description="Nodes or replicas to follow, in order of preference, separated by commas: an organisation id "
            "(its address is that of its card) or id=host:port. Empty: every validator, also those that join later."
        ),
    ] = ""
    trusting_period_days: Annotated[
        int,
        Meta(
            ge=1,
            le=3650,
            description="How old the last verified block, or the accepted checkpoint, may be by this machine's clock; "
            "beyond that the replica follows nobody until a fresh checkpoint is accepted.",
        ),
    ] = TRUSTING_PERIOD_DAYS


class Verification(msgspec.Struct, frozen=True):
    """Signature checks."""

    workers: Annotated[
        int,
        Meta(ge=0, le=WORKERS_MAX, description="Worker processes, started at the first need; 0: check in the loop."),
    ] = 1


class Log(msgspec.Struct, frozen=True):
    """Logging, on stderr."""

    format: Annotated[str, Meta(pattern="^(json|console)$", description="json or console.")] = "console"
    level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="debug, info, warning or error.")
    ] = "info"


class ReplicaSettings(msgspec.Struct, frozen=True):
    """All sections."""

    listen: Listen = Listen()
    follow: Follow = Follow()
    verification: Verification = Verification()
    log: Log = Log()


class ReplicaConfig(msgspec.Struct, frozen=True):
    """What ``replica.daemon.run`` is given."""

    home: Path
    settings: ReplicaSettings
    trust_again: tuple[str, ...] = ()
    """Organisations whose distrust the operator lifts at this start."""


def load_config(
    home: Path,
    environment: Mapping[str, str],
    overrides: Mapping[str, str] | None = None,
    trust_again: Sequence[str] = (),
) -> ReplicaConfig:
    """Read the settings of a home.

    Args:
        home: its directory.
        environment: as ``os.environ``.
        overrides: ``section.key`` -> text, from the command line.
        trust_again: organisations whose distrust the operator lifts.

    Raises:
        SettingError: naming the setting and where its value came from.
    """
    settings = load(ReplicaSettings, file=home / FILE_NAME, environment=environment, overrides=overrides)
    return ReplicaConfig(home, settings, tuple(trust_again))


def validators_to_follow(members: Members, own: str) -> list[Source]:
    """Every validator that has an address."""
    return [
        Source(each.id, each.public_address)
        for each in members
        if each.is_validator and each.public_address and each.id != own
    ]


def sources_of(text: str, members: Members, own: str) -> list[Source]:
    """The sources of ``follow.sources``; where it is empty, every validator that has an address.

    Raises:
        ReplicaConfigError: a name is not on the network, has no address, or stands there twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        names = [source.organisation for source in validators_to_follow(members, own)]
    found: list[Source] = []
    for name in names:
        organisation, _, address = name.partition("=")
        member = members.get(organisation)
        if member is None:
            raise ReplicaConfigError(
                f"follow.sources names {organisation!r}, which is not on this network as far as it is known here: see "
                "`lossbook genesis show`, or follow another member first"
            )
        address = address or member.public_address
        if not address:
            raise ReplicaConfigError(
                f"the card of {organisation} has no public address: write {organisation}=host:port in follow.sources"
            )
        if any(source.organisation == organisation for source in found):
            raise ReplicaConfigError(f"follow.sources names {organisation} twice")
        found.append(Source(organisation, address))
    if not found:
        raise ReplicaConfigError("there is nobody to follow: set follow.sources to id=host:port of at least one node")
    return found
