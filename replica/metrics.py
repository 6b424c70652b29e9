"""What a replica's /metrics shows: base units, counters end in ``_total``, organisations as the only labels.

docs/operations.md explains each; a test compares that page with this file.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.process_collector import ProcessCollector

from replica.verify import VerifiedBlock


class Metrics:
    """All metrics of a replica, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.executed_height = Gauge(
            "lossbook_executed_height", "Height up to which blocks are verified and executed here.", registry=registry
        )
        self.lag_blocks = Gauge(
            "lossbook_replica_lag_blocks", "Final blocks known of and not executed here yet.", registry=registry
        )
        self.block_time = Gauge(
            "lossbook_block_time_seconds", "Block time of the last executed block, since 1970.", registry=registry
        )
        self.signatures = Counter(
            "lossbook_replica_signatures_verified_total",
            "Signatures checked: of envelopes, batches and certificates.",
            registry=registry,
        )
        self.envelopes = Counter(
            "lossbook_envelopes_executed_total", "Envelopes executed, refused ones included.", registry=registry
        )
        self.operations = Counter("lossbook_operations_executed_total", "Operations executed.", registry=registry)
        self.sources_lost = Counter(
            "lossbook_replica_sources_lost_total",
            "Times a source was left: lost (unreachable, silent) or lied (served something forged).",
            ["organisation", "why"],
            registry=registry,
        )
        self.following = Gauge(
            "lossbook_replica_following", "1 while a source is followed, 0 while none can be.", registry=registry
        )
        self.diverged = Gauge(
            "lossbook_replica_diverged",
            "1 once a certified root contradicts own execution: call people.",
            registry=registry,
        )
        self.refused = Counter(
            "lossbook_calls_refused_total",
            "Calls refused before any servicer, by reason.",
            ["reason"],
            registry=registry,
        )
        self.workers_died = Counter(
            "lossbook_verification_workers_died_total",
            "Verification workers that ended by themselves.",
            registry=registry,
        )

        self.breaches = Gauge(
            "lossbook_evidence_records",
            "Breaches of consensus that the state records, by culprit.",
            ["organisation"],
            registry=registry,
        )

    def executed(self, block: VerifiedBlock) -> None:
        """A block was executed."""
        self.executed_height.set(block.header.height)
        self.block_time.set(block.header.timestamp_ms / 1000)
        self.signatures.inc(block.signatures)
        self.envelopes.inc(len(block.envelopes))
        self.operations.inc(sum(len(envelope.operations) for envelope in block.envelopes))
