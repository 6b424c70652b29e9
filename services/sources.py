"""What the servicers ask of whoever stores the chain: node and replica both provide these.

Everything is raw bytes on purpose: serving a block decodes and encodes nothing.
Left out: writing, and anything about blocks that are not final except proposals by digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from services.pulse import Pulse


class StoredBlock(msgspec.Struct, frozen=True, gc=False):
    """A finalized block as it lies on disk."""

    proposal: bytes  #: serialized Proposal (header, justification, payload, the leader's vote)
    batches: Sequence[bytes]  #: serialized Batches in payload order; empty where headers only were asked for
    finalization: bytes  #: serialized Certificate; empty where only a descendant's is held; of the last tail, if any
    tails: Sequence[bytes] = ()  #: serialized Proposals after the last block of an epoch, oldest first


class ChainSource(Protocol):
    """Finalized blocks by height, and unfinalized parts by digest."""

    def finalized_height(self) -> int:
        """Highest height of which this and all below are stored and final; 0: genesis only."""

    def first_height(self) -> int:
        """Lowest height from which on blocks are stored; 1 unless a snapshot stands for those below."""

    def block(self, height: int, *, with_batches: bool = True) -> StoredBlock | None:
        """The finalized block of a height; None where it is not stored. A few headers may be without their batches."""

    def batch(self, digest: bytes) -> bytes | None:
        """A serialized Batch, final or not."""

    def proposal(self, digest: bytes) -> bytes | None:
        """A serialized Proposal by the digest of its header, final or not."""

    @property
    def grown(self) -> Pulse:
        """Beats when ``finalized_height`` has risen."""
