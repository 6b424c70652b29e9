"""Opening the state of a node: the genesis, what was executed, or a snapshot that has come in."""

from __future__ import annotations

from collections.abc import Iterator

from consensus.types import Certificate, Header, Justification, ValidatorSet
from crypto.keys import verify_many
from ledger import wire
from ledger.block_port import BlockStore, BlockWrite, FinalizedWrite, FirstHeightWrite, ProposalWrite
from ledger.genesis import Genesis
from ledger.known_epochs import KnownEpochs
from ledger.ports import CorruptStore, ImportProgress, ImportStore
from ledger.snapshot import Snapshot, SnapshotError, verify_manifest
from ledger.snapshot_import import install, is_complete
from ledger.state import State
from ledger.types import Payload
from ledger.wellformed import VerifyMany
from ledger.wire.snapshots import decode_manifest
from node.assembly import commit_genesis
from node.catchup import NOTHING_LISTED, as_proposal


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
        snapshot = verify_manifest(decode_manifest(progress.manifest), KnownEpochs.of_genesis(genesis), verify)
    except (wire.WireError, SnapshotError) as error:
        store.drop_import()
        raise CorruptStore(f"the manifest of a snapshot is not what was stored: {error}") from error
    if first is None or executed is None or snapshot.height <= executed:
        store.drop_import()
        return None
    if not is_complete(progress, snapshot):
        return None
    writes = list(_block_writes(snapshot))
    try:
        return install(store, snapshot, first, lambda: blocks.commit(writes, sync=True))
    except CorruptStore as error:
        # Every row was proved before it was stored, so it is what lay here before that is wrong.
        store.drop_import()
        raise CorruptStore(
            f"with a certified snapshot of height {snapshot.height} on top of it, {error.what}"
        ) from error


def _block_writes(snapshot: Snapshot) -> Iterator[BlockWrite]:
    """What the block store holds below the first whole block: that of the snapshot's height, and how each epoch ended.

    Of the blocks that ended epochs long ago there are headers, with what proves them final: an epoch begins on one, and
    evidence, proofs and whoever comes late from that epoch need it. What they listed is not told by anybody.
    """
    header, sets = snapshot.header, snapshot.known.starts
    for epoch, each in enumerate(snapshot.hand_overs, snapshot.known.first_epoch):
        boundary = each.headers[0].header
        if boundary.height > snapshot.height:
            break
        for one in each.headers:
            if one.header.digest != header.digest:
                yield _proposal(one.header, one.justification, NOTHING_LISTED, sets[epoch].validators)
        yield FinalizedWrite(boundary.height, boundary.digest, _bytes(each.finalization))
    yield _proposal(header, snapshot.justification, snapshot.payload, sets[header.epoch].validators)
    yield FinalizedWrite(header.height, header.digest, b"", tuple(snapshot.payload.batch_digests))
    yield FirstHeightWrite(header.height + 1, header.digest)


def _proposal(
    header: Header, justification: Justification, payload: Payload, validators: ValidatorSet
) -> ProposalWrite:
    proposal = as_proposal(header, justification, payload, validators.leader(header.view))
    return ProposalWrite(header.digest, wire.encode_stored_proposal(proposal))


def _bytes(certificate: Certificate) -> bytes:
    return wire.encode_certificate(certificate).SerializeToString(deterministic=True)
