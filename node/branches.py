"""The branches above the last executed block: what each has listed, and whether its blocks are valid.

Consensus asks for verdicts. Each is VALID or INVALID, said once, when it is certain; silence while
batches, parents or own execution are missing. Validity is a pure function of branch and body: a
block's header follows its parent's, every batch extends its origin's chain on this branch, every
statement is true, and the roots it commits to are those of this node's own execution. Nothing in it
depends on a clock or on arrival. Rules: docs/consensus.md, R4 and R6, and "Epochs": parameters and the
end of the epoch come from the state at the parent's state height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from consensus.events import Now
from consensus.justification import tail_problem
from consensus.types import Header, Proposal
from ledger import wire
from ledger.block_port import ProposalWrite
from ledger.invariant import InvariantViolated
from ledger.parameters import Parameters
from node.batches import NO_HEAD, Head, extends
from node.dissemination import Dissemination
from node.epoch import Epoch
from node.statements import StatementPool, identities
from node.tree import BlockNode, BlockTree, Verdict
from node.turn import Turn

PROTOCOL_VERSION = 1
SHOWN_MAX = 8  #: of missing batches, to an operator


class Roots(Protocol):
    """What is known of an executed height."""

    @property
    def state_root(self) -> bytes:
        """Root of the state commitment, 32 bytes."""

    @property
    def receipts_root(self) -> bytes:
        """Root of the receipts range, 32 bytes."""


class ExecutedState(Protocol):
    """What execution has come to, and the rules it has found in the state."""

    @property
    def height(self) -> int:
        """Last executed height."""

    @property
    def changed_height(self) -> int:
        """Highest height executed since the start that changed the state; 0 if none did."""

    @property
    def base_height(self) -> int:
        """Height this node began with, by a snapshot; 0 for the genesis. Roots of lower ones are not known here."""

    def roots(self, height: int) -> Roots | None:
        """Roots after an executed height; None above it or where pruned."""

    def next_valset_hash(self, epoch: int, state_height: int) -> bytes:
        """What the boundary block of an epoch carries, if the state after this (executed) height holds an approved
        change of its set; else empty."""

    def parameters(self, height: int, parent_state_height: int) -> Parameters:
        """What a block is judged by: its height, and the (executed) state height of its parent."""


class StoredBlocks(Protocol):
    """What is read back of blocks: a proposal is stored before it is voted for or final."""

    def proposal(self, digest: bytes) -> bytes | None:
        """Serialized Proposal of a block."""


class Judgement(msgspec.Struct, frozen=True):
    """A verdict that consensus waits for."""

    digest: bytes
    valid: bool


class Branches:
    """See the module text.

    Args:
        chain_id: genesis digest.
        epoch: the present one.
        root: the last executed block, or the genesis.
        heads: last listed batch of every origin in executed state.
        executed, dissemination, statements, stored: ports and neighbours.
    """

    def __init__(
        self,
        *,
        chain_id: bytes,
        epoch: Epoch,
        root: Header,
        heads: Mapping[str, Head],
        executed: ExecutedState,
        dissemination: Dissemination,
        statements: StatementPool,
        stored: StoredBlocks,
    ) -> None:
        self._chain_id = chain_id
        self._epoch = epoch
        self._executed = executed
        self._batches = dissemination
        self._statements = statements
        self._stored = stored
        node = BlockNode(root, wire.encode_payload(()), None)
        node.verdict, node.heads = Verdict.VALID, dict(heads)
        self._tree = BlockTree(node)
        self._written: set[bytes] = set()  #: proposals above the root that are on disk

    def enter(self, epoch: Epoch) -> None:
        """The next epoch begins on the block that was executed last; whatever else the one before left is void."""
        self._epoch = epoch
        self._tree = BlockTree(self._tree.root)
        self._written.clear()

    # -- the tree ----------------------------------------------------------------------------

    @property
    def root(self) -> BlockNode:
        """The last executed block."""
        return self._tree.root

    def get(self, digest: bytes) -> BlockNode | None:
        """A block in memory."""
        return self._tree.get(digest)

    def set_root(self, node: BlockNode) -> None:
        """``node`` was executed: no other branch from below it can matter again."""
        self._tree.set_root(node)
        self._written = {digest for digest in self._written if self._tree.get(digest) is not None}

    def path(self, digest: bytes) -> list[BlockNode] | None:
        """Blocks above the root down to ``digest``, oldest first; None where one is missing on disk too."""
        path: list[BlockNode] = []
        while digest != self.root.header.digest:
            node = self._node(digest)
            if node is None:
                return None
            path.append(node)
            digest = node.header.parent_digest
        path.reverse()
        return path

    def add(self, proposal: Proposal, *, asked: bool) -> None:
        """A block was proposed or fetched; with ``asked``, consensus waits for the verdict.

        Whoever made the Proposal from bytes has compared payload and justification with the header
        (``ledger.wire``): a mismatch is the sender's fault and says nothing about the block.
        """
        node = self._tree.get(proposal.header.digest) or self._new_node(proposal)
        if node is not None and asked:
            node.asked = True

    def _new_node(self, proposal: Proposal) -> BlockNode | None:
        if proposal.header.height <= self._tree.root.header.height:
            return None
        return self._tree.add(BlockNode(proposal.header, wire.decode_payload(proposal.payload), proposal))

    def add_stored(self, proposal: Proposal) -> BlockNode | None:
        """A block that is on disk comes back after a restart; None if it was executed."""
        self._written.add(proposal.header.digest)
        self.add(proposal, asked=False)
        return self.settled(proposal.header.digest)

    def _node(self, digest: bytes) -> BlockNode | None:
        """From the tree, else from disk."""
        node = self._tree.get(digest)
        if node is None and (raw := self._stored.proposal(digest)) is not None:
            node = self._new_node(wire.decode_stored_proposal(raw))
            if node is not None:
                self._written.add(digest)
        return node

    def settled(self, digest: bytes) -> BlockNode | None:
        """The node, with its heads worked out as far as its branch allows."""
        chain: list[BlockNode] = []
        node = self._node(digest)
        while node is not None and node.heads is None:
            chain.append(node)
            node = self._node(node.header.parent_digest)
        for pending in reversed(chain):
            self._work_out(pending)
        return self._tree.get(digest)

    def judge(self, now: Now, turn: Turn) -> list[Judgement]:
        """Verdicts that have become certain since the last call."""
        found: list[Judgement] = []
        asked = [node for node in self._tree.nodes() if node.asked]
        for node in sorted(asked, key=lambda n: n.header.height):
            if node.verdict is Verdict.PENDING:
                self.settled(node.header.digest)
                self._decide(node)
                self._look_for(node, now)
            if node.verdict is Verdict.PENDING:
                continue
            node.asked = False
            if node.verdict is Verdict.VALID:
                self.write(node, turn)
            else:
                self._batches.unwant(node.payload.batch_digests)
            found.append(Judgement(node.header.digest, node.verdict is Verdict.VALID))
        return found

    def listed_statements(self, node: BlockNode) -> set[bytes]:
        """Identities of the statements that the branch down to ``node`` lists above the executed block."""
        listed: set[bytes] = set()
        above: BlockNode | None = node
        while above is not None and above is not self.root:
            listed.update(identities(above.statements))
            above = self._tree.get(above.header.parent_digest)
        return listed

    def _work_out(self, node: BlockNode) -> None:
        """Heads after this block, if its parent's are known and its batches are in hand."""
        parent = self._tree.get(node.header.parent_digest)
        if node.verdict is Verdict.INVALID or parent is None or parent.heads is None:
            return
        statements = self._statements.read(node.payload.statements)
        if statements is None or not self._header_follows(node.header, parent):
            node.verdict = Verdict.INVALID
            return
        node.statements = statements
        if not self._bodies(node, parent.header):
            return
        heads = self._heads_after(node, parent.heads)
        if heads is None:
            node.verdict = Verdict.INVALID
            return
        node.heads = heads
        node.boundary = self._boundary_before(node.header, parent)
        node.last_work_height = parent.last_work_height if node.payload.empty else node.header.height

    def _heads_after(self, node: BlockNode, before: Mapping[str, Head]) -> Mapping[str, Head] | None:
        """Last listed batch of every origin after this block; None if a batch does not extend its origin's chain, or
        was made in an epoch whose batches may not be listed any more."""
        heads = dict(before)
        for digest in node.payload.batch_digests:
            known = self._batches.pool.get(digest)
            if known is None:
                raise InvariantViolated("a batch that was in hand is gone")
            header = known.batch.header
            if not extends(heads.get(header.origin, NO_HEAD), header) or not self._epoch.may_list(header.epoch):
                return None
            heads[header.origin] = Head(header.incarnation, header.sequence, header.digest)
        return heads

    def _boundary_before(self, header: Header, parent: BlockNode) -> Header | None:
        """The block that ended the epoch before this one, whose parent is given, if any did."""
        if parent.header.epoch != header.epoch:
            return None
        return parent.header if parent.header.next_valset_hash else parent.boundary

    def _header_follows(self, header: Header, parent: BlockNode) -> bool:
        """R4's field rules that need the parent only; one that fails proves the leader at fault."""
        before, epoch = parent.header, self._epoch
        starts = before.digest == epoch.start.digest
        if (
            header.version != PROTOCOL_VERSION
            or header.chain_id != self._chain_id
            or header.epoch != epoch.number
            or header.valset_hash != epoch.validators.hash
            or header.parent_view != (0 if starts else before.view)
            or header.view <= header.parent_view
            or not (starts or before.epoch == epoch.number)
        ):
            return False
        boundary = self._boundary_before(header, parent)
        if boundary is not None:
            return tail_problem(header, boundary) is None
        return (
            header.height == before.height + 1
            and header.timestamp_ms > before.timestamp_ms
            and before.state_height <= header.state_height <= before.height
        )

    def _bodies(self, node: BlockNode, parent: Header) -> bool:
        """Are all batches in hand and checked? One found ill-formed, or too many bytes, settles it before the rest."""
        for digest in node.payload.batch_digests:
            if self._batches.is_bad(digest):
                node.verdict = Verdict.INVALID
                return False
        if self._executed.height >= parent.state_height and self._lists_too_much(node, parent):
            node.verdict = Verdict.INVALID
            return False
        known = [self._batches.pool.get(digest) for digest in node.payload.batch_digests]
        return all(k is not None and k.checked for k in known)

    def _lists_too_much(self, node: BlockNode, parent: Header) -> bool:
        """Are the batches in hand more than one, and too large together?"""
        if len(node.payload.batch_digests) < 2:
            return False
        known = [self._batches.pool.get(digest) for digest in node.payload.batch_digests]
        size = sum(k.batch.header.envelope_bytes for k in known if k is not None)
        return size > self._executed.parameters(node.header.height, parent.state_height).block_bytes_max

    def _decide(self, node: BlockNode) -> None:
        """VALID or INVALID by the state: its rules and its root, once the body is settled and the state executed.

        A block that commits to a state below the snapshot this node began with lies below the header that certified the
        snapshot: final, or never to be. Nothing is said about it, so nothing is signed.
        """
        header, parent = node.header, self._tree.get(node.header.parent_digest)
        if node.verdict is not Verdict.PENDING or node.heads is None or parent is None:
            return
        if not self._executed.base_height <= header.state_height <= self._executed.height:
            return
        good = self.keeps_rules(node, parent.header) and self.roots_agree(header)
        node.verdict = Verdict.VALID if good else Verdict.INVALID

    def keeps_rules(self, node: BlockNode, parent: Header) -> bool:
        """Does the block keep the rules that the state at its parent's (executed) state height holds: parameters, and
        whether it has to end the epoch?"""
        header = node.header
        if node.boundary is not None:
            return True  # a tail repeats what was judged
        if header.next_valset_hash != self._executed.next_valset_hash(header.epoch, parent.state_height):
            return False
        parameters = self._executed.parameters(header.height, parent.state_height)
        if header.state_scheme != parameters.state_scheme or self._lists_too_much(node, parent):
            return False
        return node.payload.empty or header.height - header.state_height <= parameters.k_max

    def roots_agree(self, header: Header) -> bool:
        """Does the header commit to the roots that this node found at that height?"""
        roots = self._executed.roots(header.state_height)
        return (
            roots is not None and roots.state_root == header.state_root and roots.receipts_root == header.receipts_root
        )

    def lists(self, digest: bytes) -> bool:
        """Does a block above the last executed one list this batch?"""
        root = self._tree.root
        return any(digest in node.payload.batch_digests for node in self._tree.nodes() if node is not root)

    def missing_batches(self) -> list[bytes]:
        """Batches that blocks with a verdict outstanding list and that are not in memory; at most ``SHOWN_MAX``."""
        missing = [
            digest
            for node in self._tree.nodes()
            if node.asked and node.verdict is Verdict.PENDING and node.heads is None
            for digest in node.payload.batch_digests
            if self._batches.pool.in_memory(digest) is None
        ]
        return list(dict.fromkeys(missing))[:SHOWN_MAX]

    def _look_for(self, node: BlockNode, now: Now) -> None:
        if node.verdict is Verdict.PENDING and node.heads is None and self._may_look_for(node):
            self.look_for(node, (self._epoch.leader(node.header.view),), now)

    def _may_look_for(self, node: BlockNode) -> bool:
        """Not before it is known how much a block may list: what a leader invents must not fill this node."""
        parent = self._tree.get(node.header.parent_digest)
        return parent is not None and self._executed.height >= parent.header.state_height

    def look_for(self, node: BlockNode, sources: Sequence[str], now: Now) -> None:
        """Ask for the batches that the block lists and we do not hold."""
        for digest in node.payload.batch_digests:
            if self._batches.pool.get(digest) is None:
                self._batches.want(digest, sources, now, at_once=True)

    def write(self, node: BlockNode, turn: Turn) -> None:
        """Store the block, once, before anything is said about it."""
        digest = node.header.digest
        if node.proposal is not None and digest not in self._written:
            self._written.add(digest)
            turn.block_writes.append(ProposalWrite(digest, wire.encode_stored_proposal(node.proposal)))
            turn.sync_blocks = True
