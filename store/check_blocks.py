"""The deep check of a block store: every final block is there, hashes to its digest, and holds on to the one before."""

from __future__ import annotations

from collections.abc import Iterator

from consensus.justification import tail_problem
from consensus.types import Header, VoteKind
from ledger import wire
from ledger.block_port import BlockStore
from ledger.ports import CorruptStore, StateStore
from ledger.types import Batch, Payload
from store.findings import Finding, Problems


class BlockCheck:
    """One pass over all final blocks.

    Signatures are not verified: digests bind all that is stored to the newest header, and whoever is served these
    blocks verifies the certificates.

    Args:
        blocks: an open store.
        chain_id: of the home.
        state: what they were executed to; None if it cannot be opened.
    """

    def __init__(self, blocks: BlockStore, chain_id: bytes, state: StateStore | None) -> None:
        self._blocks = blocks
        self._chain_id = chain_id
        self._state = state
        self._batches = 0
        self._parent: bytes | None = None

    def run(self, advice: str) -> Finding:
        """Check everything; StoreFailed where the disk refuses to be read."""
        problems = Problems()
        top = self._blocks.finalized_height() or self._blocks.first_height() - 1
        executed = (self._state.executed_height() or 0) if self._state is not None else 0
        if executed > top:
            problems.add(f"the state is executed up to height {executed}, final blocks end at {top}")
        first = self._blocks.first_height()
        for height in range(first, top + 1):
            try:
                for problem in self._block(height, executed):
                    problems.add(f"block {height}: {problem}")
            except (CorruptStore, wire.WireError) as error:
                self._parent = None
                problems.add(f"block {height}: {error.what if isinstance(error, CorruptStore) else error}")
        held = f"{max(0, top + 1 - first):,} final blocks{f' from height {first:,} on' if first > 1 else ''}"
        return problems.finding("blocks", f"{held}, {self._batches:,} batches, all whole", advice)

    def _block(self, height: int, executed: int) -> Iterator[str]:
        parent, self._parent = self._parent, None
        digest = self._blocks.digest_at(height)
        if digest is None:
            yield "its height is missing"
            return
        self._parent = digest
        raw = self._blocks.proposal(digest)
        if raw is None:
            yield "its header and payload are missing"
            return
        stored = wire.decode_stored_parts(raw)
        header, payload = stored.header, stored.payload
        if header.digest != digest:
            yield "another block is stored under its digest"
            return
        if header.height != height or header.chain_id != self._chain_id:
            yield "it is of another height or network"
        if parent is not None and header.parent_digest != parent:
            yield f"it does not follow block {height - 1}"
        if stored.justification.digest != header.justification_digest:
            yield "its justification is not the one its header commits to"
        if payload.root != header.payload_root:
            yield "its payload is not the one its header commits to"
        yield from self._certificate(header)
        yield from self._bodies(payload)
        yield from self._execution(header, executed)

    def _certificate(self, header: Header) -> Iterator[str]:
        raw = self._blocks.finalization(header.height)
        if raw is None:
            return  # a later block has one for it, too
        certificate = wire.read_certificate(raw)
        at = certificate.digest
        while certificate.kind is VoteKind.FINALIZE and at != header.digest:
            stored = self._blocks.proposal(at) if header.next_valset_hash else None
            tail = wire.decode_stored_parts(stored).header if stored is not None else None
            if tail is None or tail.digest != at or tail_problem(tail, header) is not None:
                break  # it leads to no tail of this block
            at = tail.parent_digest
        if certificate.kind is not VoteKind.FINALIZE or at != header.digest:
            yield "its certificate is another block's"

    def _bodies(self, payload: Payload) -> Iterator[str]:
        for digest in payload.batch_digests:
            self._batches += 1
            raw = self._blocks.batch(digest)
            if raw is None:
                yield f"its batch {digest.hex()[:16]} is missing"
                continue
            batch = wire.decode_batch(raw)
            if batch.header.digest != digest:
                yield f"another batch is stored under the digest {digest.hex()[:16]}"
            elif not _is_whole(batch):
                yield f"its batch {digest.hex()[:16]} has other envelopes than its header commits to"

    def _execution(self, header: Header, executed: int) -> Iterator[str]:
        """What the network certified of the state, and what lies here."""
        if self._state is None:
            return
        if header.height <= executed:
            record = self._state.height_record(header.height)
            if record is not None and record.block_digest != header.digest:
                yield "the state was executed from another block of this height"
        if header.state_height <= executed:
            record = self._state.height_record(header.state_height)
            roots = (header.state_root, header.receipts_root)
            if record is not None and (record.state_root, record.receipts_root) != roots:
                yield f"it commits to other roots after height {header.state_height} than the state has"


def _is_whole(batch: Batch) -> bool:
    """Do these envelopes lead to the root in the header? The root is a batch header's encoder's business."""
    header = batch.header
    again = wire.encode_batch_header(
        chain_id=header.chain_id,
        epoch=header.epoch,
        origin=header.origin,
        incarnation=header.incarnation,
        sequence=header.sequence,
        previous=header.previous,
        envelopes=batch.envelopes,
        attachment_root=header.attachment_root,
    )
    return wire.decode_batch_header(again).envelope_root == header.envelope_root
