"""Settings of one node's core. What every node must agree on comes in with genesis; the rest is local."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """Raises ValueError where settings contradict each other."""

    chain_id: bytes
    """Genesis digest, 32 bytes."""
    protocol_version: int = 1
    """``Header.version`` of every block."""
    delay_ms: int = 500
    """D, the assumed bound on message delay, processing included. Local."""
    retry_ms: int = 1_000
    """How often an unanswered message of the current view is sent again. Local."""
    skip_ms: int = 2_500
    """A leader silent for this much busy time is not waited for. Above certification and retry. Local."""
    timeout_ms_max: int = 20_000
    """Cap of the back-off: without one, Besu #7642 waited 4,096 s. Local."""
    clock_delta_ms: int = 2_000
    """By how much honest clocks may differ; block times ahead by more are waited for. Local."""
    retention_views: int = 64
    """Certificates and votes kept below the floor, for laggards and evidence. Local."""

    def __post_init__(self) -> None:
        problems = [
            text
            for wrong, text in (
                (len(self.chain_id) != 32, "chain_id has 32 bytes"),
                (self.delay_ms < 1 or self.retry_ms < 1, "delay_ms and retry_ms are at least 1"),
                (
                    self.skip_ms <= max(self.certification_ms, self.retry_ms),
                    "skip_ms is above 3 x delay_ms and retry_ms",
                ),
                (self.timeout_ms_max < self.certification_ms, "timeout_ms_max is at least 3 x delay_ms"),
                (self.clock_delta_ms < 0 or self.retention_views < 1, "clock_delta_ms >= 0, retention_views >= 1"),
            )
            if wrong
        ]
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def leader_ms(self) -> int:
        """How long the current view waits for a proposal: 2D."""
        return 2 * self.delay_ms

    @property
    def certification_ms(self) -> int:
        """How long it waits for a certified block: 3D."""
        return 3 * self.delay_ms
