"""The application under consensus: builds blocks, judges them, finalizes and executes them.

Pure, but for the store ports it reads from. Consensus asks three things:

    build      make one block on this parent, when there is a reason to (R12): something listable,
               a root to certify, a heartbeat. Waiting is not refusing.
    judge      VALID or INVALID, said once, when it is certain; silence while batches, parents or
               own execution are missing. Validity depends on branch and body alone (R4): nothing
               in it depends on a clock or on arrival.
    finalize   the blocks up to a certified digest become final, in order, as soon as every one of
               them and every batch is in hand; what is missing is fetched.

Then blocks are executed one by one, an envelope at a time (``execute_slice``), so that a large block
never keeps votes waiting. Rules: consensus.md R4, R6, R12; ledger.md, "Batch, block, proofs" (design).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from consensus.events import Now
from consensus.types import Certificate, Header, Justification, Proposal, ValidatorSet
from ledger import wire
from ledger.block_port import FinalizedWrite, ProposalWrite
from ledger.execution import ListedBatch
from ledger.parameters import Parameters
from ledger.types import PAYLOAD_BATCHES_MAX, Payload
from node.batches import NO_HEAD, Head, extends
from node.dissemination import Dissemination
from node.tree import BlockNode, BlockTree, Verdict
from node.turn import (
    AlarmNotice,
    CertifiedRootNotice,
    ExecutedNotice,
    FinalizedNotice,
    Turn,
)

PROTOCOL_VERSION = 1


class Roots(Protocol):
    """What is known of an executed height."""

    @property
    def state_root(self) -> bytes:
        """Root of the state commitment, 32 bytes."""

    @property
    def receipts_root(self) -> bytes:
        """Root of the receipts range, 32 bytes."""


class Executor(Protocol):
    """Executes finalized blocks, one at a time, and commits each atomically."""

    @property
    def height(self) -> int:
        """Last executed height."""

    def roots(self, height: int) -> Roots | None:
        """Roots after an executed height; None above it or where pruned."""

    def begin(self, header: Header, batches: Sequence[ListedBatch]) -> bool:
        """Start a block; False where it may be finished at once."""

    def advance(self) -> bool:
        """Execute one envelope; whether more are waiting."""

    def finish(self) -> tuple[ExecutedNotice, bool]:
        """Commit the block. Second: did it change the state?"""


class StoredBlocks(Protocol):
    """What is read back of blocks: a proposal is stored before it is voted for or final."""

    def proposal(self, digest: bytes) -> bytes | None:
        """Serialized Proposal of a block."""


class BuildRequest(msgspec.Struct, frozen=True):
    """Consensus leads view ``view`` and wants a block."""

    view: int
    parent: Header
    parent_certificate: Certificate | None
    nullifications: tuple[Certificate, ...]
    since_ms: int
    at_once: bool  #: build although there is nothing to list (R12 a)


class Judgement(msgspec.Struct, frozen=True):
    """A verdict that consensus waits for."""

    digest: bytes
    valid: bool


class BuiltBlock(msgspec.Struct, frozen=True):
    """The block made for a request."""

    view: int
    header: Header
    justification: Justification
    payload: Payload


class Application:
    """See the module text.

    Args:
        chain_id: genesis digest.
        validators: set of the epoch, whose ``hash`` headers carry.
        parameters: network parameters.
        heartbeat_ms: H, local setting: a block at least this often.
        root: the last executed block, or the genesis.
        heads: last listed batch of every origin in executed state.
        executor, dissemination, stored: ports and neighbours.
    """

    def __init__(
        self,
        *,
        chain_id: bytes,
        validators: ValidatorSet,
        parameters: Parameters,
        heartbeat_ms: int,
        root: Header,
        heads: Mapping[str, Head],
        executor: Executor,
        dissemination: Dissemination,
        stored: StoredBlocks,
    ) -> None:
        self._chain_id = chain_id
        self._validators = validators
        self._parameters = parameters
        self._heartbeat_ms = heartbeat_ms
        self._executor = executor
        self._batches = dissemination
        self._stored = stored
        node = BlockNode(root, wire.encode_payload(()), None)
        node.verdict, node.heads = Verdict.VALID, dict(heads)
        self.tree = BlockTree(node)
        self.final = node  #: highest finalized block whose branch is complete here
        self._target: Certificate | None = None  #: highest Finalization known
        self._certificates: dict[bytes, Certificate] = {}  #: Finalizations of blocks above the final one
        self._request: BuildRequest | None = None
        self._queue: deque[BlockNode] = deque()  #: final and stored, to be executed
        self._stored_next: list[BlockNode] = []  #: final, stored with this turn
        self._executing: BlockNode | None = None
        self._changed_height = 0  #: highest executed height that changed the state
        self._written: set[bytes] = set()  #: proposals above the root that are on disk
        self.diverged = False

    # -- building ----------------------------------------------------------------------------

    def request_block(self, request: BuildRequest) -> None:
        """Consensus wants a block; a newer request replaces an older one."""
        self._request = request

    def forget_request(self, view: int) -> None:
        """A view was entered: what was asked for lower ones is void."""
        if self._request is not None and self._request.view < view:
            self._request = None

    def try_build(self, now: Now) -> BuiltBlock | None:
        """The block asked for, once there is a reason for it and it may be made."""
        request = self._request
        if request is None:
            return None
        parent = self._settled(request.parent.digest)
        executed = self._executor.height
        if parent is None or parent.heads is None or executed < parent.header.state_height:
            return None
        if now.monotonic_ms < self._paced_until(request, parent):
            return None
        digests = self._choose(request, parent, now)
        if not digests and not request.at_once and not self._empty_block_due(parent, now):
            return None
        self._request = None
        return self._make(request, parent.header, digests, now)

    def _paced_until(self, request: BuildRequest, parent: BlockNode) -> int:
        """Under load blocks keep their distance: each costs every validator the same, full or not."""
        loaded = parent.header.height > 0 and parent.last_work_height == parent.header.height
        return request.since_ms + (self._parameters.block_interval_ms if loaded else 0)

    def _choose(self, request: BuildRequest, parent: BlockNode, now: Now) -> list[bytes]:
        if parent.header.height + 1 - self._executor.height > self._parameters.k_max or parent.heads is None:
            return []
        limit = self._parameters.block_bytes_max >> min(len(request.nullifications), 20)
        chosen: list[bytes] = []
        size = 0
        for known in self._batches.listable(parent.heads, now):
            size += known.batch.header.envelope_bytes
            if chosen and (size > limit or len(chosen) >= PAYLOAD_BATCHES_MAX):
                break
            chosen.append(known.batch.header.digest)
        return chosen

    def _empty_block_due(self, parent: BlockNode, now: Now) -> bool:
        """R12 b, once it is executed here, or a heartbeat."""
        work = self._work_height(parent)
        if work > parent.header.state_height and self._executor.height >= work:
            return True
        return now.wall_ms - parent.header.timestamp_ms >= self._heartbeat_ms

    def _work_height(self, node: BlockNode) -> int:
        return max(node.last_work_height, self._changed_height)

    def _make(self, request: BuildRequest, parent: Header, digests: Sequence[bytes], now: Now) -> BuiltBlock:
        justification = wire.make_justification(request.parent_certificate, request.nullifications)
        payload = wire.encode_payload(digests)
        state_height = self._executor.height
        roots = self._executor.roots(state_height)
        if roots is None:
            raise LookupError(f"roots of the executed height {state_height} are missing")
        header = wire.encode_header(
            version=PROTOCOL_VERSION,
            chain_id=self._chain_id,
            epoch=self._validators.epoch,
            height=parent.height + 1,
            view=request.view,
            parent_view=parent.view,
            parent_digest=parent.digest,
            payload_root=payload.root,
            justification_digest=justification.digest,
            timestamp_ms=max(parent.timestamp_ms + 1, now.wall_ms),
            state_height=state_height,
            state_root=roots.state_root,
            receipts_root=roots.receipts_root,
            valset_hash=self._validators.hash,
            state_scheme=self._parameters.state_scheme,
        )
        return BuiltBlock(request.view, header, justification, payload)

    def work_pending(self, tip: Header, now: Now) -> bool:
        """R12 b and c, seen from the highest certified header."""
        node = self._settled(tip.digest)
        if node is None or node.heads is None:
            return True
        if self._work_height(node) > tip.state_height:
            return True
        if now.wall_ms - tip.timestamp_ms >= self._heartbeat_ms:
            return True
        return next(self._batches.listable(node.heads, now), None) is not None

    def deadline_ms(self, tip: Header, now: Now) -> int:
        """Monotonic time at which building or the heartbeat has to be looked at again."""
        heartbeat = now.monotonic_ms + max(1, tip.timestamp_ms + self._heartbeat_ms - now.wall_ms)
        request = self._request
        parent = self.tree.get(request.parent.digest) if request is not None else None
        if request is None or parent is None:
            return heartbeat
        paced = self._paced_until(request, parent)
        return min(heartbeat, paced) if paced > now.monotonic_ms else heartbeat

    # -- judging -----------------------------------------------------------------------------

    def add(self, proposal: Proposal, *, asked: bool) -> None:
        """A block was proposed or fetched. What its header commits to must agree, or it is INVALID.

        With ``asked``, consensus waits for the verdict.
        """
        node = self.tree.get(proposal.header.digest) or self._new_node(proposal)
        if node is not None and asked:
            node.asked = True

    def _new_node(self, proposal: Proposal) -> BlockNode | None:
        if proposal.header.height <= self.tree.root.header.height:
            return None
        try:
            payload = wire.decode_payload(proposal.payload)
        except wire.WireError:
            payload = wire.encode_payload(())
        node = BlockNode(proposal.header, payload, proposal)
        if payload.raw != proposal.payload or payload.root != proposal.header.payload_root:
            node.verdict = Verdict.INVALID
        return self.tree.add(node)

    def _node(self, digest: bytes) -> BlockNode | None:
        """From the tree, else from disk."""
        node = self.tree.get(digest)
        if node is None and (raw := self._stored.proposal(digest)) is not None:
            node = self._new_node(wire.decode_stored_proposal(raw))
            if node is not None:
                self._written.add(digest)
        return node

    def _settled(self, digest: bytes) -> BlockNode | None:
        """The node, with its heads worked out as far as its branch allows."""
        chain: list[BlockNode] = []
        node = self._node(digest)
        while node is not None and node.heads is None:
            chain.append(node)
            node = self._node(node.header.parent_digest)
        for pending in reversed(chain):
            self._work_out(pending)
        return self.tree.get(digest)

    def judge(self, now: Now, turn: Turn) -> list[Judgement]:
        """Verdicts that have become certain since the last call."""
        found: list[Judgement] = []
        for node in sorted(self.tree.nodes(), key=lambda n: n.header.height):
            if not node.asked:
                continue
            if node.verdict is Verdict.PENDING:
                self._settled(node.header.digest)
                self._decide(node)
                self._look_for(node, now)
            if node.verdict is Verdict.PENDING:
                continue
            node.asked = False
            if node.verdict is Verdict.VALID:
                self.write(node, turn)
            found.append(Judgement(node.header.digest, node.verdict is Verdict.VALID))
        return found

    def _work_out(self, node: BlockNode) -> None:
        """Heads after this block, if its parent's are known and its batches are in hand."""
        parent = self.tree.get(node.header.parent_digest)
        if node.verdict is Verdict.INVALID or parent is None or parent.heads is None:
            return
        if not self._header_follows(node.header, parent.header):
            node.verdict = Verdict.INVALID
            return
        if not self._bodies(node):
            return
        heads = dict(parent.heads)
        size = 0
        for digest in node.payload.batch_digests:
            known = self._batches.pool.get(digest)
            if known is None:
                return
            header = known.batch.header
            if not extends(heads.get(header.origin, NO_HEAD), header):
                node.verdict = Verdict.INVALID
                return
            heads[header.origin] = Head(header.incarnation, header.sequence, header.digest)
            size += header.envelope_bytes
        if size > self._parameters.block_bytes_max and len(node.payload.batch_digests) > 1:
            node.verdict = Verdict.INVALID
            return
        node.heads = heads
        node.last_work_height = node.header.height if node.payload.batch_digests else parent.last_work_height

    def _header_follows(self, header: Header, parent: Header) -> bool:
        """R4's field rules that need the parent only; one that fails proves the leader at fault."""
        lag_ok = header.height - header.state_height <= self._parameters.k_max
        return (
            header.version == PROTOCOL_VERSION
            and header.chain_id == self._chain_id
            and header.epoch == self._validators.epoch
            and header.height == parent.height + 1
            and header.view > parent.view == header.parent_view
            and header.timestamp_ms > parent.timestamp_ms
            and parent.state_height <= header.state_height <= parent.height
            and header.valset_hash == self._validators.hash
            and header.next_valset_hash == b""
            and header.state_scheme == self._parameters.state_scheme
            and (lag_ok or header.payload_root == wire.encode_payload(()).root)
        )

    def _bodies(self, node: BlockNode) -> bool:
        """Are all batches in hand and checked? One found ill-formed settles it."""
        for digest in node.payload.batch_digests:
            if self._batches.is_bad(digest):
                node.verdict = Verdict.INVALID
                return False
        known = [self._batches.pool.get(digest) for digest in node.payload.batch_digests]
        return all(k is not None and k.checked for k in known)

    def _decide(self, node: BlockNode) -> None:
        """VALID or INVALID by the state root, once the body is settled and the state executed."""
        header = node.header
        if node.verdict is not Verdict.PENDING or node.heads is None or self._executor.height < header.state_height:
            return
        node.verdict = Verdict.VALID if self._roots_agree(header) else Verdict.INVALID

    def _roots_agree(self, header: Header) -> bool:
        roots = self._executor.roots(header.state_height)
        return (
            roots is not None and roots.state_root == header.state_root and roots.receipts_root == header.receipts_root
        )

    def _look_for(self, node: BlockNode, now: Now) -> None:
        """Ask the leader for batches the block lists and we do not hold."""
        if node.verdict is not Verdict.PENDING or node.heads is not None:
            return
        leader = self._validators.leader(node.header.view)
        for digest in node.payload.batch_digests:
            if self._batches.pool.get(digest) is None:
                self._batches.want(digest, (leader,), now, at_once=True)

    def write(self, node: BlockNode, turn: Turn) -> None:
        """Store the block, once, before anything is said about it."""
        digest = node.header.digest
        if node.proposal is not None and digest not in self._written:
            self._written.add(digest)
            turn.block_writes.append(ProposalWrite(digest, wire.encode_stored_proposal(node.proposal)))
            turn.sync_blocks = True

    # -- finality ----------------------------------------------------------------------------

    def on_finalized(self, certificate: Certificate) -> None:
        """A Finalization is held; its block and all before it become final when they are in hand."""
        self._certificates[certificate.digest] = certificate
        if self._target is None or certificate.view > self._target.view:
            self._target = certificate

    def settle_finality(self, now: Now, turn: Turn) -> bool:
        """Move the final block forward; False where blocks on the way are not held (they must be fetched)."""
        target = self._target
        if target is None or target.view <= self.final.header.view:
            return True
        path = self._path(target.digest)
        if path is None:
            return False
        for node in path:
            if node.header.height <= self.final.header.height:
                continue
            self._settled(node.header.digest)
            if node.heads is None:
                if node.verdict is Verdict.INVALID:
                    self._diverge(turn, f"finalized block {node.header.height} breaks a rule of this node")
                self._look_for_final(node, now)
                return True
            self._finalize(node, turn)
        return True

    def _path(self, digest: bytes) -> list[BlockNode] | None:
        """Blocks above the root down to ``digest``, loading from disk what the tree lacks."""
        path: list[BlockNode] = []
        while digest != self.tree.root.header.digest:
            node = self._node(digest)
            if node is None:
                return None
            path.append(node)
            digest = node.header.parent_digest
        path.reverse()
        return path

    def _look_for_final(self, node: BlockNode, now: Now) -> None:
        everybody = tuple(range(self._validators.n))
        for digest in node.payload.batch_digests:
            if self._batches.pool.get(digest) is None:
                self._batches.want(digest, everybody, now, at_once=True)

    def _finalize(self, node: BlockNode, turn: Turn) -> None:
        header = node.header
        self.write(node, turn)
        certificate = self._certificates.pop(header.digest, None)
        raw = wire.certificate_bytes(certificate) if certificate else b""
        turn.block_writes.append(FinalizedWrite(header.height, header.digest, raw))
        turn.sync_blocks = True
        turn.notices.append(FinalizedNotice(header.height))
        turn.notices.append(CertifiedRootNotice(header.state_height, header.height))
        self.final = node
        self._stored_next.append(node)

    def turn_stored(self) -> None:
        """What the last turn wrote is on disk: the blocks it made final may be executed."""
        self._queue.extend(self._stored_next)
        self._stored_next.clear()

    def resume(self, nodes: Sequence[Proposal]) -> None:
        """After a restart: blocks that were final before and are not executed yet, oldest first."""
        for proposal in nodes:
            self._written.add(proposal.header.digest)
            node = self._new_node(proposal)
            if node is None:
                continue
            settled = self._settled(proposal.header.digest)
            if settled is None or settled.heads is None:
                return  # a batch is missing: it is fetched, and finality is reached again by certificate
            self.final = settled
            self._queue.append(settled)

    # -- execution ---------------------------------------------------------------------------

    @property
    def executed_height(self) -> int:
        """Last executed height."""
        return self._executor.height

    @property
    def behind(self) -> bool:
        """Is something known to be final and not executed here?"""
        return bool(self._queue or self._stored_next) or (
            self._target is not None and self._target.view > self.final.header.view
        )

    def execute_slice(self, now: Now, turn: Turn) -> bool:
        """Execute one envelope, or commit the block; True while more is waiting."""
        if self.diverged or not self._queue:
            return False
        node = self._queue[0]
        if self._executing is None:
            if not self._agrees_with_own_state(node.header, turn):
                return False
            self._executing = node
            if self._executor.begin(node.header, self._listed(node)):
                return True
        elif self._executor.advance():
            return True
        notice, changed = self._executor.finish()
        self._executing = None
        self._queue.popleft()
        if changed:
            self._changed_height = node.header.height
        moved = self._moved(node)
        self.tree.set_root(node)
        self._written = {digest for digest in self._written if self.tree.get(digest) is not None}
        self._batches.on_executed(moved, turn)
        turn.notices.append(notice)
        return bool(self._queue)

    def _moved(self, node: BlockNode) -> dict[str, Head]:
        before, after = self.tree.root.heads or {}, node.heads or {}
        return {origin: head for origin, head in after.items() if before.get(origin) != head}

    def _listed(self, node: BlockNode) -> list[ListedBatch]:
        batches: list[ListedBatch] = []
        for digest in node.payload.batch_digests:
            known = self._batches.pool.get(digest)
            if known is None:
                raise LookupError(f"batch {digest.hex()} of a finalized block is not in the block store")
            batches.append(ListedBatch(known.batch.header, self._batches.envelopes(known)))
        return batches

    def _agrees_with_own_state(self, header: Header, turn: Turn) -> bool:
        """A finalized header must commit to the roots this node found itself."""
        if header.state_height > self._executor.height or self._roots_agree(header):
            return True
        self._diverge(turn, f"finalized block {header.height} commits to another state at height {header.state_height}")
        return False

    def _diverge(self, turn: Turn, text: str) -> None:
        if not self.diverged:
            self.diverged = True
            turn.notices.append(AlarmNotice("divergence", text))
