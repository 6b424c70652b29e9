"""Settings of a validator's node; docs/operations.md explains them, ``node init`` writes them with their defaults.

Precedence, files and environment: ``services.settings``. What every node must agree on is no setting: it stands in the
genesis.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from node.assembly import Settings as ConsensusSettings
from services.settings import FILE_NAME, SettingError, load
from services.verification import WORKERS_MAX

Text = Annotated[str, msgspec.Meta(max_length=512)]


class Listen(msgspec.Struct, frozen=True):
    """Where the daemon listens."""

    peer: Annotated[
        str, msgspec.Meta(min_length=1, description="host:port for the other validators (gRPC over TLS).")
    ] = "127.0.0.1:7100"
    public: Annotated[
        str,
        msgspec.Meta(
            min_length=1, description="host:port of Gateway, Query and Blocks services; may be the same as peer."
        ),
    ] = "127.0.0.1:7101"
    http: Annotated[
        str, msgspec.Meta(description="host:port of /livez, /readyz and /metrics; empty: none. Plain HTTP, private.")
    ] = "127.0.0.1:7102"
    reflection: Annotated[bool, msgspec.Meta(description="Whether members may list the gRPC services.")] = False


class Consensus(msgspec.Struct, frozen=True):
    """Timing, local to this node."""

    delay_ms: Annotated[
        int,
        msgspec.Meta(ge=10, le=60_000, description="D: assumed bound on message delay, processing included, ms."),
    ] = ConsensusSettings().delay_ms
    retry_ms: Annotated[
        int, msgspec.Meta(ge=10, le=60_000, description="How often what was not answered is sent again, ms.")
    ] = ConsensusSettings().retry_ms
    skip_ms: Annotated[
        int,
        msgspec.Meta(
            ge=100, le=600_000, description="A leader silent for this much busy time is skipped; above 3 x delay_ms."
        ),
    ] = ConsensusSettings().skip_ms
    timeout_ms_max: Annotated[
        int, msgspec.Meta(ge=100, le=600_000, description="Cap of the back-off of view time-outs, ms.")
    ] = ConsensusSettings().timeout_ms_max
    clock_delta_ms: Annotated[
        int, msgspec.Meta(ge=0, le=600_000, description="By how much honest clocks may differ, ms.")
    ] = ConsensusSettings().clock_delta_ms
    heartbeat_ms: Annotated[
        int, msgspec.Meta(ge=100, le=3_600_000, description="H: an idle network makes a block this often, ms.")
    ] = ConsensusSettings().heartbeat_ms
    snapshot_blocks: Annotated[
        int,
        msgspec.Meta(ge=1, le=1 << 40, description="Further behind than so many blocks the node fetches the state."),
    ] = ConsensusSettings().snapshot_blocks
    snapshot_writes: Annotated[
        int,
        msgspec.Meta(
            ge=1, le=1 << 40, description="Further behind than so many written records the node fetches the state."
        ),
    ] = ConsensusSettings().snapshot_writes

    def settings(self) -> ConsensusSettings:
        """As the validator takes them."""
        return ConsensusSettings(**msgspec.structs.asdict(self))


class Verification(msgspec.Struct, frozen=True):
    """Signature checks."""

    workers: Annotated[
        int,
        msgspec.Meta(
            ge=0, le=WORKERS_MAX, description="Worker processes, started at the first need; 0: check in the loop."
        ),
    ] = 1


class Gateway(msgspec.Struct, frozen=True):
    """What clients may load onto this node."""

    waiting_bytes_max: Annotated[
        int,
        msgspec.Meta(
            ge=1 << 20, le=1 << 32, description="Envelopes taken and not final yet, bytes; above: OVERLOADED."
        ),
    ] = 16 << 20
    rate_bytes_s: Annotated[
        int, msgspec.Meta(ge=1 << 10, le=1 << 32, description="Bytes a second of one organisation; above: OVERLOADED.")
    ] = 16 << 20
    burst_bytes: Annotated[
        int, msgspec.Meta(ge=1 << 20, le=1 << 32, description="Bytes one organisation may save up while it is quiet.")
    ] = 32 << 20


class Log(msgspec.Struct, frozen=True):
    """Logging."""

    format: Annotated[str, msgspec.Meta(pattern="^(json|console)$", description="json or console.")] = "console"
    level: Annotated[
        str, msgspec.Meta(pattern="^(debug|info|warning|error)$", description="debug, info, warning or error.")
    ] = "info"


class Unsafe(msgspec.Struct, frozen=True):
    """For trying out what goes wrong; never on a network that matters."""

    clock_offset_ms: Annotated[
        int,
        msgspec.Meta(
            ge=-86_400_000, le=86_400_000, description="Makes this node's wall clock wrong by so much, ms; for tests."
        ),
    ] = 0


class NodeSettings(msgspec.Struct, frozen=True):
    """All settings of a node."""

    listen: Listen = Listen()
    consensus: Consensus = Consensus()
    verification: Verification = Verification()
    gateway: Gateway = Gateway()
    log: Log = Log()
    unsafe: Unsafe = Unsafe()

    def __post_init__(self) -> None:
        """What one value cannot say."""
        timing = self.consensus
        if timing.skip_ms <= max(3 * timing.delay_ms, timing.retry_ms):
            raise ValueError("consensus.skip_ms must be above 3 x consensus.delay_ms and above consensus.retry_ms")
        if timing.timeout_ms_max < 3 * timing.delay_ms:
            raise ValueError("consensus.timeout_ms_max must be at least 3 x consensus.delay_ms")


class NodeConfig(msgspec.Struct, frozen=True):
    """A node to run: its home and its settings."""

    home: Path
    settings: NodeSettings


def load_config(home: Path, environment: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> NodeConfig:
    """Read the settings of a home.

    Raises:
        SettingError: a setting that cannot be used.
    """
    settings = load(NodeSettings, file=home / FILE_NAME, environment=environment, overrides=overrides)
    return NodeConfig(home, settings)


__all__ = ["NodeConfig", "NodeSettings", "SettingError", "load_config"]
