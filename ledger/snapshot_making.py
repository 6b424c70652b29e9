"""Serving a snapshot: the state at the newest certified height, held still while the state moves on.

``pin`` costs a copy of the log's bits and two hashes a twig; leaves and receipts are read back as they are asked for,
because their places never change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from consensus.types import Header
from ledger.commitment import TWIG_LEAVES
from ledger.proof_building import HeaderSource, newest_header_proof
from ledger.receipts_range import GROUP
from ledger.snapshot import ANCESTORS_MAX, LeafChunk, Manifest, ReceiptChunk
from ledger.state import State
from ledger.state_log import PinnedLog, ProofUnavailable
from ledger.types import Payload
from ledger.wire.snapshots import encode_manifest

CHUNK_BYTES: Final = 1 << 20
"""Leaves or receipts of one chunk: at most a quarter of what a message may hold, some five milliseconds of hashing."""

PIN_EVERY_S: Final = 10.0
"""A newer one is pinned at most so often: who asks more often gets the last one."""

PINS_MAX: Final = 4
"""Pinned at a time, a bit a leaf and 64 bytes a twig each: below 10 MB at ten million leaves. One that had to go is no
loss: what was fetched of it counts under the next."""


class BlockSource(HeaderSource, Protocol):
    """Finalized headers, and what their blocks list."""

    def payload(self, height: int) -> Payload | None:
        """Payload of a finalized block; None where it is not stored."""


class PinnedState:
    """The state of a height in chunks, held still.

    Args:
        log: the log as of that height.
        receipt_count: receipts up to it.
        state: at that height or above.
    """

    def __init__(self, log: PinnedLog, receipt_count: int, state: State) -> None:
        self._log = log
        self._receipt_count = receipt_count
        self._state = state

    def leaves(self, first: int, stop: int) -> LeafChunk:
        """Leaves from ``first`` on: up to ``stop``, the end of the twig, or CHUNK_BYTES. IndexError outside the log."""
        end = min(stop, self._log.count, (first // TWIG_LEAVES + 1) * TWIG_LEAVES)
        if not 0 <= first < end:
            raise IndexError(f"leaves {first} to {stop} are outside a log of {self._log.count}, or none")
        leaves = _fitting(self._log.leaves(first, end))
        inside, bits, twig_path = self._log.prove_range(first, first + len(leaves))
        return LeafChunk(first, leaves, inside, bits, twig_path)

    def receipts(self, first: int, stop: int) -> ReceiptChunk:
        """Receipts from ``first`` on: up to ``stop``, the end of the group, or CHUNK_BYTES. IndexError outside."""
        count = self._receipt_count
        end = min(stop, count, (first // GROUP + 1) * GROUP)
        if not 0 <= first < end:
            raise IndexError(f"receipts {first} to {stop} are outside a range of {count}, or none")
        receipts = _fitting(self._state.receipt_blobs(first, end))
        return ReceiptChunk(first, receipts, self._state.receipts_path(first, first + len(receipts), count))


class PinnedSnapshot(PinnedState):
    """A snapshot that can be served; made by ``pin``.

    Attributes:
        manifest: what it is of, and that it is certified.
        height: of the state.
    """

    def __init__(self, manifest: Manifest, log: PinnedLog, state: State) -> None:
        super().__init__(log, manifest.receipt_count, state)
        self.manifest = manifest
        self.height = manifest.ancestors[0].height


def pin(state: State, source: BlockSource) -> PinnedSnapshot:
    """The newest snapshot that can be proved now.

    Raises:
        ProofUnavailable: nothing above the genesis is certified yet, or this node's own execution is elsewhere.
    """
    header = newest_header_proof(source)
    ancestors = _ancestors(header.subject, source)
    height = ancestors[0].height
    below, payload, record = source.final_header(height), source.payload(height), state.height_record(height)
    if below is None or payload is None or record is None:
        raise ProofUnavailable(f"block {height} is not held here", "ask another node")
    log = state.pin(height)
    manifest = encode_manifest(
        header=header,
        ancestors=ancestors,
        justification=below.justified.justification,
        payload=payload,
        log_root=log.root,
        leaf_count=log.count,
        receipts_tree_root=state.receipts_tree_root(record.receipt_count),
        receipt_count=record.receipt_count,
    )
    return PinnedSnapshot(manifest, log, state)


def _ancestors(certified: Header, source: HeaderSource) -> tuple[Header, ...]:
    if certified.state_height < 1:
        raise ProofUnavailable("no state above the genesis is certified yet", "ask again in a moment")
    if certified.height - certified.state_height > ANCESTORS_MAX:
        raise ProofUnavailable("the newest certified state lies too far back", "ask again in a moment")
    found: list[Header] = []
    for height in range(certified.state_height, certified.height):
        stored = source.final_header(height)
        if stored is None:
            raise ProofUnavailable(f"block {height} is not held here", "ask another node")
        found.append(stored.justified.header)
    return tuple(found)


def _fitting(items: Iterator[bytes]) -> tuple[bytes, ...]:
    """Items until they have CHUNK_BYTES; at least one."""
    taken: list[bytes] = []
    room = CHUNK_BYTES
    for item in items:
        room -= len(item)
        if taken and room < 0:
            break
        taken.append(item)
    return tuple(taken)


class SnapshotShelf:
    """The snapshots a node has offered lately, each held still while it is fetched.

    Args:
        state: at its last executed height; a block may be open on it.
        source: finalized blocks.
        clock_s: monotonic seconds.
    """

    def __init__(self, state: State, source: BlockSource, clock_s: Callable[[], float]) -> None:
        self._state = state
        self._source = source
        self._clock_s = clock_s
        self._pinned_s = -PIN_EVERY_S
        self._pins: OrderedDict[int, PinnedSnapshot] = OrderedDict()

    def offer(self) -> PinnedSnapshot:
        """The newest snapshot that can be proved; ProofUnavailable."""
        now = self._clock_s()
        if not self._pins or now - self._pinned_s >= PIN_EVERY_S:
            pinned = pin(self._state, self._source)
            self._pinned_s = now
            self._pins[pinned.height] = pinned
            self._pins.move_to_end(pinned.height)
            if len(self._pins) > PINS_MAX:
                self._pins.popitem(last=False)
        return next(reversed(self._pins.values()))

    def find(self, height: int) -> PinnedSnapshot | None:
        """One that was offered, unless newer ones took its place."""
        return self._pins.get(height)
