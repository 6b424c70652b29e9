"""What the ledger asks of the disk: blocks and what they are made of.

Digests are 32 bytes and name what is stored; values are opaque bytes, exactly as they were hashed or signed. Writes of
one turn of the loop are collected in a list and committed at once, with one sync.

Left out: which batches this node acknowledged (a promise as a vote is, so the vote log has it), lookup of envelopes (a
batch is the unit that travels) and of headers by anything but digest and height.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec


class BatchWrite(msgspec.Struct, frozen=True, gc=False):
    """A batch came in (own or another origin's); a second write of one digest changes nothing."""

    digest: bytes
    raw: bytes  #: serialized Batch message, at most BATCH_BYTES_MAX and its header


class ProposalWrite(msgspec.Struct, frozen=True, gc=False):
    """A proposal (header, justification, payload, leader's vote) under its header's digest."""

    digest: bytes
    raw: bytes  #: serialized Proposal message


class FinalizedWrite(msgspec.Struct, frozen=True, gc=False):
    """The block of a height is final, for ever. A second write may add the certificate, nothing else."""

    height: int
    digest: bytes  #: of the header
    certificate: bytes  #: its own Finalization, serialized; empty where only a descendant has one
    batches: tuple[bytes, ...] = ()  #: digests of those it lists: they wait no longer


class BatchDrop(msgspec.Struct, frozen=True, gc=False):
    """A batch that can never be listed any more is forgotten."""

    digest: bytes


class FirstHeightWrite(msgspec.Struct, frozen=True, gc=False):
    """From this height on final blocks are held whole; a snapshot stands for those below."""

    height: int
    digest: bytes  #: of the block below, whose state was taken in


BlockWrite = BatchWrite | ProposalWrite | FinalizedWrite | BatchDrop | FirstHeightWrite


class BlockStore(Protocol):
    """Blocks on disk. Reads raise CorruptStore where bytes fail their checks; nothing is silently absent."""

    def batch(self, digest: bytes) -> bytes | None:
        """Serialized batch; None if it was never stored, or dropped."""

    def has_batch(self, digest: bytes) -> bool:
        """Whether ``batch`` would answer, without reading it."""

    def waiting(self) -> Iterator[bytes]:
        """Digests of stored batches that no final block lists, in any order.

        One that was stored before stores kept account of this, or that a block below a snapshot lists, may be left out.
        """

    def proposal(self, digest: bytes) -> bytes | None:
        """Serialized proposal of a header's digest."""

    def has_proposal(self, digest: bytes) -> bool:
        """Whether ``proposal`` would answer, without reading it."""

    def finalized_height(self) -> int | None:
        """Highest height stored as final; None in a new store."""

    def first_height(self) -> int:
        """Lowest height from which on final blocks are held whole: 1, or above the height of a snapshot."""

    def digest_at(self, height: int) -> bytes | None:
        """Digest of the final block of a height."""

    def finalization(self, height: int) -> bytes | None:
        """The Finalization of the very block of this height, where one is held."""

    def finalized(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """(height, digest) of the stored heights first <= height <= last, ascending."""

    def commit(self, writes: Sequence[BlockWrite], *, sync: bool = True) -> None:
        """Make all writes appear at once; with ``sync``, on disk before returning.

        Raises:
            StoreError: nothing may be sent that waited for them; the store takes no further writes.
            ContradictoryWrite: a second digest for a height (a StoreError, too); nothing was written.
        """

    def close(self) -> None:
        """Release the directory."""
