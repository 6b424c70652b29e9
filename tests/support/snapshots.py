"""Snapshots in tests: a chain that has one, and a node that fetches it chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator

from ledger.execution import ExecutableBlock, ListedBatch
from ledger.known_epochs import KnownEpochs
from ledger.operations import Operation
from ledger.ports import HeightRecord, ImportRows, ImportStore
from ledger.snapshot import Chunk, LeafChunk, Snapshot, verify_leaves, verify_manifest, verify_receipts
from ledger.snapshot_import import Importer, Log
from ledger.snapshot_making import PinnedSnapshot, SnapshotShelf, pin
from ledger.state_log import ProofUnavailable
from ledger.types import Envelope
from ledger.wire import decode_envelope
from tests.support.chains import Chain
from tests.support.insurers import INSURERS, Ledger, policy_issue


def policies(ledger: Ledger, count: int, first: int = 0, together: int = 1) -> list[Envelope]:
    """Envelopes that issue policies ``first`` to ``first + count``, so many in each."""
    ids = [number.to_bytes(16, "big") for number in range(first, first + count)]
    operations: list[Operation] = [policy_issue(policy_id=each) for each in ids]
    return [
        ledger.envelope(operations[at : at + together], desks=("underwriter",), by=INSURERS[at % 4])
        for at in range(0, count, together)
    ]


def long_chain() -> Chain:
    """More than two twigs of leaves and more than one group of receipts, in eight blocks."""
    chain = Chain(Ledger())
    for at in range(4):
        chain.add(*policies(chain.ledger, 550, at * 1000), together=200)
    chain.add(*policies(chain.ledger, 900, 50_000, together=300))
    for _ in range(3):
        chain.add()
    return chain


def follow(chain: Chain, ledger: Ledger, up_to: int) -> None:
    """Another node executes the blocks of the chain it has not executed yet."""
    for height in range(ledger.state.height + 1, up_to + 1):
        header = chain.headers[height - 1].justified.header
        listed = [
            ListedBatch(batch.header, [decode_envelope(raw) for raw in batch.envelopes])
            for batch in chain.batches[height - 1]
        ]
        result = ledger.execution.run(ExecutableBlock(height, header.timestamp_ms, header.digest, listed))
        ledger.store.commit(result.writes)
        ledger.time_ms = header.timestamp_ms


def pinned(chain: Chain) -> tuple[PinnedSnapshot, Snapshot]:
    """What a node of the chain serves now, and what whoever fetches it makes of the manifest."""
    made = pin(chain.ledger.state, chain)
    return made, verify_manifest(made.manifest, KnownEpochs.of_genesis(chain.genesis))


class NoSnapshots(SnapshotShelf):
    """Of a node that cannot prove any."""

    def __init__(self) -> None:
        """Nothing is asked of a state."""

    def offer(self) -> PinnedSnapshot:
        raise ProofUnavailable("no state above the genesis is certified yet", "ask again in a moment")

    def find(self, height: int) -> PinnedSnapshot | None:
        return None


def genesis_record(chain: Chain) -> HeightRecord:
    record = chain.ledger.state.height_record(0)
    assert record is not None
    return record


def chunks(source: PinnedSnapshot, log: Log, first: int, stop: int) -> Iterator[Chunk]:
    """Everything from ``first`` to ``stop``."""
    while first < stop:
        if log is Log.LEAVES:
            leaves = source.leaves(first, stop)
            first += len(leaves.leaves)
            yield leaves
        else:
            receipts = source.receipts(first, stop)
            first += len(receipts.receipts)
            yield receipts


def fetch(store: ImportStore, source: PinnedSnapshot, snapshot: Snapshot, rows_max: int | None = None) -> bool:
    """Fetch into the store, at most ``rows_max`` chunks; whether everything is there."""
    importer = Importer(store, snapshot)
    store.import_rows(importer.retarget())
    for log, wanted in importer.wanted.items():
        for chunk in chunks(source, log, importer.held[log], wanted):
            if rows_max is not None:
                if rows_max == 0:
                    return False
                rows_max -= 1
            store.import_rows(take(importer, chunk, snapshot))
    return importer.complete


def take(importer: Importer, chunk: Chunk, snapshot: Snapshot) -> ImportRows:
    """A chunk, verified first."""
    if isinstance(chunk, LeafChunk):
        return importer.take(Log.LEAVES, chunk.leaves, verify_leaves(chunk, snapshot))
    return importer.take(Log.RECEIPTS, chunk.receipts, verify_receipts(chunk, snapshot))
