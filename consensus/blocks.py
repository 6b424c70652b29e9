"""Unfinalized blocks this node knows, and what it has found out about each."""

from __future__ import annotations

from collections.abc import Iterator

from consensus.events import Verdict
from consensus.ports import Headers
from consensus.types import Certificate, Header, Proposal


class Block:
    """One block. It is *placed* once its parent's header is known and fits."""

    __slots__ = ("asked", "boundary", "false_justification", "placed", "problem", "proposal", "verdict")

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self.placed = False
        self.asked = False  #: ``Verify`` is out
        #: The block that ends the epoch, if this one comes after it: a tail.
        self.boundary: Header | None = None
        self.verdict: Verdict | None = None
        #: Provably bad, in words; nobody honest votes for it.
        self.problem: str | None = None
        #: The problem is evidence against everybody who notarized it.
        self.false_justification = False

    @property
    def header(self) -> Header:
        """Its header."""
        return self.proposal.header

    @property
    def bad(self) -> str | None:
        """Why it can never be built on; None as long as that is not proven."""
        if self.problem is None and self.verdict is Verdict.INVALID:
            return "the application found its body or state root invalid"
        return self.problem

    @property
    def good(self) -> bool:
        """Placed and verified."""
        return self.placed and self.problem is None and self.verdict is Verdict.VALID


class Blocks:
    """Blocks above the floor by digest, with the headers of floor and genesis.

    Bounded: besides the next view, the current one and a few before, only blocks that a quorum has notarized (and such
    as are evidence).
    """

    def __init__(self, genesis: Header, headers: Headers) -> None:
        self._genesis = genesis
        self._headers = headers
        self._blocks: dict[bytes, Block] = {}
        self.look_again = False
        """A parent's header may have become known."""

    def get(self, digest: bytes) -> Block | None:
        """The block, if known."""
        return self._blocks.get(digest)

    def add(self, block: Block) -> None:
        """Take a new block in."""
        self.look_again = True
        self._blocks.setdefault(block.header.digest, block)

    def ascending(self) -> Iterator[Block]:
        """All blocks, lowest view first."""
        return iter(sorted(self._blocks.values(), key=lambda block: (block.header.view, block.header.digest)))

    def unplaced(self) -> list[Block]:
        """Blocks whose parent is not known yet, lowest view first."""
        return [block for block in self.ascending() if not block.placed and block.problem is None]

    def header(self, digest: bytes) -> Header | None:
        """Header of any block within reach: in memory, the genesis, or stored."""
        if digest == self._genesis.digest:
            return self._genesis
        block = self._blocks.get(digest)
        return block.header if block else self._headers.header(digest)

    def settled_header(self, digest: bytes) -> Header | None:
        """Header of a block whose place is known: only then is it known what it ends."""
        block = self._blocks.get(digest)
        if block is None or block.placed:
            return self.header(digest)
        return self._headers.header(digest)

    def boundary(self, digest: bytes) -> Header | None:
        """The block that ends the epoch, if the block of this digest is it or a tail after it; else None.

        A tail repeats the height of what it follows, no other block does. None also while the headers between are
        unknown, which is so only before finalized blocks are backfilled.
        """
        while digest != self._genesis.digest:
            header = self.header(digest)
            if header is None or header.next_valset_hash:
                return header
            block = self._blocks.get(digest)
            if block is not None and block.placed:
                return block.boundary
            parent = self.header(header.parent_digest)
            if parent is None or parent.height != header.height:
                return None
            digest = parent.digest
        return None

    def stored(self, digest: bytes) -> Proposal | None:
        """A block the application stored, as it was proposed."""
        return self._headers.proposal(digest)

    def chain(self, certificate: Certificate, floor_view: int, floor_digest: bytes) -> tuple[list[Header], str]:
        """Headers from the one after the floor to the certified one, oldest first.

        Returns:
            The headers, and ``complete``, ``gap`` where an ancestor is unknown, or ``fork`` where they miss the floor.
        """
        path: list[Header] = []
        digest = certificate.digest
        while digest != floor_digest:
            header = self.header(digest)
            if header is None:
                return path[::-1], "gap"
            if digest == self._genesis.digest or header.view <= floor_view:
                return path[::-1], "fork"
            path.append(header)
            digest = header.parent_digest
        return path[::-1], "complete"

    def prune(self, floor_view: int) -> None:
        """Forget blocks below the floor's view."""
        self._blocks = {digest: block for digest, block in self._blocks.items() if block.header.view >= floor_view}

    def forget(self, digests: list[bytes]) -> None:
        """Forget these blocks."""
        for digest in digests:
            del self._blocks[digest]
