"""Building blocks: what the leader lists, and when there is a reason for a block at all (R2, R12).

Waiting is not refusing: a request stays open until something is listable, a root wants certifying, an approved
change of the validator set waits for the block that ends the epoch, or a heartbeat is due, or until consensus enters
another view. After the block that ends the epoch there is one reason only, its finality, and only tails are built.
"""

from __future__ import annotations

import msgspec

from consensus.events import Now
from consensus.types import Certificate, Header, Justification
from ledger import wire
from ledger.parameters import Parameters
from ledger.types import (
    PAYLOAD_BATCHES_MAX,
    PAYLOAD_STATEMENT_BYTES_MAX,
    PAYLOAD_STATEMENTS_MAX,
    Payload,
)
from node.branches import PROTOCOL_VERSION, Branches, ExecutedState
from node.dissemination import Dissemination
from node.epoch import Epoch
from node.statements import StatementPool
from node.tree import BlockNode

HALVINGS_MAX = 20  #: of a block's byte limits: by then one batch and one statement are all it lists


class BuildRequest(msgspec.Struct, frozen=True):
    """Consensus leads view ``view`` and wants a block."""

    view: int
    parent: Header
    parent_certificate: Certificate | None
    nullifications: tuple[Certificate, ...]
    boundary: Header | None  #: the block that ends the epoch, if the parent is it or a tail after it
    since_ms: int
    at_once: bool  #: build although there is nothing to list (R12 a)


class BuiltBlock(msgspec.Struct, frozen=True):
    """The block made for a request."""

    view: int
    header: Header
    justification: Justification
    payload: Payload


class Builder:
    """See the module text.

    Args:
        chain_id: genesis digest.
        epoch: the present one.
        heartbeat_ms: H, local setting: a block at least this often.
        executed, dissemination, statements, branches: ports and neighbours.
    """

    def __init__(
        self,
        *,
        chain_id: bytes,
        epoch: Epoch,
        heartbeat_ms: int,
        executed: ExecutedState,
        dissemination: Dissemination,
        statements: StatementPool,
        branches: Branches,
    ) -> None:
        self._chain_id = chain_id
        self._epoch = epoch
        self._heartbeat_ms = heartbeat_ms
        self._executed = executed
        self._batches = dissemination
        self._statements = statements
        self._branches = branches
        self._request: BuildRequest | None = None

    def enter(self, epoch: Epoch) -> None:
        """The next epoch begins."""
        self._epoch = epoch
        self._request = None

    def request(self, request: BuildRequest) -> None:
        """Consensus wants a block; a newer request replaces an older one."""
        self._request = request

    def forget(self, view: int) -> None:
        """A view was entered: what was asked for lower ones is void."""
        if self._request is not None and self._request.view < view:
            self._request = None

    def try_build(self, now: Now) -> BuiltBlock | None:
        """The block asked for, once there is a reason for it and it may be made."""
        request = self._request
        if request is None:
            return None
        parent = self._branches.settled(request.parent.digest)
        executed = self._executed.height
        if parent is None or parent.heads is None or executed < parent.header.state_height:
            return None
        if request.boundary is not None:
            return self._make_tail(request, request.boundary) if request.at_once else None
        if now.monotonic_ms < self._paced_until(request, parent):
            return None
        parameters = self._parameters(parent.header)
        batches = self._choose(request, parent, parameters, now)
        payload = wire.encode_payload(batches, self._choose_statements(request, parent, parameters))
        ends = self._executed.next_valset_hash(self._epoch.number, parent.header.state_height)
        if payload.empty and not request.at_once and not ends and not self._empty_block_due(parent, now):
            return None
        self._request = None
        return self._make(request, parent.header, payload, ends, parameters, now)

    def _parameters(self, parent: Header) -> Parameters:
        """What a block on this parent is judged by; the state at the parent's state height is executed."""
        return self._executed.parameters(parent.height + 1, parent.state_height)

    def _paced_until(self, request: BuildRequest, parent: BlockNode) -> int:
        """Under load blocks keep their distance: each costs every validator the same, full or not."""
        loaded = parent.header.height > 0 and parent.last_work_height == parent.header.height
        if not loaded or self._executed.height < parent.header.state_height:
            return request.since_ms
        return request.since_ms + self._parameters(parent.header).block_interval_ms

    def _too_far_ahead(self, parent: BlockNode, parameters: Parameters) -> bool:
        """Would the block be so far above its state that it may list nothing?"""
        return parent.header.height + 1 - self._executed.height > parameters.k_max

    def _choose(self, request: BuildRequest, parent: BlockNode, parameters: Parameters, now: Now) -> list[bytes]:
        if self._too_far_ahead(parent, parameters) or parent.heads is None:
            return []
        limit = _halved(parameters.block_bytes_max, request)
        chosen: list[bytes] = []
        size = 0
        for known in self._batches.listable(parent.heads, now):
            size += known.batch.header.envelope_bytes
            if chosen and (size > limit or len(chosen) >= PAYLOAD_BATCHES_MAX):
                break
            chosen.append(known.batch.header.digest)
        return chosen

    def _choose_statements(self, request: BuildRequest, parent: BlockNode, parameters: Parameters) -> list[bytes]:
        if self._too_far_ahead(parent, parameters):
            return []
        limit = _halved(PAYLOAD_STATEMENT_BYTES_MAX, request)
        chosen: list[bytes] = []
        size = 0
        for statement in self._statements.listable(self._branches.listed_statements(parent)):
            size += len(statement.raw)
            if chosen and (size > limit or len(chosen) >= PAYLOAD_STATEMENTS_MAX):
                break
            chosen.append(statement.raw)
        return chosen

    def _empty_block_due(self, parent: BlockNode, now: Now) -> bool:
        """R12 b, once it is executed here, or a heartbeat."""
        work = self._work_height(parent)
        if work > parent.header.state_height and self._executed.height >= work:
            return True
        return now.wall_ms - parent.header.timestamp_ms >= self._heartbeat_ms

    def _work_height(self, node: BlockNode) -> int:
        return max(node.last_work_height, self._executed.changed_height)

    def _make(
        self, request: BuildRequest, parent: Header, payload: Payload, ends: bytes, parameters: Parameters, now: Now
    ) -> BuiltBlock:
        justification = wire.make_justification(request.parent_certificate, request.nullifications)
        state_height = self._executed.height
        roots = self._executed.roots(state_height)
        if roots is None:
            raise LookupError(f"roots of the executed height {state_height} are missing")
        header = wire.encode_header(
            version=PROTOCOL_VERSION,
            chain_id=self._chain_id,
            epoch=self._epoch.number,
            height=parent.height + 1,
            view=request.view,
            parent_view=parent.view if parent.digest != self._epoch.start.digest else 0,
            parent_digest=parent.digest,
            payload_root=payload.root,
            justification_digest=justification.digest,
            timestamp_ms=max(parent.timestamp_ms + 1, now.wall_ms),
            state_height=state_height,
            state_root=roots.state_root,
            receipts_root=roots.receipts_root,
            valset_hash=self._epoch.validators.hash,
            next_valset_hash=ends,
            state_scheme=parameters.state_scheme,
        )
        return BuiltBlock(request.view, header, justification, payload)

    def _make_tail(self, request: BuildRequest, boundary: Header) -> BuiltBlock:
        """View, parent and justification of its own; all else as in the block that ends the epoch."""
        self._request = None
        justification = wire.make_justification(request.parent_certificate, request.nullifications)
        payload = wire.encode_payload(())
        header = wire.encode_header(
            version=boundary.version,
            chain_id=boundary.chain_id,
            epoch=boundary.epoch,
            height=boundary.height,
            view=request.view,
            parent_view=request.parent.view,
            parent_digest=request.parent.digest,
            payload_root=payload.root,
            justification_digest=justification.digest,
            timestamp_ms=boundary.timestamp_ms,
            state_height=boundary.state_height,
            state_root=boundary.state_root,
            receipts_root=boundary.receipts_root,
            valset_hash=boundary.valset_hash,
            state_scheme=boundary.state_scheme,
        )
        return BuiltBlock(request.view, header, justification, payload)

    def work_pending(self, tip: Header, now: Now) -> bool:
        """R12 b and c, seen from the highest certified header."""
        node = self._branches.settled(tip.digest)
        if node is None or node.heads is None:
            return True
        if node.boundary is not None or (tip.next_valset_hash and tip.epoch == self._epoch.number):
            return False  # nothing is left to do in this epoch but to finalize its end, which is R12 a
        if self._executed.next_valset_hash(self._epoch.number, tip.state_height):
            return True
        if self._work_height(node) > tip.state_height:
            return True
        if now.wall_ms - tip.timestamp_ms >= self._heartbeat_ms:
            return True
        if next(self._statements.listable(self._branches.listed_statements(node)), None) is not None:
            return True
        return next(self._batches.listable(node.heads, now), None) is not None

    def deadline_ms(self, tip: Header, now: Now) -> int | None:
        """Monotonic time at which building or the heartbeat has to be looked at again; None if nothing waits for time.

        A heartbeat that is overdue is work already: the timers of consensus run, and looking again would be spinning.
        """
        ahead_ms = tip.timestamp_ms + self._heartbeat_ms - now.wall_ms
        times = [now.monotonic_ms + ahead_ms] if ahead_ms > 0 else []
        request = self._request
        parent = self._branches.get(request.parent.digest) if request is not None else None
        if request is not None and parent is not None:
            paced = self._paced_until(request, parent)
            times += [paced] if paced > now.monotonic_ms else []
        return min(times, default=None)


def _halved(limit: int, request: BuildRequest) -> int:
    """Once for every view that was just nullified: the block may have been too large to arrive in time."""
    return limit >> min(len(request.nullifications), HALVINGS_MAX)
