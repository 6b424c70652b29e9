"""Standard gRPC health (grpc.health.v1): SERVING only while the daemon does all of its work.

Every lossbook service and the empty name have one status together: a node that is catching up, or whose disk
failed, still answers queries, but a client that asks where to submit should go elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


class Health:
    """Status of all registered services; NOT_SERVING until ``set_serving(True)``."""

    def __init__(self) -> None:
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

    async def set_serving(self, serving: bool) -> None:
        """Announce a change to everyone who asks or watches."""
        self._serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self._servicer.set(name, status)
