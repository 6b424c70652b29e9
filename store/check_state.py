"""The deep check of a state store: everything is hashed again, from the first leaf and the first receipt on.

A start trusts the stored roots of twigs and groups that were filled long ago, and hashes the recent heights only; here
every stored root is found anew: of each filled twig and group, and both roots of every height. (Of heights below a
snapshot's there is no record; their leaves are hashed all the same.) Memory as a node needs it; some 10 microseconds a
leaf and 3 a receipt.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ledger.commitment import PUT
from ledger.ports import CorruptStore, HeightRecord, StateStore
from ledger.receipts_range import ReceiptsRange
from ledger.state_log import StateLog, decode_stored
from store.findings import Finding, Problems


def check_leaves(store: StateStore, advice: str) -> Finding:
    """Finding about the operations log; it ends at the first height that does not come out as stored."""
    problems = Problems()
    log = StateLog(store.leaf, store.leaves)
    twigs = store.twig_roots()
    executed = store.executed_height()
    try:
        for record in _records(store, executed):
            as_written = True
            for height, stored in _by_height(store, log.count, record):
                again, filled = log.append(height, _writes(log, stored))
                as_written = as_written and again == stored
                for twig, root in filled:
                    if next(twigs, None) != root:
                        problems.add(f"the stored root of twig {twig} is not that of its leaves")
            if not as_written or (log.count, log.root()) != (record.leaf_count, record.state_root):
                problems.add(f"the leaves up to height {record.height} do not lead to its state root")
                break
    except CorruptStore as error:
        problems.add(error.what)
    good = "empty" if executed is None else f"{log.count:,} leaves up to height {executed:,}, all as committed"
    return problems.finding("state", good, advice)


def check_receipts(store: StateStore, advice: str) -> Finding:
    """Finding about the receipts; it ends at the first height that does not come out as stored."""
    problems = Problems()
    receipts = ReceiptsRange(store.receipt_blobs)
    groups = store.receipt_groups()
    executed = store.executed_height()
    try:
        for record in _records(store, executed):
            for group, root in receipts.extend(list(store.receipt_blobs(receipts.count, record.receipt_count))):
                if next(groups, None) != root:
                    problems.add(f"the stored root of group {group} is not that of its receipts")
            if (receipts.count, receipts.root()) != (record.receipt_count, record.receipts_root):
                problems.add(f"the receipts up to height {record.height} do not lead to its receipts root")
                break
    except CorruptStore as error:
        problems.add(error.what)
    good = "none yet" if executed is None else f"{receipts.count:,} receipts, all as committed"
    return problems.finding("receipts", good, advice)


def _records(store: StateStore, executed: int | None) -> Iterator[HeightRecord]:
    base = store.base_height()
    for height in range(-1 if executed is None else executed + 1):
        record = store.height_record(height)
        if record is not None:
            yield record
        elif height >= base:
            raise CorruptStore(f"the record of height {height} is missing")


def _by_height(store: StateStore, first: int, record: HeightRecord) -> Iterator[tuple[int, list[bytes]]]:
    """The leaves up to a record's, those of each height together."""
    leaves = enumerate(store.leaves(first, record.leaf_count), first)
    decoded = ((decode_stored(data, index).height, data) for index, data in leaves)
    for height, group in groupby(decoded, key=lambda item: item[0]):
        yield height, [data for _, data in group]


def _writes(log: StateLog, stored: list[bytes]) -> list[tuple[bytes, bytes | None]]:
    writes: list[tuple[bytes, bytes | None]] = []
    for index, data in enumerate(stored, log.count):
        leaf = decode_stored(data, index)
        if leaf.kind != PUT and leaf.key not in log.index:
            raise CorruptStore(f"leaf {index} removes a key that is not there")
        writes.append((leaf.key, leaf.value if leaf.kind == PUT else None))
    return writes
