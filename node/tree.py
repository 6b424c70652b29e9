"""Blocks above the last executed one: who builds on whom, and what each branch has listed.

A block enters with its header, justification and payload; ``heads`` (the last listed batch of every
origin after it) are known once its parent's are and all its batches are in hand. Finalized blocks
leave the tree when they are executed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from consensus.types import Header, Proposal
from ledger.types import Payload, Statement
from node.batches import Head


class Verdict(enum.Enum):
    """What this node has found out about a block."""

    PENDING = "pending"
    VALID = "valid"
    INVALID = "invalid"


class BlockNode:
    """One block of the tree."""

    __slots__ = (
        "asked",
        "boundary",
        "header",
        "heads",
        "last_work_height",
        "payload",
        "proposal",
        "statements",
        "verdict",
    )

    def __init__(self, header: Header, payload: Payload, proposal: Proposal | None) -> None:
        self.header = header
        self.payload = payload
        self.proposal = proposal  #: None for the root, which is executed
        self.statements: Sequence[Statement] = ()  #: the payload's, once they were read and found true
        self.verdict = Verdict.PENDING
        self.heads: Mapping[str, Head] | None = None
        #: The block that ends the epoch, if this one is a tail after it; known when ``heads`` are.
        self.boundary: Header | None = None
        #: height of the highest block up to this one that listed anything
        self.last_work_height = 0
        self.asked = False  #: consensus waits for the verdict


class BlockTree:
    """Blocks by digest; the root is the last executed block."""

    def __init__(self, root: BlockNode) -> None:
        self.root = root
        self._nodes: dict[bytes, BlockNode] = {root.header.digest: root}

    def get(self, digest: bytes) -> BlockNode | None:
        """The block, if it is in the tree."""
        return self._nodes.get(digest)

    def add(self, node: BlockNode) -> BlockNode:
        """Enter a block; the first one entered under a digest stays."""
        return self._nodes.setdefault(node.header.digest, node)

    def nodes(self) -> list[BlockNode]:
        """All blocks, the root included."""
        return list(self._nodes.values())

    def path(self, digest: bytes) -> list[BlockNode] | None:
        """Blocks above the root down to ``digest``, oldest first; None where one is missing."""
        path: list[BlockNode] = []
        while digest != self.root.header.digest:
            node = self._nodes.get(digest)
            if node is None or node.header.height <= self.root.header.height:
                return None
            path.append(node)
            digest = node.header.parent_digest
        path.reverse()
        return path

    def set_root(self, node: BlockNode) -> None:
        """``node`` was executed: nothing at or below its height, but itself, can matter again."""
        self.root = node
        height = node.header.height
        self._nodes = {
            digest: other for digest, other in self._nodes.items() if other is node or other.header.height > height
        }

    def prune_views(self, floor_view: int, keep: set[bytes]) -> None:
        """Forget blocks of views at or below the floor that are not on the finalized branch."""
        self._nodes = {
            digest: node
            for digest, node in self._nodes.items()
            if node is self.root or digest in keep or node.header.view > floor_view
        }
