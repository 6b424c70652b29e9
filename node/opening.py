"""Opening the state of a node: the genesis, what was executed, or a snapshot that has come in."""

from __future__ import annotations

from crypto.keys import verify_many
from ledger import wire
from ledger.block_port import BlockStore, FinalizedWrite, FirstHeightWrite, ProposalWrite
from ledger.genesis import Genesis
from ledger.ports import CorruptStore, ImportProgress, ImportStore
from ledger.snapshot import SnapshotError, verify_manifest
from ledger.snapshot_import import install, is_complete
from ledger.state import State
from ledger.wellformed import VerifyMany
from ledger.wire.snapshots import decode_manifest
from node.assembly import commit_genesis
from node.catchup import as_proposal


def open_state(genesis: Genesis, store: ImportStore, blocks: BlockStore, verify: VerifyMany = verify_many) -> State:
    """The state at its last executed height: the genesis in an empty store, a snapshot that has come in whole.

    Installing a snapshot is safe to be cut off anywhere: it is done again, or was done.

    Raises:
        CorruptStore: a store cannot be read, or what was executed here is not what the network certified.
        StoreError: the disk refuses.
    """
    progress = store.import_progress()
    state = _installed(genesis, store, blocks, progress, verify) if progress is not None else None
    if state is None:
        state = State.open(store)
        commit_genesis(genesis, state, store)
    return state


def _installed(
    genesis: Genesis, store: ImportStore, blocks: BlockStore, progress: ImportProgress, verify: VerifyMany
) -> State | None:
    """The state of a snapshot whose every row is here; None where it still comes in, or is no longer of use."""
    first, executed = store.height_record(genesis.height), store.executed_height()
    try:
        snapshot = verify_manifest(decode_manifest(progress.manifest), genesis, verify)
    except (wire.WireError, SnapshotError) as error:
        store.drop_import()
        raise CorruptStore(f"the manifest of a snapshot is not what was stored: {error}") from error
    if first is None or executed is None or snapshot.height <= executed:
        store.drop_import()
        return None
    if not is_complete(progress, snapshot):
        return None
    leader = genesis.validator_set().leader(snapshot.header.view)
    proposal = as_proposal(snapshot.header, snapshot.justification, snapshot.payload, leader)
    digest = snapshot.header.digest
    writes = (
        ProposalWrite(digest, wire.encode_stored_proposal(proposal)),
        FinalizedWrite(snapshot.height, digest, b""),
        FirstHeightWrite(snapshot.height + 1, digest),
    )
    try:
        return install(store, snapshot, first, lambda: blocks.commit(writes, sync=True))
    except CorruptStore as error:
        # Every row was proved before it was stored, so it is what lay here before that is wrong.
        store.drop_import()
        raise CorruptStore(
            f"with a certified snapshot of height {snapshot.height} on top of it, {error.what}"
        ) from error
