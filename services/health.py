"""Standard gRPC health (grpc.health.v1): SERVING only while the daemon does all of its work.

The empty name and every service have one status together, but those that only read: a node that is catching up, or
whose disk failed, still answers queries, and a client that asks where to submit should go elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


class Health:
    """Status of all registered services; NOT_SERVING until ``set_serving(True)``."""

    def __init__(self, reading: Collection[str] = ()) -> None:
        """``reading``: full names of services that answer as long as the daemon runs."""
        self._reading = frozenset(reading)
        self._servicer = health.aio.HealthServicer()
        self._names: list[str] = [""]
        self._serving = False

    @property
    def serving(self) -> bool:
        """What is answered now."""
        return self._serving

    def add_to(self, server: grpc.aio.Server, services: Sequence[str]) -> None:
        """Register the servicer; ``services`` are full names, e.g. ``lossbook.v1.QueryService``."""
        self._names.extend(services)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def set_serving(self, serving: bool, *, reading: bool = True) -> None:
        """Announce a change to everyone who asks or watches. ``reading``: whether queries are answered."""
        self._serving = serving
        for name in self._names:
            await self._servicer.set(name, _status(reading if name in self._reading else serving))


def _status(serving: bool) -> health_pb2.HealthCheckResponse.ServingStatus:
    return health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
