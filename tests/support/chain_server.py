"""A member's server that serves given blocks over mutual TLS: honest, or as its blocks say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from crypto import tls
from ledger.genesis import Genesis
from ledger.types import Block
from lossbook.v1 import blocks_pb2_grpc
from services.auth import Authenticator
from services.blocks import BlocksServicer
from services.health import Health
from services.identity import Identity
from services.members import Members
from services.server import Server
from services.stored_chain import StoredChain, block_writes
from store.memory_blocks import MemoryBlockStore
from tests.support.insurers import Organisation


def identity_of(organisation: Organisation, genesis: Genesis, role: str) -> Identity:
    """A fresh leaf of this organisation."""
    leaf, key = tls.issue_leaf(organisation.ledger_key, organisation.id, role, datetime.now(UTC), timedelta(days=1))
    return Identity(organisation.id, leaf, key, Members.from_genesis(genesis))


class ChainServer:
    """BlocksService on a free port, in a thread of its own."""

    def __init__(self, organisation: Organisation, genesis: Genesis, blocks: Sequence[Block]) -> None:
        self.organisation = organisation
        self._genesis = genesis
        self._blocks = MemoryBlockStore()
        self._height = 0
        self._chain = StoredChain(self._blocks, lambda: self._height)
        self._store(blocks)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0
        self.refused: list[tuple[str, str, str]] = []
        self._server: Server
        self._servicer: BlocksServicer

    @property
    def source(self) -> str:
        """As ``follow.sources`` names it."""
        return f"{self.organisation.id}=127.0.0.1:{self.port}"

    def add(self, blocks: Sequence[Block]) -> None:
        """More blocks have become final."""

        async def grow() -> None:
            self._store(blocks)
            self._chain.grown.beat()

        self._run(grow())

    def _store(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            self._blocks.commit(block_writes(block))
            self._height = block.header.height

    async def _start(self) -> None:
        identity = identity_of(self.organisation, self._genesis, "node")
        self._servicer = BlocksServicer(self._chain, heartbeat_s=0.2)
        self._server = Server(
            identity, Authenticator(identity.members), Health(), on_refused=lambda *told: self.refused.append(told)
        )
        self._server.add(
            "lossbook.v1.BlocksService", blocks_pb2_grpc.add_BlocksServiceServicer_to_server, self._servicer
        )
        address = f"127.0.0.1:{self.port}"
        await self._server.start([address])
        self.port = self._server.ports[address]

    async def _stop(self) -> None:
        self._servicer.close()
        await self._server.stop(0)

    def stop(self) -> None:
        """End, as a node that is shut down."""
        self._run(self._stop())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
