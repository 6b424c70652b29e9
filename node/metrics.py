"""What /metrics shows: base units, counters end in ``_total``, no ids of people's records as labels.

docs/operations.md explains each; tests compare that page with this file.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

_SHORT_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
_LONG_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All metrics of a node, in a registry of their own (a test may have several nodes)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.finalized_height = Gauge(
            "lossbook_finalized_height", "Height up to which blocks are final here.", registry=registry
        )
        self.executed_height = Gauge(
            "lossbook_executed_height", "Height up to which blocks are executed here.", registry=registry
        )
        self.certified_height = Gauge(
            "lossbook_certified_state_height", "Height whose state root a final header carries.", registry=registry
        )
        self.block_time = Gauge(
            "lossbook_block_time_seconds", "Block time of the last executed block, since 1970.", registry=registry
        )
        self.envelopes = Counter(
            "lossbook_envelopes_executed_total", "Envelopes executed, refused ones included.", registry=registry
        )
        self.operations = Counter("lossbook_operations_executed_total", "Operations executed.", registry=registry)
        self.submitted = Counter(
            "lossbook_gateway_submitted_total",
            "Envelopes submitted at this gateway, by outcome at the door.",
            ["outcome"],
            registry=registry,
        )
        self.waiting_bytes = Gauge(
            "lossbook_gateway_waiting_bytes", "Envelopes taken here and not final yet, bytes.", registry=registry
        )
        self.finality = Histogram(
            "lossbook_gateway_finality_seconds",
            "From taking an envelope here to its receipt.",
            buckets=_LONG_S,
            registry=registry,
        )
        self.peers_connected = Gauge("lossbook_peers_connected", "Validators this node can send to.", registry=registry)
        self.peer_sent = Counter("lossbook_peer_sent_bytes_total", "Bytes sent to peers.", ["peer"], registry=registry)
        self.peer_received = Counter(
            "lossbook_peer_received_bytes_total", "Bytes received from peers.", ["peer"], registry=registry
        )
        self.peer_resets = Counter(
            "lossbook_peer_resets_total",
            "Streams to a peer given up because it was too slow.",
            ["peer"],
            registry=registry,
        )
        self.penalties = Counter(
            "lossbook_peer_penalties_total", "Messages no honest peer sends.", ["peer"], registry=registry
        )
        self.refused = Counter(
            "lossbook_calls_refused_total",
            "Calls refused before any servicer, by reason.",
            ["reason"],
            registry=registry,
        )
        self.alarms = Counter("lossbook_alarms_total", "Alarms for the operator, by kind.", ["kind"], registry=registry)
        self.breaches = Gauge(
            "lossbook_evidence_records",
            "Breaches of consensus that the state records, by culprit.",
            ["organisation"],
            registry=registry,
        )
        self.fetched_bytes = Counter(
            "lossbook_fetched_bytes_total",
            "Bytes that came of what was missing, by kind; used or not.",
            ["kind"],
            registry=registry,
        )
        self.fetches = Counter(
            "lossbook_fetches_total",
            "Fetches of what was missing, by kind and result.",
            ["kind", "result"],
            registry=registry,
        )
        self.workers_died = Counter(
            "lossbook_verification_workers_died_total",
            "Verification workers that ended by themselves.",
            registry=registry,
        )
        self.voting = Gauge(
            "lossbook_voting", "1 while this node may vote, 0 after its store failed.", registry=registry
        )
        self.voting.set(1)
        self.free_bytes = Gauge(
            "lossbook_home_free_bytes",
            "Free on the file system of the home; -1 if it cannot be told.",
            registry=registry,
        )
        self._turns = Counter("lossbook_turns_total", "Turns of the loop.", registry=registry)
        self._inputs = Counter("lossbook_turn_inputs_total", "Inputs handled.", registry=registry)
        self._turn_seconds = Histogram(
            "lossbook_turn_seconds", "Deciding one turn, syncs not counted.", buckets=_SHORT_S, registry=registry
        )
        self._persist_seconds = Histogram(
            "lossbook_persist_seconds", "Writing and syncing one turn's records.", buckets=_SHORT_S, registry=registry
        )

    def turn(self, inputs: int, seconds: float) -> None:
        """A turn was decided."""
        self._turns.inc()
        self._inputs.inc(inputs)
        self._turn_seconds.observe(seconds)

    def persisted(self, seconds: float) -> None:
        """A turn's records are durable."""
        self._persist_seconds.observe(seconds)

    def store_failed(self) -> None:
        """This node no longer votes."""
        self.voting.set(0)
