"""A client of a node that holds a chain in memory: what it submits makes the next block, what it reads is proved.

Proofs are made and checked as everywhere; only the network between is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

from contracts.tables import TABLES
from ledger import proof_building
from ledger.operations import Operation
from ledger.organisations import Role
from ledger.proof_types import Proof
from ledger.proofs import verify_proof
from ledger.state import Table
from ledger.types import Envelope
from lossbook_sdk.answers import Stage, Status
from lossbook_sdk.query import Found
from tests.support.epoch_chain import EpochChain
from tests.support.insurers import FIRST, MARKET, Organisation


class ChainQuery:
    """``Query`` on a chain; blocks are added until what is asked for is certified, as on a live network."""

    def __init__(self, chain: EpochChain) -> None:
        self.chain = chain

    async def records(self, prefix: bytes, *, limit: int | None = None) -> AsyncIterator[Found]:
        """All of a table, in order of the key."""
        for at, (key, value) in enumerate(self.chain.ledger.state.committed_after(table_of(prefix))):
            if at != limit:
                yield Found(prefix + key, value, self.chain.finalized_height(), FIRST.id)

    async def record(self, key: bytes, *, prove: bool = False) -> Found | None:
        """One record, proved."""
        assert prove, "nothing is shown on a node's word"
        table = table_of(key)
        if self.chain.ledger.state.committed_bytes(table, key[1:]) is None:
            return None
        subject = proof_building.record_proof(self.chain, self.chain.ledger.state, table, key[1:])
        proof = Proof(self.chain.genesis.chain_id, subject)
        proven = verify_proof(proof, self.chain.genesis)
        return Found(key, proven.value, proven.header.state_height, FIRST.id, proof, proven)


def table_of(key: bytes) -> Table[Any]:
    """The table that a key lies in."""
    return next(table for table in TABLES if table.prefix == key[:1])


class ChainSession:
    """``Client`` of one organisation on a chain."""

    def __init__(self, chain: EpochChain, by: Organisation = FIRST) -> None:
        self.chain = chain
        self.by = by
        self.genesis = chain.genesis
        self.query = ChainQuery(chain)
        self.profile = SimpleNamespace(organisation=by.id)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """On a loop of its own."""
        return asyncio.run(work)

    def keys_for(self, role: Role, named: Sequence[str] = ()) -> tuple[str, ...]:
        """Desks of ``tests.support.insurers`` are named after their roles."""
        return tuple(named) or (role.slug,)

    def sign(
        self, operations: Sequence[Operation], keys: Sequence[str], *, not_after_ms: int | None = None
    ) -> Envelope:
        """By these desks."""
        return self.chain.ledger.envelope(operations, by=self.by, desks=keys)

    def submit(self, signed: Envelope, wait: Stage = Stage.FINAL) -> Status:
        """In the next block, and one more that certifies it."""
        result = self.chain.execute([signed], 0, True, b"")
        self.certify()
        return Status(signed.id, Stage.FINAL, FIRST.id, result.receipts[0]).raise_for_failure()

    def certify(self) -> None:
        """One more block: its header carries the root after the one before."""
        self.chain.block()


def organisation(name: str) -> Organisation:
    """A member of the market."""
    return next(each for each in MARKET if each.id == name)
